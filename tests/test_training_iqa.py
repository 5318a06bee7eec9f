"""Material of the no-reference score: clips that real encoders damaged, from fine to coarse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from material import Recipe, write_clip

from ns_video.errors import UsageError
from ns_video.media.pictures import read_rgb, write_png
from ns_video.quality.ns_iqa import NsIqaJudges
from ns_video.training.iqa import (
    clip_maker,
    clip_variants,
    make_material,
    read_iqa_config,
    train_iqa,
    treated_variants,
)
from ns_video.weights import load_descriptor


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Pictures of drifting waves, and a training of a few seconds on them."""
    folder = tmp_path / "data" / "waves"
    folder.mkdir(parents=True)
    y, x = np.mgrid[0:400, 0:480]
    for index in range(6):
        random = np.random.default_rng(index)
        waves = [np.sin(x * a + y * b + c) for a, b, c in random.normal(0, 0.4, (12, 3))]
        picture = 128 + 30 * np.stack([np.sum(waves[i::3], 0) for i in range(3)], -1)
        write_png(folder / f"{index}.png", np.clip(picture, 0, 255).astype(np.uint8))
    path = tmp_path / "iqa.toml"
    path.write_text(
        'folders = ["waves"]\nclips = ["waves"]\nclip_share = 0.5\ncontents = 6\nhead_steps = 5\n'
        "region = 256\nlarge_share = 0.0\n"
    )
    return path


def test_a_coded_clip_gets_worse_from_variant_to_variant(recipe: Path) -> None:
    config = read_iqa_config(recipe, recipe.parent / "data")
    maker = clip_maker(config)
    assert maker is not None
    for index in range(3):
        truth, *coded = (variant.picture for variant in clip_variants(maker, index, np.random.default_rng(index)))
        errors = [float(np.square(picture.astype(float) - truth).mean()) for picture in coded]
        assert len(coded) in (7, 9) and errors[0] < errors[3] < errors[6]


def test_clips_of_a_few_frames_are_material_too(recipe: Path) -> None:
    short = recipe.parent / "data" / "short"
    short.mkdir()
    write_clip(short / "a.mkv", Recipe(size=(352, 288), times=(0, 40, 80)))
    recipe.write_text(recipe.read_text().replace('clips = ["waves"]', 'clips = ["short"]'))
    maker = clip_maker(read_iqa_config(recipe, recipe.parent / "data"))
    assert maker is not None
    lengths = {len(maker.truth(index, (12, 256, 256))) for index in range(6)}
    assert 3 in lengths  # and twelve of the camera's
    for index in range(6):
        assert len(clip_variants(maker, index, np.random.default_rng(index))) in (8, 10)


def test_what_blind_filters_made_is_told_from_what_a_network_restored(recipe: Path) -> None:
    region = read_rgb(recipe.parent / "data" / "waves" / "0.png")[:256, :256].copy()
    for seed in range(4):
        truth, coded, *filtered, half, _ = treated_variants(region, np.random.default_rng(seed))
        assert len(filtered) == 4 and all(variant.filtered_from is coded.picture for variant in filtered)
        assert truth.filtered_from is None and half.filtered_from is None
        errors = [float(np.square(v.picture.astype(float) - truth.picture).mean()) for v in (half, coded)]
        assert errors[0] < errors[1]


def test_material_is_the_same_for_any_number_of_workers(recipe: Path) -> None:
    config = dataclasses.replace(read_iqa_config(recipe, recipe.parent / "data"), contents=4)
    alone, shared = make_material(config), make_material(config, workers=2)
    assert alone.held_out == shared.held_out
    for one, other in ((alone.crops, shared.crops), (alone.wholes, shared.wholes)):
        assert torch.equal(one.content, other.content) and torch.allclose(one.ssim, other.ssim, atol=1e-5)


def test_a_training_leaves_judges_that_load(recipe: Path, tmp_path: Path) -> None:
    train_iqa(read_iqa_config(recipe, recipe.parent / "data"), tmp_path / "judges.safetensors")
    assert isinstance(load_descriptor(str(tmp_path / "judges.safetensors")).network, NsIqaJudges)


def test_a_wrong_key_is_named(recipe: Path) -> None:
    recipe.write_text(recipe.read_text() + "clip_chare = 1\n")
    with pytest.raises(UsageError, match="clip_chare"):
        read_iqa_config(recipe, recipe.parent / "data")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("contents = 10.5", "contents must be a whole number"),
        ("contents = true", "contents must be a whole number"),
        ("contents = 0", "contents"),
        ('folders = "waves"', "folders must be a list"),
        ("folders = []", "folders must not be empty"),
        ("region = 100", "region"),
        ("validation_share = 2", "validation_share must be between 0 and 1"),
        ("seed = 7", "folders"),
    ],
)
def test_settings_that_cannot_be_are_named(line: str, said: str, tmp_path: Path) -> None:
    recipe = tmp_path / "iqa.toml"
    recipe.write_text(line if line.startswith(("folders", "seed")) else f'folders = ["waves"]\n{line}')
    with pytest.raises(UsageError, match=said):
        read_iqa_config(recipe, tmp_path)


def test_the_shipped_recipe_is_sound(tmp_path: Path) -> None:
    recipe = Path(__file__).parent.parent / "pipelines" / "training" / "ns_iqa.toml"
    config = read_iqa_config(recipe, tmp_path)
    assert config.contents == 2000 and all(Path(folder).parent == tmp_path / "train" for folder in config.folders)


@pytest.mark.parametrize(("name", "script"), [("ns_iqa", "train_iqa.py"), ("content", "train_content.py")])
def test_train_names_what_takes_the_recipe_of_a_judge(name: str, script: str, ns_video: Command) -> None:
    outcome = ns_video("train", Path(__file__).parent.parent / "pipelines" / "training" / f"{name}.toml")
    assert outcome.code == 2 and f"benchmarks/{script}" in outcome.err
