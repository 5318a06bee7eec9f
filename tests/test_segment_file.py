"""Segments: their times put in order."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ns_video.media.segment_file import decode_times


@pytest.mark.parametrize(
    "presentation",
    [[0, 40, 80, 120], [0, 120, 40, 80, 160], [0, 80, 40, 160, 120, 200], [5], [0, 400, 200, 100, 300, 1000], []],
)
def test_decode_times_rise_and_never_pass_presentation(presentation: list[int]) -> None:
    stamps = list(decode_times([presentation] if presentation else []))
    assert len(stamps) == len(presentation)
    assert all(b > a for a, b in pairwise(stamps))
    assert all(d <= p for d, p in zip(stamps, presentation))
    if presentation == sorted(presentation):
        assert stamps == presentation
    later = [pts + 10_000 for pts in presentation]
    assert list(decode_times([presentation, later])) == list(decode_times([presentation + later]))
