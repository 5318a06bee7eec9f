"""Files written: what containers hold of the streams, tags and times beside the restored one."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from conftest import ffmpeg
from material import facts

import ns_video
from ns_video.errors import OutputError
from ns_video.pipeline import restore


def sounding(path: Path, codec: str, channels: int, film: Path) -> Path:
    """A film with sound of one codec."""
    sound = ("-f", "lavfi", "-i", "sine=d=0.4:r=16000", "-map", "0", "-map", "1", "-ac", str(channels))
    ffmpeg("-i", film, *sound, "-c:v", "copy", "-c:a", codec, path)
    return path


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_alaw", "libspeex"])
def test_flv_is_told_where_channels_are_heard(codec: str, plain_clip: Path, tmp_path: Path) -> None:
    """Untold, libav's muxer ends the process."""
    source, target = sounding(tmp_path / "in.mkv", codec, 1, plain_clip), tmp_path / "out.flv"
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and record.streams[1].action == "copied"
    assert ns_video.verify(source, target) == []


def test_pcm_of_which_matroska_does_not_tell_the_layout_fits_into_mp4(plain_clip: Path, tmp_path: Path) -> None:
    for channels, wanted in ((1, "copied"), (2, "copied"), (6, "dropped")):
        source = sounding(tmp_path / f"{channels}.mkv", "pcm_s16le", channels, plain_clip)
        record = restore(source, tmp_path / f"{channels}.mp4", model="identity")
        assert record.exit_code == 0 and record.streams[1].action.partition(":")[0] == wanted


def test_chapters_that_a_container_does_not_hold_are_named(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    for suffix, told in (("ts", "2 chapters: dropped: mpegts holds none"), ("nut", ""), ("webm", "")):
        record = restore(two_audio_subs_chapters_clip, tmp_path / f"out.{suffix}", model="identity")
        assert [text for text in record.warnings if "chapter" in text] == [told] * bool(told)


def test_mpegts_holds_no_language_of_video_and_says_so(two_tracks: Path, tmp_path: Path) -> None:
    record = restore(two_tracks, tmp_path / "out.ts", model="identity")
    assert record.exit_code == 0 and any("stream 1: language" in text for text in record.warnings)


@pytest.mark.parametrize("device", ["/dev/full"])
def test_a_full_disk_is_named(device: str, plain_clip: Path) -> None:
    with pytest.raises(OutputError, match="no space left"):
        restore(plain_clip, device, model="identity", format="matroska", codec="ffv1")


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_equal_runs_give_equal_bytes(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    begins = ("-metadata", "creation_time=2020-01-02T03:04:05Z", "-metadata", "title=A title")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.2", *begins, "-c:v", "libx264", source)
    targets = [tmp_path / f"{n}.{suffix}" for n in (1, 2)]
    for target in targets:
        restore(source, target, model="identity")
    assert targets[0].read_bytes() == targets[1].read_bytes()
    with av.open(str(targets[0])) as clip:
        assert clip.metadata["title"] == "A title" and clip.metadata["creation_time"].startswith("2020-01-02T03:04:05")


def test_languages_of_quicktime(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    restore(two_audio_subs_chapters_clip, tmp_path / "out.mov", model="identity")
    found = {s.language for s in facts(tmp_path / "out.mov").streams}
    assert "ger" in found  # the code that QuickTime's table has for "deu"
    assert "deu" in {s.language for s in facts(two_audio_subs_chapters_clip).streams}


@pytest.mark.parametrize(("suffix", "options"), [("vob", {}), ("mkv", {"codec": "mpeg2video"})])
@pytest.mark.parametrize("start", [None, 0.3])
def test_whole_frames_are_counted_from_the_first_one(
    suffix: str, options: dict[str, Any], start: float | None, tmp_path: Path
) -> None:
    """Program streams of ffmpeg begin at 0.54 s, between two frames of 1/25 s; a cut begins between two as well."""
    source, target = tmp_path / "in.vob", tmp_path / f"out.{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg2video", "-c:a", "ac3", "-ar", "48000")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", *tone, source)
    restore(source, target, model="identity", start=start, **options)
    with av.open(str(source)) as clip:
        begins = 0 if start is None else Fraction(clip.start_time or 0, av.time_base) + Fraction("0.3")
    expected = [t - begins for t in video_times(source) if t >= begins]
    assert expected[0] % Fraction(1, 25) > Fraction(1, 1000)
    found = video_times(target)
    assert len(found) == len(expected) and all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(found, expected))
    if start is None:
        assert ns_video.verify(source, target) == []


def video_times(path: Path) -> list[Fraction]:
    """Of its frames, in seconds."""
    with av.open(str(path)) as clip:
        return [Fraction(f.pts or 0) * Fraction(f.time_base or 0) for f in clip.decode(video=0)]
