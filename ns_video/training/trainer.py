"""The trainer of still models: a configuration in, typed updates out, exact resume. Nothing is printed here."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ns_video.cells import CELL_SCALES, Kind, find_pitch, fit, shrink
from ns_video.conditioning import JPEG_PLANES, PITCH_PLANES, jpeg_planes, pitch_plane
from ns_video.errors import ResumeError
from ns_video.frame import JpegTables
from ns_video.media.degrade import degrade_still, parse_spec
from ns_video.networks.deblur_study import StudyConfig, build_study_network
from ns_video.networks.discriminator import DiscriminatorConfig, MultiScaleDiscriminator
from ns_video.networks.ns_restore import SIZES, NsRestore, NsRestoreConfig
from ns_video.networks.nsie import Nsie, NsieConfig
from ns_video.networks.vgg_features import VggFeatures, load_vgg
from ns_video.prefetch import prefetch
from ns_video.training.adversarial import (
    ArtifactDetector,
    artifact_terms,
    detector_loss,
    gan_discriminator,
    gan_generator,
    perceptual,
    ragan_discriminator,
    ragan_generator,
)
from ns_video.training.checkpoint import CHECKPOINT, WholeSteps, check_output, take_up, write_checkpoint
from ns_video.training.config import LOW_QUALITY, TrainingConfig, cell_pitch
from ns_video.training.evaluate import enlarge, psnr, to_rgb, to_tensor
from ns_video.training.firing import REVIVING_BATCHES, Firing, revive_silent
from ns_video.training.log import (
    CheckpointUpdate,
    FinishedUpdate,
    SpecScore,
    StepUpdate,
    TrainingLog,
    Update,
    ValidationUpdate,
)
from ns_video.training.losses import Terms, ssim_index
from ns_video.training.optimizer import cosine_fall, make_optimizer
from ns_video.training.pictures import Batch, PictureSet, batches, draw_batch
from ns_video.training.process import Arithmetic, find_process
from ns_video.training.ranges import MEASURING_BATCHES, measure_ranges
from ns_video.training.start import start_from
from ns_video.weights import Metadata, save_model
from ns_video.weights.foreign import HAT_SIZES, RcanConfig, build_hat, build_rcan

_VALIDATION_SIDE = 256
_VALIDATION_SPECS = ("jpeg:q=10", "jpeg:q=30", "jpeg:q=50", "jpeg:q=70", "jpeg:q=90", "jpeg:q=95,subsampling=444")
"""Damage that a training of kind "jpeg" is validated on; one of "spec" uses its own."""
_BATCH_BUDGET = 1 << 28  # bytes of batches made ahead
_USUAL_DAMAGE, _LEAST_DAMAGE = 5 / 255, 0.5 / 255
"""Mean absolute errors: where `loss.balance` changes nothing, and what rounding alone may leave."""


def make_network(config: TrainingConfig) -> nn.Module:
    """The network of a configuration, before any weights are loaded."""
    name = config.network.architecture
    if name == "nsie":
        return Nsie(NsieConfig())
    if name == "rcan":
        groups, blocks, channels = (int(part) for part in config.network.size.split("x"))
        return build_rcan(RcanConfig(groups, blocks, channels, config.scale))
    if name == "hat":
        return build_hat(dataclasses.replace(HAT_SIZES[config.network.size], scale=config.scale))
    if name != "ns_restore":
        return build_study_network(StudyConfig(network=name))
    channels, blocks = SIZES[config.network.size]
    told = config.damage.kind == "jpeg"
    cells = config.cells
    if cells is not None:
        return NsRestore(
            NsRestoreConfig(
                side=PITCH_PLANES if cells == "mosaic" else 0,
                channels=channels,
                blocks=blocks,
                unshuffle=1,
                scale=CELL_SCALES[cells],
            )
        )
    return NsRestore(
        NsRestoreConfig(
            side=JPEG_PLANES if told else 0,
            channels=channels,
            blocks=blocks,
            unshuffle=1 if config.scale > 1 else 2,
            scale=config.scale,
            gated=told,
        )
    )


def call_network(network: nn.Module, picture: Tensor, side: Tensor | None) -> Tensor:
    """The network with the side planes where it wants them."""
    return network(picture) if side is None else network(picture, side)


def tiled_forward(
    network: nn.Module, picture: Tensor, side: Tensor | None, tile: int, overlap: int, scale: int = 1
) -> Tensor:
    """The network over overlapping tiles, cropped in the middle of the overlaps; gradients flow through every tile.

    A loss over the result sees the seams: training on it teaches the network to make none.
    """
    height, width = picture.shape[-2:]
    rows, columns = _starts(height, tile, overlap), _starts(width, tile, overlap)
    lines: list[Tensor] = []
    for top, (above, below) in zip(rows, _cuts(rows, tile, height)):
        cells: list[Tensor] = []
        for left, (before, after) in zip(columns, _cuts(columns, tile, width)):
            part = picture[..., top : top + tile, left : left + tile]
            planes = side
            if side is not None and side.shape[-1] > 1:
                planes = side[..., top : top + tile, left : left + tile]
            out = call_network(network, part, planes)
            y, x = (
                slice((above - top) * scale, (below - top) * scale),
                slice((before - left) * scale, (after - left) * scale),
            )
            cells.append(out[..., y, x])
        lines.append(torch.cat(cells, -1))
    return torch.cat(lines, -2)


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin; the last one ends at the picture's border."""
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def _cuts(starts: list[int], tile: int, length: int) -> list[tuple[int, int]]:
    """The part of each tile that is kept: from the middle of one overlap to the middle of the next."""
    inner = [(one + tile + two) // 2 for one, two in itertools.pairwise(starts)]
    edges = [0, *inner, length]
    return list(itertools.pairwise(edges))


def learning_rate(config: TrainingConfig, step: int, halvings: int = 0) -> float:
    """The rate of a step: linear warm-up, then a cosine, a constant, or a constant cut at each plateau."""
    schedule = config.schedule
    if step < schedule.warm_up:
        return schedule.rate * (step + 1) / schedule.warm_up
    if schedule.kind == "cosine":
        phase = (step - schedule.warm_up) / max(1, schedule.steps - schedule.warm_up)
        return schedule.least_rate + (schedule.rate - schedule.least_rate) * cosine_fall(phase)
    cut = schedule.factor**halvings if schedule.kind == "plateau" else 1.0
    return max(schedule.least_rate, schedule.rate * cut)


@dataclass(slots=True)
class _Rivals:
    """The networks that only the loss needs, with their optimisers."""

    discriminator: MultiScaleDiscriminator | None = None
    discriminator_optimizer: torch.optim.Adam | None = None
    detector: ArtifactDetector | None = None
    detector_optimizer: torch.optim.Adam | None = None
    features: VggFeatures | None = None

    def state(self) -> dict[str, Any]:
        parts = {
            field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "features"
        }
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load(self, state: dict[str, Any]) -> None:
        for name, values in state.items():
            part = getattr(self, name)
            if part is not None:
                part.load_state_dict(values)


def _make_rivals(config: TrainingConfig, terms: Terms, device: torch.device) -> _Rivals:
    rivals = _Rivals()
    if terms.weight("adversarial"):
        judge = MultiScaleDiscriminator(DiscriminatorConfig(sigmoid=False, norm="spectral")).to(device)
        rivals.discriminator = judge
        rivals.discriminator_optimizer = torch.optim.Adam(judge.parameters(), config.loss.discriminator_rate)
    if terms.weight("artifact_cross_entropy") or terms.weight("artifact_features"):
        rivals.detector = ArtifactDetector().to(device)
        rivals.detector_optimizer = torch.optim.Adam(rivals.detector.parameters(), config.loss.detector_rate)
    if terms.weight("perceptual"):
        rivals.features = load_vgg(Path(config.loss.vgg)).to(device)
    return rivals


class Trainer:
    """One training: make it, then iterate over `run()`."""

    def __init__(self, config: TrainingConfig, device: str = "auto") -> None:
        """Reads the pictures and builds the networks.

        Raises:
            InputError: pictures are missing; ModelError: a start or VGG file is unusable; UsageError: the start is
            another network.
        """
        self.config = config
        self.process = find_process(device)
        torch.manual_seed(config.seed)
        self.network = make_network(config)
        self.notes: tuple[str, ...] = ()
        """What a user should know before it begins."""
        if config.network.start:
            copied, total = start_from(self.network, config.network.start)
            if copied < total:
                self.notes = (
                    f"{copied} of {total} tensors are those of {config.network.start}, the others begin anew",
                )
        where = self.process.device
        self.network.to(where, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  torch's stub lacks it
        self.averaged = make_network(config).to(where)
        self.averaged.load_state_dict(self.network.state_dict())
        self.averaged.eval().requires_grad_(False)
        self.terms = config.loss.make()
        self.rivals = _make_rivals(config, self.terms, where)
        self.optimizer = make_optimizer(self.network, config.schedule.optimizer, config.schedule.rate)
        self.arithmetic = Arithmetic(config.schedule.precision, where)
        self.step = 0
        self.validated = 0
        self.halvings = 0
        self.best_gain = -math.inf
        self.waited = 0
        kind = config.cells
        pitch = 1 if kind is None else max(cell_pitch(parse_spec(text), kind) for text in config.damage.specs)
        self.pictures = PictureSet(config.data, pitch, config.scale)
        self.output = Path(config.output)
        self._log = TrainingLog(self.output) if self.process.leads else None
        self._model: nn.Module | None = None
        self._steps = WholeSteps()
        self._begun = False

    # Checkpoints.

    @property
    def checkpoint(self) -> Path:
        """Where the checkpoint lies."""
        return self.output / CHECKPOINT

    @property
    def model(self) -> Path:
        """Where the finished training leaves its model."""
        return self.output / f"{self.config.name}.safetensors"

    def save(self) -> CheckpointUpdate:
        """Writes the checkpoint, whole or not at all."""
        content = {
            "training": _identity(self.config),
            "pictures": self.pictures.digest,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rivals": self.rivals.state(),
            "scaler": self.arithmetic.state(),
            "step": self.step,
            "validated": self.validated,
            "halvings": self.halvings,
            "best_gain": self.best_gain,
            "waited": self.waited,
        }
        write_checkpoint(self.checkpoint, content)
        return CheckpointUpdate(self.step, self.checkpoint)

    def resume(self) -> None:
        """Goes on from the checkpoint exactly where it was written: batches and dropout depend on the step alone.

        Raises:
            ResumeError: there is none, it is damaged, or it belongs to another configuration or other pictures.
        """
        check_output(self.checkpoint, self.model, resume=True)
        take_up(self.checkpoint, _identity(self.config), self._load)
        self._begin()

    def _load(self, content: dict[str, Any]) -> None:
        if content.get("pictures", self.pictures.digest) != self.pictures.digest:  # those from before 0.14.0 don't tell
            raise ResumeError(
                f"{self.checkpoint} is of other pictures: files came, went or have other names since",
                remedy="bring back those of before, or choose another output",
            )
        self.network.load_state_dict(content["network"])
        self.averaged.load_state_dict(content["averaged"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.rivals.load(content["rivals"])
        self.arithmetic.load(content["scaler"])
        self.step, self.halvings = int(content["step"]), int(content["halvings"])
        self.validated = int(content.get("validated", self.step))  # those from before 0.11.0 don't tell
        self.best_gain, self.waited = float(content["best_gain"]), int(content["waited"])

    def _begin(self) -> None:
        """The log ends where the training goes on."""
        self._begun = True
        if self._log is not None:
            self._log.cut(self.step, self.validated)

    def export(self) -> FinishedUpdate:
        """Writes the averaged weights as a model file."""
        self.output.mkdir(parents=True, exist_ok=True)
        told, ranges = "none", {}
        if isinstance(self.averaged, NsRestore):
            told = "jpeg" if self.config.damage.kind == "jpeg" else self.config.network.conditioning or "none"
            ranges = measure_ranges(self.averaged, self.forwards(self.averaged, MEASURING_BATCHES))
        metadata = Metadata(self.config.network.architecture, told, int8_ranges=ranges)
        sha256 = save_model(self.averaged, self.model, metadata)
        return FinishedUpdate(self.step, self.model, sha256)

    # The loop.

    def run(self, stop_at: int | None = None) -> Generator[Update]:
        """Trains to `schedule.steps` (or stops at a step), yielding updates. Closing it early leaves a checkpoint.

        Raises:
            UsageError: it isn't resumed, and another training's results are where it writes; ModelError: it diverged.
        """
        if not self._begun:
            check_output(self.checkpoint, self.model, resume=False)
            self._revive()
            self._begin()
        if self._model is None:
            self._model = self.process.distributed(self.network)
        config, log = self.config, self.config.log
        last = min(config.schedule.steps, stop_at if stop_at is not None else config.schedule.steps)
        first, saved = (self.step, self.validated), time.monotonic()
        meter = _Meter()
        made = map(self.process.pinned, batches(self.pictures, config, self.step, self.process.rank))
        ahead = prefetch(_timed(made, meter), _BATCH_BUDGET, size_of=_batch_bytes, name="batches")
        try:
            yield from self._validated()  # a training may have been interrupted while it validated
            while self.step < last:
                batch = next(ahead)
                with self._steps:
                    began = time.perf_counter()
                    meter.losses.append(self._learn(batch))
                    meter.step_seconds += time.perf_counter() - began
                    self.step += 1
                if self.step % log.report_every == 0:
                    yield self._report(meter)
                yield from self._validated()
                if self.process.leads and time.monotonic() - saved > log.save_seconds:
                    saved = time.monotonic()
                    self.arithmetic.kept(meter.read())
                    yield self.save()
        finally:
            ahead.close()
            if self.process.leads and self._steps.whole and (self.step, self.validated) > first:
                self.arithmetic.kept(meter.read())
                self.save()
        if self.process.leads:
            if self._log is not None:
                self._log.draw()
            yield self.export()

    def _report(self, meter: _Meter) -> StepUpdate:
        config = self.config
        samples = len(meter.losses) * config.data.batch * self.process.count
        losses = self.arithmetic.kept(meter.read())
        pace = (time.monotonic() - meter.began) / len(meter.losses)
        update = StepUpdate(
            step=self.step,
            steps=config.schedule.steps,
            loss=float(np.mean(losses)) if losses else math.nan,
            rate=learning_rate(config, self.step - 1, self.halvings),
            loader_samples_per_second=meter.loaded * config.data.batch / max(meter.loader_seconds, 1e-9),
            step_samples_per_second=samples / max(meter.step_seconds, 1e-9),
            eta_seconds=pace * (config.schedule.steps - self.step),
        )
        meter.clear()
        if self._log is not None:
            self._log.add(update, config.log.tensorboard)
        return update

    def _validated(self) -> Generator[ValidationUpdate]:
        """Validates where that is due after this step and hasn't been done. Only the leader does; all have its learning
        rate."""
        schedule = self.config.schedule
        due = self.step % self.config.log.validate_every == 0 or self.step == schedule.steps
        if not due or self.validated >= self.step:
            return
        if self.process.leads:
            update = self.validate()
            halvings, waited, best = self.halvings, self.waited + 1, self.best_gain
            if update.gain > best + 1e-3:
                best, waited = update.gain, 0
            elif schedule.kind == "plateau" and waited > schedule.patience:
                halvings, waited = halvings + 1, 0
            if self._log is not None:
                self._log.add(update, self.config.log.tensorboard)
            # last and at once: what Ctrl-C cuts short before is done again by a resume
            self.halvings, self.waited, self.best_gain, self.validated = halvings, waited, best, self.step
            yield update
        if schedule.kind == "plateau":
            shared = self.process.of_leader((self.halvings, self.waited, self.best_gain))
            self.halvings, self.waited, self.best_gain = int(shared[0]), int(shared[1]), shared[2]
        self.validated = self.step

    def _revive(self) -> None:
        """Channels that are silent on the first batches begin anew, where the configuration says so."""
        if not self.config.network.revive:
            return
        revive_silent(self.network, self.forwards(self.network, REVIVING_BATCHES))
        self.averaged.load_state_dict(self.network.state_dict())

    def forwards(self, network: nn.Module, count: int) -> list[Callable[[], Tensor]]:
        """Forward passes over the first batches, drawn as each is called."""

        def forward(step: int) -> Tensor:
            batch = self.process.sent(draw_batch(self.pictures, self.config, step))
            degraded = batch.degraded.contiguous(memory_format=torch.channels_last)
            return call_network(network, degraded, batch.side if isinstance(network, NsRestore) else None)

        return [partial(forward, step) for step in range(count)]

    def _learn(self, batch: Batch) -> Tensor:
        """One step; returns the loss, on the device."""
        config = self.config
        assert self._model is not None
        self.process.seed(config.seed, self.step)
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, self.step, self.halvings)
        batch = self.process.sent(batch)
        degraded, reference = batch.degraded.contiguous(memory_format=torch.channels_last), batch.reference
        side = batch.side if isinstance(self.network, NsRestore) else None
        with self.arithmetic.autocast():
            if config.seam.tile:
                restored = tiled_forward(
                    self._model, degraded, side, config.seam.tile, config.seam.overlap, config.scale
                )
            else:
                restored = call_network(self._model, degraded, side)
        restored = restored.float()
        if config.cells is not None:
            restored = fit(restored, config.cells, *reference.shape[-2:])
        loss = self.terms(self.balanced(restored, reference, degraded), reference)
        loss = loss + self._network_terms(restored, reference, degraded)
        self.arithmetic.descend(loss, self.network, self.optimizer, config.schedule.clip)
        self._average()
        return loss.detach()

    def balanced(self, restored: Tensor, reference: Tensor, degraded: Tensor) -> Tensor:
        """`restored` with each sample's error shrunk or stretched, the less its damage the larger (`loss.balance`)."""
        power = self.config.loss.balance
        if power == 0.0:
            return restored
        if degraded.shape != reference.shape:
            size = reference.shape[-2:]
            degraded = F.interpolate(degraded, size=size, mode="bicubic", align_corners=False)
        damage = (degraded - reference).abs().mean((1, 2, 3), keepdim=True)
        weight = ((damage + _LEAST_DAMAGE) / _USUAL_DAMAGE) ** -power
        return reference + weight * (restored - reference)

    def _network_terms(self, restored: Tensor, reference: Tensor, degraded: Tensor) -> Tensor:
        """The terms that other networks compute; teaches those networks first."""
        rivals, weight = self.rivals, self.terms.weight
        total = restored.new_zeros(())
        if rivals.features is not None:
            total = total + weight("perceptual") * perceptual(rivals.features, restored, reference)
        judge, judge_optimizer = rivals.discriminator, rivals.discriminator_optimizer
        if judge is not None and judge_optimizer is not None:
            relativistic = self.config.loss.discriminator == "ragan"
            versus = ragan_discriminator if relativistic else gan_discriminator
            self._teach(judge, judge_optimizer, versus(judge(reference), judge(restored.detach())))
            judge.requires_grad_(False)
            fake = judge(restored)
            pleased = ragan_generator(judge(reference), fake) if relativistic else gan_generator(fake)
            judge.requires_grad_(True)
            total = total + weight("adversarial") * pleased
        detector, detector_optimizer = rivals.detector, rivals.detector_optimizer
        if detector is not None and detector_optimizer is not None:
            damaged = degraded if degraded.shape == reference.shape else restored.detach()
            self._teach(detector, detector_optimizer, detector_loss(detector, reference, damaged.contiguous()))
            detector.requires_grad_(False)
            entropy, distance = artifact_terms(detector, restored, reference)
            detector.requires_grad_(True)
            total = total + weight("artifact_cross_entropy") * entropy + weight("artifact_features") * distance
        return total

    def _teach(self, rival: nn.Module, optimizer: torch.optim.Adam, loss: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.process.average_gradients(rival.parameters())
        optimizer.step()

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.schedule.average, (1 + self.step) / (10 + self.step))
        for ours, theirs in zip(self.averaged.parameters(), self.network.parameters()):
            ours.lerp_(theirs, 1 - decay)
        for ours_buffer, theirs_buffer in zip(self.averaged.buffers(), self.network.buffers()):
            ours_buffer.copy_(theirs_buffer)

    @torch.no_grad()
    def validate(self) -> ValidationUpdate:
        """Averaged weights on crops of held-out pictures (with `hold_out = 0`, of the others), for each damage."""
        with Firing(self.averaged) as firing:
            scores = self._scores()
        return ValidationUpdate(self.step, scores, *firing.tally())

    def _scores(self) -> tuple[SpecScore, ...]:
        config, step = self.config, self.config.side_step
        kept = self.pictures.held_out or self.pictures.training
        stride = max(1, len(kept) // max(1, config.log.validation_pictures))
        chosen = kept[::stride][: config.log.validation_pictures]
        specs = _VALIDATION_SPECS if config.damage.kind == "jpeg" else config.damage.specs
        scores: list[SpecScore] = []
        for text in specs:
            rows: list[tuple[float, float, float]] = []
            for picture in chosen:
                pixels = picture.pixels
                height, width = (min(side, _VALIDATION_SIDE) // step * step for side in pixels.shape[:2])
                truth = np.ascontiguousarray(pixels[:height, :width])
                outcome = degrade_still(truth, parse_spec(text), 0)
                restored = self._restore(outcome.rgb, outcome.jpeg)
                before = outcome.rgb if config.scale == 1 else enlarge(outcome.rgb, config.scale)
                similar = float(ssim_index(to_tensor(restored), to_tensor(truth)))
                rows.append((psnr(before, truth), psnr(restored, truth), similar))
            table = np.array(rows)
            gains = table[:, 1] - table[:, 0]
            scores.append(
                SpecScore(text, table[:, 0].mean(), table[:, 1].mean(), float(gains.min()), table[:, 2].mean())
            )
        return tuple(scores)

    def _restore(self, rgb: np.ndarray, tables: JpegTables | None) -> np.ndarray:
        picture = to_tensor(rgb).to(self.process.device)
        if self.config.cells is not None:
            return self._restore_cells(picture, self.config.cells)
        right, down = -picture.shape[-1] % 8, -picture.shape[-2] % 8
        height, width = rgb.shape[0] * self.config.scale, rgb.shape[1] * self.config.scale
        padded = F.pad(picture, (0, right, 0, down), mode="replicate")
        side = None
        if isinstance(self.averaged, NsRestore) and self.config.damage.kind == "jpeg":
            side = jpeg_planes(tables).to(self.process.device)
        with self.arithmetic.autocast():
            out = call_network(self.averaged, padded, side)
        return to_rgb(out[..., :height, :width])

    def _restore_cells(self, picture: Tensor, kind: Kind) -> np.ndarray:
        height, width = picture.shape[-2:]
        pitch = find_pitch(picture[0].mean(0), kind)
        if pitch is None:
            return to_rgb(picture)
        small = shrink(picture, kind, pitch)
        rows, columns = small.shape[-2:]
        padded = F.pad(small, (0, columns % 2, 0, rows % 2), mode="replicate")
        planes = pitch_plane(pitch, picture.device) if kind == "mosaic" else None
        with self.arithmetic.autocast():
            out = call_network(self.averaged, padded, planes)
        scale = CELL_SCALES[kind]
        return to_rgb(fit(out[..., : rows * scale, : columns * scale].float(), kind, height, width))


def _identity(config: TrainingConfig) -> str:
    """What must be equal for a training to be resumed: all but where things lie and how they are logged."""
    table = dataclasses.asdict(config)
    for key in ("output", "log"):
        table.pop(key)
    for key in ("root", "cache", "workers"):
        cast(dict[str, Any], table["data"]).pop(key)
    if not config.network.revive:  # trainings from before 0.12.0 don't have it
        cast(dict[str, Any], table["network"]).pop("revive")
    if not config.data.graphics_share:  # nor those from before 0.19.0
        cast(dict[str, Any], table["data"]).pop("graphics_share")
    if config.data.line_sharpened:
        table["sharpened"] = (
            "within borders"  # before 0.8.0 opposite borders mixed: such a training can't go on exactly
        )
    if config.damage.kind == "jpeg" and config.damage.low_quality_share and config.damage.quality[0] >= LOW_QUALITY:
        table["low_quality"] = "even"  # before 0.11.0 that share had the lowest quality exactly
    return json.dumps(table, sort_keys=True)


@dataclass(slots=True)
class _Meter:
    """Sums since the last report; those of the loader, which runs ahead, since the beginning."""

    loader_seconds: float = 0.0
    loaded: int = 0
    step_seconds: float = 0.0
    losses: list[Tensor] = field(default_factory=list[Tensor])
    """On the device: reading one waits for its step."""
    began: float = field(default_factory=time.monotonic)

    def read(self) -> list[float]:
        """The losses since the last report. Waits for their steps, whose time it counts."""
        began = time.perf_counter()
        losses = torch.stack(self.losses).tolist() if self.losses else []
        self.step_seconds += time.perf_counter() - began
        return losses

    def clear(self) -> None:
        self.step_seconds = 0.0
        self.losses = []
        self.began = time.monotonic()


def _timed(source: Iterator[Batch], meter: _Meter) -> Iterator[Batch]:
    while True:
        began = time.perf_counter()
        batch = next(source, None)
        if batch is None:
            return
        meter.loader_seconds += time.perf_counter() - began
        meter.loaded += 1
        yield batch


def _batch_bytes(batch: Batch) -> int:
    return 4 * (batch.degraded.numel() + batch.reference.numel())
