"""Lossy WebP and AVIF stills: what they tell of their quantisers, and that the network of clips restores them."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from PIL import Image
from test_estimate import photograph
from test_recommend import drawing

from ns_video.enhance import load_enhancer
from ns_video.media.coded_headers import _Segments, _vp8_step
from ns_video.media.pictures import read_rgb
from ns_video.media.still import read_still
from ns_video.media.still_steps import quantiser_in
from ns_video.pipeline import restore
from ns_video.training.evaluate import psnr

CODED = [("WEBP", {"quality": 20}), ("AVIF", {"quality": 40})]


def coded(kind: str, picture: np.ndarray | None = None, mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(photograph(3) if picture is None else picture, mode).save(stream, kind, **options)
    return stream.getvalue()


def step(data: bytes, kind: str) -> float | None:
    told = quantiser_in(data, kind)
    return None if told is None else float(told.step.mean())


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_coarser_files_tell_larger_steps(kind: str) -> None:
    steps = [step(coded(kind, quality=quality), kind) for quality in (100, 90, 60, 20)]
    assert None not in steps and steps == sorted(steps) and steps[0] <= 1.0 < steps[1]  # the finest are left


def test_what_tells_none() -> None:
    assert step(coded("WEBP", lossless=True), "WEBP") is None
    for kind, options in CODED:
        whole = coded(kind, **options)
        assert all(step(whole[:size], kind) is None for size in (0, 9, 13, 21, 29))


@pytest.mark.parametrize(("kind", "options"), CODED)
def test_an_alpha_plane_tells_nothing(kind: str, options: dict[str, Any]) -> None:
    picture = photograph(3)
    clear = np.dstack([picture, np.random.default_rng(0).integers(0, 256, picture.shape[:2], np.uint8)])
    plain = step(coded(kind, picture, **options), kind)
    assert step(coded(kind, clear, "RGBA", **options), kind) == pytest.approx(plain, rel=0.1)


def test_avif_of_every_subsampling_tells_its_step() -> None:
    told = [step(coded("AVIF", quality=40, subsampling=name), "AVIF") for name in ("4:2:0", "4:4:4", "4:0:0")]
    assert None not in told and max(told) < 1.5 * min(told)


def test_segments_of_vp8_are_weighed_by_how_many_macroblocks_they_hold() -> None:
    segments = _Segments()
    assert segments.step(60) == _vp8_step(60)
    for name, place, value in (("segmentation_enable", 0, 1), ("segment_probs", 0, 128), ("segment_probs", 1, 64)):
        segments.see(name, place, value)
    segments.see("segment_probs", 2, 256)
    for place, value in enumerate((-10, 0, 20, 99)):
        segments.see("segment_qp", place, value)
    shares = (0.125, 0.375, 0.5)
    assert segments.step(60) == pytest.approx(sum(s * _vp8_step(q) for s, q in zip(shares, (50, 60, 80))))
    segments.see("segment_feature_mode", 0, 1)
    for place in range(3):
        segments.see("segment_qp", place, 30)
    assert segments.step(60) == pytest.approx(_vp8_step(30))


@pytest.mark.parametrize(("kind", "options"), CODED)
def test_what_a_video_codec_lost_is_restored(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    picture = drawing(3)
    source, target = tmp_path / f"in.{kind.lower()}", tmp_path / "out.png"
    source.write_bytes(coded(kind, picture, **options))
    record = restore(source, target, device="cpu", threads=1)
    assert record.exit_code == 0 and record.model.name == "newer-video" and not record.warnings
    assert psnr(read_rgb(target), picture) > psnr(read_rgb(source), picture) + 0.1
    by_strength = restore(source, tmp_path / "same.png", device="cpu", strength=0.0)
    assert by_strength.exit_code == 0 and np.array_equal(read_rgb(tmp_path / "same.png"), read_rgb(source))


def test_lossless_and_finest_files_come_back_as_they_were(tmp_path: Path) -> None:
    for name, options in (("a.webp", {"lossless": True}), ("b.webp", {"quality": 100}), ("c.avif", {"quality": 100})):
        Image.fromarray(drawing(1)).save(tmp_path / name, **options)
        record = restore(tmp_path / name, tmp_path / "out.png", device="cpu", overwrite=True)
        assert record.frames_undamaged == 1, name
        assert np.array_equal(read_rgb(tmp_path / "out.png"), read_rgb(tmp_path / name)), name


def test_alpha_stays(tmp_path: Path) -> None:
    picture = photograph(5)
    picture = np.dstack([picture, np.tile(np.arange(256, dtype=np.uint8), (256, 1))])
    Image.fromarray(picture).save(tmp_path / "in.webp", quality=20)
    assert restore(tmp_path / "in.webp", tmp_path / "out.png", device="cpu").model.name == "newer-video"
    was, now = (np.asarray(Image.open(tmp_path / name)) for name in ("in.webp", "out.png"))
    assert np.array_equal(was[..., 3], now[..., 3]) and not np.array_equal(was, now)


@pytest.mark.parametrize(
    ("preset", "model"),
    [("best", "newer-video"), ("fast", "fast-newer-video"), ("photo", "newer-video"), ("mosaic", "mosaic")],
)
def test_presets_name_the_network(preset: str, model: str, tmp_path: Path) -> None:
    Image.fromarray(photograph(3, 64)).save(tmp_path / "in.webp", quality=30)
    record = restore(tmp_path / "in.webp", tmp_path / "out.png", device="cpu", preset=preset)
    assert record.model.name == model


def test_a_network_of_jpeg_is_told_that_it_is_none(tmp_path: Path) -> None:
    Image.fromarray(photograph(3, 64)).save(tmp_path / "in.webp", quality=30)
    record = restore(tmp_path / "in.webp", tmp_path / "out.png", device="cpu", model="photo")
    assert "a video codec coded the picture: --model newer-video restores what that lost" in record.warnings


def test_recommend_degrade_and_evaluate_know_these_files(ns_video: Command, tmp_path: Path) -> None:
    (tmp_path / "clean").mkdir()
    Image.fromarray(drawing(4)).save(tmp_path / "clean" / "a.png")
    for name in ("webp", "avif"):
        target = tmp_path / f"a.{name}"
        done = ns_video("degrade", tmp_path / "clean" / "a.png", target, "--spec", f"{name}:q=30")
        assert done.code == 0, done.err
        with Image.open(target) as image:
            assert image.format == name.upper()
        told = json.loads(ns_video("models", "recommend", target, "--json").out)
        frame, _ = read_still(target)
        assert frame.quantiser is not None and told["model"] == "newer-video"
        assert told["coded_step"] == pytest.approx(float(frame.quantiser.step.mean()), abs=0.01)
        scored = ("evaluate", "--images", tmp_path / "clean", "--degrade", f"{name}:q=30", "--device", "cpu", "--json")
        scored = (*scored, "--model", "newer-video")
        gains = [json.loads(ns_video(*scored, *more).out)["mean"] for more in ((), ("--blind",))]
        assert gains[0]["gain"] > 0.1 and gains[1]["gain"] == 0.0
    other = ("evaluate", "--images", tmp_path / "clean", "--degrade", "jpeg:q=30", "--device", "cpu")
    done = ns_video(*other, "--model", "video")
    assert done.code == 2 and "a SPEC that ends in webp or avif" in done.err
    done = ns_video("degrade", tmp_path / "clean" / "a.png", tmp_path / "b.webp", "--spec", "jpeg:q=30")
    assert done.code == 2 and "would add damage of its own" in done.err


def test_rgb_of_a_still_is_no_rgb_of_a_codec(tmp_path: Path) -> None:
    """Of RGB that was coded as such green alone is restored."""
    Image.fromarray(drawing(3)).save(tmp_path / "in.webp", quality=30)
    frame, _ = read_still(tmp_path / "in.webp")
    enhancer = load_enhancer("video", device="cpu", ensemble=1)
    for was_ycbcr, changed in ((True, [True] * 3), (False, [True, False, False])):  # planes are green, blue, red
        (out,) = enhancer.run([dataclasses.replace(frame, was_ycbcr=was_ycbcr)])
        pairs = zip(frame.planes, out.frame.planes, strict=True)
        found = [not np.array_equal(was, now) for was, now in pairs]
        assert sorted(found) == sorted(changed)
