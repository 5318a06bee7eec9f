"""Trains ns_quantiser: windows of decoded and of clean frames → quantiles of the quantiser's step. Floor 4.

The samples are cut from the pool of coded clips (`ns_video.training.video_clips`), which tells each frame's true steps.
What was never coded, or was changed after it (resized, blurred, sharpened, noisy), counts as not coded: a guess above
the truth would harm good pictures.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ns_video.errors import InputError, UsageError
from ns_video.media.training_clips import BLOCK, UNKNOWN_STEP, alter_luma, code_to_step, split_planes
from ns_video.networks.ns_quantiser import MULTIPLE_OF, QUANTILES, NsQuantiser, NsQuantiserConfig
from ns_video.training.checkpoint import CHECKPOINT, WholeSteps, check_output, take_up, write_checkpoint
from ns_video.training.config import check_seed, check_unit, read_flat
from ns_video.training.optimizer import cosine_fall
from ns_video.training.process import Arithmetic, Process, find_process
from ns_video.training.video import Pool, identity
from ns_video.weights import Metadata, save_model

Window = npt.NDArray[np.uint8]
"""(window, window) uint8 luma."""

_FINE_OCTAVES = 3.2
"""Up to here a file may tell the steps of its last encoder only; its error gives the first one away."""
_TRIES = 1000
"""Draws for a sample whose frame tells steps, and isn't one that was coded before."""


@dataclass(frozen=True, slots=True)
class QuantiserTraining:
    """One training. Keys of pipelines/training/quantiser.toml."""

    task: str
    """"quantiser"."""
    cache: Path
    """Folder of clip pairs."""
    output: Path
    """Folder for checkpoint and model."""
    validation: Path | None = None
    """Folder of held-out clip pairs."""
    samples: int = 30_000
    """Windows that are cut, before the first step."""
    coded_share: float = 0.55
    """Of the samples; the others count as not coded."""
    altered_share: float = 0.5
    """Of those that count as not coded: changed after, half of them coded before."""
    window: int = 192
    """Side of a window."""
    steps: int = 8000
    batch: int = 24
    rate: float = 2e-3
    """Adam's first learning rate; a cosine ends it near 0."""
    warm_up: int = 200
    seed: int = 1
    save_seconds: float = 60.0
    validate_every: int = 1000

    def __post_init__(self) -> None:
        if self.task != "quantiser":
            raise UsageError(f"a task '{self.task}' is unknown", remedy="known is quantiser; leave it out for others")
        if self.window % MULTIPLE_OF or self.window < 64:
            raise UsageError(f"window must be a multiple of {MULTIPLE_OF}, 64 or more")
        if min(self.samples, self.steps, self.batch, self.warm_up, self.validate_every) < 1:
            raise UsageError("samples, steps, batch, warm_up and validate_every must be at least 1")
        if not self.rate > 0:
            raise UsageError("rate must be positive")
        if not self.save_seconds >= 0:
            raise UsageError(f"save_seconds must be at least 0; it is {self.save_seconds:g}")
        check_seed(self.seed)
        check_unit(self, "rate", "coded_share", "altered_share")


def read_config(path: Path, **changes: Any) -> QuantiserTraining:
    """A training from a TOML file with flat keys; folders are relative to the working directory.

    Raises:
        UsageError: the file can't be read, or a key or value is wrong.
    """
    return read_flat(QuantiserTraining, path, changes)


@dataclass(frozen=True, slots=True)
class QuantiserUpdate:
    """What a training says after each step."""

    step: int
    loss: float
    seconds: float
    validation: dict[str, float] | None = None
    """Group of held-out clips → mean of the middle output less the truth, octaves, where validation has run."""


def model_file(config: QuantiserTraining) -> Path:
    """Where the finished model is."""
    return config.output / "quantiser.safetensors"


def draw_sample(pool: Pool, config: QuantiserTraining, index: int) -> tuple[Window, float]:
    """Sample `index` of a training: a window, and log2 of the mean step that made it (0: not coded)."""
    rng = np.random.default_rng((config.seed, index))
    names = pool.names()
    for _ in range(_TRIES):
        pair, steps = pool.pair(names[int(rng.integers(len(names)))])
        t = int(rng.integers(len(pair.truth)))
        decoded, truth = split_planes(pair.coded.pictures)[0][t], split_planes(pair.truth)[0][t]
        if min(truth.shape) < config.window:
            raise InputError(f"the clips of {config.cache} are smaller than a window of {config.window}")
        octaves = 0.0
        if rng.random() < config.coded_share:
            if (pair.coded.steps[t] == UNKNOWN_STEP).any():
                continue
            top, left = _corner(rng, truth.shape, config.window, BLOCK if rng.random() < 0.7 else 1)
            rows = slice(top // BLOCK, (top + config.window - 1) // BLOCK + 1)
            columns = slice(left // BLOCK, (left + config.window - 1) // BLOCK + 1)
            octaves = float(np.log2(np.maximum(code_to_step(steps[t][rows, columns]), 1.0)).mean())
            picture = decoded
        else:
            picture = truth
            if rng.random() < config.altered_share:
                source = decoded if rng.random() < 0.5 else truth
                picture = alter_luma(np.ascontiguousarray(source), rng, config.window)
            top, left = _corner(rng, picture.shape, config.window, 8 if rng.random() < 0.5 else 1)
        part = (slice(top, top + config.window), slice(left, left + config.window))
        if 0.0 < octaves < _FINE_OCTAVES:
            error = np.square(decoded[part].astype(np.float32) - truth[part]).mean()
            if error > 0.25 * 4.0**octaves:  # three times what a uniform error within the step has: coded before
                continue
        return np.ascontiguousarray(picture[part]), octaves
    raise InputError(f"the clips of {config.cache} tell no steps")


def _corner(rng: np.random.Generator, shape: tuple[int, ...], window: int, grid: int) -> tuple[int, int]:
    top, left = (int(rng.integers((size - window) // grid + 1)) * grid for size in shape[:2])
    return top, left


def pinball_loss(said: Tensor, octaves: Tensor) -> Tensor:
    """Mean over (N, 3) outputs and (N,) truths: least where each output is its quantile (Koenker and Bassett, 1978)."""
    quantiles = torch.tensor(QUANTILES, device=said.device)
    error = octaves[:, None] - said
    return torch.maximum(quantiles * error, (quantiles - 1.0) * error).mean()


def train_quantiser(
    config: QuantiserTraining, device: str = "auto", *, resume: bool = False
) -> Generator[QuantiserUpdate]:
    """Trains to `config.steps`, saves `checkpoint.pt` now and then and the model at the end.

    Resuming goes on exactly where it stopped: samples and batches depend on the pool, the seed, the step and the rank
    alone.

    Raises:
        InputError: the pool is missing; ResumeError, UsageError: as `check_output` and `take_up`; DeviceError;
        ModelError: it diverged.
    """
    check_output(config.output / CHECKPOINT, model_file(config), resume=resume)
    return _train(config, find_process(device), resume)


def _train(config: QuantiserTraining, process: Process, resume: bool) -> Generator[QuantiserUpdate]:
    torch.manual_seed(config.seed)
    network = NsQuantiser(NsQuantiserConfig())
    network.out.bias.data.copy_(torch.tensor([0.0, 1.0, 2.0]))
    network.to(process.device)
    optimizer = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=1e-4)
    arithmetic = Arithmetic("auto", process.device)
    checkpoint, done = config.output / CHECKPOINT, 0

    def load(content: dict[str, Any]) -> None:
        nonlocal done
        network.load_state_dict(content["network"])
        optimizer.load_state_dict(content["optimizer"])
        arithmetic.load(content.get("scaler", {}))
        done = int(content["step"])

    def save() -> None:
        content = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": done}
        write_checkpoint(checkpoint, {"training": identity(config), "scaler": arithmetic.state(), **content})

    if resume:
        take_up(checkpoint, identity(config), load)
    pool = Pool(config.cache)
    drawn = [draw_sample(pool, config, index) for index in range(config.samples)]
    windows = torch.from_numpy(np.stack([window for window, _ in drawn]))
    octaves = torch.tensor([truth for _, truth in drawn])
    del drawn
    model = process.distributed(network)
    first, steps = done, WholeSteps()
    began = saved = time.monotonic()
    try:
        while done < config.steps:
            with steps:
                rate = config.rate * min(1.0, (done + 1) / config.warm_up)
                for group in optimizer.param_groups:
                    group["lr"] = rate * cosine_fall(done / config.steps) + 1e-6
                rng = np.random.default_rng((config.seed, config.samples, done, process.rank))
                chosen = torch.from_numpy(rng.integers(len(windows), size=config.batch))
                luma = windows[chosen].to(process.device).float().unsqueeze(1)
                luma = luma.flip(-1) if rng.random() < 0.5 else luma
                with arithmetic.autocast():
                    said = model(luma)
                loss = pinball_loss(said.float(), octaves[chosen].to(process.device))
                arithmetic.descend(loss, network, optimizer, 1.0)
                arithmetic.kept((loss.item(),))
                done += 1
            update = QuantiserUpdate(done, loss.item(), time.monotonic() - began)
            due = done % config.validate_every == 0 or done == config.steps
            if process.leads and due and config.validation is not None:
                update = dataclasses.replace(update, validation=validate(network, config.validation))
            if process.leads and time.monotonic() - saved > config.save_seconds:
                saved = time.monotonic()
                save()
            yield update
    finally:
        if process.leads and steps.whole and done > first:
            save()
    if process.leads:
        save_model(network, model_file(config), Metadata("ns_quantiser"))


def validate(network: NsQuantiser, folder: Path) -> dict[str, float]:
    """Group (the file name's first part, and `clean` for the truths) → mean of the middle output less the truth.

    Octaves, over two frames of each clip.
    """
    pool, device = Pool(folder), network.out.bias.device
    groups: dict[str, list[float]] = {}
    for path in pool.names():
        pair, steps = pool.pair(path)
        group = path.name.split("-")[0]
        for t in {min(1, len(pair.truth) - 1), len(pair.truth) // 2}:  # stills have one frame
            octaves = float(np.log2(np.maximum(code_to_step(steps[t]), 1.0)).mean())
            for name, clip, truth in ((group, pair.coded.pictures, octaves), ("clean", pair.truth, 0.0)):
                luma = torch.from_numpy(split_planes(clip)[0][t].astype(np.float32))
                with torch.inference_mode():
                    said = float(network(luma[None, None].to(device))[0, 1])
                groups.setdefault(name, []).append(said - truth)
    return {name: float(np.mean(values)) for name, values in sorted(groups.items())}
