"""Frames out of real files: all of them, with their times, samples and what they know of their damage."""

from __future__ import annotations

import errno
import io
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from fractions import Fraction
from itertools import pairwise, zip_longest
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from conftest import Command, ffmpeg
from decoded import frames
from material import FRAMES, X264, Recipe, facts, write_clip
from PIL import Image

import ns_video
from ns_video.errors import DamageError, InputError
from ns_video.frame import Frame
from ns_video.media.coded_headers import LIKENESS
from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.jpeg_headers import JpegHeaders


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("name", ["plain_clip", "vfr_clip", "late_start_clip", "odd_size_clip", "ten_bit_pq_clip"])
def test_every_frame_once_with_its_time_and_samples(name: str, threads: int, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(name)
    wanted, found = facts(path), frames(path, threads=threads)
    assert [f.pts * f.time_base for f in found if f.pts is not None] == wanted.times
    assert [tuple(p.tobytes() for p in f.planes) for f in found] == wanted.samples
    assert {f.picture_type for f in found} <= {"I", "P", "B", "?"}


def test_colour_of_frames(full_range_601_clip: Path, plain_clip: Path) -> None:
    tagged, untagged = frames(full_range_601_clip)[0].color, frames(plain_clip)[0].color
    assert (tagged.matrix, tagged.range, tagged.primaries, tagged.transfer) == (6, 2, 6, 6)
    assert (untagged.matrix, untagged.primaries, untagged.transfer) == (2, 2, 2)


def moving_clip(path: Path, codec: str, **options: str) -> Path:
    """Twelve frames of noise that drifts, 128 x 96."""
    noise = np.random.default_rng(3).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for t in range(12):
            picture = np.ascontiguousarray(noise[t : t + 96, t : t + 128] // 4 + 90)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = t
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def mean_step(path: Path) -> float:
    found = frames(path, quantisers=True)
    assert len(found) == 12 and all(f.quantiser is not None for f in found)
    return float(np.mean([f.quantiser.step.mean() for f in found if f.quantiser is not None]))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_hevc_headers_tell_the_requested_qp(tmp_path: Path, suffix: str) -> None:
    parameters = "log-level=none:ipratio=1:pbratio=1:aq-mode=0:cutree=0:qp="
    for qp in (22, 34):
        clip = moving_clip(tmp_path / f"{qp}{suffix}", "libx265", **{"x265-params": f"{parameters}{qp}"})
        assert mean_step(clip) == pytest.approx(LIKENESS["hevc"] * 2 ** ((qp - 4) / 6), rel=0.12)
        assert all(f.quantiser is None for f in frames(clip))


_FIXED = {"b": "2M", "deadline": "realtime", "cpu-used": "4"}


@pytest.mark.parametrize(
    ("codec", "fine", "coarse"),
    [
        ("libsvtav1", {"crf": "20", "preset": "10"}, {"crf": "55", "preset": "10"}),
        ("libvpx", {**_FIXED, "qmin": "8", "qmax": "8"}, {**_FIXED, "qmin": "50", "qmax": "50"}),
        ("libvpx-vp9", {"crf": "15", "b": "0"}, {"crf": "55", "b": "0"}),
    ],
)
def test_headers_of_other_codecs_tell_fine_from_coarse(
    tmp_path: Path, codec: str, fine: dict[str, str], coarse: dict[str, str]
) -> None:
    steps = [mean_step(moving_clip(tmp_path / f"{i}.mkv", codec, **o)) for i, o in enumerate((fine, coarse))]
    assert 0.3 < steps[0] < 12 and 2.5 * steps[0] < steps[1] < 120


def test_vp9_with_alpha_tells_what_it_does_without(tmp_path: Path) -> None:
    """libvpx, which decodes the alpha, exports nothing; its headers say as much."""
    film = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=0.5", "-c:v", "libvpx-vp9", "-crf", "40", "-b:v", "0")
    steps: list[list[float]] = []
    for format in ("yuva420p", "yuv420p"):
        ffmpeg(*film, "-cpu-used", "6", "-auto-alt-ref", "0", "-pix_fmt", format, tmp_path / f"{format}.webm")
        maps = [frame.quantiser for frame in frames(tmp_path / f"{format}.webm", quantisers=True)]
        assert len(maps) in (12, 13)
        steps.append([float(found.step.mean()) for found in maps if found is not None])
    assert len(steps[0]) == len(maps) and steps[0] == pytest.approx(steps[1])


def test_damaged_headers_are_no_error(tmp_path: Path) -> None:
    data = bytearray(moving_clip(tmp_path / "a.mkv", "libx265", **{"x265-params": "log-level=none"}).read_bytes())
    rng = np.random.default_rng(0)
    for at in rng.integers(len(data) // 2, len(data), 40):
        data[at] ^= int(rng.integers(1, 256))
    broken = tmp_path / "b.mkv"
    broken.write_bytes(data)
    assert frames(broken, quantisers=True)


def test_packets_of_other_streams_come_along(two_audio_subs_chapters_clip: Path) -> None:
    with open_clip(two_audio_subs_chapters_clip) as reader:
        items = list(reader.items([1, 3]))
    packets = [i for i in items if isinstance(i, CopiedPacket)]
    assert {p.stream_index for p in packets} == {1, 3}
    assert sum(isinstance(i, Frame) for i in items) == FRAMES
    assert [p.nbytes for p in packets] == [p.packet.size for p in packets]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_reordered_frames_in_avi_leave_in_order(tmp_path: Path, codec: str, threads: int) -> None:
    path = tmp_path / "b.avi"
    source = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1.6")
    ffmpeg(*source, "-c:v", codec, "-bf", "2", "-pix_fmt", "yuv420p", path)
    with open_clip(path, DecodeOptions(threads=threads)) as reader:
        found = list(reader.frames())
    assert not reader.damage and not reader.warnings
    with av.open(str(path)) as clip:
        samples = [f.to_ndarray()[:48, :64].tobytes() for f in clip.decode(video=0)]
    assert [f.planes[0].tobytes() for f in found] == samples and len(found) == 40
    pts = [f.pts for f in found if f.pts is not None]
    assert pts == list(range(pts[0], pts[0] + 40))


def test_a_cut_gives_the_frames_between(plain_clip: Path) -> None:
    whole = frames(plain_clip)
    with open_clip(plain_clip, DecodeOptions(start_seconds=0.08, end_seconds=0.2)) as reader:
        part = [f for f in reader.frames() if f.pts is not None]
        assert reader.frames_given == len(part) == 3
    assert [f.pts for f in part] == [f.pts for f in whole[2:5]]
    assert all(np.array_equal(a.planes[0], b.planes[0]) for a, b in zip(part, whole[2:5]))


def test_a_change_of_size_in_mid_stream_is_converted_back_and_told(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "a.h264", Recipe(size=(64, 48), options={**X264, "bf": "0"}))
    large = write_clip(tmp_path / "b.h264", Recipe(size=(96, 64), options={**X264, "bf": "0"}))
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with open_clip(both) as reader:
        found = list(reader.frames())
        assert any("64x48 yuv420p to 96x64" in w for w in reader.warnings)
    assert len(found) == 2 * FRAMES
    assert {f.planes[0].shape for f in found} == {(48, 64)}
    times = [f.pts for f in found]
    assert all(b > a for a, b in pairwise(times))


def test_many_changes_of_size_are_counted(tmp_path: Path) -> None:
    path, pictures = tmp_path / "in.mjpeg", list[bytes]()
    for size in ((64, 48), (48, 64), (32, 32)):
        file = io.BytesIO()
        Image.new("RGB", size).save(file, "JPEG")
        pictures.append(file.getvalue())
    path.write_bytes(pictures[0] * 2 + (pictures[1] + pictures[2]) * 30)
    with open_clip(path, DecodeOptions(container_format="mjpeg")) as reader:
        assert len(list(reader.frames())) == 62
        told = [warning for warning in reader.warnings if "changes" in warning]
    assert len(told) == 21 and told[-1].startswith("60 changes")


def test_raw_streams_get_times_from_their_rate_and_say_so(tmp_path: Path) -> None:
    raw = write_clip(tmp_path / "a.h264", Recipe(options={**X264, "bf": "0"}))
    with open_clip(raw) as reader:
        times = [f.pts * f.time_base for f in reader.frames() if f.pts is not None]
    assert len(times) == FRAMES and all(b > a for a, b in pairwise(times))


def whole_and_damaged(folder: Path) -> tuple[Path, Path]:
    """A clip, and the same with a hole in it."""
    recipe = Recipe(times=tuple(range(0, 1200, 40)), options={**X264, "crf": "18"}, muxing={"movflags": "+faststart"})
    path = write_clip(folder / "in.mp4", recipe)
    data = bytearray(path.read_bytes())
    begin = data.index(b"mdat") + len(data) // 3
    data[begin : begin + 400] = bytes(400)
    bad = folder / "bad.mp4"
    bad.write_bytes(data)
    return path, bad


def test_damage_is_counted_and_located(tmp_path: Path) -> None:
    _, bad = whole_and_damaged(tmp_path)
    with open_clip(bad) as reader:
        found = list(reader.frames())
        assert reader.damage and reader.damage_count >= len(reader.damage)
        assert any(d.pts_seconds is not None and 0 <= d.pts_seconds < 1.3 for d in reader.damage)
    assert 20 <= len(found) <= 30
    with pytest.raises(DamageError), open_clip(bad, DecodeOptions(strict=True)) as reader:
        list(reader.frames())


def test_damage_is_told_of_the_clip_that_has_it(tmp_path: Path) -> None:
    """Whether two clips are read in turns or at once: libav says only that a decoder met damage, not which."""
    whole, bad = whole_and_damaged(tmp_path)

    def places(path: Path) -> int:
        with open_clip(path, DecodeOptions(threads=4)) as reader:
            assert len(list(reader.frames())) >= 20
            return reader.damage_count

    alone = places(bad)
    assert alone
    for paths in ((whole, bad), (bad, whole)):
        with ExitStack() as stack:
            readers = [stack.enter_context(open_clip(path, DecodeOptions(threads=4))) for path in paths]
            assert list(zip_longest(*(reader.frames() for reader in readers)))
            assert [reader.damage_count for reader in readers] == [alone if path == bad else 0 for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(places, [whole, bad] * 4)) == [0, alone] * 4


def test_damage_does_not_depend_on_threads(truncated_clip: Path) -> None:
    seen = []
    for threads in (1, 4):
        with open_clip(truncated_clip, DecodeOptions(threads=threads)) as reader:
            digest = [f.planes[0].tobytes() for f in reader.frames()]
            seen.append((digest, [d.what for d in reader.damage]))
    assert seen[0] == seen[1] and seen[0][1]


@pytest.mark.parametrize("is_short", [True, False])
def test_what_libav_lacked_memory_for_is_no_damage(
    is_short: bool, plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless there is memory: then a damaged header asked for too much."""

    def demux(*_: object) -> None:
        raise av.error.FFmpegError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr("ns_video.media.decode.can_map", lambda _: not is_short)
    with open_clip(plain_clip) as reader:
        monkeypatch.setattr(
            reader, "_container", SimpleNamespace(demux=demux, streams=[], close=reader.container.close)
        )
        with pytest.raises(MemoryError if is_short else InputError, match="Cannot allocate memory"):
            list(reader.frames())


def test_frames_and_packets_leave_once_however_many_threads_meet_the_damage(tmp_path: Path) -> None:
    """Several threads give the same packets with fewer frames between them: each decodes one ahead."""
    path = tmp_path / "in.mp4"
    sources = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2", "-f", "lavfi", "-i", "sine=d=2")
    ffmpeg(*sources, "-c:v", "libx264", "-g", "10", "-c:a", "aac", path)
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][24]
    data = bytearray(path.read_bytes())
    data[place : place + 200] = bytes([255]) * 200
    path.write_bytes(data)
    seen = []
    for threads in (1, 8):
        with open_clip(path, DecodeOptions(threads=threads)) as reader:
            items = list(reader.items([1]))
            shown = [item.pts for item in items if isinstance(item, Frame)]
            packets = [item.packet.pts for item in items if isinstance(item, CopiedPacket)]
            assert reader.damage and len(shown) == reader.frames_given
            seen.append((shown, packets))
    assert seen[0] == seen[1] and len(seen[0][1]) > 80


def test_a_clip_that_is_read_again_leaves_its_packets_whole(tmp_path: Path) -> None:
    """Whoever writes them looks at their streams, and into the container, while another thread decodes."""
    path = tmp_path / "in.mp4"
    sources = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-f", "lavfi", "-i", "sine=d=1")
    ffmpeg(*sources, "-c:v", "libx264", "-c:a", "aac", path)
    with av.open(str(path)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size][3]
    data = bytearray(path.read_bytes())
    data[place : place + 4] = bytes([255]) * 4
    path.write_bytes(data)
    with open_clip(path, DecodeOptions(threads=8)) as reader:
        first = reader.container
        packets = [item.packet for item in reader.items([1]) if isinstance(item, CopiedPacket)]
        assert reader.container is not first and first.chapters() == []
        assert {packet.stream.type for packet in packets} == {"audio"}
    for container in (first, reader.container):
        with pytest.raises(AssertionError, match="not open"):
            container.chapters()


def test_a_pipe_that_may_not_be_opened_is_a_fault_of_the_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, system = tmp_path / "pipe.mkv", os.open
    os.mkfifo(source)

    def denied(path: Any, *flags: int, **options: Any) -> int:
        if path == source:
            raise PermissionError(errno.EACCES, "Permission denied")
        return system(path, *flags, **options)

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(InputError, match=r"pipe\.mkv: Permission denied"):
        open_clip(source)


def test_file_objects_and_early_ends(plain_clip: Path) -> None:
    assert len(frames(io.BytesIO(plain_clip.read_bytes()))) == FRAMES
    with open_clip(plain_clip) as reader:
        first = next(reader.frames())
        assert first.pts_seconds == 0.0
    with open_clip(plain_clip) as reader:
        assert reader.info.video.time_base > 0


@pytest.mark.parametrize("pix_fmt", ["rgb4", "gbrpf32le", "grayf32le"])
def test_pixels_that_cannot_be_read_are_refused_by_name(pix_fmt: str) -> None:
    settings = {"pixel_format": pix_fmt, "video_size": "16x16"}
    options = DecodeOptions(container_format="rawvideo", container_options=settings)
    with pytest.raises(InputError, match=f"the format {pix_fmt} can't be read"):
        open_clip(io.BytesIO(bytes(1 << 14)), options)


def test_too_many_pixels(plain_clip: Path) -> None:
    with pytest.raises(InputError, match="max-pixels"):
        open_clip(plain_clip, DecodeOptions(max_pixels=1000))


def test_times_without_a_constant_rate(tmp_path: Path) -> None:
    times = (5, 6, 7, 1000, 1001, 60_000)
    path = write_clip(tmp_path / "odd.mkv", Recipe(times=times, options={**X264, "bf": "0"}))
    assert [f.pts * f.time_base for f in frames(path) if f.pts is not None] == [Fraction(t, 1000) for t in times]


@pytest.mark.parametrize(("pixels", "subsampling"), [("yuvj420p", (2, 2)), ("yuvj422p", (2, 1)), ("yuvj444p", (1, 1))])
@pytest.mark.parametrize("suffix", ["avi", "mov", "mkv"])
def test_motion_jpeg_tells_its_tables(tmp_path: Path, pixels: str, subsampling: tuple[int, int], suffix: str) -> None:
    clip = tmp_path / f"clip.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=96x64:rate=25:duration=0.4", "-c:v", "mjpeg", "-pix_fmt", pixels,
           "-q:v", "7", str(clip))  # fmt: skip
    with av.open(str(clip)) as container:
        first = next(packet for packet in container.demux(video=0) if packet.size)
        with Image.open(io.BytesIO(bytes(first))) as image:
            wanted = {name: np.array(table).reshape(8, 8) for name, table in image.quantization.items()}  # type: ignore[attr-defined]
    found = frames(clip, jpeg_tables=True)
    assert len(found) == 10
    for frame in found:
        assert frame.jpeg is not None and frame.jpeg.subsampling == subsampling
        assert np.array_equal(frame.jpeg.luma, wanted[min(wanted)])
        assert np.array_equal(frame.jpeg.chroma, wanted[max(wanted)])
    assert all(frame.jpeg is None for frame in frames(clip))


def test_each_motion_jpeg_frame_has_its_own_tables(tmp_path: Path) -> None:
    """Stills of different quality as one stream, whose tables differ from packet to packet."""
    picture = np.random.default_rng(1).integers(0, 256, (48, 64, 3), np.uint8)
    raw = b""
    for quality in (20, 90, 50, 75):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=quality)
        raw += file.getvalue()
    stream, clip = tmp_path / "raw.mjpeg", tmp_path / "clip.mkv"
    stream.write_bytes(raw)
    ffmpeg("-f", "mjpeg", "-i", str(stream), "-c", "copy", str(clip))
    for source in (stream, clip):
        found = frames(source, jpeg_tables=True)
        assert [frame.jpeg is not None for frame in found] == [True] * 4, source
        tables = [int(frame.jpeg.luma.sum()) for frame in found if frame.jpeg is not None]
        assert sorted(tables) == [tables[1], tables[3], tables[2], tables[0]] and len(set(tables)) == 4


@pytest.mark.parametrize("length", range(0, 700, 23))
def test_damaged_jpeg_headers_tell_nothing(length: int) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(file, "JPEG", quality=50)
    data = file.getvalue()
    zeros = data.replace(data[25:89], bytes(64), 1)
    for broken in (data[:length], data[:length] + b"\xff\xdb\x00\x03" + data[length:], bytes(length), zeros):
        headers = JpegHeaders()
        packet = av.Packet(broken)
        packet.pts = 5
        headers.see(packet)
        told = headers.of(5, 16)
        assert told is None or (told.luma.shape == (8, 8) and told.luma.all() and broken != zeros)


def test_places_of_damage_come_in_the_order_of_time(tmp_path: Path, ns_video: Command) -> None:
    path = write_clip(tmp_path / "in.mp4", Recipe(times=tuple(range(0, 1200, 40)), options={"bf": "2"}))
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as clip:
        place = [packet.pos for packet in clip.demux(video=0) if packet.size][15]
    data[place : place + 4] = b"\xff" * 4  # the length of a NAL unit
    path.write_bytes(data)
    with open_clip(path) as reader:
        list(reader.frames())
        times = [place.pts_seconds for place in reader.damage]
    assert len(times) > 1 and times == sorted(times)
    done = ns_video("restore", path, tmp_path / "out.mkv", "--model", "identity")
    assert done.code == 3 and f"{len(times)} places; the first: " in done.err and f"(at {times[0]:.3f} s)" in done.err


@pytest.mark.parametrize("threads", [1, 4])
def test_empty_packets_of_theora_repeat_the_frame_before(threads: int, tmp_path: Path) -> None:
    clip = tmp_path / "clip.ogv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=5:d=1,fps=25", "-c:v", "libtheora", "-q:v", "6", clip)
    with av.open(str(clip)) as container:
        empty = [p.pts for p in container.demux(video=0) if p.pts is not None and not p.size]
    with open_clip(clip, DecodeOptions(threads=threads)) as reader:
        found = list(reader.frames())
    assert empty and not reader.damage
    assert [f.pts for f in found] == list(range(25))
    looks = [f.planes[0].tobytes() for f in found]
    assert all(looks[n] == looks[n - 1] for n in empty) and len(set(looks)) > 4


@pytest.mark.parametrize("still", [21, 57])
def test_a_frame_behind_a_long_gap_is_shown_no_longer_than_until_the_next(still: int, tmp_path: Path) -> None:
    """MP4 tells how long it is until the next packet is decoded: of reordered frames that is another one's time."""
    clip, later = tmp_path / "gap.mp4", f"setpts=PTS+if(gte(N\\,{still})\\,60/TB\\,0)"
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=30:d=2", "-vf", later, "-fps_mode", "passthrough")
    ffmpeg(*film, "-c:v", "libx264", "-x264-params", "bframes=3:b-adapt=0:b-pyramid=0:scenecut=0", clip)
    with open_clip(clip) as reader:
        found = list(reader.frames())
    assert len(found) == 60 and found[-1].pts_seconds == pytest.approx(59 / 30 + 60)
    assert max(float((f.duration or 0) * f.time_base) for f in found if f is not found[still - 1]) < 0.04


@pytest.mark.parametrize("rate", [25, 1200])
def test_a_frame_that_repeats_a_time_of_a_fine_clock_is_another_one_in_matroska(rate: int, tmp_path: Path) -> None:
    """Next to it, but no further than half a frame."""
    source, target = tmp_path / "in.ts", tmp_path / "out.mkv"
    again = f"setts=pts=if(eq(N\\,5)\\,PREV_OUTPTS\\,PTS):dts=DTS-2/{rate}/TB"
    film = ("-f", "lavfi", "-i", f"testsrc2=s=64x48:r={rate}:d={10 / rate}", "-c:v", "libx264", "-bf", "0")
    ffmpeg(*film, "-bsf:v", again, source)
    with open_clip(source) as reader:
        times = [Fraction(f.pts or 0) * f.time_base for f in reader.frames()]
        assert [d.what.split(" time")[0] for d in reader.damage] == ["a frame repeats the"]
    assert min(Fraction(1, 1000), Fraction(37, 90000)) <= times[5] - times[4] <= Fraction(1, 1000)
    if rate == 25:
        record = ns_video.restore(source, target, model="identity")
        assert record.exit_code == 3 and ns_video.verify(source, target) == []


def test_a_time_that_repeats_after_a_long_frame_moves_no_other(tmp_path: Path) -> None:
    """A clock jumps where it falls back, however long the frame before it was shown."""
    source = tmp_path / "in.ts"
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=1:d=8", "-c:v", "libx264", "-bf", "0")
    ffmpeg(*film, "-bsf:v", "setts=pts=if(eq(N\\,5)\\,PREV_OUTPTS\\,PTS):dts=DTS-2/TB", source)
    with open_clip(source) as reader:
        found = list(reader.frames())
        times = [Fraction((f.pts or 0) - (found[0].pts or 0)) * f.time_base for f in found]
        assert [d.what.split(" time")[0] for d in reader.damage] == ["a frame repeats the"]
    assert times[:5] == [0, 1, 2, 3, 4] and times[6:] == [6, 7] and 4 < times[5] < 5


@pytest.mark.parametrize("movflags", ["empty_moov+frag_keyframe", "faststart"])
def test_frames_behind_damage_at_the_end_do_not_depend_on_threads(movflags: str, tmp_path: Path) -> None:
    """Several threads still work at the broken packet, and at frames behind it, when they are drained."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1.6", "-c:v", "libx264", "-g", "10", "-threads", "1")
    ffmpeg(*film, "-movflags", movflags, whole)
    data, damaged = whole.read_bytes(), 0
    for share in (0.6, 0.7, 0.8, 0.9):
        cut.write_bytes(data[: int(len(data) * share)])
        seen = []
        for threads in (1, 3, 8):
            with open_clip(cut, DecodeOptions(threads=threads)) as reader:
                shown = [(f.pts, f.planes[0].tobytes()) for f in reader.frames()]
                seen.append((shown, [place.what for place in reader.damage]))
        assert seen[0][0] and seen[1:] == seen[:1] * 2
        damaged += bool(seen[0][1])
    assert damaged > 2


@pytest.mark.parametrize("threads", [1, 4])
def test_packets_from_before_the_picture_is_built_up_are_counted(threads: int, tmp_path: Path) -> None:
    """Of an intra refresh libav marks a packet as key from which the picture is only whole after a while."""
    whole, middle = tmp_path / "whole.ts", tmp_path / "middle.ts"
    parameters = "intra-refresh=1:keyint=20:bframes=0"
    film = ("-f", "lavfi", "-i", "testsrc2=s=160x128:r=25:d=3", "-c:v", "libx264", "-x264-params", parameters)
    ffmpeg(*film, whole)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        place = [packet.pos for packet in packets if packet.is_keyframe][1]
    middle.write_bytes(whole.read_bytes()[place:])
    with open_clip(whole, DecodeOptions(threads=threads)) as reader:
        assert len(list(reader.frames())) == 75 and not reader.damage
    with open_clip(middle, DecodeOptions(threads=threads)) as reader:
        found = list(reader.frames())
        lost = sum(packet.pos >= place for packet in packets if packet.pos is not None) - len(found)
        assert lost > 0 and [(d.pts_seconds, d.what) for d in reader.damage] == [
            (found[0].pts_seconds, f"the video begins while its picture is built up; {lost} packets can't be shown")
        ]


def test_a_group_of_pictures_that_refers_to_the_one_before_begins_with_its_key_frame(tmp_path: Path) -> None:
    whole, middle = tmp_path / "whole.ts", tmp_path / "middle.ts"
    parameters = "open-gop=1:keyint=20:bframes=3:scenecut=0"
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=3", "-c:v", "libx264", "-x264-params", parameters)
    ffmpeg(*film, whole)
    with av.open(str(whole)) as container:
        place = [packet.pos for packet in container.demux(video=0) if packet.size and packet.is_keyframe][1]
    middle.write_bytes(whole.read_bytes()[place:])
    with open_clip(middle) as reader:
        assert len(list(reader.frames())) > 30
        assert not any("begins" in place.what for place in reader.damage)
