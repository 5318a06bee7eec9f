"""Training of ns_quantiser: what counts as coded, the loss, exact resuming, the command."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner

from ns_video.cli.train import command as train_command
from ns_video.errors import InputError, ModelError, ResumeError, UsageError
from ns_video.media.training_clips import UNKNOWN_STEP, Encoding, alter_luma, encode_decode, rgb_to_clip, step_to_code
from ns_video.networks.ns_quantiser import NsQuantiser
from ns_video.training.quantiser import (
    QuantiserTraining,
    draw_sample,
    model_file,
    pinball_loss,
    read_config,
    train_quantiser,
    validate,
)
from ns_video.training.video import Pool
from ns_video.training.video_clips import ClipPair, write_pair
from ns_video.weights import load_descriptor


def textured(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = cv2.resize(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8), (width, height))
    return (coarse + rng.integers(-25, 26, (height, width, 1))).clip(0, 255).astype(np.uint8)


def coded_at(qp: int) -> ClipPair:
    clip = rgb_to_clip([textured(160, 192, seed) for seed in range(4)])
    options = {"qp": str(qp), "x264-params": "ipratio=1:pbratio=1:bframes=0"}
    return ClipPair(clip, encode_decode(clip, Encoding(options=options)))


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pool")
    for qp in (20, 38):
        write_pair(coded_at(qp), folder / f"clip-{qp}-00000.npy")
    return folder


def small(pool: Path, output: Path, **changes: object) -> QuantiserTraining:
    values = {"window": 64, "samples": 12, "steps": 4, "batch": 3, "warm_up": 1, **changes}
    return QuantiserTraining(task="quantiser", cache=pool, output=output, **values)  # pyright: ignore[reportArgumentType]


def test_samples_are_what_the_pool_tells(pool: Path, tmp_path: Path) -> None:
    config = small(pool, tmp_path, coded_share=0.6)
    clips = Pool(pool)
    drawn = [draw_sample(clips, config, index) for index in range(60)]
    truths = [truth for _, truth in drawn]
    assert all(window.shape == (64, 64) and window.dtype == np.uint8 for window, _ in drawn)
    expected = {0.0, round(np.log2(0.625 * 2 ** (20 / 6)), 2), round(np.log2(0.625 * 2 ** (38 / 6)), 2)}
    assert {round(truth, 2) for truth in truths} == expected
    assert 0.2 < np.mean([truth == 0.0 for truth in truths]) < 0.6
    again, truth = draw_sample(Pool(pool), config, 7)
    assert truth == drawn[7][1] and np.array_equal(again, drawn[7][0])


def test_what_was_coded_before_is_left_out(tmp_path: Path) -> None:
    first = coded_at(44)
    last = encode_decode(first.coded.pictures, Encoding(options={"qp": "16"}))
    write_pair(ClipPair(first.truth, last), tmp_path / "clip-0-00000.npy")
    config = small(tmp_path, tmp_path, coded_share=0.7)
    clips = Pool(tmp_path)
    assert {draw_sample(clips, config, index)[1] for index in range(20)} == {0.0}


def test_a_pool_that_tells_no_steps_is_refused(tmp_path: Path) -> None:
    pair = coded_at(30)
    steps = np.full_like(pair.coded.steps, UNKNOWN_STEP)
    write_pair(replace(pair, coded=replace(pair.coded, steps=steps)), tmp_path / "clip-30-00000.npy")
    with pytest.raises(InputError, match="tell no steps"):
        draw_sample(Pool(tmp_path), small(tmp_path, tmp_path, coded_share=1.0), 0)


def test_stills_validate(tmp_path: Path) -> None:
    """Pairs of one frame."""
    clip = rgb_to_clip([textured(160, 192, 1)])
    coded = encode_decode(clip, Encoding(options={"qp": "30"}))
    write_pair(ClipPair(clip, coded), tmp_path / "webp-30-00000.npy")
    network = load_descriptor("quantiser").network
    assert isinstance(network, NsQuantiser)
    assert set(validate(network, tmp_path)) == {"clean", "webp"}


@pytest.mark.parametrize("seed", range(12))
def test_altered_pictures_keep_a_side_for_the_window(seed: int) -> None:
    luma = textured(96, 128, 1)[..., 0]
    changed = alter_luma(luma, np.random.default_rng(seed), 64)
    assert changed.dtype == np.uint8 and min(changed.shape) >= 64
    assert changed.shape != luma.shape or not np.array_equal(changed, luma)


def test_the_loss_is_least_at_the_quantiles() -> None:
    truths = torch.linspace(0, 10, 101)
    at = torch.tensor([[1.5, 3.5, 5.0]]).expand(101, 3)
    least = pinball_loss(at, truths)
    for column in range(3):
        for shift in (-0.4, 0.4):
            moved = at.clone()
            moved[:, column] += shift
            assert pinball_loss(moved, truths) > least


def test_a_training_goes_on_exactly_where_it_stopped(pool: Path, tmp_path: Path) -> None:
    whole = [update.loss for update in train_quantiser(small(pool, tmp_path / "whole"), "cpu")]
    config = small(pool, tmp_path / "parts")
    interrupted = train_quantiser(config, "cpu")
    parts = [next(interrupted).loss, next(interrupted).loss]
    interrupted.close()
    parts += [update.loss for update in train_quantiser(config, "cpu", resume=True)]
    assert parts == whole
    ends = [load_descriptor(str(model_file(small(pool, tmp_path / name)))).network for name in ("whole", "parts")]
    assert all(torch.equal(a, b) for a, b in zip(ends[0].parameters(), ends[1].parameters(), strict=True))


def test_it_learns_fine_from_coarse(pool: Path, tmp_path: Path) -> None:
    config = small(pool, tmp_path, steps=60, samples=48, batch=8, coded_share=0.9, altered_share=0.0)
    losses = [update.loss for update in train_quantiser(config, "cpu")]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])


def test_validation_tells_the_groups_apart(pool: Path, tmp_path: Path) -> None:
    updates = list(train_quantiser(small(pool, tmp_path, steps=1, validation=pool), "cpu"))
    assert updates[-1].validation is not None and set(updates[-1].validation) == {"clean", "clip"}
    network = load_descriptor(str(model_file(small(pool, tmp_path)))).network
    assert validate(network, pool) == updates[-1].validation  # pyright: ignore[reportArgumentType]


def test_the_configuration_is_checked(pool: Path, tmp_path: Path) -> None:
    file = tmp_path / "quantiser.toml"
    for wrong in (
        *("window = 60", "steps = 0", "warm_up = 0", "seed = -1", "stepss = 1", "=", "task = 'other'"),
        *("rate = inf", "coded_share = -0.5", "save_seconds = nan"),
    ):
        task = "" if wrong.startswith("task") else 'task = "quantiser"\n'
        file.write_text(f'{task}cache = "c"\noutput = "o"\n{wrong}\n')
        with pytest.raises(UsageError):
            read_config(file)
    with pytest.raises(ResumeError, match="no checkpoint"):
        next(train_quantiser(small(pool, tmp_path / "none"), "cpu", resume=True))
    with pytest.raises(InputError, match="smaller"):
        next(train_quantiser(small(pool, tmp_path / "large", window=256), "cpu"))


def test_the_command_trains(pool: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "quantiser.toml"
    recipe.write_text(
        f'task = "quantiser"\ncache = "{pool}"\noutput = "{tmp_path / "out"}"\n'
        "window = 64\nsamples = 4\nsteps = 2\nbatch = 2\n"
    )
    result = CliRunner().invoke(train_command, [str(recipe), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert load_descriptor(str(tmp_path / "out" / "quantiser.safetensors")).architecture == "ns_quantiser"


def test_steps_of_the_fixture_are_those_asked_for() -> None:
    pair = coded_at(38)
    assert np.median(pair.coded.steps) == step_to_code(np.array(0.625 * 2 ** (38 / 6)))


def test_a_training_that_diverges_ends(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    updates = train_quantiser(small(pool, tmp_path, save_seconds=0.0), "cpu")
    next(updates)
    monkeypatch.setattr("ns_video.training.quantiser.pinball_loss", lambda said, octaves: said.sum() * torch.nan)
    with pytest.raises(ModelError, match="the training diverged"):
        next(updates)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 1


def test_ctrl_c_waits_for_the_end_of_the_step(pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [update.loss for update in train_quantiser(small(pool, tmp_path / "whole"), "cpu")]
    config = small(pool, tmp_path / "parts")
    steps: list[int] = []

    def interrupted(said: torch.Tensor, octaves: torch.Tensor) -> torch.Tensor:
        steps.append(len(steps))
        if len(steps) == 2:
            signal.raise_signal(signal.SIGINT)
        return pinball_loss(said, octaves)

    with monkeypatch.context() as patch:
        patch.setattr("ns_video.training.quantiser.pinball_loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(train_quantiser(config, "cpu"))
    with pytest.raises(UsageError, match="--resume"):
        train_quantiser(config, "cpu")
    with pytest.raises(ResumeError, match="another configuration"):
        next(train_quantiser(replace(config, seed=5), "cpu", resume=True))
    assert [update.loss for update in train_quantiser(config, "cpu", resume=True)] == whole[2:]
