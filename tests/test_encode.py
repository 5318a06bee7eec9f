"""Frames into packets and back."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from conftest import ffmpeg
from decoded import frames
from material import Recipe, picture, write_clip
from PIL import Image
from planned import plan, written

from ns_video.color import to_tensor
from ns_video.errors import UsageError
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.encode import FrameEncoder, add_video_stream, encoded
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.first_frame import BOTTOM_FIELD_FIRST, TOP_FIELD_FIRST, field_order, first_frame_metadata
from ns_video.media.verify import verify_files
from ns_video.media.video_plan import plan_video
from ns_video.pipeline import restore

ORIENTATION = 0x0112  # EXIF's tag


def test_an_encoder_that_cannot_be_opened_is_named(odd_size_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the encoder refuses"):
        restore(odd_size_clip, tmp_path / "out.avi", model="identity", pix_fmt="yuv420p")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("codec", "rate", "suffix"), [("dvvideo", "25", "avi"), (None, "0.1", "mpg")])
def test_pictures_that_an_encoder_does_not_take_are_named(
    codec: str | None, rate: str, suffix: str, tmp_path: Path
) -> None:
    source = tmp_path / "in.mp4"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=64x48:r={rate}:d=20", "-frames:v", "2", "-c:v", "libx264", source)
    with pytest.raises(UsageError, match=f"doesn't take such pictures: 64x48 px as yuv420p, {rate} per second") as told:
        restore(source, tmp_path / f"out.{suffix}", model="identity", codec=codec)
    assert told.value.remedy
    assert "avcodec" not in str(told.value)


def test_raw_video_in_mov_is_what_its_readers_know(plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mov"
    record = restore(plain_clip, target, model="identity", codec="rawvideo")
    assert record.exit_code == 0 and any("converted from yuv420p to uyvy422" in w for w in record.warnings)
    assert verify_files(plain_clip, target) == []
    for suffix, wished in (("mov", "yuv420p"), ("mxf", None), ("avi", "gbrp"), ("avi", "yuv444p")):
        with pytest.raises(UsageError, match=f"can't hold raw video as {wished or 'yuv420p'}"):
            restore(plain_clip, tmp_path / f"refused.{suffix}", model="identity", codec="rawvideo", pix_fmt=wished)


def test_hdr_goes_into_webm(ten_bit_pq_clip: Path, tmp_path: Path) -> None:
    assert restore(ten_bit_pq_clip, tmp_path / "out.webm", model="identity").exit_code == 0
    with open_clip(tmp_path / "out.webm") as reader:
        hdr = first_frame_metadata(next(reader.frames()).carrier)[1]
    assert hdr is not None and hdr.light_level == (1000, 400) and len(hdr.primaries) == 3


def test_an_option_that_the_encoder_does_not_know_is_named(plain_clip: Path) -> None:
    chosen, found = plan(plain_clip, "matroska", encoder_options={"preset": "veryfast", "nonsense": "1"})
    with av.open(io.BytesIO(), "w", format="matroska") as out:
        encoder = FrameEncoder(add_video_stream(out, chosen), chosen)
        with pytest.raises(UsageError, match="nonsense"):
            encoder.encode(found[0])


def test_avi_refuses_times_that_it_cannot_hold(vfr_clip: Path, plain_clip: Path) -> None:
    def write(path: Path) -> int:
        chosen, found = plan(path, "avi", codec="ffv1")
        with av.open(io.BytesIO(), "w", format="avi") as out:
            encoder = FrameEncoder(add_video_stream(out, chosen), chosen)
            return sum(1 for _ in encoded(found, encoder))

    assert write(plain_clip) > 0
    with pytest.raises(UsageError, match="AVI") as caught:
        write(vfr_clip)
    assert ".mkv" in caught.value.remedy


@pytest.mark.parametrize(
    ("container", "codec", "ticks"),
    [
        ("matroska", "libx264", 40),
        ("matroska", "libsvtav1", 40),
        ("matroska", "mpeg2video", 1),
        ("yuv4mpegpipe", "", 1),
    ],
)
def test_packets_are_shown_for_as_long_as_their_frames(container: str, codec: str, ticks: int, tmp_path: Path) -> None:
    """In ticks of the output, whatever the source counts in."""
    chosen, found = plan(write_clip(tmp_path / "in.mkv"), container, codec=codec or None)
    with av.open(io.BytesIO(), "w", format=container) as out:
        packets = list(encoded(found, FrameEncoder(add_video_stream(out, chosen), chosen)))
    assert [packet.duration for packet in packets] == [ticks] * len(found)


@pytest.mark.parametrize("codec", ["ffv1", "libx264", "libx265", "libvpx-vp9"])
def test_lossless_codecs_give_the_planes_back(codec: str, plain_clip: Path) -> None:
    chosen, found = plan(plain_clip, "matroska", codec=codec, crf=0)
    changed = [replace(f, planes=tuple(255 - p for p in f.planes)) for f in found]
    back = written(chosen, changed)
    assert len(back) == len(found)
    for was, now in zip(found, back):
        assert all(np.array_equal(255 - a, b) for a, b in zip(was.planes, now.planes))


@pytest.mark.parametrize("color", [(1, 1, 1, 1), (1, 2, 1, 1), (6, 1, 6, 6), (7, 1, 7, 7), (9, 1, 9, 14), (2, 2, 2, 2)])
@pytest.mark.parametrize(("codec", "pix_fmt"), [("ffv1", "gbrp10le"), ("libx264rgb", None)])
def test_rgb_is_made_by_the_matrix_and_range_of_the_source(
    codec: str, pix_fmt: str | None, color: tuple[int, int, int, int], tmp_path: Path
) -> None:
    recipe = Recipe("ffv1", "yuv444p", times=(0, 40), options={}, color=color)
    chosen, found = plan(write_clip(tmp_path / "in.mkv", recipe), "matroska", codec=codec, pix_fmt=pix_fmt, crf=0)
    made = written(chosen, found)[0]
    assert made.format.is_rgb and made.color.matrix == 0
    wanted, got = (to_tensor(f.planes, f.format, f.color, "rgb") for f in (found[0], made))
    assert float((wanted - got).abs().max()) < 3 / 255


@pytest.mark.parametrize("order", [TOP_FIELD_FIRST, BOTTOM_FIELD_FIRST])
@pytest.mark.parametrize("codec", ["libx264", "libx264rgb", "mpeg2video", "mpeg4", "ffv1", "wrapped_avframe"])
def test_interlaced_frames_say_so_in_their_own_order(codec: str, order: int, tmp_path: Path) -> None:
    fields = "tff" if order == TOP_FIELD_FIRST else "bff"
    progressive, source = write_clip(tmp_path / "progressive.mkv"), tmp_path / "interlaced.mkv"
    interlaced = ("-vf", f"setfield={fields}", "-flags", "+ildct", "-x264-params", f"{fields}=1")
    ffmpeg("-i", progressive, *interlaced, "-c:v", "libx264", source)
    container = "yuv4mpegpipe" if codec == "wrapped_avframe" else "matroska"
    with open_clip(source, DecodeOptions(deinterlace="off")) as reader:
        found = list(reader.frames())
        chosen = plan_video(container, reader.info.video, found[0], (64, 48), EncodeOptions(codec=codec))
        larger = plan_video(container, reader.info.video, found[0], (128, 96), EncodeOptions(codec=codec))
    assert chosen.field_order == order and larger.field_order == 0
    assert any("interlaced" in text for text in larger.notes) and not any("interlaced" in text for text in chosen.notes)
    changed = [replace(f, planes=tuple(255 - p for p in f.planes)) if n % 2 else f for n, f in enumerate(found)]
    assert {field_order(f.carrier) for f in written(chosen, changed)} == {order}
    assert plan(progressive, container, codec=codec)[0].field_order == 0


def test_encoding_leaves_the_decoded_frame_alone(plain_clip: Path) -> None:
    chosen, found = plan(plain_clip, "matroska", codec="ffv1")
    before = [f.planes[0].copy() for f in found]
    with av.open(io.BytesIO(), "w", format="matroska") as out:
        encoder = FrameEncoder(add_video_stream(out, chosen), chosen)
        for packet in encoded((replace(f, planes=tuple(255 - p for p in f.planes)) for f in found), encoder):
            out.mux(packet)
    assert all(np.array_equal(f.planes[0], b) for f, b in zip(found, before))


def test_exif_rides_along_and_what_is_turned_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture(0)).save(tmp_path / "turned.jpg", exif=exif)
    ffmpeg("-i", tmp_path / "turned.jpg", "-c", "copy", tmp_path / "turned.mkv")
    chosen, frames = plan(tmp_path / "turned.mkv", "apng")
    assert chosen.upright and (chosen.width, chosen.height) == (frames[0].height, frames[0].width)
    (made,) = written(chosen, frames)
    assert first_frame_metadata(frames[0].carrier)[0] and not first_frame_metadata(made.carrier)[0]


@pytest.mark.parametrize("frames", [1, 2])
def test_decode_times_that_libx265_leaves_open_are_those_of_showing(frames: int, tmp_path: Path) -> None:
    """Of so few frames they are what was in memory before."""
    source = write_clip(tmp_path / "in.mkv", Recipe(times=tuple(range(0, 40 * frames, 40))))
    chosen, found = plan(source, "matroska", codec="libx265")
    with av.open(io.BytesIO(), "w", format="matroska") as out:
        stream = add_video_stream(out, chosen)

        def encode(picture: av.VideoFrame | None) -> list[av.Packet]:
            packets = stream.encode(picture)
            for packet in packets:
                packet.dts = 132858216262926812
            return packets

        shown: Any = SimpleNamespace(encode=encode, codec_context=stream.codec_context)
        packets = list(encoded(found, FrameEncoder(shown, chosen)))
        assert [packet.dts for packet in packets] == [packet.pts for packet in packets] and len(packets) == frames


@pytest.mark.parametrize("height", [62, 302])
def test_ffv1_keeps_all_rows_of_four_to_one_chroma(height: int, tmp_path: Path) -> None:
    """libav's encoder loses the last one of some heights in two rows of slices."""
    source, target = tmp_path / "in.avi", tmp_path / "out.mkv"
    film = ("-f", "lavfi", "-i", f"testsrc2=s=96x{height}:r=5:d=0.4", "-pix_fmt", "yuv410p", "-c:v", "rawvideo")
    ffmpeg(*film, source)
    restore(source, target, model="identity", codec="ffv1")
    was, now = frames(source), frames(target)
    assert len(was) == len(now) == 2 and was[0].format == now[0].format
    assert all(np.array_equal(a, b) for f, g in zip(was, now) for a, b in zip(f.planes, g.planes))
