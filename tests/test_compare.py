"""A file against what was promised of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from material import Recipe, write_clip

from ns_video.errors import VerificationError
from ns_video.media.compare import compare_times
from ns_video.media.file_facts import read_facts
from ns_video.pipeline import restore


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


def test_uneven_times_that_a_program_stream_does_not_tell_are_named_with_the_remedy(tmp_path: Path) -> None:
    times = (*range(0, 400, 40), *range(480, 800, 80))
    source = write_clip(tmp_path / "in.mkv", Recipe(times=times, codec="libx264"))
    with pytest.raises(VerificationError, match=r"ms off \(program streams .*: write \.ts or \.mkv\)"):
        restore(source, tmp_path / "out.mpg", model="identity", crf=31)
    assert restore(source, tmp_path / "out.ts", model="identity", codec="mpeg2video").exit_code == 0
