"""Text subtitles from codec to codec."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from conftest import ffmpeg
from material import facts

from ns_video.pipeline import restore


def test_text_survives_the_way_to_mov_text_and_back(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    restore(two_audio_subs_chapters_clip, tmp_path / "a.mp4", model="identity")
    restore(tmp_path / "a.mp4", tmp_path / "b.mkv", model="identity")
    words = [
        ffmpeg("-i", path, "-map", "0:s:0", "-f", "srt", "-")
        for path in (two_audio_subs_chapters_clip, tmp_path / "b.mkv")
    ]
    assert words[0].count(b"cue") == 3
    assert [line for line in words[1].splitlines() if b"cue" in line] == [
        line for line in words[0].splitlines() if b"cue" in line
    ]
    first = next(s for s in facts(two_audio_subs_chapters_clip).streams if s.type == "subtitle").packets
    last = next(s for s in facts(tmp_path / "b.mkv").streams if s.type == "subtitle").packets
    assert max(abs(a[0] - b[0]) for a, b in zip(first, last) if a[0] is not None and b[0] is not None) <= Fraction(
        1, 1000
    )
