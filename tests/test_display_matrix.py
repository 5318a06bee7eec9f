"""The turn in a display matrix."""

from __future__ import annotations

import pytest

from ns_video.media.display_matrix import turn_alone


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((65536, 0, 0, 0, 65536, 0), (65536, 0, 0, 65536)),
        ((0, 65536, 0, -65536, 0, 0), (0, 65536, -65536, 0)),
        ((0, 65536, 0, 65536, 0, 0), (0, 65536, 65536, 0)),  # mirrored
        ((46341, 46340, 0, -46341, 46341, 0), (46341, 46340, -46341, 46341)),  # rounded
        ((65536, 0, 0, 0, 89856, 0), (65536, 0, 0, 65536)),  # stretched
        ((0, 131072, 0, -65536, 0, 0), (0, 65536, -65536, 0)),
        ((65536, 32, 0, 0, 65536, 0), (65536, 16, -16, 65536)),  # skewed
        ((65536, 0, 212, 0, 65536, 0), (65536, 0, 0, 65536)),  # in perspective
        ((0, 0, 0, 0, 65536, 0), (65536, 0, 0, 65536)),
        ((0, 0, 0, 0, 0, 0), (65536, 0, 0, 65536)),
    ],
)
def test_the_turn_alone_of_a_display_matrix(matrix: tuple[int, ...], turn: tuple[int, ...]) -> None:
    found = turn_alone((*matrix, 0, 0, 1 << 30))
    assert (*found[:2], *found[3:5]) == turn and found[2] == found[5] == 0
