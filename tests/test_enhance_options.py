"""How a model may be run."""

from __future__ import annotations

from typing import Any

import pytest

from ns_video.enhance import EnhanceOptions
from ns_video.errors import UsageError


@pytest.mark.parametrize(
    "options",
    [
        {"strength": 1.5},
        {"sharpen": -0.1},
        {"scale": 0.0},
        {"scale": 2.0, "size": (10, 10)},
        {"tile": 3},
        {"overlap": -1},
        {"blend": "square"},
        {"assumed_step": -1.0},
        {"fit": "cover"},
        {"size": (0, 4)},
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        EnhanceOptions(**options)
