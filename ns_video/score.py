"""Which frames of a clip are scored, decided while the clip flows by, and their scores. Floor 3.

The rule, written once: **the first frame of every shot, then evenly.** Half of the places are for first frames of
shots, half for frames at an even distance. The length is not known beforehand, so both are thinned as the clip goes on:
of the shots those stay whose number is a multiple of the smallest power of two that leaves at most half the places,
of the frames likewise. A still, and any clip with no more frames than places, is scored whole. The last word on the
number is memory: kept frames hold at most `memory_bytes`, at least four pairs.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import torch

from ns_video.color import to_tensor
from ns_video.errors import ModelError
from ns_video.frame import Frame, effective_matrix
from ns_video.networks.ns_iqa import NsIqa
from ns_video.quality.ns_iqa import NsIqaJudges
from ns_video.quality.temporal import SHOT_THRESHOLD, change_flicker, flicker, mean_change, shot_change
from ns_video.quality.thumbnail import Thumbnail, thumbnail
from ns_video.weights import load_descriptor

LEAST_SCORED = 3
"""Frames scored in any case, however short the run was."""
DEFAULT_LIMIT = 48
"""Frames sampled per clip at most."""
DEFAULT_MEMORY_BYTES = 160 << 20
"""Bytes of kept frames at most: 25 pairs of 1080p 4:2:0 in 8 bit."""
_LEAST_PAIRS = 4
_LEAST_SHOT_FRAMES = 5
"""A cut sooner after the last one is none: where a flash began a shot, its end begins no other."""
_MOST_SHOTS = 20_000
_USUAL_FRAMES = 4.0
"""Frames over which the usual change is averaged."""
_SERIES_POINTS = 1024
_BURST, _PERIOD = 3, 6
"""Flicker is measured on the first 3 of every 6 frames: it needs three in a row and costs as much as all the rest."""


@dataclass(frozen=True, slots=True)
class Shot:
    """A run of frames between two cuts."""

    number: int
    first_index: int
    pts_seconds: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """A frame kept for scoring. The planes are copies; nothing of libav is held."""

    index: int
    """Number of the frame in presentation order, from 0."""
    shot: int
    first_of_shot: bool
    before: Frame
    """The frame as it came: the input of a run, or the clip that a report looks at."""
    after: Frame | None
    """What became of it: the output of a run, or the reference of a comparison."""

    @property
    def pts_seconds(self) -> float | None:
        """Presentation time of the frame as it came."""
        return self.before.pts_seconds


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """Mean of a measure over neighbouring frames."""

    pts_seconds: float
    value: float
    frames: int


class Series:
    """A measure over time in bounded memory: when full, neighbours merge and each point stands for twice as many."""

    def __init__(self, most_points: int = _SERIES_POINTS) -> None:
        self._most = most_points
        self._points: list[SeriesPoint] = []
        self._stride = 1
        self._total = 0.0
        self._frames = 0
        self._largest = 0.0

    def add(self, pts_seconds: float, value: float) -> None:
        """Append one frame's value."""
        self._total += value
        self._frames += 1
        self._largest = max(self._largest, abs(value))
        points, added = self._points, SeriesPoint(pts_seconds, value, 1)
        if len(points) >= self._most and points[-1].frames == self._stride:
            self._stride *= 2
            pairs = zip_longest(points[::2], points[1::2])
            points = self._points = [a if b is None else _merged(a, b) for a, b in pairs]
        if points and points[-1].frames < self._stride:
            points[-1] = _merged(points[-1], added)
        else:
            points.append(added)

    @property
    def points(self) -> tuple[SeriesPoint, ...]:
        """The merged points in order."""
        return tuple(self._points)

    @property
    def mean(self) -> float | None:
        """Mean over all frames, None where there were none."""
        return self._total / self._frames if self._frames else None

    @property
    def largest(self) -> float:
        """The largest absolute value of a frame."""
        return self._largest


def _merged(a: SeriesPoint, b: SeriesPoint) -> SeriesPoint:
    frames = a.frames + b.frames
    return SeriesPoint(a.pts_seconds, (a.value * a.frames + b.value * b.frames) / frames, frames)


@dataclass(slots=True)
class TemporalSeries:
    """What the sampler measured on every frame (flicker: on bursts). 8-bit steps."""

    flicker_before: Series = dataclasses.field(default_factory=Series)
    flicker_after: Series = dataclasses.field(default_factory=Series)
    change_flicker: Series = dataclasses.field(default_factory=Series)
    luma_drift: Series = dataclasses.field(default_factory=Series)
    """Mean luma of after less that of before."""
    cb_drift: Series = dataclasses.field(default_factory=Series)
    cr_drift: Series = dataclasses.field(default_factory=Series)


@dataclass(frozen=True, slots=True)
class _Seen:
    index: int
    shot: int
    before: Thumbnail
    after: Thumbnail | None
    same_matrix: bool
    """Players read both with one matrix: their samples mean the same colours."""


def _matrix(frame: Frame) -> int:
    return effective_matrix(frame.color, frame.width, frame.height)


class Sampler:
    """Watches frames go by, finds shots, keeps the frames to be scored and measures temporal behaviour.

    `observe` is called once for every frame in presentation order and costs well under a millisecond; it copies the
    planes of the frames it keeps. `limit` frames are kept at most.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT, *, memory_bytes: int = DEFAULT_MEMORY_BYTES) -> None:
        if limit < 2:
            raise ValueError("a sampler keeps at least 2 frames")
        self._limit = limit
        self._memory_bytes = memory_bytes
        self._even: dict[int, Sample] = {}
        self._firsts: dict[int, Sample] = {}
        self._even_stride = 1
        self._first_stride = 1
        self._shots: list[Shot] = []
        self._frames = 0
        self._usual = 0.0
        self._history: list[_Seen] = []
        self._last_seconds = 0.0
        self._seconds = 0.0
        self.temporal = TemporalSeries()

    @property
    def frames(self) -> int:
        """Frames observed."""
        return self._frames

    @property
    def shots(self) -> tuple[Shot, ...]:
        """Shots found so far, in order."""
        return tuple(self._shots)

    @property
    def seconds(self) -> float:
        """Wall time spent in `observe`."""
        return self._seconds

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The kept frames in presentation order."""
        merged = {sample.index: sample for sample in (*self._even.values(), *self._firsts.values())}
        return tuple(merged[index] for index in sorted(merged))

    def keeps(self, index: int) -> bool:
        """Whether this frame is among the kept ones."""
        return index in self._even or any(sample.index == index for sample in self._firsts.values())

    def observe(self, before: Frame, after: Frame | None = None) -> None:
        """See one frame; `after` is what became of it, where there is such a thing."""
        began = time.perf_counter()
        index = self._frames
        self._frames += 1
        seconds = before.pts_seconds
        self._last_seconds = seconds if seconds is not None else self._last_seconds
        seen_before = thumbnail(before)
        is_first = self._is_first_of_shot(seen_before)
        if is_first and len(self._shots) < _MOST_SHOTS:
            self._shots.append(Shot(len(self._shots), index, seconds))
        same = after is None or _matrix(before) == _matrix(after)
        seen = _Seen(index, len(self._shots) - 1, seen_before, None if after is None else thumbnail(after), same)
        self._measure(seen)
        self._keep(seen, is_first, before, after)
        self._seconds += time.perf_counter() - began

    def _is_first_of_shot(self, current: Thumbnail) -> bool:
        if not self._history:
            return True
        change = mean_change(self._history[-1].before.luma, current.luma)
        score = shot_change(change, self._usual)
        is_first = score >= SHOT_THRESHOLD and self._frames - 1 - self._shots[-1].first_index >= _LEAST_SHOT_FRAMES
        if not is_first:
            self._usual += (change - self._usual) / _USUAL_FRAMES
        return is_first

    def _measure(self, seen: _Seen) -> None:
        """Drift of this frame; flicker of the last three, where they end a burst, at the time of this one."""
        series, seconds = self.temporal, self._last_seconds
        if seen.after is not None and seen.same_matrix:
            series.luma_drift.add(seconds, float(seen.after.luma.mean() - seen.before.luma.mean()))
            if seen.after.chroma is not None and seen.before.chroma is not None:
                series.cb_drift.add(seconds, seen.after.chroma[0] - seen.before.chroma[0])
                series.cr_drift.add(seconds, seen.after.chroma[1] - seen.before.chroma[1])
        self._history = [*self._history[-2:], seen]
        if seen.index % _PERIOD != _BURST - 1 or len(self._history) < _BURST:
            return
        first, middle, last = self._history
        if not first.shot == middle.shot == last.shot:
            return
        series.flicker_before.add(seconds, flicker(first.before.luma, middle.before.luma, last.before.luma))
        if first.after is not None and middle.after is not None and last.after is not None:
            series.flicker_after.add(seconds, flicker(first.after.luma, middle.after.luma, last.after.luma))
            if middle.after.luma.shape == middle.before.luma.shape:
                added = change_flicker(middle.before.luma, middle.after.luma, last.before.luma, last.after.luma)
                series.change_flicker.add(seconds, added)

    def _keep(self, seen: _Seen, is_first: bool, before: Frame, after: Frame | None) -> None:
        wanted_even = seen.index % self._even_stride == 0
        wanted_first = is_first and seen.shot % self._first_stride == 0
        if not wanted_even and not wanted_first:
            return
        sample = Sample(seen.index, seen.shot, is_first, _copied(before), None if after is None else _copied(after))
        if wanted_first and seen.index > 0:
            self._firsts[seen.shot] = sample
        if wanted_even:
            self._even[seen.index] = sample
        self._thin(self._places(before, after))

    def _places(self, before: Frame, after: Frame | None) -> int:
        """How many pairs such as this one may be kept."""
        pair_bytes = max(1, before.nbytes + (after.nbytes if after is not None else 0))
        return min(self._limit, max(_LEAST_PAIRS, self._memory_bytes // pair_bytes))

    def _thin(self, places: int) -> None:
        """Double the strides until what is kept has its place: first frames of shots half of them, even ones the rest.

        While all frames are kept, first frames are among the even ones and take no places of their own.
        """
        while len(self._firsts) > max(1, places // 2):
            self._first_stride *= 2
            self._firsts = {shot: kept for shot, kept in self._firsts.items() if shot % self._first_stride == 0}
        while len(self._even) + (len(self._firsts) if self._even_stride > 1 else 0) > places:
            self._even_stride *= 2
            self._even = {index: kept for index, kept in self._even.items() if index % self._even_stride == 0}


def _copied(frame: Frame) -> Frame:
    """The frame with planes of its own and without its libav carrier."""
    return dataclasses.replace(frame, planes=tuple(plane.copy() for plane in frame.planes), carrier=None)


SCORE_MODEL = "ns-iqa"
"""The installed model that `Scorer` loads."""


class Scorer:
    """The no-reference score of frames, on one device: `ns-iqa`, or a file of NS-IC's NS-IQA network."""

    def __init__(self, device: str = "cpu", model: str = SCORE_MODEL, *, crops: int = 4) -> None:
        descriptor = load_descriptor(model)
        if not isinstance(descriptor.network, NsIqaJudges | NsIqa):
            raise ModelError(f"the model {model} is a {descriptor.architecture}, not a quality score")
        self._device = torch.device(device)
        self._judges = descriptor.network.to(self._device)
        self._crops = crops
        self.sha256 = descriptor.sha256

    def score(self, frame: Frame) -> float:
        """0 (unusable) to 100 (untouched)."""
        rgb = to_tensor(frame.planes, frame.format, frame.color, "rgb", self._device)
        if isinstance(self._judges, NsIqaJudges):
            return self._judges.score(rgb, crops=self._crops)
        with torch.inference_mode():
            return min(100.0, max(0.0, float(self._judges.score(rgb))))


@dataclass(frozen=True, slots=True)
class ScoredSample:
    """A sample with its scores."""

    sample: Sample
    before: float
    after: float | None

    @property
    def gain(self) -> float:
        """after - before; 0 without an after."""
        return 0.0 if self.after is None else self.after - self.before


def spread_order(count: int) -> list[int]:
    """0 … count - 1 so that every beginning of the list is spread evenly: both ends, the middle, the quarters, ..."""
    order = [0, count - 1] if count > 1 else [0] * count
    seen, step = set(order), 1.0
    while len(order) < count:
        step /= 2
        for i in range(1, round(1 / step), 2):
            place = round(i * step * (count - 1))
            if place not in seen:
                seen.add(place)
                order.append(place)
    return order


def score_samples(
    samples: Sequence[Sample],
    scorer: Scorer,
    *,
    both: bool = True,
    budget_seconds: float | None = None,
    least: int = LEAST_SCORED,
) -> tuple[ScoredSample, ...]:
    """Score the samples, evenly spread ones first, until `budget_seconds` are spent; `least` are scored in any case.

    `both` False leaves `after` alone (a reference needs no score).
    """
    began = time.perf_counter()
    found: dict[int, ScoredSample] = {}
    for done, place in enumerate(spread_order(len(samples))):
        spent = time.perf_counter() - began
        if budget_seconds is not None and done >= least and spent * (done + 1) / max(1, done) > budget_seconds:
            break
        sample = samples[place]
        after = scorer.score(sample.after) if both and sample.after is not None else None
        found[place] = ScoredSample(sample, scorer.score(sample.before), after)
    return tuple(found[place] for place in sorted(found))
