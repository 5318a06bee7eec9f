"""Which model suits a still: drawn or photographed, blocks, a classifier's word; and what a run takes by itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image
from test_weights import randomised

from ns_video.errors import InputError, UsageError
from ns_video.media.pictures import write_png
from ns_video.media.still import read_still
from ns_video.networks.ns_c import NsC, NsCConfig
from ns_video.quality.ns_content import NsContent
from ns_video.recommend import blocks_of, looks_drawn, recommend
from ns_video.training.content import ContentConfig, make_material, read_content_config, train_content, train_judge
from ns_video.weights import Metadata, load_descriptor, save_model


def drawing(seed: int = 0) -> np.ndarray:
    """(320, 448, 3): a few flat shapes with dark outlines, as line art has them."""
    random, picture = np.random.default_rng(seed), np.full((320, 448, 3), 235, np.uint8)
    for _ in range(9):
        place = (int(random.integers(40, 400)), int(random.integers(40, 280)))
        axes = (int(random.integers(20, 90)), int(random.integers(15, 70)))
        tint = tuple(int(v) for v in random.integers(60, 255, 3))
        angle = int(random.integers(180))
        cv2.ellipse(picture, place, axes, angle, 0, 360, tint, -1, cv2.LINE_AA)
        cv2.ellipse(picture, place, axes, angle, 0, 360, (25, 20, 30), 3, cv2.LINE_AA)
    return picture


def texture(seed: int = 0) -> np.ndarray:
    """(320, 448, 3): noise of a falling spectrum, lit unevenly, as grass or stone looks."""
    random = np.random.default_rng(seed)
    y, x = np.meshgrid(np.fft.fftfreq(320), np.fft.fftfreq(448), indexing="ij")
    amplitude = 1 / np.maximum(np.hypot(y, x), 1 / 448) ** 1.6
    planes: list[np.ndarray] = []
    for _ in range(3):
        wave = np.fft.ifft2(np.fft.fft2(random.normal(size=(320, 448))) * amplitude).real
        planes.append(wave / wave.std())
    return np.clip(np.stack([120 + 30 * planes[0] + 12 * plane for plane in planes], -1), 0, 255).astype(np.uint8)


def saved(path: Path, picture: np.ndarray, quality: int = 30) -> Path:
    Image.fromarray(picture).save(path, quality=quality)
    return path


def test_shapes_look_drawn_and_textures_photographed(tmp_path: Path) -> None:
    for seed in range(3):
        for quality in (15, 60):
            drawn, _ = read_still(saved(tmp_path / "drawn.jpg", drawing(seed), quality))
            photographed, _ = read_still(saved(tmp_path / "photographed.jpg", texture(seed), quality))
            assert looks_drawn(drawn) > 0.1 > 0 > looks_drawn(photographed)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_stills_of_any_samples_and_size_are_judged(tmp_path: Path, mode: str) -> None:
    for size in ((1, 1), (5, 300), (70, 71), (9000, 16)):
        gray = np.linspace(0, 255, size[0] * size[1]).reshape(size[1], size[0]).astype(np.uint8)
        picture = Image.fromarray(gray.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(gray)
        (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "still.png")
        frame, _ = read_still(tmp_path / "still.png")
        assert np.isfinite(looks_drawn(frame)) and looks_drawn(frame) == looks_drawn(frame)


def test_of_a_large_picture_the_middle_is_looked_at(tmp_path: Path) -> None:
    picture = np.zeros((64, 6000, 3), np.uint8)
    picture[:, 944:5040] = np.tile(texture()[:64], (1, 10, 1))[:, :4096]
    write_png(tmp_path / "wide.png", picture)
    write_png(tmp_path / "middle.png", np.ascontiguousarray(picture[:, 944:5040]))
    wide, middle = (looks_drawn(read_still(tmp_path / f"{name}.png")[0]) for name in ("wide", "middle"))
    assert wide == middle


@pytest.mark.parametrize("preset", ["auto", "fast"])
def test_a_run_takes_the_model_for_what_the_still_shows(tmp_path: Path, ns_video: Command, preset: str) -> None:
    for name, picture, model in (("drawn", drawing(), "anime"), ("photographed", texture(), "photo")):
        source = saved(tmp_path / f"{name}.jpg", picture)
        for more, expected in (((), model), (("--model", "photo"), "photo")):
            target = tmp_path / f"{name}-{len(more)}.png"
            outcome = ns_video("restore", source, target, "--preset", preset, "--device", "cpu", "--json", *more)
            assert outcome.code == 0, outcome.err
            assert json.loads(outcome.out)["model"]["name"] == expected
            errors = [np.square(np.asarray(Image.open(p)).astype(float) - picture).mean() for p in (source, target)]
            assert errors[1] < errors[0]


def test_blocks_are_told_and_left_to_who_asks(tmp_path: Path, ns_video: Command) -> None:
    small = cv2.resize(texture(), (112, 80), interpolation=cv2.INTER_AREA)
    write_png(tmp_path / "blocks.png", cv2.resize(small, (448, 320), interpolation=cv2.INTER_NEAREST))
    write_png(tmp_path / "whole.png", texture())
    assert blocks_of(read_still(tmp_path / "blocks.png")[0]) == 4
    assert blocks_of(read_still(tmp_path / "whole.png")[0]) is None
    for name, told in (("blocks", True), ("whole", False)):
        outcome = ns_video("restore", tmp_path / f"{name}.png", tmp_path / f"{name}-out.png", "--json")
        assert outcome.code == 0
        notes = [note for note in json.loads(outcome.out)["warnings"] if "blocks of 4 px" in note]
        assert bool(notes) == told and all("--preset mosaic" in note for note in notes)
    asked = ns_video("restore", tmp_path / "blocks.png", tmp_path / "asked.png", "--preset", "mosaic", "--json")
    assert not any("blocks" in note for note in json.loads(asked.out)["warnings"])


def test_recommend_says_what_a_still_is(tmp_path: Path, ns_video: Command) -> None:
    small = cv2.resize(drawing(), (112, 80), interpolation=cv2.INTER_AREA)
    write_png(tmp_path / "blocks.png", cv2.resize(small, (448, 320), interpolation=cv2.INTER_NEAREST))
    write_png(tmp_path / "clean.png", drawing())
    expected = {
        saved(tmp_path / "drawn.jpg", drawing()): ("anime", True, None),
        saved(tmp_path / "photographed.jpg", texture()): ("photo", True, None),
        tmp_path / "clean.png": ("anime", False, None),
        tmp_path / "blocks.png": ("mosaic", False, 4),
    }
    for path, (model, jpeg, side) in expected.items():
        outcome = ns_video("models", "recommend", path, "--json")
        found = json.loads(outcome.out)
        assert outcome.code == 0 and (found["model"], found["jpeg"], found["mosaic_px"]) == (model, jpeg, side)
        assert recommend(read_still(path)[0]).model == model
        text = ns_video("models", "recommend", path).out
        assert text.startswith(f"{model}\n") and ("no loss by JPEG" in text) == (not jpeg)
    assert ns_video("models", "recommend", tmp_path / "none.png").code == 1
    for most, code in ((448 * 320 - 1, 1), (448 * 320, 0)):
        assert ns_video("models", "recommend", tmp_path / "clean.png", "--max-pixels", str(most)).code == code


def test_a_classifier_is_asked_too(tmp_path: Path, ns_video: Command) -> None:
    source = saved(tmp_path / "drawn.jpg", drawing())
    network = randomised(NsC(NsCConfig(classes=3))).eval()
    save_model(network, tmp_path / "nsc.safetensors", Metadata("ns_c"))
    (tmp_path / "labels.txt").write_bytes("動畫\nphoto\nmosaic\n".encode("big5"))
    (tmp_path / "two.txt").write_text("one\ntwo\n")
    asked = ("models", "recommend", source, "--classifier", tmp_path / "nsc.safetensors")
    outcome = ns_video(*asked, "--labels", tmp_path / "labels.txt", "--json")
    classes = json.loads(outcome.out)["classes"]
    assert {row["label"] for row in classes} == {"動畫", "photo", "mosaic"}
    shares = [row["probability"] for row in classes]
    assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1, abs=1e-3)
    rgb = torch.from_numpy(np.array(Image.open(source).convert("RGB"))).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        assert shares[0] == pytest.approx(float(network.probabilities(rgb).max()), abs=1e-3)
    assert "probability" in ns_video(*asked, "--labels", tmp_path / "labels.txt").out
    wrong = ns_video(*asked, "--labels", tmp_path / "two.txt")
    assert wrong.code == 1 and "2 classes" in wrong.err
    assert ns_video(*asked).code == 2
    other = ns_video("models", "recommend", source, "--classifier", "photo", "--labels", tmp_path / "two.txt")
    assert other.code == 2 and "no NS-C" in other.err


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Drawings and textures, and a training of a few seconds on them."""
    for name, make in (("drawn", drawing), ("photographed", texture)):
        (tmp_path / name).mkdir()
        for seed in range(3):
            write_png(tmp_path / name / f"{seed}.png", make(seed)[:128, :160])
    (tmp_path / "content.toml").write_text('folders = ["drawn", "photographed"]\nregions = 9\nsteps = 60\n')
    return tmp_path / "content.toml"


def test_a_judge_learns_which_network_gains_more(recipe: Path) -> None:
    config = read_content_config(recipe, recipe.parent)
    material = make_material(config)
    assert material.statistics.shape == (18, 136) and material.held_out.sum() == 6
    assert torch.equal(material.gains, make_material(config).gains)
    fine = make_material(dataclasses.replace(config, quality=(80, 90), validation_share=1.0, regions=3))
    assert fine.held_out.sum() == 4 and fine.gains.abs().mean() < material.gains.abs().mean()
    outcome = train_judge(material, config)
    better = material.gains[:, 1] - material.gains[:, 0]
    judged = outcome.judge(material.statistics).detach()
    learned = ~material.held_out
    assert float(torch.corrcoef(torch.stack((judged[learned], better[learned])))[0, 1]) > 0.8
    assert max(outcome.drawn, outcome.photographed) - 1e-6 <= outcome.best and outcome.chosen <= outcome.best
    target = recipe.parent / "content.safetensors"
    train_content(dataclasses.replace(config, regions=3, steps=2), target)
    found = load_descriptor(str(target))
    assert isinstance(found.network, NsContent) and found.architecture == "ns_content" and not found.restores


def test_wrong_settings_are_refused(recipe: Path) -> None:
    (recipe.parent / "lonely").mkdir()
    write_png(recipe.parent / "lonely" / "one.png", drawing())
    for change in ("steps = 0", "quality = [90, 20]", "validation_share = 2.0", "regions = 0", "sides = 3"):
        key = change.split(" ")[0]
        lines = [line for line in recipe.read_text().splitlines() if not line.startswith(key)]
        (recipe.parent / "wrong.toml").write_text("\n".join([*lines, change]))
        with pytest.raises(UsageError):
            read_content_config(recipe.parent / "wrong.toml", recipe.parent)
    with pytest.raises(InputError, match="fewer than two"):
        make_material(ContentConfig(folders=(str(recipe.parent / "lonely"),)))
