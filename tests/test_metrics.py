"""Full-reference and no-reference figures, against the ffmpeg program and against damage that is known."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from dataclasses import astuple
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from material import Recipe
from material import write_clip as recipe_clip

from ns_video.errors import InputError
from ns_video.frame import ColorInfo, Frame
from ns_video.media.metrics import (
    Comparison,
    FullReference,
    FullReferenceMeter,
    audio_offsets,
    filter_values,
    frames_as_coded,
)
from ns_video.media.probe import pixel_format
from ns_video.report.document import FullMeansMeter

WIDTH, HEIGHT, FRAMES = 256, 128, 12


def scene(number: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: texture and a disc that move on by 3 px a frame."""
    rng = np.random.default_rng(5)
    texture = cv2.GaussianBlur(rng.integers(0, 256, (HEIGHT, WIDTH * 2, 3)).astype(np.uint8), (0, 0), 1.5)
    picture = np.ascontiguousarray(texture[:, 3 * number : 3 * number + WIDTH])
    cv2.circle(picture, (40 + 5 * number, 64), 24, (200, 60, 30), -1)
    return picture


def write_clip(
    path: Path,
    pictures: list[np.ndarray],
    *,
    codec: str = "ffv1",
    fmt: str = "yuv420p",
    pts: list[int] | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A clip of these pictures; `pts` in 1/1000 s, 40 ms apart by default."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = pictures[0].shape[1], pictures[0].shape[0], fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=fmt)
            frame.pts, frame.time_base = pts[number] if pts else 40 * number, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("metrics")


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Path, Path]:
    """An x264 clip and its lossless reference, 8 bit."""
    pictures = [scene(number) for number in range(FRAMES)]
    reference = write_clip(folder / "reference.mkv", pictures)
    return write_clip(folder / "clip.mkv", pictures, codec="libx264", options={"crf": "32"}), reference


def ffmpeg(*arguments: str) -> str:
    program = shutil.which("ffmpeg")
    assert program, "this test compares with the ffmpeg program: install ffmpeg (.ci/run does)"
    # -cpuflags 0: the plain C code. The x86 SIMD code of ffmpeg 5.1 gives another SSIM for chroma 72 px wide, say.
    done = subprocess.run([program, "-hide_banner", "-cpuflags", "0", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


def compared(clip: Path, reference: Path) -> tuple[list[FullReference], Comparison]:
    comparison = Comparison(clip, reference)
    return [pair.values for pair in comparison.pairs()], comparison


@pytest.mark.parametrize("depth", [8, 10])
def test_psnr_and_ssim_equal_the_ffmpeg_programs(folder: Path, depth: int) -> None:
    fmt = "yuv420p" if depth == 8 else "yuv420p10le"
    pictures = [scene(number) for number in range(FRAMES)]
    reference = write_clip(folder / f"r{depth}.mkv", pictures, fmt=fmt)
    clip = write_clip(folder / f"c{depth}.mkv", pictures, codec="libx264", fmt=fmt, options={"crf": "30"})
    values, _ = compared(clip, reference)
    stats = folder / f"psnr{depth}.txt", folder / f"ssim{depth}.txt"
    graph = f"[0:v]split[a][b];[1:v]split[c][d];[a][c]psnr=stats_file={stats[0]}[x];[b][d]ssim=stats_file={stats[1]}[y]"
    summary = ffmpeg(
        "-i", str(clip), "-i", str(reference), "-lavfi", graph, "-map", "[x]", "-map", "[y]", "-f", "null", "-"
    )
    lines = stats[0].read_text().splitlines()
    assert len(lines) == len(values) == FRAMES
    for value, line in zip(values, lines):
        said = dict(re.findall(r"(psnr_[yuv]):(\S+)", line))
        for plane in "yuv":
            assert f"{getattr(value, f'psnr_{plane}'):.2f}" == said[f"psnr_{plane}"]
    for value, line in zip(values, stats[1].read_text().splitlines()):
        said = dict(re.findall(r"(\w+):([\d.]+)", line))
        assert f"{value.ssim:.6f}" == said["All"]
        assert f"{value.ssim_y:.6f}" == said["Y"]
    meter = FullMeansMeter()
    for value in values:
        meter.add(value, None)
    total = meter.result()
    printed = dict(re.findall(r"\b([yuv]):([\d.]+)", next(t for t in summary.splitlines() if "] PSNR" in t)))
    for plane in "yuv":
        assert getattr(total, f"psnr_{plane}") == pytest.approx(float(printed[plane]), abs=2e-6)
    overall = re.search(r"SSIM .*All:([\d.]+)", summary)
    assert overall and total.ssim == pytest.approx(float(overall[1]), abs=2e-6)


def test_xpsnr_equals_the_filter_run_alone(pair: tuple[Path, Path]) -> None:
    """The ffmpeg program of most systems has no xpsnr: the same libav filter in a graph of its own is the check."""
    values, _ = compared(*pair)
    graph = av.filter.Graph()
    with av.open(str(pair[0])) as clip, av.open(str(pair[1])) as reference:
        ends = [graph.add_buffer(template=c.streams.video[0]) for c in (clip, reference)]
        meter, sink = graph.add("xpsnr"), graph.add("buffersink")
        ends[0].link_to(meter, 0, 0)
        ends[1].link_to(meter, 0, 1)
        meter.link_to(sink)
        graph.configure()
        for value, first, second in zip(values, clip.decode(video=0), reference.decode(video=0)):
            ends[0].push(first)
            ends[1].push(second)
            found = dict(sink.pull().metadata)
            assert value.xpsnr == float(found["lavfi.xpsnr.xpsnr.y"])
            assert value.xpsnr_u == float(found["lavfi.xpsnr.xpsnr.u"])


def test_rgb_psnr_is_that_of_converted_pictures(pair: tuple[Path, Path]) -> None:
    values, _ = compared(*pair)
    with av.open(str(pair[0])) as clip, av.open(str(pair[1])) as reference:
        for value, first, second in zip(values, clip.decode(video=0), reference.decode(video=0)):
            one, other = (f.to_ndarray(format="rgb24").astype(float) for f in (first, second))
            expected = 10 * np.log10(255**2 / ((one - other) ** 2).mean())
            assert value.psnr_rgb == pytest.approx(expected, abs=0.05)


def test_a_clip_equals_itself(pair: tuple[Path, Path]) -> None:
    values, comparison = compared(pair[1], pair[1])
    assert all(value.psnr_y == float("inf") and value.ssim == 1.0 for value in values)
    assert comparison.alignment and comparison.alignment.problems == ()


def test_a_reference_that_begins_later_is_shifted_back_and_said(folder: Path, pair: tuple[Path, Path]) -> None:
    late = write_clip(
        folder / "late.mkv", [scene(n) for n in range(FRAMES)], pts=[2000 + 40 * n for n in range(FRAMES)]
    )
    values, comparison = compared(pair[0], late)
    straight, _ = compared(*pair)
    assert comparison.alignment
    assert comparison.alignment.offset_seconds == pytest.approx(2.0, abs=0.002)
    assert any("2.000 s later" in problem for problem in comparison.alignment.problems)
    assert [value.psnr_y for value in values] == [value.psnr_y for value in straight]


def test_a_reference_whose_pictures_are_two_frames_off_is_noticed(folder: Path, pair: tuple[Path, Path]) -> None:
    shifted = write_clip(folder / "shifted.mkv", [scene(n + 2) for n in range(FRAMES)])
    values, comparison = compared(pair[0], shifted)
    assert comparison.alignment
    assert comparison.alignment.offset_seconds == pytest.approx(-0.08, abs=0.002)
    assert comparison.alignment.compared == len(values) == FRAMES - 2
    assert min(value.psnr_y or 0 for value in values) > 25  # two frames off, the moving texture is below 20 dB
    assert len(comparison.alignment.problems) == 3


def test_other_pictures_are_not_called_the_same(folder: Path, pair: tuple[Path, Path]) -> None:
    """They begin 100 s later, so that nothing else can be compared."""
    mirrored = [np.ascontiguousarray(255 - scene(n)[::-1]) for n in range(FRAMES)]
    other = write_clip(folder / "other.mkv", mirrored, pts=[100_000 + 40 * n for n in range(FRAMES)])
    values, comparison = compared(pair[0], other)
    assert comparison.alignment and len(values) == FRAMES
    assert comparison.alignment.problems == (
        "the reference begins with other pictures 100.000 s later; the shift was undone",
    )


def test_a_part_of_the_same_clock_is_not_shifted(folder: Path) -> None:
    """It begins after the frames that are looked at, but before the clip's end."""
    pictures = [cv2.resize(scene(5 * number)[:, :128], (64, 64)) for number in range(20)]
    turned = [picture[::-1, ::-1] for picture in pictures]
    clip = write_clip(folder / "long.mkv", [*pictures, *pictures, *pictures, *turned])
    part = write_clip(folder / "part.mkv", [*turned], pts=[40 * n for n in range(60, 80)])
    values, comparison = compared(clip, part)
    assert comparison.offset_seconds == 0.0 and [value.psnr_y for value in values] == [float("inf")] * 20


def test_a_shorter_reference_is_counted_not_averaged(folder: Path, pair: tuple[Path, Path]) -> None:
    short = write_clip(folder / "short.mkv", [scene(number) for number in range(5)])
    values, comparison = compared(pair[0], short)
    assert comparison.alignment and len(values) == comparison.alignment.compared == 5
    assert comparison.alignment.clip_frames == FRAMES
    assert any("7 frames of the clip have no partner" in problem for problem in comparison.alignment.problems)


def test_a_reference_of_another_rate_is_noticed(folder: Path, pair: tuple[Path, Path]) -> None:
    pictures = [scene(number // 2) for number in range(2 * FRAMES)]
    double = write_clip(folder / "double.mkv", pictures, pts=[20 * number for number in range(2 * FRAMES)])
    values, comparison = compared(pair[0], double)
    assert len(values) == FRAMES and comparison.alignment
    assert comparison.alignment.reference_frames == 2 * FRAMES
    assert any("12 frames of the reference" in problem for problem in comparison.alignment.problems)


def test_a_missing_frame_in_the_middle_leaves_the_others_aligned(folder: Path, pair: tuple[Path, Path]) -> None:
    kept = [number for number in range(FRAMES) if number != 6]
    holed = write_clip(folder / "holed.mkv", [scene(n) for n in kept], pts=[40 * n for n in kept])
    values, comparison = compared(pair[0], holed)
    straight, _ = compared(*pair)
    assert [v.psnr_y for v in values] == [straight[number].psnr_y for number in kept]
    assert comparison.alignment and "0.240 s" in comparison.alignment.problems[0]


@pytest.mark.parametrize("missing", [0, 6])
def test_a_missing_frame_of_a_thousand_a_second_leaves_the_others_aligned(folder: Path, missing: int) -> None:
    kept = [number for number in range(FRAMES) if number != missing]
    fast = write_clip(folder / "fast.mkv", [scene(n) for n in range(FRAMES)], pts=list(range(FRAMES)))
    holed = write_clip(folder / "fast_holed.mkv", [scene(n) for n in kept], pts=kept)
    for clip, reference in ((fast, holed), (holed, fast)):
        values, comparison = compared(clip, reference)
        assert [value.psnr_y for value in values] == [float("inf")] * len(kept)
        assert comparison.alignment and any("1 frame of the" in problem for problem in comparison.alignment.problems)


def test_times_that_lie_in_the_middle_of_each_other_pair_in_order(folder: Path) -> None:
    even = write_clip(folder / "even.mkv", [scene(n) for n in range(FRAMES)], pts=list(range(0, 2 * FRAMES, 2)))
    uneven = write_clip(folder / "uneven.mkv", [scene(n) for n in range(FRAMES)], pts=list(range(1, 2 * FRAMES, 2)))
    for clip, reference in ((even, uneven), (uneven, even)):
        comparison = Comparison(clip, reference)
        comparison.offset_seconds = 0.0  # as where too little moves to find one
        assert [pair.values.psnr_y for pair in comparison.pairs()] == [float("inf")] * FRAMES


def test_pictures_one_frame_off_are_noticed_at_a_thousand_a_second(folder: Path) -> None:
    times = list(range(24))
    clip = write_clip(folder / "thousand.mkv", [scene(n) for n in times], pts=times)
    reference = write_clip(folder / "thousand_off.mkv", [scene(n + 1) for n in times], pts=times)
    values, comparison = compared(clip, reference)
    assert [value.psnr_y for value in values] == [float("inf")] * 23
    assert comparison.alignment and "0.001 s earlier" in comparison.alignment.problems[0]


def test_another_size_is_refused(folder: Path, pair: tuple[Path, Path]) -> None:
    small = write_clip(folder / "small.mkv", [np.ascontiguousarray(scene(n)[:64, :64]) for n in range(3)])
    with pytest.raises(InputError, match="64x64"):
        compared(pair[0], small)


def first_frame(path: Path) -> Frame:
    with frames_as_coded(path) as reader:
        frames = reader.frames()
        frame = next(frames)
        frames.close()
        return frame


def test_filters_see_blocks_and_blur(folder: Path) -> None:
    plain = scene(0)
    blocky = cv2.resize(cv2.resize(plain, (WIDTH // 8, HEIGHT // 8)), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    soft = cv2.GaussianBlur(plain, (0, 0), 4)
    made = {
        name: filter_values(first_frame(write_clip(folder / f"{name}.mkv", [picture] * 2)))
        for name, picture in (("plain", plain), ("blocky", blocky), ("soft", soft))
    }
    assert made["blocky"].block > 2 * made["plain"].block
    blurs = made["plain"].blur, made["soft"].blur
    assert blurs[0] is not None and blurs[1] is not None and blurs[1] > blurs[0]
    assert made["soft"].spatial_information < made["plain"].spatial_information
    assert 16 <= made["plain"].luma_low <= made["plain"].luma_mean <= made["plain"].luma_high <= 235


def of_noise(width: int, height: int, fmt: str = "gray", low: int = 0) -> Frame:
    rng = np.random.default_rng(3)
    kind, shift = pixel_format(fmt), (1 if fmt == "yuv420p" else 0)
    sizes = [(height, width)] + [(-(-height >> shift), -(-width >> shift))] * (kind.planes - 1)
    planes = tuple(rng.integers(low, 256, size).astype(np.uint8) for size in sizes)
    return Frame(planes, width, height, kind, ColorInfo(), 0, Fraction(1, 25))


@pytest.mark.parametrize("fmt", ["gray", "gbrp", "yuv420p"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (8, 1), (2, 2), (3, 200), (2025, 1), (4, 640), (44, 44), (45, 45)])
def test_what_a_picture_is_too_small_for_is_left_out(size: tuple[int, int], fmt: str) -> None:
    """libav ended the process, wanted memory without end, or gave an SSIM of -6232 and inf."""
    frame, other = of_noise(*size, fmt), of_noise(*size, fmt, low=8)
    found, alone = FullReferenceMeter(Fraction(25)).measure(frame, other), filter_values(frame)
    assert found.psnr_y is not None and (found.xpsnr is None) == (size != (45, 45))
    assert (found.ssim is None) == (found.ssim_y is None) == (min(size) < 8)
    assert (alone.spatial_information is None) == (min(size) < 3) and alone.luma_mean is not None
    numbers = [value for value in (*astuple(found), *astuple(alone)) if value is not None]
    assert not any(map(math.isnan, numbers)) and (found.ssim is None or -1 <= found.ssim <= 1)


def test_planes_too_small_for_ssim_leave_that_of_luma() -> None:
    found = FullReferenceMeter(Fraction(25)).measure(of_noise(12, 240, "yuv420p"), of_noise(12, 240, "yuv420p", 8))
    assert found.ssim is None and found.ssim_y is not None and -1 <= found.ssim_y <= 1 and found.xpsnr is not None


@pytest.mark.parametrize("fmt", ["yuv422p10le", "yuv444p", "gray", "rgb24", "gbrp10le"])
def test_every_kind_of_format_is_measured(folder: Path, fmt: str) -> None:
    pictures = [scene(number) for number in range(3)]
    damaged = [cv2.GaussianBlur(picture, (0, 0), 1.0) for picture in pictures]
    codec, suffix = ("png", "mov") if fmt == "rgb24" else ("ffv1", "mkv")  # packed RGB in 8 bit
    clip = write_clip(folder / f"d_{fmt}.{suffix}", damaged, codec=codec, fmt=fmt)
    values, _ = compared(clip, write_clip(folder / f"t_{fmt}.{suffix}", pictures, codec=codec, fmt=fmt))
    assert len(values) == 3
    for value in values:
        assert value.psnr_y is not None and 15 < value.psnr_y < 45
        assert 0.3 < value.ssim < 1.0
    assert filter_values(first_frame(clip)).entropy > 4


@pytest.mark.parametrize(
    "fmt", ["yuv420p9le", "yuv420p10le", "yuv422p12le", "yuv444p16le", "gray10le", "gray16le", "gbrp10le", "gbrp12le"]
)
def test_code_values_are_those_of_the_bit_depth(fmt: str) -> None:
    """Above 10 bits, and of 9, they were those of another depth."""
    kind, shallow = pixel_format(fmt), pixel_format({"yuv": "yuv444p", "gra": "gray", "gbr": "gbrp"}[fmt[:3]])
    rng = np.random.default_rng(3)
    levels = [cv2.resize(rng.integers(30, 220, (6, 8)).astype(np.uint8), (64, 48)) for _ in range(kind.planes)]
    shifts = [(0, 0)] + [(kind.chroma_shift_y, kind.chroma_shift_x)] * (kind.planes - 1)
    deep = tuple(a[:: 1 << y, :: 1 << x].astype(np.uint16) << kind.bit_depth - 8 for a, (y, x) in zip(levels, shifts))
    of_8, of_depth = (
        filter_values(Frame(planes, 64, 48, f, ColorInfo(), 0, Fraction(1, 25)))
        for planes, f in ((tuple(levels), shallow), (deep, kind))
    )
    scale = 1 << kind.bit_depth - 8
    for name in ("luma_mean", "luma_low", "luma_high", "saturation_mean"):
        assert getattr(of_depth, name) / scale == pytest.approx(getattr(of_8, name), abs=1.5), name


@pytest.mark.parametrize(
    ("pix_fmt", "color"),
    [("yuv444p", (6, 2, 6, 6)), ("yuv444p", (1, 1, 6, 6)), ("yuv444p10le", (1, 2, 6, 6)), ("bgr0", None)],
    ids=["full range", "BT.709", "10 bits, both", "RGB"],
)
def test_a_reference_coded_otherwise_is_the_same_picture(
    tmp_path: Path, pix_fmt: str, color: tuple[int, int, int, int] | None
) -> None:
    clip = recipe_clip(tmp_path / "clip.mkv", Recipe("ffv1", "yuv444p", options={}, color=(6, 1, 6, 6)))
    other = recipe_clip(tmp_path / "other.mkv", Recipe("ffv1", pix_fmt, options={}, color=color))
    for pair in Comparison(clip, other).pairs():
        assert (pair.values.psnr_y or 0) > 44 and (pair.values.psnr_u or 0) > 36  # 28.6 where it is only called so
        assert float(np.abs(pair.reference.planes[0].astype(float) - pair.clip.planes[0]).max()) <= 4
        assert pair.reference.format == pair.clip.format


def test_untagged_samples_are_compared_as_they_are(tmp_path: Path) -> None:
    """The tags of a clip that went through y4m are gone, its samples are the same."""
    tagged = recipe_clip(tmp_path / "tagged.mkv", Recipe("ffv1", "yuv420p", options={}, color=(1, 1, 1, 1)))
    untagged = tmp_path / "untagged.y4m"
    ffmpeg("-i", str(tagged), "-f", "yuv4mpegpipe", str(untagged))
    assert all(pair.values.psnr_rgb == float("inf") for pair in Comparison(untagged, tagged).pairs())


@pytest.mark.parametrize("restored", [0, 1])
def test_audio_offsets_are_those_that_were_written(tmp_path: Path, restored: int) -> None:
    """Beside the video that is marked default; the other one begins 1 s later."""
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        videos = [container.add_stream("ffv1", rate=25) for _ in range(2)]
        for number, video in enumerate(videos):
            video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
            video.disposition = av.stream.Disposition.default if number == restored else 0
        audio = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for number in range(25):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            for place, video in enumerate(videos):
                frame = picture.reformat(format="yuv420p")
                frame.pts, frame.time_base = number + (0 if place == restored else 25), Fraction(1, 25)
                container.mux(video.encode(frame))
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 320), np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts, sound.time_base = 8000, 320 * number + 2000, Fraction(1, 8000)
            container.mux(audio.encode(sound))
        for stream in (*videos, audio):
            container.mux(stream.encode(None))
    (found,) = audio_offsets(path)
    assert found.start_seconds == pytest.approx(0.25, abs=0.002)
    assert found.end_seconds == pytest.approx(0.25, abs=0.045)


def test_rgb_has_the_same_xpsnr_in_more_bits(tmp_path: Path) -> None:
    pictures = [scene(number) for number in range(3)]
    noise = np.random.default_rng(1).integers(-6, 7, pictures[0].shape)
    noisy = [np.clip(picture + noise, 0, 255).astype(np.uint8) for picture in pictures]
    found: list[float] = []
    for fmt in ("bgr0", "gbrp10le"):
        truth, other = (write_clip(tmp_path / f"{name}.mkv", p, fmt=fmt) for name, p in (("a", pictures), ("b", noisy)))
        assert [values.xpsnr for values in compared(truth, truth)[0]] == [float("inf")] * 3
        found.append(float(np.mean([values.xpsnr or 0 for values in compared(other, truth)[0]])))
    assert abs(found[0] - found[1]) < 0.5 and 25 < found[0] < 50


def test_packets_that_an_edit_list_discards_are_not_heard(tmp_path: Path) -> None:
    """The delay of AAC, and pictures before a cut: players begin both at 0."""
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    sources = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.6", "-f", "lavfi", "-i", "sine=d=0.6:r=48000")
    ffmpeg(*sources, "-c:v", "libx264", "-bf", "2", "-c:a", "aac", str(whole))
    ffmpeg("-ss", "0.2", "-i", str(whole), "-c:v", "copy", "-c:a", "aac", str(cut))
    for path in (whole, cut):
        (found,) = audio_offsets(path)
        assert found.start_seconds == pytest.approx(0, abs=0.001)
        assert found.first_packet_seconds == pytest.approx(-1024 / 48000, abs=0.001)
