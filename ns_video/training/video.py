"""Trains the video models: decoded frames, and quantiser maps of the middle ones → the middle frame.

The pool of clips (`ns_video.training.video_clips`) is made first or grows beside the training. Resuming a training
whose pool is complete goes on exactly where it stopped: a batch depends on the seed, the step and the rank alone.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ns_video.align import compensate, matched
from ns_video.belief import OTHER_CODECS, believe
from ns_video.conditioning import QUANTISER_PLANES
from ns_video.errors import InputError, ModelError, UsageError
from ns_video.frame import MOTION_CELL
from ns_video.media.carried import carried
from ns_video.media.motion import find_motion
from ns_video.media.training_clips import (
    BLOCK,
    SMALLEST_STEP,
    STEP_CODES_PER_OCTAVE,
    UNKNOWN_STEP,
    CodedClip,
    join_planes,
    split_planes,
)
from ns_video.networks.ns_restore import SIZES, NsRestore, NsRestoreConfig
from ns_video.prefetch import prefetch
from ns_video.training.checkpoint import (
    CHECKPOINT,
    WholeSteps,
    check_output,
    read_checkpoint,
    take_up,
    write_checkpoint,
)
from ns_video.training.config import check_seed, check_unit, read_flat
from ns_video.training.evaluate import psnr
from ns_video.training.firing import REVIVING_BATCHES, Firing, revive_silent
from ns_video.training.optimizer import OPTIMIZERS, Muon, cosine_fall
from ns_video.training.process import Arithmetic, Process, find_process
from ns_video.training.ranges import MEASURING_BATCHES, measure_ranges
from ns_video.training.start import grow_from, see_differences, see_further
from ns_video.training.video_clips import ClipPair, read_pair
from ns_video.weights import Metadata, load_descriptor, save_model

BLACK, LUMA_SPAN, NEUTRAL, CHROMA_SPAN = 16.0, 219.0, 128.0, 224.0
"""BT.601 limited range, 8 bit."""
_INTRA, _BIDIRECTIONAL = 1, 3  # indices into training_clips.PICTURE_TYPES
_MIDDLING_CODE = 4 * 28  # QP 28
_CUBIC_REACH = 8  # luma px that cubic interpolation of chroma, and of vectors, sees beside a sample
_NORM_FLOOR = 0.4 / LUMA_SPAN  # a frame better than this has nothing left to learn from: rounding alone is 0.29


@dataclass(frozen=True, slots=True)
class VideoTraining:
    """One training. Keys of pipelines/training/video.toml."""

    cache: Path
    """Folder of clip pairs."""
    output: Path
    """Folder for checkpoint and log."""
    validation: Path | None = None
    """Folder of held-out clip pairs."""
    start: Path | None = None
    """Checkpoint whose averaged weights to begin with; or a model, by name or file. Of the same size, or with fewer
    blocks: the others begin as identity. Of as many frames, or of 3 for 5: the outer ones begin unseen."""
    size: str = "small"
    frames: int = 3
    aligned: bool = False
    """The neighbours are moved onto the frame, see `ns_video.align`; a `start` whose were not learns to see them so."""
    steps: int = 12_000
    batch: int = 4
    crop: int = 96
    """Side of a crop, a multiple of 4."""
    rate: float = 7e-4
    """Adam's first learning rate; a cosine ends it at a hundredth."""
    optimizer: str = "adam"
    """"adam" or "muon" (first and last layer by Adam)."""
    tail_share: float = 0.05
    """The last layer's learning rate as a share of `rate`: the change it makes is a hundredth of the picture's range,
    and at the full rate its steps drown it (measured: no gain after 400 steps)."""
    head_gain: float = 25.0
    """How much the fresh first layer amplifies contrast, see `centre_head`. Used once, without `start`."""
    warm_up: int = 200
    average: float = 0.999
    """Decay of the averaged weights."""
    squared_share: float = 0.3
    """Share of squared error in the loss, the rest is absolute error."""
    caution: float = 0.0
    """Extra weight of the squared error by which a crop comes back worse than it was, its luma or its chroma."""
    chroma_weight: float = 0.25
    kept_share: float = 0.0
    """Share of the weights of `start` in the model that is made, the rest is what was learned: where that is of a new
    kind, less of the old is lost (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models")."""
    revive: bool = False
    """As `network.revive` of a training on stills."""
    blind_share: float = 0.12
    """Share of samples that get one rough estimate for the frame instead of the map."""
    likeness: float = 1.0
    """As `ns_video.align.matched` takes it: 2 for codecs other than H.264, as a run has it."""
    no_map: bool = False
    """Study only: every sample gets one constant, so the network is blind."""
    seed: int = 0
    save_seconds: float = 60.0
    validate_every: int = 1000

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise UsageError(f"size '{self.size}' is unknown", remedy=f"sizes are {', '.join(SIZES)}")
        if self.optimizer not in OPTIMIZERS:
            raise UsageError(f"optimizer '{self.optimizer}' is unknown", remedy=f"known are {', '.join(OPTIMIZERS)}")
        if self.crop % 4 or self.frames not in (1, 3, 5) or self.batch < 1 or self.steps < 1:
            raise UsageError("crop must be a multiple of 4, frames 1, 3 or 5, batch and steps at least 1")
        if (self.aligned and self.frames == 1) or (self.frames == 5 and not self.aligned):
            raise UsageError("aligned is for 3 frames and 5, which must be")
        if self.crop < 4 or self.warm_up < 0 or self.validate_every < 1:
            raise UsageError("crop must be at least 4, warm_up at least 0, validate_every at least 1")
        if not 0 < self.likeness < math.inf:
            raise UsageError(f"likeness must be positive; it is {self.likeness:g}")
        if not self.save_seconds >= 0:
            raise UsageError(f"save_seconds must be at least 0; it is {self.save_seconds:g}")
        check_seed(self.seed)
        check_unit(self, "rate", "average", "squared_share", "blind_share", "kept_share")
        if self.kept_share and self.start is None:
            raise UsageError("kept_share is of the weights of start", remedy="name a start, or leave kept_share out")
        weights = (self.tail_share, self.caution, self.chroma_weight)
        if self.rate == 0 or not 0 < self.head_gain < math.inf or not all(0 <= w < math.inf for w in weights):
            raise UsageError("rate and head_gain must be positive, tail_share, caution and chroma_weight at least 0")


def read_config(path: Path, **changes: Any) -> VideoTraining:
    """A training from a TOML file with flat keys; folders are relative to the working directory.

    Raises:
        UsageError: the file can't be read, or a key or value is wrong.
    """
    return read_flat(VideoTraining, path, changes)


def identity(config: Any) -> str:
    """What must be equal for a training on clips to be resumed: all but where things lie and how often it is saved."""
    table = dataclasses.asdict(config)
    for key in ("cache", "output", "validation", "save_seconds", "validate_every"):
        table.pop(key)
    for key in ("revive", "aligned"):  # trainings from before 0.12.0 and 0.15.0 don't have them
        if not table.get(key, True):
            table.pop(key)
    for key, default in (("likeness", 1.0), ("kept_share", 0.0)):  # nor those from before 0.17.0 and 0.18.0
        if table.get(key) == default:
            table.pop(key)
    table["repeats"] = "told as their source"  # before 0.8.0 the finer step was: such a training can't go on exactly
    return json.dumps(table, sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class VideoUpdate:
    """What a training says after each step."""

    step: int
    loss: float
    gain: float
    """PSNR-Y of the batch's crops after less before, dB, mean over crops."""
    seconds: float
    validation: dict[str, float] | None = None
    """Group of clips → mean PSNR-Y gain in dB, where validation has run."""
    silent_channels: int = 0
    """Of the residual blocks' inner channels those that acted at less than one of 10,000 pixels in validation."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Crops, uint8 as they came from the codec. N samples, F frames."""

    luma: Tensor
    """(N, F, h, w) decoded."""
    chroma: Tensor
    """(N, F, 2, h/2, w/2) decoded."""
    truth_luma: Tensor
    """(N, 1, h, w)"""
    truth_chroma: Tensor
    """(N, 2, h/2, w/2)"""
    steps: Tensor
    """(N, 3, h, w) codes for current, previous and following frame; never UNKNOWN_STEP."""
    types: Tensor
    """(N,) index into PICTURE_TYPES of the current frame."""
    damage: Tensor
    """(N, 2) float32: root mean square and mean absolute error of the whole decoded frame's luma, in [0, 1] units."""


def pictures_to_network(luma: Tensor, chroma: Tensor) -> Tensor:
    """(N, F, h, w) and (N, F, 2, h/2, w/2) uint8 → (N, 3 F, h, w) float32, each frame Y, Cb, Cr in [0, 1]."""
    y = (luma.float() - BLACK) / LUMA_SPAN
    c = (chroma.float() - NEUTRAL) / CHROMA_SPAN + 0.5
    c = c.repeat_interleave(2, -2).repeat_interleave(2, -1)
    return torch.cat((y.unsqueeze(2), c), 2).flatten(1, 2)


def side_planes(steps: Tensor, types: Tensor) -> Tensor:
    """(N, 3, h, w) codes (current, previous, following) → (N, QUANTISER_PLANES, h, w), as `quantiser_planes` does."""
    octaves = math.log2(SMALLEST_STEP) + steps.float() / STEP_CODES_PER_OCTAVE
    octaves = octaves.clamp(min=0.0)
    gate = torch.tanh((torch.exp2(octaves[:, :1]) - 1.0) / 8.0)
    kind = types.view(-1, 1, 1, 1)
    ones = torch.ones_like(gate)
    planes = torch.cat((octaves / 7.0, ones * (kind == _INTRA), ones * (kind == _BIDIRECTIONAL), gate), 1)
    assert planes.shape[1] == QUANTISER_PLANES
    return planes


def matched_neighbours(x: Tensor, side: Tensor, likeness: float = 1.0) -> Tensor:
    """(N, 3 F, h, w) frames of which the others were moved onto the middle one → the same, as far as they show what it
    does, see `ns_video.align.matched`. `side`: as `side_planes` gives it."""
    views = list(x.split(3, 1))
    frame, octaves = views[len(views) // 2], side[:, :1] * 7.0
    others = [view if view is frame else matched(view, frame, octaves, likeness) for view in views]
    return torch.cat(others, 1)


def told_steps(coded: CodedClip) -> np.ndarray:
    """The clip's step codes as a run tells them (`carried`); a frame that tells nothing takes its nearest neighbour's,
    or a middling code."""
    steps = np.array(coded.steps)
    told = np.flatnonzero(steps[:, 0, 0] != UNKNOWN_STEP)
    for t in np.flatnonzero(steps[:, 0, 0] == UNKNOWN_STEP):
        steps[t] = steps[told[np.abs(told - t).argmin()]] if told.size else _MIDDLING_CODE
    luma = split_planes(coded.pictures)[0]
    for t in range(1, len(steps)):
        steps[t] = carried(luma[t - 1], luma[t], steps[t - 1], steps[t])
    return steps


class Pool:
    """The clip pairs in a folder; looks again now and then while the folder grows."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[Path] = []
        self._looked = -math.inf
        self._steps: dict[Path, np.ndarray] = {}
        self._damage: dict[tuple[Path, int], tuple[float, float]] = {}

    def names(self) -> list[Path]:
        """Raises InputError where there is no pair."""
        if time.monotonic() - self._looked > 30.0:
            self._names = sorted(self._folder.glob("*.npy"))
            self._looked = time.monotonic()
            if not self._names:
                raise InputError(f"{self._folder} holds no clip pair")
        return self._names

    def pair(self, path: Path) -> tuple[ClipPair, np.ndarray]:
        """A pair and its told steps. The pair is mapped anew each time, for a map takes a file descriptor: thousands of
        clips would need more than a process may have (0.6 ms a draw)."""
        pair = read_pair(path)
        if path not in self._steps:
            self._steps[path] = told_steps(pair.coded)
        return pair, self._steps[path]

    def damage(self, path: Path, t: int) -> tuple[float, float]:
        """(root mean square, mean absolute) luma error of a decoded frame, in [0, 1] units."""
        if (path, t) not in self._damage:
            pair, _ = self.pair(path)
            height = pair.truth.shape[1] * 2 // 3
            error = (pair.truth[t, :height].astype(np.float32) - pair.coded.pictures[t, :height]) / LUMA_SPAN
            self._damage[path, t] = float(np.sqrt((error * error).mean())), float(np.abs(error).mean())
        return self._damage[path, t]


def draw_batch(pool: Pool, config: VideoTraining, step: int, rank: int = 0) -> Batch:
    """The batch of one step: depends on the pool, the seed, the step and the rank alone."""
    rng = np.random.default_rng((config.seed, step, rank))
    samples = [_draw_sample(pool, config, rng) for _ in range(config.batch)]
    stacked = [torch.from_numpy(np.stack([sample[i] for sample in samples])) for i in range(7)]
    return Batch(*stacked)


def _draw_sample(pool: Pool, config: VideoTraining, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    names = pool.names()
    path = names[int(rng.integers(len(names)))]
    pair, steps = pool.pair(path)
    frames, height, width = len(pair.truth), pair.truth.shape[1] * 2 // 3, pair.truth.shape[2]
    crop = config.crop
    if crop > min(height, width):
        raise InputError(f"{path} is {width}x{height}, smaller than a crop of {crop}", remedy="make crop smaller")
    t = int(rng.integers(frames))
    seen = _seen(t, config.frames, frames)
    top, left = int(rng.integers((height - crop) // 4 + 1)) * 4, int(rng.integers((width - crop) // 4 + 1)) * 4
    full = (slice(top, top + crop), slice(left, left + crop))
    half = (slice(top // 2, (top + crop) // 2), slice(left // 2, (left + crop) // 2))
    true_luma, true_cb, true_cr = split_planes(pair.truth)
    views = [_view(pair, t, i, full, aligned=config.aligned) for i in seen]
    y = np.stack([view[0] for view in views])
    c = np.stack([view[1] for view in views])
    truth_y = true_luma[t][full][None]
    truth_c = np.stack((true_cb[t][half], true_cr[t][half]))
    order = (t, max(t - 1, 0), min(t + 1, frames - 1))
    kind = int(pair.coded.types[t])
    if config.no_map or rng.random() < config.blind_share:
        kind = 0
        rough = (
            float(_MIDDLING_CODE)
            if config.no_map
            else float(steps[t].mean() + rng.normal(0, 0.3) * STEP_CODES_PER_OCTAVE)
        )
        q = np.full((3, crop, crop), round(min(max(rough, 0.0), UNKNOWN_STEP - 1)), np.uint8)
    else:
        rows, columns = np.arange(top, top + crop) // BLOCK, np.arange(left, left + crop) // BLOCK
        q = np.stack([steps[i][np.ix_(rows, columns)] for i in order])
    if rng.random() < 0.5:
        y, c, truth_y, truth_c, q = (part[..., ::-1, :] for part in (y, c, truth_y, truth_c, q))
    if rng.random() < 0.5:
        y, c, truth_y, truth_c, q = (part[..., ::-1] for part in (y, c, truth_y, truth_c, q))
    if rng.random() < 0.5:
        y, c, truth_y, truth_c, q = (part.swapaxes(-1, -2) for part in (y, c, truth_y, truth_c, q))
    damage = np.array(pool.damage(path, t), np.float32)
    return y, c, truth_y, truth_c, q, np.array(kind, np.int64), damage


def _seen(t: int, count: int, frames: int) -> list[int]:
    """The `count` frames around frame `t` of `frames`; an end repeats itself."""
    return [min(max(t + d, 0), frames - 1) for d in range(-(count // 2), count // 2 + 1)]


def _view(
    pair: ClipPair, t: int, other: int, window: tuple[slice, slice], *, aligned: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A window (h, w) of decoded frame `other`, which begins at multiples of 4: (h, w) luma and (2, h/2, w/2) chroma,
    uint8. Moved onto frame `t` where that is wanted."""
    luma, cb, cr = split_planes(pair.coded.pictures)
    motion = find_motion(luma[t], luma[other]) if aligned and other != t else None
    if motion is None:
        half = tuple(slice(part.start // 2, part.stop // 2) for part in window)
        return luma[other][window], np.stack((cb[other][half], cr[other][half]))
    around = _reached(motion, window, luma.shape[1:])
    half = tuple(slice(part.start // 2, part.stop // 2) for part in around)
    cells = tuple(slice(part.start // MOTION_CELL, -(-part.stop // MOTION_CELL)) for part in around)
    y, c = (
        torch.from_numpy(np.array(part)) for part in (luma[other][around], np.stack((cb[other], cr[other]))[:, *half])
    )
    picture = torch.cat((y[None], c.repeat_interleave(2, -2).repeat_interleave(2, -1))).float()
    vectors = torch.from_numpy(motion[cells]).permute(2, 0, 1)
    moved = compensate(picture[None], vectors[None], (2, 2))[0].round().clamp(0, 255).byte().numpy()
    there = tuple(
        slice(part.start - outer.start, part.stop - outer.start) for part, outer in zip(window, around, strict=True)
    )
    moved = moved[:, *there]
    return moved[0], moved[1:, ::2, ::2]


def _reached(motion: np.ndarray, window: tuple[slice, slice], sides: tuple[int, int]) -> tuple[slice, slice]:
    """The window and what its `motion` (rows, columns, 2), in px, reaches: multiples of MOTION_CELL, or frame ends."""
    cells = tuple(slice(max(part.start // MOTION_CELL - 1, 0), -(-part.stop // MOTION_CELL) + 1) for part in window)
    reach = -(-(math.ceil(float(np.abs(motion[cells]).max())) + _CUBIC_REACH) // MOTION_CELL) * MOTION_CELL
    rows, columns = (
        slice(max(part.start - reach, 0), min(part.stop + reach, side))
        for part, side in zip(window, sides, strict=True)
    )
    return rows, columns


def forwards(
    network: nn.Module, pool: Pool, config: VideoTraining, process: Process, count: int
) -> list[Callable[[], Tensor]]:
    """Forward passes over the first batches, drawn as each is called."""

    def forward(step: int) -> Tensor:
        batch = process.sent(draw_batch(pool, config, step))
        side = side_planes(batch.steps, batch.types)
        return network(_what_is_seen(batch, side, config), side)

    return [partial(forward, step) for step in range(count)]


def _what_is_seen(batch: Batch, side: Tensor, config: VideoTraining) -> Tensor:
    """What the network sees of a batch, (N, 3 F, h, w)."""
    x = pictures_to_network(batch.luma, batch.chroma)
    seen = matched_neighbours(x, side, config.likeness) if config.aligned else x
    return seen.contiguous(memory_format=torch.channels_last)


def batch_loss(
    network: nn.Module, batch: Batch, config: VideoTraining, arithmetic: Arithmetic
) -> tuple[Tensor, Tensor]:
    """(loss, gain): relative error of the crops, and the mean PSNR-Y gain in dB (detached).

    Errors are divided by the whole frame's, so that each clip counts alike in dB, however strong its damage.
    """
    side = side_planes(batch.steps, batch.types)
    x = _what_is_seen(batch, side, config)
    with arithmetic.autocast():
        y = network(x, side)
    y = y.float()
    middle = (config.frames // 2) * 3
    truth = (batch.truth_luma.float() - BLACK) / LUMA_SPAN
    truth_chroma = (batch.truth_chroma.float() - NEUTRAL) / CHROMA_SPAN + 0.5
    error = y[:, :1] - truth
    chroma_error = F.avg_pool2d(y[:, 1:], 2) - truth_chroma
    before = x[:, middle : middle + 1] - truth
    rms, absolute = batch.damage[:, 0] + _NORM_FLOOR, batch.damage[:, 1] + _NORM_FLOOR
    axes = (1, 2, 3)
    share = config.squared_share
    smooth = torch.sqrt(error * error + 1e-6)
    loss = share * (error * error).mean(axes) / (rms * rms) + (1 - share) * smooth.mean(axes) / absolute
    smooth = torch.sqrt(chroma_error * chroma_error + 1e-6)
    chroma = share * (chroma_error * chroma_error).mean(axes) / (rms * rms) + (1 - share) * smooth.mean(axes) / absolute
    if config.caution:
        loss = loss + config.caution * _harm(error, before) / (rms * rms)
        chroma_before = F.avg_pool2d(x[:, middle + 1 : middle + 3], 2) - truth_chroma
        chroma = chroma + config.caution * _harm(chroma_error, chroma_before) / (rms * rms)
    with torch.no_grad():
        gain = 10 * torch.log10(((before * before).mean(axes) + 1e-7) / ((error * error).mean(axes) + 1e-7))
    return (loss + config.chroma_weight * chroma).mean(), gain.mean()


def _harm(error: Tensor, before: Tensor) -> Tensor:
    """(N,): by how much the squared error grew, plane by plane."""
    return F.relu((error * error).mean((2, 3)) - (before * before).mean((2, 3))).mean(1)


def restore_luma(
    network: NsRestore, pair: ClipPair, steps: np.ndarray, t: int, *, doubt_edges: bool | None = None
) -> np.ndarray:
    """Luma of `restore_frame`, (H, W) uint8."""
    return restore_frame(network, pair, steps, t, doubt_edges=doubt_edges)[: pair.truth.shape[1] * 2 // 3]


def restore_frame(
    network: NsRestore,
    pair: ClipPair,
    steps: np.ndarray,
    t: int,
    *,
    doubt_edges: bool | None = None,
    told: np.ndarray | None = None,
    likeness: float | None = None,
) -> np.ndarray:
    """Frame `t` of a coded clip restored, as a frame of a `Clip`, with fp32 arithmetic.

    `doubt_edges`: as a run does it, which doesn't believe each change (`ns_video.belief`); None: all of it. `told`: the
    steps that the file tells, where `steps` were raised. `likeness`: as in VideoTraining; None: by `doubt_edges`.
    """
    if likeness is None:
        likeness = OTHER_CODECS if doubt_edges is False else 1.0
    frames = len(pair.truth)
    seen = _seen(t, network.config.frames, frames)
    height, width = split_planes(pair.coded.pictures)[0].shape[1:]
    whole = (slice(0, height), slice(0, width))
    views = [_view(pair, t, i, whole, aligned=network.config.aligned) for i in seen]
    order = (t, max(t - 1, 0), min(t + 1, frames - 1))
    q = np.stack([steps[i].repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width] for i in order])
    device = network.tail.weight.device
    x = pictures_to_network(
        torch.from_numpy(np.stack([view[0] for view in views]))[None].to(device),
        torch.from_numpy(np.stack([view[1] for view in views]))[None].to(device),
    )
    side = side_planes(torch.from_numpy(q)[None].to(device), torch.tensor([int(pair.coded.types[t])], device=device))
    middle = 3 * (len(seen) // 2)
    with torch.inference_mode():
        if network.config.aligned:
            x = matched_neighbours(x, side, likeness)
        y = network(x.contiguous(memory_format=torch.channels_last), side)
        if doubt_edges is not None:
            own = None if told is None or told is steps else _octaves_of(told[t], height, width, device)
            y = believe(y, x[:, middle : middle + 3], side, doubt_edges=doubt_edges, told=own)
        chroma = F.avg_pool2d(y[:, 1:], 2)[0] - 0.5
    planes = (y[0, :1] * LUMA_SPAN + BLACK, *(chroma * CHROMA_SPAN + NEUTRAL).unsqueeze(1))
    return join_planes(*(plane.round().clamp(0, 255).byte().cpu().numpy() for plane in planes))[0]


def _octaves_of(codes: np.ndarray, height: int, width: int, device: torch.device) -> Tensor:
    """(rows, columns) codes → (1, 1, H, W), as the first of `side_planes`."""
    dense = torch.from_numpy(codes.repeat(BLOCK, 0).repeat(BLOCK, 1)[:height, :width])[None, None].to(device)
    return (math.log2(SMALLEST_STEP) + dense.float() / STEP_CODES_PER_OCTAVE).clamp(min=0.0) / 7.0


def validate(network: NsRestore, folder: Path, no_map: bool = False, *, likeness: float = 1.0) -> dict[str, float]:
    """Group (the file name's first part) → mean PSNR-Y gain in dB over three frames of each clip, and `worst`.

    `chroma` is what all squared errors of Cb and Cr together gained. `likeness`: as in VideoTraining.

    Empty for a folder without pairs.
    """
    groups: dict[str, list[float]] = {}
    chroma = np.full(2, 1e-6)
    for path in sorted(folder.glob("*.npy")):
        pair = read_pair(path)
        height = pair.truth.shape[1] * 2 // 3
        steps = np.full_like(told_steps(pair.coded), _MIDDLING_CODE) if no_map else told_steps(pair.coded)
        gains: list[float] = []
        inner = np.linspace(1, len(pair.truth) - 2, 3).round().astype(int) if len(pair.truth) > 2 else (0,)
        for t in inner:
            restored = restore_frame(network, pair, steps, int(t), likeness=likeness)
            coded, truth = pair.coded.pictures[t], pair.truth[t]
            gains.append(psnr(restored[:height], truth[:height]) - psnr(coded[:height], truth[:height]))
            wrong = [np.subtract(clip[height:], truth[height:], dtype=np.float64) for clip in (coded, restored)]
            chroma += [np.square(error).mean() for error in wrong]
        groups.setdefault(path.stem.split("-")[0], []).append(float(np.mean(gains)))
    result = {name: float(np.mean(values)) for name, values in groups.items()}
    if not groups:
        return result
    return result | {
        "chroma": 10 * math.log10(chroma[0] / chroma[1]),
        "worst": min(min(values) for values in groups.values()),
    }


@dataclass(slots=True)
class _State:
    """All that a checkpoint holds."""

    network: NsRestore
    averaged: NsRestore
    optimizer: torch.optim.Optimizer
    arithmetic: Arithmetic
    step: int = 0

    def content(self, config: VideoTraining) -> dict[str, Any]:
        return {
            "training": identity(config),
            "config": dataclasses.asdict(self.network.config),
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.arithmetic.state(),
            "step": self.step,
        }

    def load(self, content: dict[str, Any]) -> None:
        self.network.load_state_dict(content["network"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.arithmetic.load(content.get("scaler", {}))
        self.step = int(content["step"])


def load_checkpoint(path: Path) -> NsRestore:
    """The averaged network of a checkpoint, ready to run.

    Raises:
        ResumeError: as `read_checkpoint`; ModelError: it is that of another kind of training.
    """
    content = read_checkpoint(path)
    if "config" not in content:
        raise ModelError(f"{path} is no checkpoint of a training on clips", remedy="give the model that it made")
    config = dict(content["config"])
    config["blocks"] = tuple(config["blocks"])
    network = NsRestore(NsRestoreConfig(**config))
    network.load_state_dict(content["averaged"])
    return network.eval()


def _weights_of(start: Path, *, aligned: bool, frames: int) -> dict[str, Tensor]:
    """Of a checkpoint's averaged network, or of a model; for an aligned network, or more frames, if it shall be one.

    Raises ModelError; UsageError where it is aligned, and shall not be, sees more frames, or is another architecture.
    """
    by_file = start.suffix in (".pt", ".ckpt")
    network = load_checkpoint(start) if by_file else load_descriptor(str(start)).network
    if not isinstance(network, NsRestore):
        raise UsageError(f"{start} is no ns_restore", remedy="start with a model for clips, or leave start out")
    config, weights = network.config, network.state_dict()
    if config.aligned and not aligned:
        raise UsageError(f"{start} sees its neighbours aligned", remedy="set aligned = true")
    if config.frames > frames:
        raise UsageError(f"{start} sees {config.frames} frames", remedy=f"set frames = {config.frames}")
    if (config.planes, config.unshuffle, config.frames) == (3, 2, 3):
        head = weights["head.weight"]
        if aligned and not config.aligned:
            head = see_differences(head)
        weights["head.weight"] = see_further(head, frames) if frames > 3 else head
    return weights


def _begin_with(network: NsRestore, start: Path, config: VideoTraining) -> None:
    begun = _weights_of(start, aligned=config.aligned, frames=config.frames)
    own = network.state_dict()
    if any(key not in own or own[key].shape != tensor.shape for key, tensor in begun.items()):
        raise UsageError(f"{start} is another network than size '{config.size}' makes or can grow from")
    grow_from(network, begun)


def mix(network: NsRestore, other: NsRestore, share: float) -> None:
    """Moves a network's weights toward those of another one of the same shape, by `share` of the way."""
    with torch.no_grad():
        for weight, kept in zip(network.parameters(), other.parameters(), strict=True):
            weight.lerp_(kept, share)


def network_config(config: VideoTraining) -> NsRestoreConfig:
    """The network that a training makes."""
    channels, blocks = SIZES[config.size]
    return NsRestoreConfig(
        planes=3,
        frames=config.frames,
        side=QUANTISER_PLANES,
        channels=channels,
        blocks=blocks,
        gated=True,
        aligned=config.aligned,
    )


def centre_head(network: NsRestore, gain: float) -> None:
    """Takes the mean out of the fresh first layer's kernels, picture by picture and plane by plane, and amplifies them.

    A picture's brightness is a hundred times the damage in it and tells nothing of it. Measured on 300 steps: four
    times as far as from the usual start.
    """
    config = network.config
    with torch.no_grad():
        pixels = network.head.weight[:, : config.planes * config.frames * config.unshuffle**2]
        shape = (config.channels, config.planes * config.frames, config.unshuffle**2, *pixels.shape[-2:])
        parts = pixels.reshape(shape)
        pixels.copy_((gain * (parts - parts.mean((2, 3, 4), keepdim=True))).reshape(pixels.shape))


def learning_rate(config: VideoTraining, step: int) -> float:
    """Linear warm-up, then a cosine from `rate` to a hundredth of it."""
    if step < config.warm_up:
        return config.rate * (step + 1) / config.warm_up
    phase = (step - config.warm_up) / max(1, config.steps - config.warm_up)
    return config.rate * (0.01 + 0.99 * cosine_fall(phase))


def _make_optimizer(network: NsRestore, config: VideoTraining) -> torch.optim.Optimizer:
    """Groups carry the `share` of the learning rate that they go by."""
    tail = list(network.tail.parameters())
    if config.optimizer == "adam":
        rest = [parameter for name, parameter in network.named_parameters() if not name.startswith("tail.")]
        groups = [{"params": rest, "share": 1.0}, {"params": tail, "share": config.tail_share}]
        return torch.optim.Adam(groups, lr=config.rate, betas=(0.9, 0.99))
    head = list(network.head.parameters())
    ends = {id(parameter) for parameter in head + tail}
    inner = [parameter for parameter in network.parameters() if id(parameter) not in ends]
    groups = [
        {"params": inner, "share": 1.0},
        {"params": head, "share": 1.0, "adam": True},
        {"params": tail, "share": config.tail_share, "adam": True},
    ]
    return Muon(groups, lr=config.rate)


def train_video(config: VideoTraining, device: str = "auto", *, resume: bool = False) -> Generator[VideoUpdate]:
    """Trains to `config.steps`, one update a step; the checkpoint is `output`/checkpoint.pt, the model `model_file`.

    With `resume` the unfinished training in `output` goes on; closing the iterator leaves a checkpoint.

    Raises:
        InputError: the pool is empty, or a clip smaller than a crop; ResumeError, UsageError: as `check_output` and
        `take_up`; DeviceError; ModelError: it diverged.
    """
    check_output(config.output / CHECKPOINT, model_file(config), resume=resume)
    return _train(config, find_process(device), resume)


def _train(config: VideoTraining, process: Process, resume: bool) -> Generator[VideoUpdate]:
    torch.manual_seed(config.seed)
    network = NsRestore(network_config(config))
    if config.start is None:
        centre_head(network, config.head_gain)
    elif not resume or config.kept_share:
        _begin_with(network, config.start, config)
    begun = copy.deepcopy(network) if config.kept_share else None
    network.to(process.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stub lacks it
    averaged = NsRestore(network_config(config)).to(process.device).eval()
    averaged.load_state_dict(network.state_dict())
    state = _State(network, averaged, _make_optimizer(network, config), Arithmetic("auto", process.device))
    checkpoint = config.output / CHECKPOINT
    if resume:
        take_up(checkpoint, identity(config), state.load)
    pool = Pool(config.cache)
    pool.names()
    if config.revive and not resume:
        revive_silent(network, forwards(network, pool, config, process, REVIVING_BATCHES))
        averaged.load_state_dict(network.state_dict())
    model = process.distributed(network)
    batches = prefetch(
        (process.pinned(draw_batch(pool, config, step, process.rank)) for step in range(state.step, config.steps)),
        8,
        size_of=lambda _: 1,
        name="batches",
    )
    first, steps = state.step, WholeSteps()
    began = saved = time.monotonic()
    try:
        for batch in batches:
            with steps:
                loss, gain = map(float, _step(state, model, process.sent(batch), config))
                state.arithmetic.kept((loss,))
            update = VideoUpdate(state.step, loss, gain, time.monotonic() - began)
            if process.leads and state.step % config.validate_every == 0 and config.validation is not None:
                with Firing(state.averaged) as firing:
                    groups = validate(state.averaged, config.validation, config.no_map, likeness=config.likeness)
                update = dataclasses.replace(update, validation=groups, silent_channels=firing.tally()[0])
            if process.leads and time.monotonic() - saved > config.save_seconds:
                write_checkpoint(checkpoint, state.content(config))
                saved = time.monotonic()
            yield update
    finally:
        batches.close()
        if process.leads and steps.whole and state.step > first:
            write_checkpoint(checkpoint, state.content(config))
    if process.leads:
        if begun is not None:
            mix(state.averaged, begun.to(process.device), config.kept_share)
        passes = forwards(state.averaged, pool, config, process, MEASURING_BATCHES)
        ranges = measure_ranges(state.averaged, passes)
        save_model(state.averaged, model_file(config), Metadata("ns_restore", "quantiser", "ycbcr", ranges))


def model_file(config: VideoTraining) -> Path:
    """Where a finished training leaves its model."""
    return config.output / "video.safetensors"


def _step(state: _State, model: nn.Module, batch: Batch, config: VideoTraining) -> tuple[Tensor, Tensor]:
    """`batch_loss` before the step; on the device."""
    rate = learning_rate(config, state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["share"]
    loss, gain = batch_loss(model, batch, config, state.arithmetic)
    state.arithmetic.descend(loss, state.network, state.optimizer, 1.0)
    state.step += 1
    decay = min(config.average, state.step / (state.step + 9.0)) if config.start is None else config.average
    with torch.no_grad():
        for mean, value in zip(state.averaged.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1.0 - decay)
    return loss.detach(), gain
