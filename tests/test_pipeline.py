"""Whole runs on real codecs: what identity must keep, what a restored run must keep, and how runs fail."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import threading
from dataclasses import fields
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from conftest import ffmpeg
from material import FRAMES, Facts, Recipe, cues, facts, picture, write_clip
from PIL import Image, ImageSequence

import ns_video
from ns_video import device as devices
from ns_video import preset as presets
from ns_video.color import to_tensor
from ns_video.errors import (
    DamageError,
    InputError,
    Interrupted,
    ModelError,
    NsVideoError,
    OutputError,
    ResumeError,
    UsageError,
    VerificationError,
)
from ns_video.frame import Frame
from ns_video.journal import Journal, WrittenBeside, work_folder
from ns_video.media.compare_animation import compare_animation
from ns_video.media.decode import ClipReader, DecodeOptions, open_clip
from ns_video.media.verify import verify_files
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.pipeline import RestoreOptions, restore, restore_steps, verify
from ns_video.record import RunRecord
from ns_video.score import Sampler
from ns_video.weights import Metadata, save_model

CLIPS = [
    "plain_clip",
    "vfr_clip",
    "negative_start_clip",
    "late_start_clip",
    "two_audio_subs_chapters_clip",
    "mp4_streams_clip",
    "rotated_clip",
    "mirrored_clip",
    "sar_clip",
    "ten_bit_pq_clip",
    "full_range_601_clip",
    "odd_size_clip",
    "interlaced_clip",
    "captions_clip",
    "gray_clip",
    "yuv422_ten_bit_clip",
    "yuv444_clip",
    "twelve_bit_clip",
    "rgb_clip",
    "alpha_clip",
    "cover_clip",
    "one_frame_clip",
]
# What libav's muxers write of their own.
_OWN_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "creation_time", "duration"}
_MILLISECOND = Fraction(1, 1000)


def tags(found: dict[str, str]) -> dict[str, str]:
    """Tags of the source's author, names in lower case (Matroska writes capitals)."""
    return {k.lower(): v for k, v in found.items() if k.lower() not in _OWN_TAGS}


def assert_same_times(before: Facts, after: Facts, slack: Fraction = Fraction(0)) -> None:
    """Every presentation time, start included."""
    assert len(after.times) == len(before.times)
    assert max(abs(a - b) for a, b in zip(before.times, after.times)) <= slack


def assert_same_streams(before: Facts, after: Facts, *, data: bool = True) -> None:
    """Kind, codec, language, disposition and every packet of the copied streams, in order."""
    wanted = [s for s in before.streams if data or s.type != "data"]
    assert [(s.type, s.codec, s.language) for s in after.streams] == [(s.type, s.codec, s.language) for s in wanted]
    for was, now in zip(wanted, after.streams):
        assert now.disposition == was.disposition
        assert [p[1] for p in now.packets] == [p[1] for p in was.packets]
        for (a, _), (b, _) in zip(was.packets, now.packets):
            assert (a is None) == (b is None)
            assert a is None or b is None or abs(a - b) <= _MILLISECOND


def assert_same_look(before: Facts, after: Facts) -> None:
    """Colour tags, aspect, turns, HDR metadata, captions."""
    assert after.color == before.color
    assert after.aspect == before.aspect
    assert after.display_matrix == before.display_matrix
    assert after.captions == before.captions
    assert after.mastering == before.mastering
    assert after.light == before.light


@pytest.mark.parametrize("name", CLIPS)
def test_identity_into_ffv1_keeps_everything(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source: Path = request.getfixturevalue(name)
    target = tmp_path / "out.mkv"
    record = restore(source, target, model="identity", codec="ffv1")
    assert record.exit_code == 0 and record.damage == [] and record.verified == "structure"
    before, after = facts(source), facts(target)
    assert after.samples == before.samples
    assert_same_times(before, after, _MILLISECOND / 2)
    if name == "captions_clip":  # FFV1 has nowhere to put captions
        assert before.captions and not after.captions
        before = Facts(**{f: getattr(before, f) for f in Facts.__slots__} | {"captions": ()})
    assert_same_look(before, after)
    if name not in ("cover_clip", "mp4_streams_clip"):
        assert_same_streams(before, after)
    assert [c[2] for c in after.chapters] == [c[2] for c in before.chapters]
    assert all(abs(a[0] - b[0]) <= _MILLISECOND for a, b in zip(before.chapters, after.chapters))
    assert tags(before.metadata).items() <= tags(after.metadata).items()
    assert record.frames_in == record.frames_out == len(before.pictures)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mkv"]


@pytest.mark.parametrize(
    "name",
    [
        "plain_clip",
        "mp4_streams_clip",
        "rotated_clip",
        "mirrored_clip",
        "sar_clip",
        "full_range_601_clip",
        "interlaced_clip",
        "captions_clip",
        "yuv444_clip",
        "cover_clip",
        "one_frame_clip",
        "vfr_clip",
    ],
)
def test_identity_into_lossless_h264_in_mp4(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    source: Path = request.getfixturevalue(name)
    target = tmp_path / "out.mp4"
    record = restore(source, target, model="identity", codec="libx264", crf=0)
    assert record.exit_code == 0
    before, after = facts(source), facts(target)
    assert after.samples == before.samples
    assert_same_times(before, after)
    assert_same_look(before, after)
    assert_same_streams(before, after)
    assert [c[2] for c in after.chapters] == [c[2] for c in before.chapters]
    assert tags(before.metadata).items() <= tags(after.metadata).items()


def test_second_video_marked_default_is_restored_and_the_first_copied(second_video_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    record = restore(second_video_clip, target, model="identity", codec="ffv1")
    assert [(s.index, s.action) for s in record.streams] == [(0, "copied"), (1, "restored")]
    before, after = facts(second_video_clip, restored=1), facts(target, restored=1)
    assert after.samples == before.samples
    assert_same_streams(before, after)


def test_hdr_survives_a_restored_run_into_hevc(ten_bit_pq_clip: Path, small_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    restore(ten_bit_pq_clip, target, model=str(small_model), device="cpu", precision="fp32", crf=0)
    before, after = facts(ten_bit_pq_clip), facts(target)
    assert (after.pix_fmt, after.color) == ("yuv420p10le", (9, 1, 9, 16))
    assert after.light == before.light and after.mastering == before.mastering is not None
    assert len(after.pictures) == len(before.pictures)
    assert after.samples != before.samples


@pytest.mark.parametrize("name", ["vfr_clip", "two_audio_subs_chapters_clip", "full_range_601_clip", "late_start_clip"])
def test_restored_run_changes_samples_and_nothing_else(
    name: str, small_model: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    source: Path = request.getfixturevalue(name)
    target = tmp_path / "out.mkv"
    record = restore(source, target, model=str(small_model), device="cpu", precision="fp32", crf=0)
    before, after = facts(source), facts(target)
    assert record.exit_code == 0 and record.frames_passed_through == 0
    assert len(after.pictures) == len(before.pictures)
    assert_same_times(before, after, _MILLISECOND / 2)
    assert_same_streams(before, after)
    assert_same_look(before, after)
    luma = [np.frombuffer(p.planes[0], np.uint8).astype(int) for p in before.pictures]
    now = [np.frombuffer(p.planes[0], np.uint8).astype(int) for p in after.pictures]
    changes = [float(np.abs(a - b).mean()) for a, b in zip(luma, now)]
    assert min(changes) > 0.05 and max(changes) < 60


@pytest.mark.parametrize("pix_fmt", ["yuv411p", "yuv410p", "yuv440p", "gray10le", "gbrp10le"])
def test_rare_layouts_are_restored_in_their_own_layout(pix_fmt: str, small_model: Path, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe("ffv1", pix_fmt, size=(60, 44), times=(0, 40, 80), options={}))
    target = tmp_path / "out.mkv"
    record = restore(source, target, model=str(small_model), codec="ffv1", device="cpu", precision="fp32")
    before, after = facts(source), facts(target)
    assert record.frames_passed_through == 0 and after.pix_fmt == pix_fmt
    assert [len(p) for p in after.samples[0]] == [len(p) for p in before.samples[0]]
    assert all(a != b for a, b in zip(before.samples, after.samples))


def test_strength_zero_is_the_input(plain_clip: Path, small_model: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    restore(plain_clip, target, model=str(small_model), strength=0.0, codec="ffv1", device="cpu")
    assert facts(target).samples == facts(plain_clip).samples


def test_same_input_and_options_give_the_same_bytes(plain_clip: Path, small_model: Path, tmp_path: Path) -> None:
    made = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for target in made:
        restore(plain_clip, target, model=str(small_model), device="cpu", precision="fp32")
    assert made[0].read_bytes() == made[1].read_bytes()


def test_bit_depth_never_drops(yuv422_ten_bit_clip: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mkv", "a.mov"):
        restore(yuv422_ten_bit_clip, tmp_path / name, model="identity", crf=0)
        after = facts(tmp_path / name)
        assert after.pix_fmt == "yuv422p10le"
        assert after.samples == facts(yuv422_ten_bit_clip).samples


def test_output_rate_is_never_made_constant(vfr_clip: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "a.mov", "a.webm", "a.nut", "a.mkv"):
        restore(vfr_clip, tmp_path / name, model="identity")
        assert_same_times(facts(vfr_clip), facts(tmp_path / name), _MILLISECOND / 2)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.ts", "a.mkv", "a.nut", "a.flv"])
def test_what_a_container_cannot_hold_is_named(name: str, two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / name
    record = restore(two_audio_subs_chapters_clip, target, model="identity")
    after = facts(target)
    assert len(after.pictures) == FRAMES
    kept = [s for s in record.streams if not s.action.startswith("dropped")]
    lost = [s for s in record.streams if s.action.startswith("dropped")]
    # An attachment or a QuickTime chapter track is counted apart.
    assert len([s for s in after.streams if s.type in ("audio", "subtitle")]) == len(
        [s for s in kept if s.type in ("audio", "subtitle")]
    )
    for stream in lost:
        assert any(f"stream {stream.index}" in text for text in record.warnings)
    if name in ("a.mkv", "a.mp4", "a.mov"):
        assert not [s for s in lost if s.type in ("audio", "subtitle") and s.codec != "flac"]


def luma_psnr(path: Path, truth: np.ndarray) -> float:
    with av.open(str(path)) as clip:
        pictures = [frame.to_ndarray()[: truth.shape[1]].astype(float) for frame in clip.decode(video=0)]
    return float(10 * np.log10(255**2 / np.mean((np.stack(pictures) - truth) ** 2)))


def test_motion_jpeg_is_restored_by_the_tables_of_its_frames(tmp_path: Path) -> None:
    """Under the presets that choose by the clip; from a file and through a pipe; a model that is named is taken."""
    y, x = np.mgrid[0:96, 0:128]
    truth = np.stack([128 + 90 * np.tanh(((x - 60 - 2 * t) ** 2 + (y - 40) ** 2) / 900.0 - 1.0) for t in range(6)])
    pictures = np.repeat(np.rint(truth)[..., None], 3, -1).astype(np.uint8)
    size = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "128x96", "-r", "25")
    clip = tmp_path / "clip.avi"
    ffmpeg(*size, "-i", "-", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p", "-q:v", "12", clip, data=pictures.tobytes())
    for preset in ("auto", "fast", "photo"):
        record = restore(clip, tmp_path / "out.mkv", preset=preset, codec="ffv1", overwrite=True)
        assert (record.model.name, record.frames_passed_through, record.warnings) == ("photo", 0, [])
        assert luma_psnr(tmp_path / "out.mkv", truth) > luma_psnr(clip, truth) + 0.5
    named = restore(clip, tmp_path / "named.mkv", model="video", codec="ffv1")
    assert named.model.name == "video" and named.frames_guessed == 6
    assert luma_psnr(tmp_path / "named.mkv", truth) >= luma_psnr(clip, truth)
    done = subprocess.run(
        [sys.executable, "-m", "ns_video", "restore", "-", "-", "--codec", "ffv1", "-q"],
        input=clip.read_bytes(), capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    (tmp_path / "piped.nut").write_bytes(done.stdout)
    assert not done.stderr and facts(tmp_path / "piped.nut").samples == facts(tmp_path / "out.mkv").samples


def test_a_still_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ns_video.pipeline.still._TURN_SECONDS", 0.001)
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=160x120", "-frames:v", "1", "-q:v", "9", tmp_path / "in.jpg")
    options = RestoreOptions(model="fast-photo", ensemble=4, tile=96, overlap=32)
    steps = [step for step in restore_steps(tmp_path / "in.jpg", tmp_path / "out.png", options) if step.parts[1]]
    done, due = zip(*(step.parts for step in steps), strict=True)
    assert len(set(done)) > 2 and list(done) == sorted(done) and done[-1] <= due[-1]
    assert set(due) == {4 * 4}  # views of four tiles
    assert {step.frames for step in steps} == {0}


@pytest.mark.parametrize("encoder", ["libx265", "libsvtav1", "libvpx-vp9", "libvpx", "libx264"])
def test_clips_of_newer_codecs_go_to_their_model(encoder: str, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mkv"
    options = {"crf": "30"} | ({"b": "1M"} if "vpx" in encoder else {})
    write_clip(clip, Recipe(codec=encoder, times=(0, 40, 80), options=options))
    record = restore(clip, tmp_path / "out.mkv")
    assert record.model.name == ("video" if encoder == "libx264" else "newer-video")
    assert record.frames_guessed == record.frames_passed_through == 0
    assert restore(clip, tmp_path / "fast.mkv", preset="fast").model.name == f"fast-{record.model.name}"


@pytest.mark.parametrize(("device", "model"), [("cpu", "fast-photo"), ("mps", "identity")])
def test_a_preset_chooses_its_models_by_the_device(
    device: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [
        f'{key}_model = "fast-photo"\ngpu_{key}_model = "identity"\n'
        for key in ("clip", "still", "jpeg_clip", "newer_clip")
    ]
    (tmp_path / "by-device.toml").write_text('title = "t"\n' + "".join(sizes))
    monkeypatch.setattr(presets, "pipelines_dir", lambda: tmp_path)
    monkeypatch.setattr(devices, "pick_devices", lambda name: (torch.device(device),))
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=32x32:rate=5:duration=0.4", "-c:v", "mjpeg", tmp_path / "in.avi")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=32x32", "-frames:v", "1", "-update", "1", tmp_path / "in.jpg")
    ffmpeg("-i", tmp_path / "in.avi", "-c:v", "libvpx", tmp_path / "in.webm")
    for source, target in (("in.avi", "out.mkv"), ("in.jpg", "out.png"), ("in.webm", "newer.mkv")):
        record = restore(tmp_path / source, tmp_path / target, preset="by-device", device="auto")
        assert record.model.name == model
    assert restore(tmp_path / "in.jpg", tmp_path / "n.png", preset="by-device", model="photo").model.name == "photo"


def test_alpha_survives_where_the_container_holds_it(alpha_clip: Path, tmp_path: Path) -> None:
    with open_clip(alpha_clip) as reader:
        wanted = next(reader.frames()).planes[-1].astype(int)
    for name in ("a.mov", "a.mkv", "a.webm", "a.nut"):
        record = restore(alpha_clip, tmp_path / name, model="identity")
        assert record.exit_code == 0 and record.frames_out == FRAMES
        assert not any("alpha channel is left out" in text for text in record.warnings)
        with open_clip(tmp_path / name) as reader:
            assert np.abs(next(reader.frames()).planes[-1] - wanted).mean() < 2


@pytest.mark.parametrize("pix_fmt", ["yuva422p", "yuva444p10le", "bgra"])
def test_alpha_of_any_sampling_fits_into_vp9(pix_fmt: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe("ffv1", pix_fmt, times=(0, 40), options={}, alpha=True))
    for name, codec in (("a.webm", "vp9"), ("a.mkv", "ffv1"), ("a.ivf", "vp9")):
        record = restore(source, tmp_path / name, model="identity")
        assert record.exit_code == 0
        with open_clip(tmp_path / name) as reader:
            assert reader.info.video.codec == codec
            assert next(reader.frames()).format.has_alpha == (name != "a.ivf")
        told = f"converted from {'gbrap' if pix_fmt == 'bgra' else pix_fmt} to yuva420p"
        assert any(told in text for text in record.warnings) == (name == "a.webm")
        assert any("alpha channel is left out" in text for text in record.warnings) == (name == "a.ivf")


@pytest.mark.parametrize(
    ("pix_fmt", "wanted", "told"),
    [
        ("yuv420p10le", "yuv420p10le", None),
        ("yuv444p16le", "yuv444p16le", None),
        ("gray12le", "gray12le", None),
        ("gray14le", "gray16le", None),  # which loses nothing
        ("yuv410p", "yuv420p", "the pixels are converted from yuv410p to yuv420p"),
        ("yuv440p", "yuv444p", "the pixels are converted from yuv440p to yuv444p"),
        ("gbrp10le", "yuv444p10le", "the pixels are converted from gbrp10le to yuv444p10le"),
        ("bgra", "yuva444p", "the pixels are converted from gbrap to yuva444p"),
        ("yuva420p10le", "yuv420p10le", "the alpha channel is left out"),
    ],
)
def test_y4m_takes_the_nearest_format_of_no_fewer_bits(
    pix_fmt: str, wanted: str, told: str | None, tmp_path: Path
) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe("ffv1", pix_fmt, times=(0, 40), options={}))
    record = restore(source, tmp_path / "out.y4m", model="identity")
    assert record.exit_code == 0 and record.frames_out == 2
    with open_clip(tmp_path / "out.y4m") as reader:
        assert next(reader.frames()).format.name == wanted
    if told is None:
        assert record.warnings == []
    else:
        assert told in record.warnings[0]


@pytest.mark.parametrize("pix_fmt", ["yuv440p10le", "yuv440p12le", "yuv410p", "gray14le", "gbrap12le"])
def test_raw_frames_in_a_pipe_are_read_back_as_they_were_meant(pix_fmt: str, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mkv", Recipe("ffv1", pix_fmt, times=(0, 40), options={}))
    command = [sys.executable, "-m", "ns_video", "restore", str(path), "-", "--model", "identity"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    (tmp_path / "out.nut").write_bytes(done.stdout)
    with open_clip(path) as was, open_clip(tmp_path / "out.nut") as now:
        before, after = next(was.frames()), next(now.frames())
    assert (before.format.name, after.format.name) == (pix_fmt, pix_fmt.replace("440", "444"))
    assert np.array_equal(before.planes[0], after.planes[0])
    assert (b"converted from" in done.stderr) == ("440" in pix_fmt)


@pytest.mark.parametrize("name", [".webp", ".apng", ".Y4M", "webp", "png", "y4m", "yuv4mpegpipe"])
def test_a_format_without_segments_is_known_by_any_name(name: str, plain_clip: Path, tmp_path: Path) -> None:
    assert restore(plain_clip, tmp_path / "out.bin", model="identity", format=name).frames_out == FRAMES


def test_a_clip_without_motion_becomes_a_still_webp(tmp_path: Path) -> None:
    still = write_clip(tmp_path / "one.mkv", Recipe("ffv1", "yuv444p", times=(0,), options={}, color=(1, 1, 1, 1)))
    with open_clip(still) as reader:
        frame = next(reader.frames())
        wanted = to_tensor(frame.planes, frame.format, frame.color, "rgb")[0].permute(1, 2, 0).numpy() * 255
    ffmpeg("-stream_loop", "4", "-i", still, "-c", "copy", tmp_path / "in.mkv")
    record = restore(tmp_path / "in.mkv", tmp_path / "out.webp", model="identity", verify="full")
    assert record.exit_code == 0 and record.frames_out == 5
    assert any(text.startswith("4 frames that change nothing") for text in record.warnings)
    with Image.open(tmp_path / "out.webp") as made:
        assert np.abs(np.asarray(made.convert("RGB")) - wanted).max() < 3


def test_avi_holds_frames_that_begin_at_zero(plain_clip: Path, tmp_path: Path) -> None:
    record = restore(plain_clip, tmp_path / "out.avi", model="identity", crf=0)
    assert record.exit_code == 0
    assert facts(tmp_path / "out.avi").samples == facts(plain_clip).samples
    assert (tmp_path / "out.avi").stat().st_size < 50_000  # no empty chunk for each tick of the source's clock
    for codec in ("mpeg4", "mjpeg"):
        restore(plain_clip, tmp_path / f"{codec}.avi", model="identity", codec=codec)
        assert len(facts(tmp_path / f"{codec}.avi").pictures) == FRAMES


def test_sound_from_before_the_picture_is_left_out_of_avi(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "priming.mp4", Recipe(audio=[("aac", "eng")]))
    sound = [packet for packet in audio_times(source) if packet >= 0]
    assert len(sound) < len(audio_times(source))  # AAC begins with a packet before 0
    target = tmp_path / "out.avi"
    record = restore(source, target, model="identity", crf=0)
    assert record.exit_code == 0 and len([text for text in record.warnings if "left out" in text]) == 1
    assert facts(target).samples == facts(source).samples
    assert audio_times(target) == pytest.approx(sound, abs=0.001)


def test_avi_tells_in_its_header_when_streams_begin(tmp_path: Path) -> None:
    recipe = Recipe(times=tuple(range(400, 1000, 40)), audio=[("mp2", "eng")])
    source, target = write_clip(tmp_path / "in.mkv", recipe), tmp_path / "out.avi"
    record = restore(source, target, model="identity", crf=0)
    before, after = facts(source), facts(target)
    assert record.exit_code == 0 and after.samples == before.samples
    with open_clip(target) as reader:
        assert [f.pts for f in reader.frames()] == list(range(10, 25))
    moved = [abs(b - a) for a, b in zip(reversed(audio_times(source)), reversed(audio_times(target)))]
    assert 0.001 < max(moved) <= 0.0132  # half a packet of sound
    assert any("this container counts packets" in text for text in record.warnings)
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("start", [21, 33])
@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_of_an_even_rate_begins_at_the_nearest_tick(codec: str, start: int, tmp_path: Path) -> None:
    recipe = Recipe(times=tuple(range(start, 600, 40)), audio=[("mp2", "eng")])
    source, target = write_clip(tmp_path / "in.mkv", recipe), tmp_path / "out.avi"
    record = restore(source, target, model="identity", codec=codec)
    begins, tick = facts(source).times[0], Fraction(1, 25)
    first = round(begins / tick)
    late = int((first * tick - begins) * 1000)
    told = f"all times are {abs(late)} ms {'later' if late > 0 else 'earlier'}: this container counts frames"
    assert record.exit_code == 0 and late and told in record.warnings
    with open_clip(target) as reader:
        assert [f.pts for f in reader.frames()] == list(range(first, first + len(recipe.times)))
    moved = audio_times(target)[-1] - audio_times(source)[-1]
    assert moved == pytest.approx(late / 1000, abs=0.0132)  # half a packet
    assert ns_video.verify(source, target) == []


def test_avi_of_avi_with_reordered_frames_begins_when_they_do(tmp_path: Path) -> None:
    source, target = tmp_path / "in.avi", tmp_path / "out.avi"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.4", "-c:v", "mpeg4", "-bf", "2", source)
    assert restore(source, target, model="identity", crf=0).exit_code == 0
    with open_clip(source) as was, open_clip(target) as now:
        times = [[f.pts_seconds for f in reader.frames()] for reader in (was, now)]
    assert times[0][0] == 0.04 and times[0] == times[1]


def test_avi_refuses_a_start_that_its_readers_take_for_none(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(times=(3_700_000, 3_700_040)))
    with pytest.raises(UsageError, match="begins at 3700 s"):
        restore(source, tmp_path / "out.avi", model="identity")
    assert restore(source, tmp_path / "out.avi", model="identity", start=3699).exit_code == 0


def test_avi_holds_clips_of_more_than_an_hour(tmp_path: Path) -> None:
    times = tuple(range(0, 300 * 14_000, 14_000))  # of several segments
    source = write_clip(tmp_path / "in.mkv", Recipe(times=times, size=(32, 32)))
    record = restore(source, tmp_path / "out.avi", model="identity")
    assert record.exit_code == 0 and record.frames_out == 300


def audio_times(path: Path) -> list[float]:
    """Seconds of each packet of the first audio stream."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.audio[0])
        return [float(packet.dts * packet.time_base) for packet in packets if packet.dts is not None]


def test_cut_takes_picture_and_sound_of_the_same_span(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "long.mkv", Recipe(times=tuple(range(0, 2000, 40)), audio=[("flac", "eng")]))
    target = tmp_path / "cut.mkv"
    record = restore(source, target, model="identity", codec="ffv1", start=0.5, end=1.5)
    before, after = facts(source), facts(target)
    inside = [p for p in before.pictures if Fraction(1, 2) <= p.seconds < Fraction(3, 2)]
    assert after.samples == [p.planes for p in inside]
    assert [t + Fraction(1, 2) for t in after.times] == [p.seconds for p in inside]
    sound = [t for t, _ in after.streams[0].packets if t is not None]
    assert -0.11 <= sound[0] <= 0.11 and 0.8 <= sound[-1] < 1.0
    assert record.frames_out == 25 == record.frames_in


@pytest.mark.parametrize("start", [0.5, 0.3, 0.62])
def test_a_cut_between_two_frames_keeps_sound_with_the_picture(start: float, tmp_path: Path) -> None:
    """AVI counts frames: a start between two of them is that of the next one, for the sound too."""
    tone = ("-f", "lavfi", "-i", "sine=r=48000:d=2")
    source, target = tmp_path / "in.avi", tmp_path / "out.mkv"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=2", *tone, "-c:v", "mpeg4", "-c:a", "mp2", source)
    assert restore(source, target, model="identity", codec="ffv1", start=start).exit_code == 0
    begins = Fraction(-int(-start * 25 // 1), 25)
    before, after = facts(source), facts(target)
    assert after.times[0] == 0 and after.samples[0] == before.samples[-len(after.samples)]
    places = {payload: t for t, payload in before.streams[0].packets if t is not None}
    for seconds, payload in after.streams[0].packets:
        assert seconds is not None and abs(places[payload] - begins - seconds) <= _MILLISECOND
    restore(source, tmp_path / "out.avi", model="identity", start=start)
    assert audio_times(tmp_path / "out.avi")[0] == pytest.approx(float(after.streams[0].packets[0][0] or 0), abs=0.0132)


def test_a_cut_takes_chapters_and_running_cues_along(running_cue_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    assert restore(running_cue_clip, target, model="identity", start=0.5, end=1.2).exit_code == 0
    fifth = Fraction(1, 5)
    assert facts(target).chapters == ((0, fifth, "One"), (fifth, Fraction(7, 10), "Two"))
    assert cues(target) == [(0, 400, b"into"), (200, 100, b"inside")]


@pytest.mark.parametrize("suffix", ["264", "h265", "yuv", "ogv", "wmv"])
def test_files_that_hold_no_times_are_refused_beforehand(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"write \.mkv or \.mp4"):
        restore(plain_clip, tmp_path / f"out.{suffix}", model="identity")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["y4m", "mpg", "vob"])
def test_files_of_whole_frames(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out.{suffix}"
    assert restore(plain_clip, target, model="identity").exit_code == 0
    before, after = facts(plain_clip), facts(target)
    assert after.times[0] == before.times[0] and len(after.times) == len(before.times)
    assert suffix != "y4m" or (after.times == before.times and after.samples == before.samples)


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_codecs_of_whole_frames_keep_the_length(suffix: str, tmp_path: Path) -> None:
    """Their packets count in frames, the frames that go in by the clock of the source."""
    source, target = write_clip(tmp_path / "in.mp4"), tmp_path / f"out.{suffix}"
    restore(source, target, model="identity", codec="mpeg2video")
    with av.open(str(source)) as before, av.open(str(target)) as after:
        assert after.duration == before.duration == 400_000
    assert verify(source, target) == []


def chroma_place(path: Path) -> str:
    """Chroma position of the video, as ffprobe names it."""
    asked = ("-select_streams", "v", "-show_entries", "stream=chroma_location", "-of", "csv=p=0")
    return subprocess.run(["ffprobe", "-v", "error", *asked, path], capture_output=True, check=True).stdout.decode()


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_chroma_position_is_kept(suffix: str, codec: str, tmp_path: Path) -> None:
    name = codec.removeprefix("lib")
    options = {f"{name}-params": "chromaloc=2" + (":log-level=none" if name == "x265" else "")}
    source = write_clip(tmp_path / f"in.{suffix}", Recipe(codec, options=options))
    for target in (tmp_path / "out.mkv", tmp_path / "out.mp4"):
        record = restore(source, target, model="identity", codec=codec)
        assert record.exit_code == 0 and not any("chroma" in w for w in record.warnings)
        assert chroma_place(target).split() == chroma_place(source).split()[:1] == ["topleft"]
        assert ns_video.verify(source, target) == []
    moved = tmp_path / "moved.mkv"
    bitstream = "h264_metadata" if name == "x264" else "hevc_metadata"
    ffmpeg("-i", tmp_path / "out.mkv", "-c", "copy", "-bsf:v", f"{bitstream}=chroma_sample_loc_type=1", moved)
    assert any("chroma position was topleft, is center" in d.what for d in ns_video.verify(source, moved))
    warnings = restore(source, tmp_path / "raw.nut", model="identity", codec="ffv1").warnings
    assert any("ffv1 in nut can't tell where its chroma samples lie (top left)" in w for w in warnings)


@pytest.mark.parametrize(("place", "y4m"), [("left", "mpeg2"), ("center", "jpeg"), ("topleft", "paldv")])
def test_the_chroma_position_passes_between_codecs(place: str, y4m: str, plain_clip: Path, tmp_path: Path) -> None:
    steps = [("a.mkv", "ffv1"), ("b.y4m", None), ("c.webm", None), ("d.mkv", "libsvtav1"), ("e.mp4", None)]
    source = tmp_path / "in.y4m"
    data = ffmpeg("-i", plain_clip, "-f", "yuv4mpegpipe", "-").replace(b"C420mpeg2", b"C420" + y4m.encode(), 1)
    source.write_bytes(data.replace(b" XYSCSS=420MPEG2", b"", 1))
    for name, codec in steps:
        record = restore(source, tmp_path / name, model="identity", codec=codec)
        assert not any("chroma" in w for w in record.warnings)
        assert ns_video.verify(source, tmp_path / name) == []
        source = tmp_path / name
        assert chroma_place(source).split() == [place], name
    if place != "left":
        assert any("chroma position" in d.what for d in ns_video.verify(plain_clip, tmp_path / "b.y4m"))


def test_y4m_of_h264_says_left(plain_clip: Path, tmp_path: Path) -> None:
    restore(plain_clip, tmp_path / "out.y4m", model="identity")
    assert (tmp_path / "out.y4m").read_bytes().split()[6] == b"C420mpeg2"


def test_tags_that_are_left_out_are_named(tmp_path: Path) -> None:
    tags_of_all = {"title": "T", "director": "D", "FOO": "bar"}
    film = write_clip(tmp_path / "film.mkv", Recipe(audio=[("aac", "eng")], metadata=tags_of_all))
    source = tmp_path / "in.mkv"
    ffmpeg("-i", film, "-map", "0", "-c", "copy", "-metadata:s:a:0", "MOOD=calm", source)
    told = {
        suffix: [w for w in restore(source, tmp_path / f"out.{suffix}", model="identity").warnings if "tags" in w]
        for suffix in ("mkv", "mp4")
    }
    left_out = "tags that this container doesn't hold: DIRECTOR, FOO, stream 1: MOOD"
    assert told == {"mkv": [], "mp4": [left_out]}


@pytest.mark.parametrize(
    ("suffix", "lost"), [("mkv", ""), ("webm", "stream 2: comment"), ("ts", "stream 2: default, stream 2: comment")]
)
def test_flags_that_are_left_out_are_named(suffix: str, lost: str, plain_clip: Path, tmp_path: Path) -> None:
    source, target, notes = tmp_path / "in.mkv", tmp_path / f"out.{suffix}", list[str]()
    sound = ("-f", "lavfi", "-i", "sine=d=0.4:r=48000", "-map", "0", "-map", "1", "-map", "1", "-c:a", "libopus")
    ffmpeg("-i", plain_clip, *sound, "-c:v", "copy", "-disposition:a:1", "default+comment", source)
    record = restore(source, target, model="identity")
    wanted = [f"flags that this container doesn't hold: {lost}"] if lost else []
    assert record.exit_code == 0 and [w for w in record.warnings if "flags" in w] == wanted
    assert ns_video.verify(source, target, notes=notes) == [] and [n for n in notes if "flags" in n] == wanted


@pytest.mark.parametrize("suffix", ["ts", "mkv", "mp4"])
def test_the_name_of_a_dvb_service_is_a_tag(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    told, tags = (
        "tags that this container doesn't hold: service_name",
        {"service_name": "Köln: 1", "service_provider": "X"},
    )
    source, target, other = tmp_path / "in.ts", tmp_path / f"out.{suffix}", tmp_path / f"other.{suffix}"
    named = [part for name, value in tags.items() for part in ("-metadata", f"{name}={value}")]
    ffmpeg("-i", plain_clip, "-c", "copy", *named, source)
    record = restore(source, target, model="identity")
    with open_clip(target) as reader:
        found = {name.lower(): value for name, value in reader.info.metadata if name.lower() in tags}
    assert found == ({} if suffix == "mp4" else tags) and any(w.startswith(told) for w in record.warnings) != bool(
        found
    )
    assert ns_video.verify(source, target) == []
    ffmpeg("-i", plain_clip, "-c", "copy", other)
    assert any("service_name" in d.what for d in ns_video.verify(source, other)) == bool(found)
    assert restore(other, tmp_path / "last.mp4", model="identity").warnings == []  # libav's own names are none


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_services_that_become_one_are_named(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in.ts", tmp_path / f"out.{suffix}"
    both = ("-map", "0", "-map", "1", "-c", "copy", "-program", "title=One:st=0", "-program", "title=Two:st=1")
    ffmpeg("-i", plain_clip, "-i", plain_clip, *both, source)
    record, notes = restore(source, target, model="identity"), list[str]()
    told = "2 services (channels) become one" + ", with other PIDs" * (suffix == "ts")
    assert record.exit_code == 0 and told in record.warnings
    assert verify_files(source, target, notes=notes) == [] and told in notes


def test_frames_that_webp_joins_are_named(tmp_path: Path) -> None:
    times = tuple(range(0, 400, 40))
    source = write_clip(tmp_path / "in.mkv", Recipe("ffv1", times=times, options={}))
    still = tmp_path / "still.mkv"
    ffmpeg("-i", source, "-vf", "trim=end_frame=3,loop=7:1,setpts=N/25/TB", "-c:v", "ffv1", still)
    record = restore(still, tmp_path / "out.webp", model="identity")
    assert record.exit_code == 0 and any("change nothing" in w for w in record.warnings)
    assert compare_animation([Fraction(0), Fraction(1, 25)], [Fraction(0), Fraction(1, 10)])
    assert compare_animation([Fraction(0)], [Fraction(0), Fraction(0)])


@pytest.mark.parametrize(("numbers", "lost"), [([0, 1, *range(3, 10)], 1), ([0, 9], 8), ([0], 9)])
def test_frames_that_webp_lost_are_no_joined_ones(
    numbers: list[int], lost: int, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame before a lost one is shown for longer, as libwebp does with what it joins."""

    def lose(path: Path) -> None:
        with Image.open(path) as image:
            shown = [frame.copy() for frame in ImageSequence.Iterator(image)]
        times = [40 * n for n in [*numbers, 10]]
        kept = [shown[n] for n in numbers]
        with path.open("wb") as file:
            durations = [b - a for a, b in pairwise(times)]
            kept[0].save(file, "WEBP", save_all=True, append_images=kept[1:], duration=durations, lossless=True)

    monkeypatch.setattr("ns_video.pipeline.check.sync_file", lose)
    with pytest.raises(VerificationError, match=f"frames missing: {lost}, the first at"):
        restore(plain_clip, tmp_path / "out.webp", model="identity")


def test_a_cut_counts_from_where_the_clip_begins(late_start_clip: Path, tmp_path: Path) -> None:
    before = facts(late_start_clip)
    assert before.times[0] > 8
    assert restore(late_start_clip, tmp_path / "a.mkv", model="identity", codec="ffv1", start=0.1).exit_code == 0
    assert restore(late_start_clip, tmp_path / "b.mkv", model="identity", codec="ffv1", end=0.1).exit_code == 0
    inside = [t - before.times[0] >= Fraction(1, 10) for t in before.times]
    assert any(inside) and not all(inside)
    assert facts(tmp_path / "a.mkv").samples == [s for s, late in zip(before.samples, inside) if late]
    assert facts(tmp_path / "b.mkv").samples == [s for s, late in zip(before.samples, inside) if not late]


def test_sound_of_a_cut_stays_with_the_picture_where_the_clock_begins_late(tmp_path: Path) -> None:
    source = tmp_path / "in.ts"
    tone = ("-f", "lavfi", "-i", "sine=r=48000:d=2")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=2", *tone, "-c:v", "mpeg2video", "-c:a", "mp2", source)
    assert restore(source, tmp_path / "out.mkv", model="identity", codec="ffv1", start=0.5, end=1.2).exit_code == 0
    before, after = facts(source), facts(tmp_path / "out.mkv")
    assert 0.6 < len(after.times) / 25 < 0.8
    place = before.samples.index(after.samples[0])
    heard = {payload: t for t, payload in before.streams[0].packets if t is not None}
    begins = before.times[place] - after.times[0]
    for seconds, payload in after.streams[0].packets:
        assert seconds is not None and abs(heard[payload] - begins - seconds) <= _MILLISECOND
    with pytest.raises(InputError, match=r"the first is at 0\.\d+ s"):
        restore(source, tmp_path / "none.mkv", model="identity", end=0.001)


@pytest.mark.parametrize(("start", "end"), [(50.0, None), (1.0, 0.5), (0.5, 0.5)])
def test_empty_cut_is_refused(start: float, end: float | None, plain_clip: Path, tmp_path: Path) -> None:
    with pytest.raises((InputError, UsageError)):
        restore(plain_clip, tmp_path / "out.mkv", model="identity", start=start, end=end)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({"scale": 0.5}, (32, 24)),
        ({"scale": 2.0}, (128, 96)),
        ({"size": (40, 40), "fit": "stretch"}, (40, 40)),
        ({"size": (32, 32), "fit": "contain"}, (32, 24)),
    ],
)
def test_final_size(options: dict[str, object], size: tuple[int, int], plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    restore(plain_clip, target, model="identity", crf=0, **options)
    after = facts(target)
    assert len(after.pictures[0].planes[0]) == size[0] * size[1]
    assert_same_times(facts(plain_clip), after)


def test_sharpening_raises_the_contrast_of_edges(plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    restore(plain_clip, target, model="identity", sharpen=1.0, codec="ffv1")

    def edges(found: Facts) -> float:
        luma = np.frombuffer(found.pictures[0].planes[0], np.uint8).reshape(48, 64).astype(float)
        return float(np.abs(np.diff(luma, axis=1)).mean())

    assert edges(facts(target)) > 1.05 * edges(facts(plain_clip))


def test_interlaced_frames_stay_interlaced_through_segments(interlaced_clip: Path, tmp_path: Path) -> None:
    for name, tells in (("a.mkv", True), ("a.ts", True), ("a.webm", False)):
        record = restore(interlaced_clip, tmp_path / name, model="identity")
        assert any("interlaced" in text for text in record.warnings) != tells
        with open_clip(tmp_path / name, DecodeOptions(deinterlace="off")) as reader:
            assert {f.carrier.interlaced_frame for f in reader.frames()} == {tells}


def test_deinterlace_auto_on_off(interlaced_clip: Path, plain_clip: Path, small_model: Path, tmp_path: Path) -> None:
    def run(source: Path, mode: str | None) -> tuple[RunRecord, Facts]:
        target = tmp_path / f"{source.stem}-{mode}.mkv"
        record = restore(source, target, model=str(small_model), strength=0.0, codec="ffv1", deinterlace=mode)
        return record, facts(target)

    weaved = facts(interlaced_clip)
    record, auto = run(interlaced_clip, "auto")
    assert any("deinterlaced" in text for text in record.warnings)
    assert auto.samples != weaved.samples
    assert auto.times == weaved.times
    assert run(interlaced_clip, "off")[1].samples == weaved.samples
    assert run(plain_clip, "auto")[1].samples == facts(plain_clip).samples
    assert run(plain_clip, "on")[1].samples != facts(plain_clip).samples


@pytest.mark.parametrize("mode", [None, "auto", "off", "on"])
def test_identity_leaves_fields_unless_told_to_deinterlace(
    mode: str | None, interlaced_clip: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.mkv"
    restore(interlaced_clip, target, model="identity", codec="ffv1", deinterlace=mode)
    assert (facts(target).samples == facts(interlaced_clip).samples) == (mode != "on")


def test_a_loss_by_the_users_pixel_format_names_it(ten_bit_pq_clip: Path, tmp_path: Path) -> None:
    def notes(**options: str) -> str:
        options |= {"model": "identity", "format": "matroska"}
        return " ".join(restore(ten_bit_pq_clip, tmp_path / "out.mkv", overwrite=True, end=0.1, **options).warnings)

    assert "--pix-fmt yuv420p holds 8 of 10 bits per sample" in notes(codec="libx265", pix_fmt="yuv420p")
    assert "mpeg2video holds 8 of 10 bits per sample" in notes(codec="mpeg2video")


def test_truncated_clip_is_finished_and_reported(truncated_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    record = restore(truncated_clip, target, model="identity", codec="ffv1")
    assert record.exit_code == 3 and record.damage
    assert facts(target).samples == facts(truncated_clip).samples
    with pytest.raises(DamageError):
        restore(truncated_clip, tmp_path / "strict.mkv", model="identity", strict=True)
    assert not (tmp_path / "strict.mkv").exists()


def test_refused_input_says_why_and_touches_nothing(audio_only_clip: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("not a film\n" * 50)
    pointer = tmp_path / "lfs.mp4"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
    target = tmp_path / "out.mp4"
    target.write_bytes(b"precious")
    for source, word in (
        (empty, "empty"),
        (text, "recogni"),
        (pointer, "lfs"),
        (audio_only_clip, "no video"),
        (tmp_path, "folder"),
        (tmp_path / "absent.mp4", "no such file"),
    ):
        with pytest.raises(InputError, match=word):
            restore(source, target, model="identity", overwrite=True)
        assert target.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.mp4", "lfs.mp4", "out.mp4", "text.mp4"]


def test_refused_output(plain_clip: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.mp4"
    same.write_bytes(plain_clip.read_bytes())
    link = tmp_path / "link.mp4"
    link.symlink_to(same)
    for target in (same, link):
        with pytest.raises(UsageError, match="same file"):
            restore(same, target, model="identity", overwrite=True)
    assert same.read_bytes() == plain_clip.read_bytes()
    with pytest.raises(OutputError, match="folder"):
        restore(plain_clip, tmp_path, model="identity")
    with pytest.raises(OutputError, match="no such folder"):
        restore(plain_clip, tmp_path / "absent" / "out.mp4", model="identity")
    with pytest.raises(UsageError, match="container"):
        restore(plain_clip, tmp_path / "out.xyz", model="identity")
    exists = tmp_path / "exists.mp4"
    exists.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists"):
        restore(plain_clip, exists, model="identity")
    assert exists.read_bytes() == b"precious"
    with pytest.raises(UsageError, match="protocol"):
        restore("https://example.invalid/a.mp4", tmp_path / "b.mp4", model="identity")


def test_refused_model_and_codec(plain_clip: Path, tmp_path: Path) -> None:
    import pickle

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.system, (f"touch {tmp_path / 'executed'}",))

    bad = tmp_path / "bad.pth"
    bad.write_bytes(pickle.dumps(Bomb()))
    for model in (str(bad), "no-such-model"):
        with pytest.raises(ModelError):
            restore(plain_clip, tmp_path / "out.mp4", model=model)
    with pytest.raises(UsageError, match="encoder"):
        restore(plain_clip, tmp_path / "out.mp4", model="identity", codec="no-such-codec")
    with pytest.raises(UsageError, match="video"):
        restore(plain_clip, tmp_path / "out.mp4", model="identity", codec="flac")
    with pytest.raises(UsageError, match="can't hold"):
        restore(plain_clip, tmp_path / "out.webm", model="identity", codec="libx264")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.pth"]


def test_record_holds_what_the_contract_names(plain_clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    record = restore(plain_clip, tmp_path / "out.mp4", model="identity", record=path)
    found = json.loads(path.read_text())
    wanted = {
        *("version", "input", "output", "preset", "model", "device", "precision", "tile", "frames_in", "frames_out"),
        *("frames_passed_through", "damage", "streams", "seconds", "fps", "stages", "limiting_stage"),
        *("peak_memory_bytes", "exit_code"),
    }
    assert wanted <= found.keys()
    assert found == json.loads(record.dumps())
    assert found["model"].keys() == {"name", "sha256"}
    assert found["stages"].keys() == {"decode", "enhance", "encode"}
    assert all(set(s) == {"busy_seconds", "waiting_seconds"} for s in found["stages"].values())
    assert found["limiting_stage"] in found["stages"]
    assert found["streams"] == [{"index": 0, "type": "video", "codec": "h264", "action": "restored"}]
    assert found["frames_in"] == found["frames_out"] == FRAMES
    assert found["peak_memory_bytes"] > 1 << 20 and found["fps"] > 0


def test_interrupted_run_leaves_a_playable_part_and_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    source = write_clip(
        tmp_path / "in.mkv", Recipe(size=(32, 32), times=tuple(range(0, 40 * 400, 40)), audio=[("flac", "eng")])
    )
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    restore(source, whole, model="identity")
    interrupted(source, target, 300)
    assert not target.exists()
    part = facts(tmp_path / "out.partial.mp4")
    assert 300 <= len(part.pictures) < 400 and part.streams[0].packets
    record = restore(source, target, model="identity", resume=True)
    assert record.segments_resumed == 1
    assert target.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mp4", "whole.mp4"]


def interrupted(source: Path, target: Path, frames: int, **options: Any) -> None:
    """A run that is interrupted after so many frames."""
    cancel = threading.Event()
    with pytest.raises(Interrupted):
        for progress in restore_steps(str(source), str(target), RestoreOptions(model="identity", **options), cancel):
            if progress.frames >= frames:
                cancel.set()


@pytest.mark.parametrize("fails", [False, True])
def test_a_resumed_run_records_what_was_done_with_each_frame(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those too that it found done: guessed, left alone, equal to the one before, passed through."""
    monkeypatch.setattr("ns_video.pipeline.segmented._SEGMENT_FRAMES", (6, 6))
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(source), "w") as out:  # nothing tells the quantisers; each picture is shown twice
        stream = out.add_stream("ffv1", rate=25, width=64, height=48)
        for index in range(20):
            shown = av.VideoFrame.from_ndarray(picture(index // 2, 64, 48), format="rgb24").reformat(format="yuv420p")
            shown.pts, shown.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(shown))
        out.mux(stream.encode(None))
    if fails:

        def starve(*_: Any, **__: Any) -> Any:
            raise RuntimeError("the network failed")

        monkeypatch.setattr("ns_video.enhance.enhancer.Enhancer._restored", starve)
    counted = ("passed_through", "identical", "undamaged", "guessed", "raised")

    def told(record: RunRecord) -> dict[str, Any]:
        return {name: getattr(record, f"frames_{name}") for name in counted} | {"fallbacks": record.fallbacks}

    step = 20.0 if fails else None
    whole = restore(source, tmp_path / "whole.mkv", model="video", precision="fp32", assumed_step=step)
    assert whole.frames_identical == 10 and whole.frames_guessed == (0 if fails else 10)
    assert whole.frames_passed_through == (20 if fails else 0)
    cancel, options = threading.Event(), RestoreOptions(model="video", precision="fp32", assumed_step=step)
    with pytest.raises(Interrupted):
        for progress in restore_steps(str(source), str(target), options, cancel):
            if progress.frames >= 8:
                cancel.set()
    resumed = restore(source, target, model="video", precision="fp32", assumed_step=step, resume=True)
    assert resumed.segments_resumed >= 1 and told(resumed) == told(whole)
    assert [w for w in resumed.warnings if "guessed" in w] == [w for w in whole.warnings if "guessed" in w]


@pytest.mark.parametrize("seen", [1, 3, 5])
def test_missing_segments_are_made_with_the_same_neighbours(
    seen: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of six segments the first, third, fourth and last are missing; a report sees every frame once, in order."""
    monkeypatch.setattr("ns_video.pipeline.segmented._SEGMENT_FRAMES", (4, 4))
    monkeypatch.setattr("ns_video.enhance.enhancer.believe", lambda restored, *_, **__: restored)
    torch.manual_seed(4)
    shape: dict[str, Any] = {"channels": 8, "blocks": (0, 1, 0), "frames": seen, "aligned": seen > 1}
    network = NsRestore(NsRestoreConfig(side=6, gated=True, **shape))
    torch.nn.init.normal_(network.tail.weight, std=0.02)
    model = tmp_path / "m.safetensors"
    save_model(network, model, Metadata("ns_restore", "quantiser", "ycbcr"))
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"crf": "35"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        scene = picture(3, 300, 200)
        for index in range(22):
            shown = np.ascontiguousarray(scene[2 * index : 2 * index + 64, 3 * index : 3 * index + 96])
            out.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        out.mux(stream.encode(None))
    observed: list[int] = []
    observe = Sampler.observe

    def noted(self: Sampler, before: Frame, after: Frame | None = None) -> None:
        assert before.pts is not None and after is not None
        observed.append(round(before.pts * before.time_base * 25))
        observe(self, before, after)

    monkeypatch.setattr(Sampler, "observe", noted)
    options: dict[str, Any] = {"model": str(model), "precision": "fp32", "codec": "ffv1"}
    whole, target = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    restore(source, whole, report=tmp_path / "whole.html", **options)
    assert observed == list(range(22)) and facts(whole).pictures != facts(source).pictures
    cancel = threading.Event()
    with pytest.raises(Interrupted):
        for progress in restore_steps(str(source), str(target), RestoreOptions(**options), cancel):
            if progress.frames >= 21:
                cancel.set()
    segments = sorted(work_folder(target).glob("*.nut"))
    assert len(segments) == 6
    for index in (0, 2, 3):
        segments[index].unlink()
    observed.clear()
    record = restore(source, target, report=tmp_path / "out.html", resume=True, **options)
    assert record.segments_resumed == 2 and observed == list(range(22))
    assert facts(target).pictures == facts(whole).pictures


@pytest.mark.parametrize("frames", [40, 300])
def test_the_part_of_an_interrupted_run_replaces_no_file_of_the_user(frames: int, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(size=(32, 32), times=tuple(range(0, 40 * 400, 40))))
    target, mine, part = tmp_path / "out.mp4", tmp_path / "out.partial.mp4", tmp_path / "out.partial2.mp4"
    mine.write_text("mine")
    interrupted(source, target, frames)
    assert mine.read_text() == "mine" and part.exists()
    interrupted(source, target, frames, resume=True)  # takes the same place again
    assert sorted(p.name for p in tmp_path.glob("out.*")) == [mine.name, part.name]
    part.write_bytes(part.read_bytes() + b"changed")  # it is the user's now
    os.utime(part, ns=(1, 1))
    interrupted(source, target, frames, resume=True)
    restore(source, target, model="identity", resume=True)
    assert sorted(p.name for p in tmp_path.glob("out.*")) == ["out.mp4", mine.name, part.name]


def test_an_interrupt_on_the_way_to_the_start_is_heard(
    plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel, seen = threading.Event(), list[int]()
    decode = ClipReader._decode

    def slowly(reader: ClipReader, *given: Any) -> list[av.VideoFrame]:
        cancel.set()
        seen.append(1)
        return decode(reader, *given)

    monkeypatch.setattr(ClipReader, "_decode", slowly)
    with pytest.raises(Interrupted, match="before anything"):
        options = RestoreOptions(model="identity", start=0.3, strict=True)
        list(restore_steps(str(plain_clip), str(tmp_path / "out.mkv"), options, cancel))
    assert len(seen) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_replaced", [True, False])
def test_a_report_measures_no_other_file_as_the_input(
    is_replaced: bool, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, measured = tmp_path / "in.mp4", list[Any]()
    source.write_bytes(plain_clip.read_bytes())
    monkeypatch.setattr("ns_video.report.write_run_report", lambda *_, source, **__: measured.append(source))
    options = RestoreOptions(model="identity", report=tmp_path / "page.html")
    for update in restore_steps(source, tmp_path / "out.mkv", options):
        if is_replaced and update.phase == "verify":
            source.write_bytes(b"another")
    assert measured == [None if is_replaced else source]


def test_a_report_that_fails_costs_neither_output_nor_record(
    plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ns_video.report.write_run_report", lambda *_, **__: 1 // 0)
    page, kept = tmp_path / "page.html", tmp_path / "record.json"
    record = restore(plain_clip, tmp_path / "out.mkv", model="identity", report=page, record=kept)
    assert record.exit_code == 1 and not page.exists() and ns_video.verify(plain_clip, tmp_path / "out.mkv") == []
    told = json.loads(kept.read_text())
    assert told["exit_code"] == 1 and any("the report failed, the output is whole" in w for w in told["warnings"])


def test_a_record_that_fails_does_not_hide_why_the_run_ended(
    plain_clip: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cancel = threading.Event()
    cancel.set()
    options = RestoreOptions(model="identity", record=Path("/dev/full"))
    with pytest.raises(Interrupted):
        list(restore_steps(str(plain_clip), str(tmp_path / "out.mkv"), options, cancel))
    assert "record: /dev/full: No space left on device" in caplog.text


@pytest.mark.parametrize("suffix", [".y4m", ".mkv"])
def test_a_record_that_fails_once_output_is_there(
    suffix: str, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """y4m is written in one walk, which can't be resumed: OUTPUT is worth more than the record."""
    full = Path("/dev/full")
    if suffix == ".mkv":
        full = tmp_path / "record.json"
        placed = WrittenBeside.put_in_place

        def put(written: WrittenBeside) -> None:
            full.mkdir(exist_ok=True)
            placed(written)

        monkeypatch.setattr(WrittenBeside, "put_in_place", put)
    record = restore(plain_clip, tmp_path / f"out{suffix}", model="identity", record=full)
    assert record.exit_code == 1 and "the record failed, the output is whole: record: " in caplog.text
    assert {p.suffix for p in tmp_path.iterdir() if p.is_file()} == {suffix}


def test_a_model_whose_name_is_no_utf_8_is_recorded(small_model: Path, plain_clip: Path, tmp_path: Path) -> None:
    model = tmp_path / os.fsdecode(b"mo\xffd.safetensors")
    model.write_bytes(small_model.read_bytes())
    record = tmp_path / "record.json"
    restore(plain_clip, tmp_path / "out.mkv", model=model, end=0.1, record=record)
    assert json.loads(record.read_text())["model"]["name"] == "mo\\udcffd"


def test_a_run_without_memory_leaves_its_record(
    plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("ns_video.stage.PassThrough.run", run)
    with pytest.raises(NsVideoError, match="not enough memory"):
        restore(plain_clip, tmp_path / "out.mkv", model="identity", record=tmp_path / "record.json")
    assert json.loads((tmp_path / "record.json").read_text())["exit_code"] == 1


def test_another_number_of_cores_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x264 writes other bytes with other threads: the run goes on with those it began with."""
    source = write_clip(tmp_path / "in.mkv", Recipe(size=(32, 32), times=tuple(range(0, 40 * 400, 40))))
    restore(source, tmp_path / "whole.mp4", model="identity", threads=2)
    monkeypatch.setattr("ns_video.pipeline.clip.codec_threads", lambda: 2)
    interrupted(source, tmp_path / "out.mp4", 300)
    monkeypatch.setattr("ns_video.pipeline.clip.codec_threads", lambda: 1)
    assert restore(source, tmp_path / "out.mp4", model="identity", resume=True).segments_resumed == 1
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


_DECIDING: dict[str, Any] = {
    "preset": "fast",
    "model": "identity",
    "strength": 0.5,
    "ensemble": 2,
    "scale": 2.0,
    "size": (32, 32),
    "fit": "stretch",
    "sharpen": 0.5,
    "tile": 64,
    "overlap": 8,
    "blend": "linear",
    "codec": "ffv1",
    "crf": 20,
    "pix_fmt": "yuv444p",
    "encoder_options": {"g": "5"},
    "format": "mp4",
    "input_format": "matroska",
    "input_options": {"fflags": "+discardcorrupt"},
    "start": 0.1,
    "end": 0.3,
    "deinterlace": "on",
    "skip_identical": False,
    "skip_undamaged": False,
    "assumed_step": 2.0,
    "threads": 3,
}
_HARMLESS: dict[str, Any] = {
    "resume": True,
    "overwrite": True,
    "report": Path("page.html"),
    "record": Path("record.json"),
    "strict": True,
    "allow_protocols": ("http",),
    "max_pixels": 1 << 20,
    "verify": "full",
}
_UP_TO_THE_MACHINE = {"device", "precision"}  # what they become decides
_OF_STILLS = {"still_quality"}  # which have no segments


def test_a_run_is_resumed_only_with_what_decides_its_segments(
    small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each option is one that decides, or one that may be another: a new one has to choose."""
    source, prints = write_clip(tmp_path / "in.mkv"), list[Any]()

    def begin(journal: Journal, fingerprint: dict[str, Any], **_: Any) -> None:
        prints.append(json.loads(json.dumps(fingerprint)))
        raise Interrupted("seen")

    def fingerprint(**options: Any) -> Any:
        chosen = RestoreOptions(**{"model": str(small_model), "preset": "video", **options})
        with pytest.raises(Interrupted, match="seen"):
            list(restore_steps(str(source), str(tmp_path / "out.mkv"), chosen))
        return prints[-1]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Journal, "begin", begin)
    assert {*_DECIDING, *_HARMLESS, *_UP_TO_THE_MACHINE, *_OF_STILLS} == {f.name for f in fields(RestoreOptions)}
    plain = fingerprint()
    assert [name for name, value in _DECIDING.items() if fingerprint(**{name: value}) == plain] == []
    assert [name for name, value in _HARMLESS.items() if fingerprint(**{name: value}) != plain] == []


def test_another_way_of_reading_the_input_does_not_resume(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(size=(32, 32), times=tuple(range(0, 40 * 400, 40))))
    interrupted(source, tmp_path / "out.mp4", 300, input_options={"fflags": "+discardcorrupt"})
    with pytest.raises(ResumeError, match="another decoding"):
        restore(source, tmp_path / "out.mp4", model="identity", resume=True)


def test_a_second_run_on_an_output_hears_of_the_first(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(size=(32, 32), times=tuple(range(0, 40 * 400, 40))))
    running = restore_steps(str(source), str(tmp_path / "out.mp4"), RestoreOptions(model="identity"))
    while next(running).frames < 260:
        pass
    with pytest.raises(UsageError, match="another run is writing"):
        restore(source, tmp_path / "out.mp4", model="identity")
    running.close()


def test_public_call_returns_the_record(plain_clip: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    record = ns_video.restore(plain_clip, tmp_path / "out.mp4", preset="video", strength=0.5, report=str(page))
    assert page.exists()
    assert isinstance(record, ns_video.RunRecord)
    assert record.model.name == "video" and record.exit_code == 0 and len(record.model.sha256) == 64


@pytest.mark.parametrize(("preset", "sought"), [("anime", "loss by JPEG"), ("mosaic", "pixelation")])
def test_a_run_that_found_nothing_to_do_says_so(preset: str, sought: str, plain_clip: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    record = restore(plain_clip, tmp_path / "out.mkv", preset=preset, report=page)
    note = f"nothing was restored: none of the {FRAMES} frames shows {sought}; --preset video"
    assert record.exit_code == 0 and [w.startswith(note) for w in record.warnings] == [True]
    assert f"N{note[1:]}" in page.read_text()
    Image.fromarray(picture(0)).save(tmp_path / "still.png")
    record = restore(tmp_path / "still.png", tmp_path / "out.png", preset=preset)
    assert record.warnings == [f"nothing was restored: the picture shows no {sought}"]


@pytest.mark.parametrize(
    "options",
    [
        {"size": "48x48"},
        {"verify": "zz"},
        {"deinterlace": "zz"},
        {"fit": "zz"},
        {"crf": float("nan")},
        {"crf": "good"},
        {"threads": 1000},
        {"ensemble": 3},
        {"device": None},
        {"report": 7},
        {"start": float("nan")},
        {"start": "0.1"},
        {"start": -1},
        {"end": float("inf")},
        {"start": 0.5, "end": 0.25},
        {"codec": 5},
        {"format": 3},
        {"preset": None},
        {"encoder_options": 5},
        {"encoder_options": {"g": None}},
        {"input_options": {5: "5"}},
        {"allow_protocols": "http"},
        {"allow_protocols": None},
        {"max_pixels": None},
        {"scale": "2"},
        {"strength": True},
        {"overwrite": "no"},
        {"tile": 64.5},
        {"assumed_step": "3"},
        {"fit": None},
        {"verify": None},
        {"resume": None},
        {"size": (48, 48.0)},
        {"report": ""},
        {"record": "."},
    ],
    ids=str,
)
def test_wrong_values_of_the_call_are_usage_errors(
    options: dict[str, object], plain_clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"|".join(options).replace("_", " ")):
        restore(plain_clip, tmp_path / "out.mkv", **{"model": "identity", **options})  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_options_of_libav_may_be_numbers(plain_clip: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"encoder_options": {"g": 5}, "input_options": {"probesize": 100_000}}
    restore(plain_clip, tmp_path / "out.mkv", model="identity", codec="libx264", **options)
    with av.open(str(tmp_path / "out.mkv")) as clip:
        assert [p.is_keyframe for p in clip.demux(video=0) if p.size].count(True) in (2, 3)


def test_paths_of_any_kind(plain_clip: Path, tmp_path: Path) -> None:
    target = os.fsencode(tmp_path / "out.mkv")
    assert restore(os.fsencode(plain_clip), target, model="identity", codec="ffv1").frames_out == FRAMES
    assert verify(os.fsencode(plain_clip), target) == []
    with pytest.raises(UsageError, match="a path is wanted"):
        restore(None, target, model="identity")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("fit", "stored"), [("stretch", (32, 64)), ("contain", (32, 24))])
def test_the_size_of_a_turned_clip_is_that_of_what_is_shown(
    fit: str, stored: tuple[int, int], rotated_clip: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.mp4"
    restore(rotated_clip, target, model="identity", size=stored[::-1] if fit == "stretch" else (24, 1000), fit=fit)
    with av.open(str(target)) as made:
        frame = next(made.decode(video=0))
        assert (frame.width, frame.height) == stored
        assert abs(frame.rotation) == 90


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_stretched_clip_is_shown_at_the_size_that_was_asked_for(suffix: str, sar_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / f"out{suffix}"
    restore(sar_clip, target, model="identity", size=(80, 20), fit="stretch")
    assert facts(target).aspect == 1
    assert verify(sar_clip, target) == []


@pytest.mark.parametrize(("way", "suffix"), [("direct", ".y4m"), ("segmented", ".mkv")])
def test_a_frame_that_is_lost_on_the_way_is_noticed(
    way: str, suffix: str, plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(frames: Any, *_: Any, **__: Any) -> Any:
        yield from list(frames)[:-1]

    monkeypatch.setattr(f"ns_video.pipeline.{way}.decoded_ahead", forgetful)
    with pytest.raises(VerificationError, match=f"{FRAMES} frames were decoded, {FRAMES - 1} encoded"):
        restore(plain_clip, tmp_path / f"out{suffix}", model="identity")
    assert not (tmp_path / f"out{suffix}").exists()


def test_a_matrix_that_stretches_keeps_its_turn_in_matroska_and_all_of_it_in_mp4(
    plain_clip: Path, tmp_path: Path
) -> None:
    data = bytearray(plain_clip.read_bytes())
    at = data.index(b"tkhd") + 44  # of version 0
    assert struct.unpack(">9i", data[at : at + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", 0, 65536, 0, -98304, 0, 0, 0, 0, 1 << 30)
    source = tmp_path / "in.mp4"
    source.write_bytes(data)
    for suffix, noted in ((".mkv", True), (".mp4", False)):
        record = restore(source, tmp_path / f"out{suffix}", model="identity")
        assert record.exit_code == 0
        assert any("only its turn is kept" in warning for warning in record.warnings) == noted
        assert not verify(source, tmp_path / f"out{suffix}")


def test_speex_of_ogg_goes_into_matroska(tmp_path: Path) -> None:
    """libav tells no time of a packet from before 0 whose duration it doesn't know."""
    source, target = tmp_path / "in.ogg", tmp_path / "out.mkv"
    lavfi = ("-f", "lavfi", "-i")
    codecs = ("-c:v", "libtheora", "-c:a", "libspeex", "-ar", "16000", "-ac", "1")
    ffmpeg(*lavfi, "testsrc2=s=64x48:r=25:d=0.5", *lavfi, "sine=d=0.5", *codecs, source)
    assert restore(source, target, model="identity").exit_code == 0
    assert ns_video.verify(source, target) == []
