"""Where files say that they end: whole ones are not called damaged."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from conftest import ffmpeg
from material import Recipe, write_clip

import ns_video
from ns_video.media.decode import open_clip
from ns_video.media.promised_end import promised_end


def test_a_whole_clip_is_not_called_damaged(
    plain_clip: Path, vfr_clip: Path, late_start_clip: Path, negative_start_clip: Path, mp4_streams_clip: Path
) -> None:
    for path in (plain_clip, vfr_clip, late_start_clip, negative_start_clip, mp4_streams_clip):
        with open_clip(path) as reader:
            assert list(reader.frames())
            assert reader.damage == [] and reader.damage_count == 0


@pytest.mark.parametrize("sound", [True, False])
def test_a_late_start_in_matroska_is_not_called_damaged(sound: bool, tmp_path: Path) -> None:
    """Its durations count from 0; those of a track are in a tag that other programs don't write."""
    clip = tmp_path / "late.mkv"
    tone = ("-f", "lavfi", "-i", "sine=d=0.1") if sound else ()
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30:d=0.1", *tone, "-output_ts_offset", "8", clip)
    data = clip.read_bytes()
    assert b"DURATION" in data
    for path, whole in ((clip, data), (tmp_path / "untold.mkv", data.replace(b"DURATION", b"DURATIOX"))):
        path.write_bytes(whole)
        with open_clip(path) as reader:
            assert len(list(reader.frames())) == 3
            assert reader.damage == []


def test_a_nut_file_that_begins_late_is_whole(tmp_path: Path) -> None:
    """Its header tells when it ends, not how long it is."""
    late, target = tmp_path / "late.mkv", tmp_path / "late.nut"
    ffmpeg("-i", write_clip(tmp_path / "in.mkv", Recipe(audio=[("aac", "eng")])), "-output_ts_offset", "100", late)
    assert ns_video.restore(late, target, model="identity", codec="mpeg2video").exit_code == 0
    with open_clip(target) as reader:
        assert sum(1 for _ in reader.frames()) > 1 and not reader.damage


def test_fragmented_mp4_that_begins_late_is_whole(tmp_path: Path) -> None:
    """A recording of a live stream: libav tells when its fragments end, not how long they are."""
    lasting = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=6", "-c:v", "libx264", "-g", "50", "-sc_threshold", "0")
    hls = ("-f", "hls", "-hls_time", "2", "-hls_segment_type", "fmp4", "-hls_fmp4_init_filename", "init.mp4")
    ffmpeg(*lasting, *hls, "-hls_segment_filename", tmp_path / "part%d.m4s", tmp_path / "live.m3u8")
    parts = [(tmp_path / name).read_bytes() for name in ("init.mp4", "part1.m4s", "part2.m4s")]
    for name, data, frames in (("whole", b"".join(parts), 100), ("cut", b"".join(parts)[:-2000], None)):
        clip = tmp_path / f"{name}.mp4"
        clip.write_bytes(data)
        with open_clip(clip) as reader:
            found = sum(1 for _ in reader.frames())
            assert (found == frames and not reader.damage) if frames else reader.damage


def test_one_picture_beside_longer_sound_is_whole(tmp_path: Path) -> None:
    """libav then takes the duration of the whole Matroska file for the picture's."""
    clip = tmp_path / "in.mkv"
    lavfi = ("-f", "lavfi", "-i")
    ffmpeg(*lavfi, "testsrc2=s=64x48:r=25:d=0.04", *lavfi, "sine=d=1.5", "-c:a", "aac", clip)
    with open_clip(clip) as reader:
        assert len(list(reader.frames())) == 1 and reader.damage == []
        assert promised_end(reader.info) == pytest.approx(0.04, abs=0.03)
    assert ns_video.restore(clip, tmp_path / "out.mkv", model="identity").exit_code == 0


@pytest.mark.parametrize("claimed", [None, 0, 0xFFFFFFFF])
def test_an_avi_that_was_written_to_a_pipe_is_whole(claimed: int | None, tmp_path: Path) -> None:
    """Its header couldn't be gone back to: it claims 2^30 frames, or as many as other writers think of."""
    clip = tmp_path / "in.avi"
    lavfi = ("-f", "lavfi", "-i")
    codecs = ("-c:v", "mpeg4", "-c:a", "mp2", "-f", "avi", "-")
    data = bytearray(ffmpeg(*lavfi, "testsrc2=s=64x48:r=25:d=1", *lavfi, "sine=d=1", *codecs))
    if claimed is not None:
        for at in (m.start() + 40 for m in re.finditer(b"strh", data)):
            data[at : at + 4] = claimed.to_bytes(4, "little")
    clip.write_bytes(data)
    for source in (clip, io.BytesIO(data)):
        with open_clip(source) as reader:
            assert len(list(reader.frames())) == 25 and reader.damage == []
            assert reader.info.video.frames_claimed < 100
    assert ns_video.restore(clip, tmp_path / "out.mkv", model="identity").exit_code == 0
