"""Damaged files that once broke a promise; made by benchmarks/fuzz.py from clips of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

import ns_video

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_cue_of_nonsense_does_not_cost_the_clip(tmp_path: Path, suffix: str) -> None:
    """A damaged FLV holds a subtitle of nine days hence, which only Matroska takes."""
    output = tmp_path / f"out{suffix}"
    record = ns_video.restore(DATA / "stray_cue.flv", output, model="identity")
    assert output.exists() and record.exit_code == 3 and record.frames_in == record.frames_out == 25
    assert any("stream 0 (subtitle text)" in warning for warning in record.warnings) != (suffix == ".mkv")


def test_a_frame_before_0_is_kept(tmp_path: Path) -> None:
    """The index of an AVI that begins at 0.84 s hides a frame at -0.04 s, for which a Matroska block has no time."""
    output = tmp_path / "out.mkv"
    record = ns_video.restore(DATA / "frame_before_0.avi", output, model="identity")
    assert output.exists() and record.exit_code == 3 and record.frames_in == record.frames_out == 25
