"""Where files say that they end: whole ones are not called damaged."""

from __future__ import annotations

import io
import re
from pathlib import Path

import av
import pytest
from conftest import ffmpeg
from material import Recipe, write_clip

import ns_video
from ns_video.media.decode import open_clip
from ns_video.media.movie_header import movie_seconds
from ns_video.media.promised_end import promised_end


def test_a_whole_clip_is_not_called_damaged(
    plain_clip: Path, vfr_clip: Path, late_start_clip: Path, negative_start_clip: Path, mp4_streams_clip: Path
) -> None:
    for path in (plain_clip, vfr_clip, late_start_clip, negative_start_clip, mp4_streams_clip):
        with open_clip(path) as reader:
            assert list(reader.frames())
            assert reader.damage == [] and reader.damage_count == 0


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_a_short_matroska_that_was_cut_is_called_so(suffix: str, tmp_path: Path) -> None:
    """While it is opened, libav comes to the cut, and says no more of it."""
    clip, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    codec = ("-c:v", "libx264") if suffix == "mkv" else ("-c:v", "libvpx-vp9", "-cpu-used", "8")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:r=30:d=0.4", *codec, clip)
    data = clip.read_bytes()
    for share in (0.35, 0.5, 0.67, 0.9, 0.999):
        cut.write_bytes(data[: int(len(data) * share)])
        with open_clip(cut) as reader:
            assert 0 < len(list(reader.frames())) <= 12
            assert sum(bool(re.search("was cut|ended prematurely", place.what)) for place in reader.damage) == 1
    live = tmp_path / f"live.{suffix}"
    ffmpeg("-i", clip, "-c", "copy", "-live", "1", live)  # of no known size
    with open_clip(live) as reader:
        assert len(list(reader.frames())) == 12 and not reader.damage


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


SPARSE = ("-vf", "select='eq(n,0)+eq(n,5)+gt(n,26)',setpts='if(gt(N,1),PTS+5/TB,PTS)'", "-fps_mode", "vfr")


@pytest.fixture(scope="module")
def sparse_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Matroska without a default duration, five frames in 6 s: the last one is shown for 33 ms."""
    folder = tmp_path_factory.mktemp("sparse")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=1", *SPARSE, "-c:v", "libx264", folder / "in.mp4")
    ffmpeg("-i", folder / "in.mp4", "-c", "copy", folder / "sparse.mkv")
    return folder / "sparse.mkv"


def last_shown(path: Path) -> float:
    """Seconds for which the last frame is shown."""
    with open_clip(path) as reader:
        *_, last = reader.frames()
        assert not reader.damage
    return float((last.duration or 0) * last.time_base)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "gif"])
def test_the_last_of_sparse_frames_ends_when_its_file_says(suffix: str, sparse_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out.{suffix}"
    assert ns_video.restore(sparse_clip, target, model="identity").exit_code == 0
    with av.open(str(target)) as clip:
        assert abs((clip.duration or 0) / av.time_base - 6) < 0.02
    assert suffix != "mp4" or movie_seconds(target) == 6
    assert ns_video.verify(sparse_clip, target) == []


def test_the_end_of_sparse_frames_is_their_tracks_or_their_files(sparse_clip: Path, tmp_path: Path) -> None:
    data, path = sparse_clip.read_bytes(), tmp_path / "doctored.mkv"
    assert data.count(b"DURATION") == 1 and data.count(b"00:00:06.000") == 1
    for was, now, shown in (
        (b"DURATION", b"DURATIOX", 0.033),
        (b"00:00:06.000", b"00:00:05.980", 0.013),
        (b"00:00:06.000", b"00:00:01.000", 2.366),  # before the frame begins: nonsense
    ):
        path.write_bytes(data.replace(was, now))
        assert abs(last_shown(path) - shown) < 0.002


def test_a_default_duration_is_honoured(tmp_path: Path) -> None:
    source, path = tmp_path / "in.mkv", tmp_path / "doctored.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=96x64:r=30:d=1", "-c:v", "libx264", source)
    data = source.read_bytes()
    assert data.count(b"00:00:01.000") == 1
    path.write_bytes(data.replace(b"00:00:01.000", b"00:00:00.980"))
    assert abs(last_shown(path) - 1 / 30) < 0.002
