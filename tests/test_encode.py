"""The choice of codec, pixel format and options, and frames into packets and back."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext
from conftest import ffmpeg
from material import Recipe, picture, write_clip
from PIL import Image

from ns_video.color import to_tensor
from ns_video.errors import UsageError
from ns_video.frame import Frame
from ns_video.media import encode as encode_module
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.encode import (
    BOTTOM_FIELD_FIRST,
    TOP_FIELD_FIRST,
    EncodeOptions,
    FrameEncoder,
    VideoPlan,
    add_video_stream,
    encoded,
    field_order,
    first_frame_metadata,
    plan_video,
    turn_alone,
)
from ns_video.media.mux import decode_times
from ns_video.media.versions import hardware_encoder_works
from ns_video.pipeline import restore

ORIENTATION = 0x0112  # EXIF's tag


def plan(path: Path, container: str, **wanted: object) -> tuple[VideoPlan, list[Frame]]:
    """The plan for a clip, and its frames."""
    with open_clip(path) as reader:
        found = list(reader.frames())
        size = (found[0].width, found[0].height)
        return plan_video(container, reader.info.video, found[0], size, EncodeOptions(**wanted)), found


def written(chosen: VideoPlan, frames: list[Frame]) -> list[Frame]:
    """The frames, encoded into a container in memory and read back."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=chosen.container_format) as out:
        encoder = FrameEncoder(add_video_stream(out, chosen), chosen)
        for packet in encoded(frames, encoder):
            out.mux(packet)
    buffer.seek(0)
    with open_clip(buffer, DecodeOptions(deinterlace="off")) as reader:
        return list(reader.frames())


@pytest.mark.parametrize(
    ("name", "container", "codec", "pix_fmt"),
    [
        ("plain_clip", "mp4", "libx264", "yuv420p"),
        ("plain_clip", "webm", "libvpx-vp9", "yuv420p"),
        ("yuv444_clip", "matroska", "libx264", "yuv444p"),
        ("ten_bit_pq_clip", "mp4", "libx265", "yuv420p10le"),
        ("yuv422_ten_bit_clip", "mov", "libx265", "yuv422p10le"),
        ("twelve_bit_clip", "matroska", "libx265", "yuv420p12le"),
        ("odd_size_clip", "matroska", "libvpx-vp9", "yuv420p"),
        ("odd_size_clip", "avi", "libx264", "yuv444p"),
        ("ten_bit_pq_clip", "webm", "libsvtav1", "yuv420p10le"),
        ("full_range_601_clip", "mp4", "libx264", "yuvj420p"),
    ],
)
def test_depth_and_chroma_are_never_lost_by_default(
    name: str, container: str, codec: str, pix_fmt: str, request: pytest.FixtureRequest
) -> None:
    chosen, _ = plan(request.getfixturevalue(name), container)
    assert chosen.codec == codec
    assert chosen.pix_fmt in (pix_fmt, pix_fmt.replace("yuvj", "yuv"))
    assert not [n for n in chosen.notes if "bits" in n]


@pytest.mark.parametrize(
    ("pix_fmt", "container", "wanted"),
    [
        ("yuva420p", "avi", "yuv444p"),
        ("yuv411p", "mov", "yuv444p"),
        ("yuv422p12le", "avi", "yuv444p10le"),
        ("yuv422p12le", "mov", "yuv444p12le"),
        ("yuv440p", "mp4", "yuv444p"),
    ],
)
def test_odd_sides_of_any_sampling_are_written(pix_fmt: str, container: str, wanted: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / f"out.{container}"
    write_clip(source, Recipe("ffv1", pix_fmt, times=(0, 40), size=(97, 65), options={}))
    assert plan(source, container)[0].pix_fmt == wanted
    assert restore(source, target, model="identity", verify="full").exit_code == 0


def test_an_encoder_that_cannot_be_opened_is_named(odd_size_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the encoder refuses"):
        restore(odd_size_clip, tmp_path / "out.avi", model="identity", pix_fmt="yuv420p")
    assert not list(tmp_path.iterdir())


def test_hdr_goes_into_webm(ten_bit_pq_clip: Path, tmp_path: Path) -> None:
    assert restore(ten_bit_pq_clip, tmp_path / "out.webm", model="identity").exit_code == 0
    with open_clip(tmp_path / "out.webm") as reader:
        hdr = first_frame_metadata(next(reader.frames()).carrier)[1]
    assert hdr is not None and hdr.light_level == (1000, 400) and len(hdr.primaries) == 3


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libvpx", "webm"), ("mpeg4", "avi"), ("mpeg2video", "mpg"), ("mjpeg", "mkv"), ("msmpeg4", "avi"), ("flv", "flv")],
)
def test_every_encoder_heeds_the_crf(codec: str, container: str, plain_clip: Path, tmp_path: Path) -> None:
    sizes: list[int] = []
    for crf in (1, 12, 30):
        target = tmp_path / f"{crf}.{container}"
        record = restore(plain_clip, target, model="identity", codec=codec, crf=crf)
        assert not any("crf" in text for text in record.warnings)
        sizes.append(target.stat().st_size)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[2]


def test_an_encoder_without_a_crf_says_so(plain_clip: Path, tmp_path: Path) -> None:
    assert not any("crf" in text for text in plan(plain_clip, "matroska", codec="ffv1")[0].notes)
    assert "ffv1 takes no --crf" in plan(plain_clip, "matroska", codec="ffv1", crf=20)[0].notes[0]


@pytest.mark.parametrize(
    ("codec", "crf", "wanted"),
    [
        ("h264_qsv", 0, {"global_quality": "1"}),
        ("hevc_amf", 23, {"rc": "cqp", "qp_i": "23", "qp_p": "23"}),
        ("av1_amf", 63, {"rc": "cqp", "qp_i": "255", "qp_p": "255"}),
        ("h264_videotoolbox", 0, {"qscale": "100"}),
        ("hevc_mf", 51, {"rate_control": "quality", "quality": "1"}),
    ],
)
def test_encoders_in_hardware_heed_the_crf(
    codec: str, crf: float, wanted: dict[str, str], plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = av.Codec
    monkeypatch.setattr(encode_module, "hardware_encoder_works", lambda *_: True)
    monkeypatch.setattr(encode_module.av, "Codec", lambda name, mode: real("libx264", mode))
    options = dict(plan(plain_clip, "matroska", codec=codec, crf=crf)[0].options)
    assert {key: options.get(key) for key in wanted} == wanted


def test_alpha_gray_and_rgb_find_a_codec_that_holds_them(alpha_clip: Path, gray_clip: Path, rgb_clip: Path) -> None:
    assert plan(alpha_clip, "matroska")[0].pix_fmt.startswith("yuva")
    assert plan(alpha_clip, "mov")[0].pix_fmt == "rgba"
    assert any("alpha" in n for n in plan(alpha_clip, "mp4")[0].notes)
    assert plan(gray_clip, "mp4")[0].pix_fmt == "gray"
    assert plan(rgb_clip, "mp4")[0].pix_fmt in ("gbrp", "yuv444p")


def test_fewer_bits_are_told(ten_bit_pq_clip: Path) -> None:
    for pix_fmt in ("yuv420p", "gray"):
        chosen, _ = plan(ten_bit_pq_clip, "mp4", codec="libx264", pix_fmt=pix_fmt)
        assert any("8 of 10 bits" in n for n in chosen.notes)


def test_wrong_wishes(plain_clip: Path) -> None:
    for wish in ({"codec": "nothing"}, {"codec": "flac"}, {"pix_fmt": "nothing"}):
        with pytest.raises(UsageError):
            plan(plain_clip, "mp4", **wish)


def test_options_of_the_user_come_last_and_add_to_parameter_lists(plain_clip: Path) -> None:
    chosen, _ = plan(plain_clip, "mp4", encoder_options={"preset": "slow", "x264-params": "bframes=1"}, crf=20)
    options = dict(chosen.options)
    assert options["preset"] == "slow" and options["crf"] == "20"
    assert options["x264-params"] == "cpu-independent=1:bframes=1"


def test_hdr_metadata_is_read_and_written(ten_bit_pq_clip: Path) -> None:
    chosen, found = plan(ten_bit_pq_clip, "matroska")
    _, hdr = first_frame_metadata(found[0].carrier)
    assert hdr is not None and hdr == chosen.hdr
    assert hdr.light_level == (1000, 400)
    assert [float(v) for v in hdr.luminance] == [0.005, 1000.0]
    assert [round(float(x), 3) for x in hdr.primaries[0]] == [0.68, 0.32]
    assert "max-cll=1000,400" in dict(chosen.options)["x265-params"]
    assert "L(10000000,50)" in dict(chosen.options)["x265-params"]


def test_frames_are_reordered_only_where_the_container_can_tell(plain_clip: Path, late_start_clip: Path) -> None:
    assert dict(plan(plain_clip, "mpegts")[0].options)["bf"] == "0"
    assert "bf" not in dict(plan(late_start_clip, "mpegts")[0].options)
    assert "bf" not in dict(plan(plain_clip, "mp4")[0].options)


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


@pytest.mark.parametrize(
    "presentation",
    [[0, 40, 80, 120], [0, 120, 40, 80, 160], [0, 80, 40, 160, 120, 200], [5], [0, 400, 200, 100, 300, 1000], []],
)
def test_decode_times_rise_and_never_pass_presentation(presentation: list[int]) -> None:
    stamps = list(decode_times([presentation] if presentation else []))
    assert len(stamps) == len(presentation)
    assert all(b > a for a, b in pairwise(stamps))
    assert all(d <= p for d, p in zip(stamps, presentation))
    if presentation == sorted(presentation):
        assert stamps == presentation
    later = [pts + 10_000 for pts in presentation]
    assert list(decode_times([presentation, later])) == list(decode_times([presentation + later]))


@pytest.mark.parametrize(("codec", "software"), [("h264_nvenc", "libx264"), ("hevc_qsv", "libx265")])
def test_an_encoder_without_its_hardware_is_replaced_and_named(
    codec: str, software: str, plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"libav was built without {codec}")
    monkeypatch.setattr(encode_module, "hardware_encoder_works", lambda *_: False)
    made, _ = plan(plain_clip, "matroska", codec=codec, crf=30.0, encoder_options={"preset": "p7"})
    assert made.codec == software and dict(made.options)["crf"] == "30" and "p7" not in dict(made.options).values()
    assert made.notes == (
        f"{codec} does not work on this machine: {software} encodes instead without the encoder options",
    )
    monkeypatch.setattr(encode_module, "hardware_encoder_works", lambda *_: True)
    there, _ = plan(plain_clip, "matroska", codec=codec)
    assert there.codec == codec and there.notes == () and there.pix_fmt in ("yuv420p", "nv12")
    monkeypatch.setattr(encode_module, "hardware_encoder_works", lambda *asked: len(asked) == 1)
    refused, _ = plan(plain_clip, "matroska", codec=codec)
    size = f"{refused.width}x{refused.height}"
    assert refused.codec == software and refused.notes == (
        f"{codec} does not take {size} pictures as {there.pix_fmt} here: {software} encodes instead",
    )


def test_a_hardware_encoder_works_where_it_encodes(capfd: pytest.CaptureFixture[str]) -> None:
    for codec in ("h264_nvenc", "h264_qsv", "no_such_encoder"):
        works = False
        if codec in av.codecs_available:
            context = av.CodecContext.create(codec, "w")
            assert isinstance(context, VideoCodecContext)
            context.width, context.height, context.pix_fmt = 320, 240, "nv12"
            context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
            try:
                context.encode(av.VideoFrame(320, 240, "nv12"))
                works = True
            except av.FFmpegError:
                works = False
        assert hardware_encoder_works(codec) == works
    assert capfd.readouterr().err == ""


def test_exif_rides_along_and_what_is_turned_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(picture(0)).save(tmp_path / "turned.jpg", exif=exif)
    ffmpeg("-i", tmp_path / "turned.jpg", "-c", "copy", tmp_path / "turned.mkv")
    chosen, frames = plan(tmp_path / "turned.mkv", "apng")
    assert chosen.upright and (chosen.width, chosen.height) == (frames[0].height, frames[0].width)
    (made,) = written(chosen, frames)
    assert first_frame_metadata(frames[0].carrier)[0] and not first_frame_metadata(made.carrier)[0]


def test_dolby_vision_is_left_out_by_name(plain_clip: Path) -> None:
    chosen, frames = plan(plain_clip, "mp4")
    told = SimpleNamespace(type=SimpleNamespace(name="DOVI_METADATA"))
    first = replace(frames[0], carrier=SimpleNamespace(side_data=[told], interlaced_frame=False))
    with open_clip(plain_clip) as reader:
        known = plan_video("mp4", reader.info.video, first, (first.width, first.height), EncodeOptions())
    assert [n for n in known.notes if n not in chosen.notes] == [
        "Dolby Vision's metadata is left out: the base picture stays"
    ]


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((65536, 0, 0, 0, 65536, 0), (65536, 0, 0, 65536)),
        ((0, 65536, 0, -65536, 0, 0), (0, 65536, -65536, 0)),
        ((0, 65536, 0, 65536, 0, 0), (0, 65536, 65536, 0)),  # mirrored
        ((46341, 46340, 0, -46341, 46341, 0), (46341, 46340, -46341, 46341)),  # rounded
        ((65536, 0, 0, 0, 89856, 0), (65536, 0, 0, 65536)),  # stretched
        ((0, 131072, 0, -65536, 0, 0), (0, 65536, -65536, 0)),
        ((65536, 32, 0, 0, 65536, 0), (65536, 16, -16, 65536)),  # skewed
        ((65536, 0, 212, 0, 65536, 0), (65536, 0, 0, 65536)),  # in perspective
        ((0, 0, 0, 0, 65536, 0), (65536, 0, 0, 65536)),
        ((0, 0, 0, 0, 0, 0), (65536, 0, 0, 65536)),
    ],
)
def test_the_turn_alone_of_a_display_matrix(matrix: tuple[int, ...], turn: tuple[int, ...]) -> None:
    found = turn_alone((*matrix, 0, 0, 1 << 30))
    assert (*found[:2], *found[3:5]) == turn and found[2] == found[5] == 0
