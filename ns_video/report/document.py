"""The report as a value, and as the documented JSON (docs/report.md)."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from dataclasses import dataclass, field
from typing import Any

from ns_video.media.metrics import Alignment, AudioOffset, FilterValues, FullReference
from ns_video.record import Damage, RunRecord
from ns_video.score import Series, Shot

SCHEMA = "ns-video-report/1"

CLIP, COMPARISON, RUN = "clip", "comparison", "run"
FULL_MEASURES: tuple[str, ...] = (
    "psnr_y",
    "psnr_u",
    "psnr_v",
    "psnr_a",
    "psnr_rgb",
    "ssim",
    "ssim_y",
    "ms_ssim",
    "xpsnr",
    "xpsnr_u",
    "xpsnr_v",
)
_ONLY_WHERE_MEASURED = ("ms_ssim", "psnr_a")
"""Left out of a frame's entry that has none."""
_DECIBEL_DIVISORS = {"psnr": 10.0, "xpsnr": 20.0}
"""PSNR averages squared errors, the xpsnr filter their roots."""


@dataclass(frozen=True, slots=True)
class Measures:
    """A picture's no-reference score and the companions from libav."""

    ns_iqa: float
    filters: FilterValues


@dataclass(frozen=True, slots=True)
class FrameEntry:
    """What is known of one frame. `before` is the frame as it came, `after` what a run made of it."""

    index: int
    pts_seconds: float | None
    shot: int
    first_of_shot: bool
    before: Measures | None = None
    after: Measures | None = None
    full: FullReference | None = None
    ms_ssim: float | None = None

    @property
    def judged(self) -> Measures | None:
        """The picture that the report is about: the result of a run, else the frame itself."""
        return self.after or self.before


@dataclass(frozen=True, slots=True)
class TemporalEntry:
    """Temporal measures, in 8-bit steps. Without points where they could not be measured."""

    flicker_before: Series
    flicker_after: Series
    change_flicker: Series
    luma_drift: Series
    cb_drift: Series
    cr_drift: Series


@dataclass(frozen=True, slots=True)
class AudioEntry:
    """An audio stream's place relative to the video, in the clip and, for a run, in its input."""

    offset: AudioOffset
    before: AudioOffset | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of the verdict. `tone`: "good", "plain" or "bad"."""

    tone: str
    text: str


@dataclass(frozen=True, slots=True)
class StreamRow:
    """A stream of the clip and, for a run, what became of it."""

    index: int
    type: str
    codec: str
    action: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What the report cost."""

    seconds: float
    share: float | None
    """Of the run's own time; None where there was no run."""
    frames_sampled: int
    frames_seen: int


@dataclass(frozen=True, slots=True)
class FullMeans:
    """Full-reference measures over all compared frames, as the ffmpeg program sums them up: PSNR and XPSNR of the mean
    error (infinite where every frame is equal), SSIM and MS-SSIM the mean; MS-SSIM of those that it was taken of."""

    psnr_y: float | None
    psnr_u: float | None
    psnr_v: float | None
    psnr_rgb: float | None
    ssim: float | None
    ssim_y: float | None
    ms_ssim: float | None
    xpsnr: float | None
    xpsnr_u: float | None
    xpsnr_v: float | None
    psnr_a: float | None = None


class FullMeansMeter:
    """Adds up FullReference values frame by frame in constant memory."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(FULL_MEASURES, 0.0)
        self._counts = dict.fromkeys(FULL_MEASURES, 0)

    def _add(self, name: str, value: float | None) -> None:
        if value is not None:
            divisor = _DECIBEL_DIVISORS.get(name.partition("_")[0])
            self._sums[name] += value if divisor is None else 10.0 ** (-value / divisor)
            self._counts[name] += 1

    def add(self, values: FullReference, likeness: float | None) -> None:
        """One frame; `likeness` is its MS-SSIM."""
        for item in dataclasses.fields(values):
            self._add(item.name, getattr(values, item.name))
        self.add_ms_ssim(likeness)

    def add_ms_ssim(self, likeness: float | None) -> None:
        """MS-SSIM of a frame whose other values were added before."""
        self._add("ms_ssim", likeness)

    def result(self) -> FullMeans:
        """The means so far."""
        made: dict[str, float | None] = {}
        for name, count in self._counts.items():
            mean = self._sums[name] / count if count else None
            divisor = _DECIBEL_DIVISORS.get(name.partition("_")[0])
            if mean is not None and divisor is not None:
                mean = math.inf if mean == 0.0 else -divisor * math.log10(mean)
            made[name] = mean
        return FullMeans(**made)


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a report says."""

    kind: str
    """CLIP, COMPARISON or RUN."""
    version: str
    clip: str
    model_sha256: str
    """Of the ns-iqa weights that scored."""
    frames: tuple[FrameEntry, ...]
    """Sampled frames; with a reference all compared frames."""
    shots: tuple[Shot, ...]
    temporal: TemporalEntry
    cost: Cost
    reference: str | None = None
    full: FullMeans | None = None
    alignment: Alignment | None = None
    audio: tuple[AudioEntry, ...] = ()
    streams: tuple[StreamRow, ...] = ()
    damage: tuple[Damage, ...] = ()
    warnings: tuple[str, ...] = ()
    run: RunRecord | None = None
    verdict: tuple[Sentence, ...] = field(default=())

    @property
    def is_still(self) -> bool:
        """A picture, or a clip of one frame."""
        return self.cost.frames_seen == 1

    @property
    def is_identical(self) -> bool:
        """Every plane of every compared frame is equal, and nothing of the reference was left out."""
        if self.alignment is None or self.full is None or not self.alignment.compared:
            return False
        return is_identical(self.full) and not self.alignment.left_out

    def mean(self, side: str = "judged", measure: str = "ns_iqa") -> float | None:
        """Mean over the sampled frames of a measure of "before", "after" or "judged"; None where nothing has it.

        Frames for which it is infinite, as `block` of a flat one can be, are left out.
        """
        values: list[float] = []
        for entry in self.frames:
            measures: Measures | None = getattr(entry, side)
            if measures is None:
                continue
            value = measures.ns_iqa if measure == "ns_iqa" else getattr(measures.filters, measure)
            if value is not None and math.isfinite(value):
                values.append(value)
        return math.fsum(values) / len(values) if values else None

    def pooled(self, measure: str) -> float | None:
        """A full-reference measure over all compared frames; None where there is none."""
        return None if self.full is None else getattr(self.full, measure)


def is_identical(values: FullReference | FullMeans) -> bool:
    """Whether all planes are equal, transparency included."""
    return all(getattr(values, name) in (None, math.inf) for name in FULL_MEASURES if name.startswith("psnr"))


FILTER_MEASURES = tuple(item.name for item in dataclasses.fields(FilterValues))


def rounded(value: float | None, digits: int = 6) -> float | None:
    """A number for JSON: None for what is infinite or not a number."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def signed(value: float, digits: int) -> str:
    """A number with its sign; what rounds to zero has +."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def _measures(entry: Measures) -> dict[str, Any]:
    return {
        "ns_iqa": rounded(entry.ns_iqa, 3),
        **{name: rounded(getattr(entry.filters, name)) for name in FILTER_MEASURES},
    }


def frame_to_json(entry: FrameEntry, *, is_run: bool) -> dict[str, Any]:
    """One element of `frames`."""
    made: dict[str, Any] = {
        "index": entry.index,
        "pts_seconds": rounded(entry.pts_seconds),
        "shot": entry.shot,
        "first_of_shot": entry.first_of_shot,
    }
    if entry.judged is not None:
        made.update(_measures(entry.judged))
    if is_run and entry.before is not None:
        made["before"] = _measures(entry.before)
        made["after"] = None if entry.after is None else _measures(entry.after)
    if entry.full is not None:
        for name in FULL_MEASURES:
            value = entry.ms_ssim if name == "ms_ssim" else getattr(entry.full, name)
            if value is not None or name not in _ONLY_WHERE_MEASURED:
                made[name] = rounded(value)
        made["identical"] = is_identical(entry.full)
    return made


def _series(series: Series) -> dict[str, Any]:
    return {
        "mean": rounded(series.mean, 4),
        "largest": rounded(series.largest, 4) if series.points else None,
        "points": [[rounded(p.pts_seconds, 3), rounded(p.value, 4)] for p in series.points],
    }


def to_json(report: Report) -> dict[str, Any]:
    """The report as plain JSON values, keys as docs/report.md documents them."""
    is_run = report.kind == RUN
    made: dict[str, Any] = {
        "schema": SCHEMA,
        "version": report.version,
        "kind": report.kind,
        "clip": report.clip,
        "reference": report.reference,
        "ns_iqa": rounded(report.mean(), 3),
        "ns_iqa_model_sha256": report.model_sha256,
        "verdict": [dataclasses.asdict(sentence) for sentence in report.verdict],
    }
    sides = ("before", "after") if is_run else ("judged",)
    for side in sides:
        means = {name: rounded(report.mean(side, name), 6) for name in FILTER_MEASURES}
        scored = {"ns_iqa": rounded(report.mean(side), 3), **means}
        made[side if is_run else "means"] = scored
    if report.kind == COMPARISON:
        made.update({name: rounded(report.pooled(name)) for name in FULL_MEASURES})
        made["identical"] = report.is_identical
        made["identical_luma"] = report.pooled("psnr_y") == math.inf
        made["alignment"] = None if report.alignment is None else dataclasses.asdict(report.alignment)
    made["shots"] = [
        {"number": shot.number, "first_frame": shot.first_index, "pts_seconds": rounded(shot.pts_seconds)}
        for shot in report.shots
    ]
    made["frames"] = [frame_to_json(entry, is_run=is_run) for entry in report.frames]
    shown = {item.name: item.name for item in dataclasses.fields(report.temporal)}
    if not is_run:
        shown = {"flicker_before": "flicker"}
        if report.kind == COMPARISON:
            shown["flicker_after"] = "flicker_reference"
    made["temporal"] = {key: _series(getattr(report.temporal, name)) for name, key in shown.items()}
    made["audio_offsets"] = [
        {
            **dataclasses.asdict(entry.offset),
            "before": None if entry.before is None else dataclasses.asdict(entry.before),
        }
        for entry in report.audio
    ]
    made["streams"] = [dataclasses.asdict(row) for row in report.streams]
    made["damage"] = [dataclasses.asdict(place) for place in report.damage]
    made["warnings"] = list(report.warnings)
    made["run"] = None if report.run is None else report.run.to_json()
    made["cost"] = {
        "seconds": round(report.cost.seconds, 3),
        "share_of_run": rounded(report.cost.share, 4),
        "frames_sampled": report.cost.frames_sampled,
        "frames_seen": report.cost.frames_seen,
    }
    return made


def csv_columns(kind: str) -> list[str]:
    """All columns of a kind of report, whatever its frames have."""
    scores = ["ns_iqa", *FILTER_MEASURES]
    columns = ["index", "pts_seconds", "shot", "first_of_shot", *scores]
    if kind == RUN:
        columns += [f"{side}_{name}" for side in ("before", "after") for name in scores]
    return columns + ([*FULL_MEASURES, "identical"] if kind == COMPARISON else [])


def to_csv(report: Report) -> str:
    """The frames as CSV (RFC 4180, a header row); of a run with `before_` and `after_` columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, csv_columns(report.kind), restval="", lineterminator="\r\n")
    writer.writeheader()
    for entry in report.frames:
        row = frame_to_json(entry, is_run=report.kind == RUN)
        for side in ("before", "after"):
            row.update({f"{side}_{name}": value for name, value in (row.pop(side, None) or {}).items()})
        writer.writerow(row)
    return text.getvalue()
