"""What a training of stills says as it goes on, and its log: log.csv, curves.png, TensorBoard's files. Floor 4."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ns_video.errors import UsageError
from ns_video.media.plot import Chart, Curve, write_charts


@dataclass(frozen=True, slots=True)
class StepUpdate:
    """Progress, every `log.report_every` steps. Losses are means since the last report, or a resume."""

    step: int
    steps: int
    loss: float
    rate: float
    loader_samples_per_second: float
    """How fast batches are made (alone)."""
    step_samples_per_second: float
    """How fast the network learns from them (alone)."""
    eta_seconds: float


@dataclass(frozen=True, slots=True)
class SpecScore:
    """Held-out pictures under one damage, mean RGB PSNR in dB and SSIM."""

    spec: str
    psnr_before: float
    psnr_after: float
    smallest_gain: float
    ssim_after: float


@dataclass(frozen=True, slots=True)
class ValidationUpdate:
    """Averaged weights on held-out pictures."""

    step: int
    scores: tuple[SpecScore, ...]
    silent_channels: int = 0
    """Of the residual blocks' inner channels those that acted at less than one of 10,000 pixels."""
    inner_channels: int = 0
    """All of them; 0 for networks of other families."""

    @property
    def gain(self) -> float:
        """Mean dB over the damages."""
        return float(np.mean([score.psnr_after - score.psnr_before for score in self.scores]))


@dataclass(frozen=True, slots=True)
class CheckpointUpdate:
    """A checkpoint was written."""

    step: int
    path: Path


@dataclass(frozen=True, slots=True)
class FinishedUpdate:
    """The training is over; `model` is the exported weights file."""

    step: int
    model: Path
    sha256: str


Update = StepUpdate | ValidationUpdate | CheckpointUpdate | FinishedUpdate


class TrainingLog:
    """log.csv, curves.png and, where asked for, TensorBoard's files."""

    _SCORES = ("psnr_before", "psnr_after", "smallest_gain", "ssim_after")
    _FIELDS: tuple[str, ...] = ("step", "loss", "rate", "spec", *_SCORES)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    @property
    def path(self) -> Path:
        return self.folder / "log.csv"

    def rows(self) -> list[dict[str, str]]:
        """Without those that a full disk or a power cut tore."""
        if not self.path.exists():
            return []
        with self.path.open(newline="", encoding="utf-8", errors="replace") as file:
            # Line by line: a quote that a torn one leaves open would take in those behind it.
            lines = (next(csv.DictReader([line.replace("\0", "")], self._FIELDS), {}) for line in file)
            return [row for row in lines if self._is_whole(row)]

    def _is_whole(self, row: Mapping[str, str | None]) -> bool:
        """It has all fields, and numbers in them: the header isn't one of those either."""
        try:
            numbers = [float(value or 0) for name, value in row.items() if name != "spec"]
            return len(numbers) == len(self._FIELDS) - 1 and None not in row.values() and int(row["step"] or "") > 0
        except (TypeError, ValueError):
            return False

    def _append(self, rows: list[dict[str, Any]], path: Path | None = None) -> None:
        path = path or self.path
        self.folder.mkdir(parents=True, exist_ok=True)
        with path.open("a", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] = csv.DictWriter(file, self._FIELDS)
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)

    def cut(self, step: int, validated: int) -> None:
        """Takes out what was logged after the checkpoint's step and its last validation: those come again."""
        if not self.path.exists():
            return
        partial = self.path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        kept = [row for row in self.rows() if int(row["step"]) <= (validated if row["spec"] else step)]
        self._append(kept, partial)
        partial.replace(self.path)

    def add(self, update: StepUpdate | ValidationUpdate, tensorboard: bool) -> None:
        if isinstance(update, StepUpdate):
            self._append([{"step": update.step, "loss": f"{update.loss:.7g}", "rate": f"{update.rate:.4g}"}])
        else:
            self._append([{"step": update.step, **dataclasses.asdict(score)} for score in update.scores])
            self.draw()
        if tensorboard:
            self._to_tensorboard(update)

    def draw(self) -> None:
        """Loss and PSNR curves as curves.png."""
        rows = self.rows()
        losses = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"]]
        charts: list[Chart] = []
        if losses:
            charts.append(Chart("loss", (Curve("training", *zip(*losses)),)))
        specs = list(dict.fromkeys(row["spec"] for row in rows if row["spec"]))
        curves: list[Curve] = []
        for spec in specs:
            points = [
                (int(row["step"]), float(row["psnr_after"]) - float(row["psnr_before"]))
                for row in rows
                if row["spec"] == spec
            ]
            curves.append(Curve(spec, *zip(*points)))
        if curves:
            charts.append(Chart("PSNR gain in validation, dB", tuple(curves)))
        if charts:
            write_charts(self.folder / "curves.png", charts)

    def _to_tensorboard(self, update: StepUpdate | ValidationUpdate) -> None:
        if self._writer is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise UsageError("log.tensorboard needs tensorboard", remedy="pip install 'ns-video[train]'") from error
            # What was told of these steps before a resume is not shown; a validation's step itself was reported.
            purged = update.step + isinstance(update, ValidationUpdate)
            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=purged)
        if isinstance(update, StepUpdate):
            self._writer.add_scalar("loss", update.loss, update.step)
            self._writer.add_scalar("rate", update.rate, update.step)
        else:
            for score in update.scores:
                self._writer.add_scalar(f"gain/{score.spec}", score.psnr_after - score.psnr_before, update.step)
        self._writer.flush()
