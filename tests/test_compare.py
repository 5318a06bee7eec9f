"""A file against what was promised of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from ns_video.media.compare import compare_times
from ns_video.media.file_facts import read_facts


def test_compare_times_is_exact_to_the_clock(plain_clip: Path) -> None:
    facts = read_facts(plain_clip)
    tick = facts.video_tick
    assert compare_times(facts.video_times, facts) == []
    wrong = list(facts.video_times)
    wrong[5] += 3 * tick
    assert len(compare_times(wrong, facts)) == 1
    assert len(compare_times([t - Fraction(1, 5) for t in facts.video_times[1:]], facts)) == 1
    later = [t - Fraction(1, 10) for t in (t + Fraction(1, 5) for t in facts.video_times)]
    assert compare_times(later, facts) != []
