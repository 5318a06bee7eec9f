"""Options hold what they were declared to hold, and what doesn't is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ns_video.declared import check_types
from ns_video.errors import UsageError


@dataclass(frozen=True)
class Options:
    is_on: bool = False
    count: int = 1
    share: float | None = None
    name: str = ""
    place: Path | None = None
    size: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    table: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_types(self)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"is_on": True, "count": np.int64(3), "share": np.float32(0.5)},
        {"share": 1, "size": [3, 4], "names": ["a"], "table": {"a": "b"}, "place": Path("a")},
    ],
)
def test_what_was_declared_is_taken(values: dict[str, Any]) -> None:
    options = Options(**values)
    assert {name: getattr(options, name) for name in values} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }


def test_numbers_of_other_libraries_become_python_s() -> None:
    """JSON and PyTorch take no Fraction and no number of numpy's."""
    options = Options(count=np.int64(3), share=Fraction(1, 2), size=(np.int32(3), 4))  # type: ignore[arg-type]
    assert (type(options.count), type(options.share)) == (int, float)
    assert options.size is not None and list(map(type, options.size)) == [int, int]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"is_on": 1}, "is on 1 is not True or False"),
        ({"count": True}, "count True is not a whole number"),
        ({"count": 1.0}, "count 1.0 is not a whole number"),
        ({"share": "1"}, "share '1' is not a number or None"),
        ({"name": None}, "name None is not text"),
        ({"place": "a"}, "place 'a' is not a path or None"),
        ({"size": (1,)}, "size (1,) is not (a whole number, a whole number) or None"),
        ({"names": "ab"}, "names 'ab' is not a tuple of text each"),
        ({"table": {"a": 1}}, "table {'a': 1} is not a table of text = text"),
    ],
)
def test_what_was_not_declared_is_named(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        Options(**values)
    assert caught.value.message == said
