"""Damage on purpose: real codecs, the published definitions, the same for the same seed."""

from __future__ import annotations

import errno
import io
import json
import socket
import subprocess
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from conftest import Command
from material import Recipe, facts, write_clip
from PIL import Image, ImageCms

from ns_video.errors import InputError, NsVideoError, OutputError, UsageError
from ns_video.jpeg_tables import ijg_tables
from ns_video.media.degrade import (
    blur_down,
    degrade_frames,
    degrade_still,
    describe,
    downscale_bicubic,
    mosaic,
    parse_spec,
)
from ns_video.media.degraded_clip import degrade_clip
from ns_video.media.pictures import Rgb, decode_picture, encode_jpeg, read_rgb

PIXEL_SPECS = (
    "jpeg:q=10", "jpeg:q=30,subsampling=444", "mosaic:p=4", "blur-down", "noise:sigma=25", "iso-noise",
    "color-noise", "gaussian-blur", "motion-blur:angle=30", "defocus-blur", "lens-blur", "color-distortion",
    "hue-shift", "mixed", "noise:sigma=5+jpeg:q=30",
)  # fmt: skip
CODEC_SPECS = ("h264:crf=37,preset=veryfast", "hevc:crf=37,preset=ultrafast", "mpeg2:q=12")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((a.astype(float) - b.astype(float)) ** 2))))


@pytest.fixture(scope="module")
def picture() -> Rgb:
    """(90, 110, 3): a soft gradient, hard edges and some texture. Odd block counts on purpose."""
    y, x = np.mgrid[0:90, 0:110]
    base = np.stack((x * 2, y * 2, 255 - x - y), -1).astype(float)
    base[20:60, 30:80] = (200, 40, 60)
    base += 20 * np.sin(x / 1.7)[..., None] * (y > 50)[..., None]
    return np.clip(base, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def panning_frames(picture: Rgb) -> list[Rgb]:
    """Eight frames of a camera that moves 2 px a frame: inter prediction pays."""
    return [np.roll(picture, 2 * i, 1) for i in range(8)]


@pytest.fixture(scope="module")
def uneven_clip(tmp_path_factory: pytest.TempPathFactory, panning_frames: list[Rgb]) -> Path:
    """A lossless clip of 8 frames with uneven times (VFR)."""
    path = tmp_path_factory.mktemp("clips") / "uneven.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 110, 90, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for index, rgb in enumerate(panning_frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index * 40 + (index % 3) * 7, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("spec", (*PIXEL_SPECS, *CODEC_SPECS))
def test_damage_is_damage_and_the_same_for_the_same_seed(picture: Rgb, spec: str) -> None:
    parsed = parse_spec(spec)
    first, again = degrade_still(picture, parsed, 7).rgb, degrade_still(picture, parsed, 7).rgb
    assert first.shape == picture.shape and first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert 10 < psnr(first, picture) < 55


@pytest.mark.parametrize("spec", ["noise:sigma=10", "iso-noise", "color-noise", "color-distortion", "mixed"])
def test_another_seed_makes_other_damage(picture: Rgb, spec: str) -> None:
    parsed = parse_spec(spec)
    assert not np.array_equal(degrade_still(picture, parsed, 1).rgb, degrade_still(picture, parsed, 2).rgb)


@pytest.mark.parametrize(
    ("low", "high"),
    [("jpeg:q=10", "jpeg:q=50"), ("mosaic:p=4", "mosaic:p=2"), ("noise:sigma=25", "noise:sigma=5"),
     ("h264:crf=40", "h264:crf=20"), ("hevc:crf=40", "hevc:crf=20"), ("mpeg2:q=25", "mpeg2:q=3"),
     ("mixed:level=1", "mixed:level=0")],
)  # fmt: skip
def test_parameters_mean_what_they_say(picture: Rgb, low: str, high: str) -> None:
    worse, better = (psnr(degrade_still(picture, parse_spec(s)).rgb, picture) for s in (low, high))
    assert worse < better


def test_jpeg_is_what_other_programs_write(picture: Rgb) -> None:
    for quality in (5, 10, 49, 50, 75, 95, 100):
        outcome = degrade_still(picture, parse_spec(f"jpeg:q={quality}"))
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=quality, subsampling=2)
        assert np.array_equal(outcome.rgb, np.asarray(Image.open(stream).convert("RGB")))
        assert outcome.jpeg is not None and outcome.encoded is not None
        with Image.open(io.BytesIO(outcome.encoded)) as image:
            tables = image.quantization  # type: ignore[attr-defined]  JpegImageFile has it
        assert tables[0] == outcome.jpeg.luma.ravel().tolist() and tables[1] == outcome.jpeg.chroma.ravel().tolist()
        assert outcome.jpeg.subsampling == (2, 2)


def test_the_subsampling_ladder() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    for quality, wanted in ((30, (2, 2)), (40, (2, 1)), (60, (2, 1)), (70, (1, 1))):
        tables = degrade_still(picture, parse_spec(f"jpeg:q={quality},subsampling=ladder")).jpeg
        assert tables is not None and tables.subsampling == wanted


def test_mosaic_blocks_are_flat_and_the_ladder_names_them() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8)
    blocks = mosaic(picture, 4)
    assert (blocks.reshape(12, 4, 12, 4, 3) == blocks[::4, ::4][:, None, :, None]).all()
    for quality, p in ((90, 2), (80, 3), (70, 4), (0, 11), (100, 1)):
        same = degrade_still(picture, parse_spec(f"mosaic:q={quality}")).rgb
        assert np.array_equal(same, degrade_still(picture, parse_spec(f"mosaic:p={p}")).rgb)


def test_blur_down_is_the_studys(picture: Rgb) -> None:
    taps = np.array([2, 7, 14, 18, 14, 7, 2], np.float64) / 64  # OpenCV's for 7 and sigma 0, about sigma 1.4
    soft = cv2.sepFilter2D(picture, -1, taps, taps)
    small = cv2.resize(soft, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA)
    wanted = cv2.resize(small, (110, 90), interpolation=cv2.INTER_LINEAR)
    assert np.abs(blur_down(picture).astype(int) - wanted).max() <= 1


def test_bicubic_downscale_keeps_constants_lines_and_phase() -> None:
    assert (downscale_bicubic(np.full((20, 30, 3), 77, np.uint8), 2) == 77).all()
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[None, :, None], (16, 60, 3))
    small = downscale_bicubic(ramp, 2)
    assert np.array_equal(small[4, 4:-4, 0], np.arange(0, 240, 8)[4:-4] + 2)  # the centre of two samples
    assert downscale_bicubic(np.zeros((21, 33, 3), np.uint8), 2).shape == (10, 16, 3)
    stripes = np.zeros((16, 32, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(downscale_bicubic(stripes, 2)[:, 4:-4].astype(int)) <= 2  # antialiased: no moiré


def test_blurs_keep_the_mean_and_motion_blurs_along_its_angle() -> None:
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    across = degrade_still(point, parse_spec("motion-blur:length=9,angle=0")).rgb[..., 0]
    assert np.count_nonzero(across[20]) >= 9 and np.count_nonzero(across[:, 20]) <= 3
    flat = np.full((41, 41, 3), 90, np.uint8)
    for spec in ("gaussian-blur", "motion-blur", "defocus-blur", "lens-blur"):
        assert np.abs(degrade_still(flat, parse_spec(spec)).rgb.astype(int) - 90).max() <= 1


def test_color_noise_leaves_luma(picture: Rgb) -> None:
    gray = np.full((64, 64, 3), 128, np.uint8)
    noisy = degrade_still(gray, parse_spec("color-noise:sigma=8")).rgb
    planes = cv2.cvtColor(noisy, cv2.COLOR_RGB2YCrCb).astype(float)
    assert planes[..., 0].std() < 1.0 < 5.0 < planes[..., 1].std()


@pytest.mark.parametrize("spec", CODEC_SPECS)
def test_codecs_use_inter_frames(panning_frames: list[Rgb], spec: str) -> None:
    clip = list(degrade_frames(panning_frames, parse_spec(spec)))
    assert len(clip) == len(panning_frames) and clip[0].shape == panning_frames[0].shape
    alone = degrade_still(panning_frames[5], parse_spec(spec)).rgb
    assert not np.array_equal(clip[5], alone)  # its damage comes from its neighbours too
    assert all(15 < psnr(a, b) < 50 for a, b in zip(clip, panning_frames))


def test_frames_get_damage_of_their_own(panning_frames: list[Rgb]) -> None:
    still = [panning_frames[0]] * 3
    noisy = list(degrade_frames(still, parse_spec("noise:sigma=10"), seed=4))
    assert not np.array_equal(noisy[0], noisy[1])
    assert all(np.array_equal(a, b) for a, b in zip(noisy, degrade_frames(still, parse_spec("noise:sigma=10"), seed=4)))


@pytest.mark.parametrize("spec", ["h264:crf=30", "hevc:crf=30,preset=ultrafast", "noise:sigma=10"])
def test_a_clip_keeps_its_times(uneven_clip: Path, tmp_path: Path, spec: str) -> None:
    output = tmp_path / "damaged.mkv"
    outcome = degrade_clip(uneven_clip, output, parse_spec(spec))
    with av.open(str(uneven_clip)) as before, av.open(str(output)) as after:
        times = [[round(f.pts * f.time_base, 3) for f in c.decode(video=0)] for c in (before, after)]
    assert outcome.frames == 8 and times[0] == times[1]
    assert not list(tmp_path.glob(".*"))  # nothing unfinished is left


def test_a_clip_carries_the_codec_of_its_spec(uneven_clip: Path, tmp_path: Path) -> None:
    for spec, codec in (("h264:crf=30", "h264"), ("mpeg2:q=12", "mpeg2video"), ("noise:sigma=4", "ffv1")):
        degrade_clip(uneven_clip, tmp_path / "x.mkv", parse_spec(spec), max_frames=4)
        with av.open(str(tmp_path / "x.mkv")) as container:
            assert container.streams.video[0].codec_context.name == codec
            assert sum(1 for _ in container.decode(video=0)) == 4


@pytest.mark.parametrize(
    ("recipe", "slack"),
    [
        (Recipe("ffv1", "yuv444p", size=(65, 49), options={}), 1.5),
        (Recipe("ffv1", "yuv420p10le", options={}, color=(9, 1, 9, 16)), 6.0),
        (Recipe("ffv1", "yuv420p", options={}, color=(1, 2, 1, 1)), 3.0),
        (Recipe("ffv1", "yuv422p", options={}), 3.0),
        (Recipe("ffv1", "gray", options={}), 1.0),
        (Recipe("ffv1", "bgr0", options={}), 0.0),
    ],
    ids=["odd sides", "BT.2020 in 10 bits", "full range", "untagged", "gray", "RGB"],
)
def test_a_pixel_step_changes_nothing_else(recipe: Recipe, slack: float, tmp_path: Path) -> None:
    """Without noise only what 8-bit RGB rounds, clips and resamples is changed, `slack` steps in the mean."""
    source = write_clip(tmp_path / "source.mkv", recipe)
    degrade_clip(source, tmp_path / "out.mkv", parse_spec("noise:sigma=0"))
    before, after = facts(source), facts(tmp_path / "out.mkv")
    assert (after.pix_fmt, after.color, after.times) == (before.pix_fmt, before.color, before.times)
    kind = np.uint16 if "10" in before.pix_fmt else np.uint8
    for planes in zip(before.samples, after.samples):
        for was, now in zip(*planes):
            assert len(was) == len(now)
            assert np.abs(np.frombuffer(now, kind).astype(float) - np.frombuffer(was, kind)).mean() <= slack


@pytest.mark.parametrize(("pix_fmt", "size"), [("yuv444p", (65, 49)), ("yuv420p", (64, 48))])
def test_a_codec_after_a_pixel_step_gets_the_sides_that_it_can_halve(
    pix_fmt: str, size: tuple[int, int], tmp_path: Path
) -> None:
    source = write_clip(tmp_path / "source.mkv", Recipe("ffv1", pix_fmt, size=(65, 49), options={}, color=(1, 1, 1, 1)))
    degrade_clip(source, tmp_path / "out.mkv", parse_spec("noise:sigma=3+h264:crf=30"))
    with av.open(str(tmp_path / "out.mkv")) as clip:
        assert (clip.streams.video[0].width, clip.streams.video[0].height) == size
    after = facts(tmp_path / "out.mkv")
    assert after.pix_fmt == pix_fmt and after.color == (1, 1, 1, 1)


def test_full_range_becomes_limited_for_mpeg2_after_a_pixel_step(tmp_path: Path) -> None:
    """Which has no tag for it: read as limited, full samples would be too contrasty."""
    recipe = Recipe("ffv1", "yuv420p", options={}, color=(1, 2, 1, 1), fixed_rate=True)
    source = write_clip(tmp_path / "source.mkv", recipe)
    degrade_clip(source, tmp_path / "out.mkv", parse_spec("noise:sigma=0+mpeg2:q=2"))
    lumas: list[np.ndarray] = []
    for path in (source, tmp_path / "out.mkv"):
        found = facts(path)
        luma = np.frombuffer(found.samples[0][0], np.uint8).astype(float)
        lumas.append(luma if found.color[1] == 2 else (luma - 16) * 255 / 219)
    assert np.abs(lumas[1] - lumas[0]).mean() < 6


@pytest.mark.parametrize(
    ("spec", "suffix"), [("h264:crf=40", ".mkv"), ("h264:crf=40", ".mp4"), ("noise:sigma=2", ".mkv")]
)
def test_all_but_the_pictures_is_kept(
    spec: str,
    suffix: str,
    ns_video: Command,
    two_audio_subs_chapters_clip: Path,
    rotated_clip: Path,
    sar_clip: Path,
    tmp_path: Path,
) -> None:
    for source in (two_audio_subs_chapters_clip, rotated_clip, sar_clip):
        output = tmp_path / f"{source.stem}{suffix}"
        done = ns_video("degrade", source, output, "--spec", spec)
        assert done.code == 0, done.err
        was, now = facts(source), facts(output)
        assert (now.times, now.aspect, now.display_matrix) == (was.times, was.aspect, was.display_matrix)
        assert [c[2] for c in now.chapters] == [c[2] for c in was.chapters]
        assert now.metadata.get("title") == was.metadata.get("title")
        kept = [s for s in was.streams if suffix == ".mkv" or s.type != "attachment"]
        made = [s for s in now.streams if s.type != "data"]  # as which mp4 holds chapters
        assert [(s.type, s.language) for s in made] == [(s.type, s.language) for s in kept]
        assert all(
            [digest for _, digest in a.packets] == [digest for _, digest in b.packets]
            for a, b in zip(kept, made)
            if a.type == "audio"
        )
        assert ns_video("verify", source, output).code == 0


def test_what_the_container_cannot_keep_is_said(
    ns_video: Command, two_audio_subs_chapters_clip: Path, rotated_clip: Path, sar_clip: Path, tmp_path: Path
) -> None:
    told = {two_audio_subs_chapters_clip: "subtitle", rotated_clip: "turned by", sar_clip: ""}
    for source, words in told.items():
        done = ns_video("degrade", source, tmp_path / "o.flv", "--spec", "h264:crf=40", "-y")
        assert done.code == 0 and words in done.err
        assert "note: " not in done.out
    done = ns_video("degrade", rotated_clip, tmp_path / "o.flv", "--spec", "h264:crf=40", "-y", "-q")
    assert done.code == 0 and done.err == ""


def test_sound_ends_with_the_last_frame(ns_video: Command, two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.mkv"
    assert ns_video("degrade", two_audio_subs_chapters_clip, output, "--spec", "h264", "--frames", "3").code == 0
    found, times = facts(output), facts(two_audio_subs_chapters_clip).times
    assert found.times == times[:3]
    begins = [when for stream in found.streams for when, _ in stream.packets if when is not None]
    assert begins and max(begins) < times[3]
    assert [c[1] for c in found.chapters] == times[3:4]


@pytest.mark.parametrize("spec", ["noise:sigma=2", "hevc:crf=40,preset=ultrafast", "noise:sigma=2+h264"])
def test_hdr_metadata_and_captions_ride_on(
    spec: str, ten_bit_pq_clip: Path, captions_clip: Path, tmp_path: Path
) -> None:
    was, now = facts(ten_bit_pq_clip), facts(degraded(ten_bit_pq_clip, tmp_path / "hdr.mkv", spec))
    assert (now.color, now.light) == (was.color, was.light)
    assert now.mastering is not None and was.mastering is not None
    assert all(abs(a - b) <= Fraction(1, 10000) for a, b in zip(now.mastering, was.mastering))
    if "h264" in spec:
        assert facts(degraded(captions_clip, tmp_path / "words.mkv", spec)).captions == facts(captions_clip).captions


def test_mpeg2_stays_with_its_sound(tmp_path: Path) -> None:
    """Frames on the ticks of a standard rate, each on its own, where the source has gaps and another rate."""
    source = write_clip(tmp_path / "source.mkv", Recipe(times=(400, 440, 441, 442, 600, 1000), audio=[("flac", "eng")]))
    found = facts(degraded(source, tmp_path / "out.mkv", "mpeg2:q=6"))
    ticks = [round(t * 25) for t in found.times]
    assert ticks == [10, 11, 12, 13, 15, 25] and found.streams == facts(source).streams


def degraded(source: Path, output: Path, spec: str) -> Path:
    """`output`, once it is made."""
    degrade_clip(source, output, parse_spec(spec))
    return output


@pytest.mark.parametrize("name", ["o.xyz", "o.webm", "o.wav", "o.h264", "o.ogv"])
def test_a_container_that_holds_no_such_clip_is_refused(name: str, uneven_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        degrade_clip(uneven_clip, tmp_path / name, parse_spec("h264:crf=30"))
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_names_the_output(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "tiny.mkv", Recipe("ffv1", size=(8, 8), options={}))
    with pytest.raises(NsVideoError, match=r"/o\.ts: mpegts refuses libx265"):
        degrade_clip(source, tmp_path / "o.ts", parse_spec("hevc:crf=30"))
    assert list(tmp_path.iterdir()) == [source]


def test_clip_mistakes_leave_nothing(uneven_clip: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no clip")
    with pytest.raises(InputError):
        degrade_clip(text, tmp_path / "out.mkv", parse_spec("h264:crf=30"))
    with pytest.raises(UsageError, match="last step"):
        degrade_clip(uneven_clip, tmp_path / "out.mkv", parse_spec("h264:crf=30+noise:sigma=3"))
    assert [path.name for path in tmp_path.iterdir()] == ["text.mp4"]


def test_nothing_but_the_output_is_replaced(uneven_clip: Path, tmp_path: Path) -> None:
    mine = [tmp_path / ".z.part.mkv", tmp_path / ".z.mkv"]
    for path in mine:
        path.write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "there.mkv").touch()
    (tmp_path / "z.mkv").symlink_to(Path("folder") / "there.mkv")
    degrade_clip(uneven_clip, tmp_path / "z.mkv", parse_spec("h264:crf=30"), max_frames=2)
    assert [path.read_text() for path in mine] == ["mine", "mine"]
    assert (tmp_path / "z.mkv").is_symlink() and (tmp_path / "folder" / "there.mkv").stat().st_size > 500
    with pytest.raises(OutputError, match="is a folder"):
        degrade_clip(uneven_clip, tmp_path / "folder", parse_spec("h264:crf=30"))
    with pytest.raises(OutputError, match="/none: no such folder"):
        degrade_clip(uneven_clip, tmp_path / "none" / "x.mkv", parse_spec("h264:crf=30"))
    assert {path.name for path in tmp_path.iterdir()} == {".z.part.mkv", ".z.mkv", "folder", "z.mkv"}


def test_the_command_takes_files_whatever_their_names(
    ns_video: Command, uneven_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("-x.mkv").write_bytes(uneven_clip.read_bytes())
    done = ns_video("degrade", "./-x.mkv", "c:d%02d.mkv", "--spec", "h264:crf=30", "--frames", "3")
    assert done.code == 0, done.err
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        assert ns_video("degrade", url, "o.mkv", "--spec", "h264:crf=30").code == 2
        assert ns_video("degrade", url.replace("//", "/"), "o.mkv", "--spec", "h264:crf=30").code == 1
        with pytest.raises(TimeoutError):
            server.accept()
    assert ns_video("degrade", "./-x.mkv", "o.mkv", "--spec", "h264:crf=30", "--frames", "-3").code == 2
    done = ns_video("degrade", "./-x.mkv", "-", "--spec", "h264:crf=30")
    assert done.code == 2 and len(done.err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["-x.mkv", "c:d%02d.mkv"]


def test_nothing_is_advised_that_degrade_does_not_have(
    ns_video: Command, uneven_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("o.gif", "o.y4m", "o.nothing"):
        done = ns_video("degrade", uneven_clip, tmp_path / name, "--spec", "h264:crf=30")
        assert done.code and "(" in done.err and "--" not in done.err

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ns_video.media.mux.av", SimpleNamespace(open=full, FFmpegError=av.FFmpegError))
    done = ns_video("degrade", uneven_clip, tmp_path / "o.mkv", "--spec", "h264:crf=30")
    assert "no space left" in done.err and "run again)" in done.err


def test_a_terminated_degrade_leaves_nothing(
    program: list[str], environment: dict[str, str], uneven_clip: Path, tmp_path: Path
) -> None:
    long = tmp_path / "long.mkv"
    write_clip(long, Recipe(size=(320, 240), times=tuple(range(0, 40 * 300, 40)), options={"preset": "ultrafast"}))
    line = [*program, "degrade", str(long), str(tmp_path / "out.mkv"), "--spec", "noise:sigma=9+hevc:crf=30"]
    process = subprocess.Popen(line, env=environment, stderr=subprocess.PIPE)
    until = time.monotonic() + 30
    while not list(tmp_path.glob(".ns-video-*.mkv")) and time.monotonic() < until:
        time.sleep(0.05)
    process.terminate()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and b"Traceback" not in err, err
    assert [path.name for path in tmp_path.iterdir()] == ["long.mkv"]


def test_the_steps_are_listed_without_an_input(ns_video: Command) -> None:
    done = ns_video("degrade", "--spec", "help")
    assert done.code == 0 and done.out == describe() + "\n"


def test_the_language_round_trips_and_is_described() -> None:
    for text in (*PIXEL_SPECS, *CODEC_SPECS, "downscale:x=2", "mosaic:q=0"):
        parsed = parse_spec(text)
        assert parse_spec(str(parsed)) == parsed
        assert all(step.name in describe() for step in parsed.steps)
    assert parse_spec("downscale:x=2+downscale:x=3").scale == 6


@pytest.mark.parametrize(
    "text",
    ["", "+", "jpeg:q=10+", "nothing", "jpeg:q=0", "jpeg:q=101", "jpeg:q=ten", "jpeg:q=10.5", "jpeg:quality=10",
     "jpeg:q=10,q=20", "jpeg:subsampling=411", "mosaic:p=0", "mosaic:p=4,q=80", "noise:sigma=-1", "noise:sigma=nan"],
)  # fmt: skip
def test_mistakes_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_spec(text)


@pytest.mark.parametrize("spec", ["blur-down:x=8", "hevc:crf=30"])
def test_a_picture_that_is_too_small_is_named(spec: str) -> None:
    degradation = parse_spec(spec)
    with pytest.raises(InputError, match=f"a picture of 20x3 is too small for {degradation.steps[0].name}"):
        degrade_still(np.zeros((3, 20, 3), np.uint8), degradation)
    assert degrade_still(np.zeros((15, 20, 3), np.uint8), degradation).rgb.shape == (15, 20, 3)


def test_arbitrary_tables_survive_in_the_file(picture: Rgb) -> None:
    tables = ijg_tables(30, (2, 1))
    with Image.open(io.BytesIO(encode_jpeg(picture, tables))) as image:
        assert image.quantization[0] == tables.luma.ravel().tolist()  # type: ignore[attr-defined]
        assert image.layer[0][1:3] == (2, 1)  # type: ignore[attr-defined]  sampling factors of Y
    assert decode_picture(encode_jpeg(picture, tables)).shape == picture.shape


@pytest.mark.parametrize(("name", "spec"), [("out.png", "noise:sigma=5"), ("out.jpg", "noise:sigma=5+jpeg:q=50")])
def test_what_rides_along_with_a_picture_stays(
    name: str, spec: str, picture: Rgb, ns_video: Command, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[274], exif[33432] = 6, "somebody"  # turned, copyright
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    smooth = Image.fromarray(picture)
    smooth.save(tmp_path / "in.jpg", exif=exif, icc_profile=profile, comment=b"words", dpi=(300, 300), quality=95)
    (tmp_path / "in.jpg").write_bytes((tmp_path / "in.jpg").read_bytes() + b"a video")
    done = ns_video("degrade", tmp_path / "in.jpg", tmp_path / name, "--spec", spec)
    assert done.code == 0 and "7 bytes behind its end" in done.err
    with Image.open(tmp_path / "in.jpg") as before, Image.open(tmp_path / name) as made:
        assert made.info["icc_profile"] == profile and round(float(made.info["dpi"][0])) == 300
        assert dict(made.getexif()) == dict(exif)
        assert psnr(np.asarray(made), np.asarray(before)) > 20


def test_deep_gray_is_rounded_and_floats_are_refused(picture: Rgb, tmp_path: Path) -> None:
    deep = picture[..., 0].astype(np.uint16) * 257
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(deep).save(tmp_path / name)
        assert np.array_equal(read_rgb(tmp_path / name), np.dstack([picture[..., 0]] * 3))
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(InputError, match="floating-point"):
        read_rgb(tmp_path / "float.tif")
    whole = (tmp_path / "deep.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged"):
        read_rgb(tmp_path / "cut.png")


def test_stills_and_clips_are_told_by_content(
    ns_video: Command, picture: Rgb, uneven_clip: Path, tmp_path: Path
) -> None:
    for name in ("noext", "a.jfif", "a.dat"):
        Image.fromarray(picture).save(tmp_path / name, "JPEG")
        done = ns_video("degrade", tmp_path / name, tmp_path / f"{name}.png", "--spec", "noise:sigma=5", "--json")
        assert done.code == 0 and json.loads(done.out)["width"] == picture.shape[1], done.err
    (tmp_path / "clip.jpg").write_bytes(uneven_clip.read_bytes())
    done = ns_video("degrade", tmp_path / "clip.jpg", tmp_path / "clip.mkv", "--spec", "noise:sigma=5", "--json")
    assert done.code == 0 and json.loads(done.out)["codec"] == "ffv1", done.err
    done = ns_video("degrade", tmp_path / "clip.jpg", tmp_path / "clip.png", "--spec", "noise:sigma=5")
    assert done.code == 2 and "clip.jpg is no still; " in done.err and "write .mkv or .mp4" in done.err
    assert not (tmp_path / "clip.png").exists()
    (tmp_path / "a.png").unlink(missing_ok=True)
    done = ns_video("degrade", tmp_path / "noext", tmp_path / "a.png", "--spec", "noise:sigma=5", "--frames", "2")
    assert done.code == 2 and "noext is a still; --frames is for clips" in done.err
    assert not (tmp_path / "a.png").exists()
