"""Time codes are those of the frames that they are told of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from checked import found
from conftest import ffmpeg

import ns_video
from ns_video.media.time_code import later
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("text", "frames", "rate", "wanted"),
    [
        ("01:02:03;04", 30, NTSC, "01:02:04;04"),
        ("00:00:59;29", 1, NTSC, "00:01:00;02"),
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),
        ("00:00:59.59", 1, 2 * NTSC, "00:01:00.04"),
        ("00:00:00;00", 107_892, NTSC, "01:00:00;00"),  # an hour
        ("23:59:59;29", 1, NTSC, "00:00:00;00"),
        ("00:00:59:29", 1, NTSC, "00:01:00:00"),
        ("00:00:59:24", 1, Fraction(25), "00:01:00:00"),
        ("A001", 1, Fraction(25), "A001"),
    ],
)
def test_so_many_frames_later(text: str, frames: int, rate: Fraction, wanted: str) -> None:
    assert later(text, frames, rate) == wanted


def test_no_two_frames_share_a_time_code() -> None:
    step = "00:00:00;00"
    for count in range(1, 20_000):
        step = later(step, 1, NTSC)
        assert step == later("00:00:00;00", count, NTSC)


def filmed(path: Path) -> Path:
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30000/1001:d=2", "-c:v", "libx264")
    ffmpeg(*film, "-timecode", "01:02:03;04", "-metadata:s:v", "reel_name=A001", path)
    return path


def data_tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as clip:
        return {key.lower(): value for stream in clip.streams for key, value in stream.metadata.items()}


@pytest.mark.parametrize("suffix", ["mov", "mkv"])
def test_a_cut_begins_with_the_time_code_of_its_first_frame(suffix: str, tmp_path: Path) -> None:
    source, target = filmed(tmp_path / "in.mov"), tmp_path / f"out.{suffix}"
    restore(source, target, model="identity", start=1.0, end=1.5)
    assert data_tags(target)["timecode"] == "01:02:04;04"
    restore(source, target, model="identity", end=0.5, overwrite=True)
    assert data_tags(target)["timecode"] == "01:02:03;04"


def test_the_name_of_the_reel_is_kept_or_named(tmp_path: Path) -> None:
    source = filmed(tmp_path / "in.mov")
    assert data_tags(source)["reel_name"] == "A001"
    for suffix in ("mov", "mkv"):
        restore(source, tmp_path / f"out.{suffix}", model="identity")
        assert data_tags(tmp_path / f"out.{suffix}")["reel_name"] == "A001"
        assert ns_video.verify(source, tmp_path / f"out.{suffix}") == []
    told, notes = "tags that this container doesn't hold: time code: reel_name", list[str]()
    assert told in restore(source, tmp_path / "out.mp4", model="identity").warnings
    assert verify_files(source, tmp_path / "out.mp4", notes=notes) == [] and told in notes
    ffmpeg("-i", tmp_path / "out.mp4", "-c", "copy", tmp_path / "bare.mov")
    assert found(source, tmp_path / "bare.mov") == "time code: the tag reel_name is missing"


@pytest.mark.parametrize("time_code", [False, True])
def test_a_reel_that_the_picture_tells_is_no_loss_where_it_is_kept(time_code: bool, tmp_path: Path) -> None:
    """In MOV it becomes the time code's; without one there is no place for it."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mov"
    tags = ("-metadata:s:v:0", "reel_name=R1", *(("-metadata:s:v:0", "timecode=01:00:00:00") * time_code))
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.2", *tags, source)
    record = restore(source, target, model="identity")
    assert any("REEL_NAME" in note for note in record.warnings) == (not time_code)
    assert ns_video.verify(source, target) == []


def test_a_time_code_that_is_in_a_track_of_its_own_is_not_named_as_lost(tmp_path: Path) -> None:
    source = tmp_path / "in.mxf"
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", "-c:v", "mpeg2video", "-timecode", "01:02:03:04")
    ffmpeg(*film, source)
    record = restore(source, tmp_path / "out.mov", model="identity")
    assert data_tags(tmp_path / "out.mov")["timecode"] == "01:02:03:04"
    assert not any("timecode" in text for text in record.warnings)
