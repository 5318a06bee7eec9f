"""The encoder and the pixel format: what holds all there is is taken, and what isn't there is named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.video.codeccontext import VideoCodecContext
from conftest import ffmpeg
from material import Recipe, write_clip
from planned import plan

from ns_video.errors import UsageError
from ns_video.media import encoder_choice
from ns_video.media.versions import hardware_encoder_works
from ns_video.pipeline import restore


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


def test_alpha_gray_and_rgb_find_a_codec_that_holds_them(alpha_clip: Path, gray_clip: Path, rgb_clip: Path) -> None:
    assert plan(alpha_clip, "matroska")[0].pix_fmt.startswith("yuva")
    assert plan(alpha_clip, "mov")[0].pix_fmt == "rgba"
    assert not any("PNG" in n for n in plan(alpha_clip, "mov", codec="png")[0].notes)
    assert any("alpha" in n for n in plan(alpha_clip, "mp4")[0].notes)
    assert plan(gray_clip, "mp4")[0].pix_fmt == "gray"
    assert plan(rgb_clip, "mp4")[0].pix_fmt in ("gbrp", "yuv444p")


def test_wrong_wishes(plain_clip: Path) -> None:
    for wish in ({"codec": "nothing"}, {"codec": "flac"}, {"pix_fmt": "nothing"}):
        with pytest.raises(UsageError):
            plan(plain_clip, "mp4", **wish)


@pytest.mark.parametrize(("codec", "software"), [("h264_nvenc", "libx264"), ("hevc_qsv", "libx265")])
def test_an_encoder_without_its_hardware_is_replaced_and_named(
    codec: str, software: str, plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"libav was built without {codec}")
    monkeypatch.setattr(encoder_choice, "hardware_encoder_works", lambda *_: False)
    made, _ = plan(plain_clip, "matroska", codec=codec, crf=30.0, encoder_options={"preset": "p7"})
    assert made.codec == software and dict(made.options)["crf"] == "30" and "p7" not in dict(made.options).values()
    assert made.notes == (
        f"{codec} does not work on this machine: {software} encodes instead without the encoder options",
    )
    monkeypatch.setattr(encoder_choice, "hardware_encoder_works", lambda *_: True)
    there, _ = plan(plain_clip, "matroska", codec=codec)
    assert there.codec == codec and there.notes == () and there.pix_fmt in ("yuv420p", "nv12")
    monkeypatch.setattr(encoder_choice, "hardware_encoder_works", lambda *asked: len(asked) == 1)
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


def test_png_in_place_of_prores_is_named_with_the_remedy(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mov", tmp_path / "out.mov"
    alpha = ("-f", "lavfi", "-i", "color=gray:s=64x48:r=25:d=0.2", "-lavfi", "[0][1]alphamerge")
    prores = ("-c:v", "prores_ks", "-profile:v", "4444", "-pix_fmt", "yuva444p10le")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.2", *alpha, *prores, source)
    told = "written as PNG video for the alpha channel; --codec prores_ks keeps ProRes, nearly without loss"
    for codec, kept, notes in ((None, "png", [told]), ("prores_ks", "prores", [])):
        record = restore(source, target, model="identity", codec=codec, overwrite=True)
        assert record.exit_code == 0 and [w for w in record.warnings if "PNG" in w] == notes
        with av.open(str(target)) as clip:
            context = clip.streams.video[0].codec_context
            assert context.name == kept and any(c.is_alpha for c in context.format.components)
