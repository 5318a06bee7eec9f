"""Reports of runs, clips, comparisons and stills: material → `Report` and the pictures to show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch

from ns_video.device import one_thread
from ns_video.errors import InputError
from ns_video.frame import Frame
from ns_video.media.decode import MAX_PIXELS
from ns_video.media.metrics import (
    Alignment,
    AudioOffset,
    Comparison,
    FilterValues,
    FullReference,
    FullReferenceMeter,
    Pair,
    Unpaired,
    audio_offsets,
    coded_like,
    filter_values,
    frames_as_coded,
    left_out,
    luma_of,
    words_of_left_out,
)
from ns_video.media.probe import ClipInfo, still_format
from ns_video.media.still import read_still
from ns_video.quality.ssim import ms_ssim
from ns_video.record import Damage, RunRecord
from ns_video.report.document import (
    CLIP,
    COMPARISON,
    RUN,
    AudioEntry,
    Cost,
    FrameEntry,
    FullMeans,
    FullMeansMeter,
    Measures,
    Report,
    StreamRow,
    TemporalEntry,
)
from ns_video.report.pictures import PicturePacker, Shown, choose
from ns_video.report.verdict import verdict
from ns_video.score import LEAST_SCORED, Sample, Sampler, ScoredSample, Scorer, score_samples, spread_order
from ns_video.version import __version__

RUN_SHARE = 0.04
"""Of a run's time that its report aims at; 0.05 is promised."""
_AIM = 0.8
"""Of that share, to begin with: the last frame and the page are finished when time is up."""
_SCORING_SHARE = 0.5
"""Of the time allowed, for scores; the rest is for pictures and writing."""
_CROPS, _FEW_CROPS = 4, 2
_AMPLE_SECONDS = 3.0
"""Of time allowed; with less (a run of under a minute) the score looks at two crops of a frame instead of four."""
_MOST_PICTURES = 6
_LEAST_PICTURES = 1
_MS_SSIM_FRAMES = 600
"""MS-SSIM is taken of every pair of a comparison of up to so many, beyond it of every second, fourth, ...: it costs as
much as all libav filters together."""
_LEAST_SSIM_SIDE = 11
_MOST_FRAMES = 20_000
"""Frames of a comparison listed one by one; of a longer clip every second, fourth, ... and the scored ones. The means
are of all frames."""


@dataclass(frozen=True, slots=True)
class Built:
    """A report and what its HTML shows."""

    report: Report
    pictures: tuple[Shown, ...]


def _temporal(sampler: Sampler) -> TemporalEntry:
    series = sampler.temporal
    return TemporalEntry(
        flicker_before=series.flicker_before,
        flicker_after=series.flicker_after,
        change_flicker=series.change_flicker,
        luma_drift=series.luma_drift,
        cb_drift=series.cb_drift,
        cr_drift=series.cr_drift,
    )


Ahead = dict[tuple[int, bool], Future[FilterValues]]
"""(index of a sample, after?) → libav's values, measured while the network scores."""


def _measured_ahead(pool: Executor, samples: Sequence[Sample], count: int) -> Ahead:
    """Starts measuring the `count` samples that are scored first; libav works outside Python's lock."""
    ahead: Ahead = {}
    for place in spread_order(len(samples))[:count]:
        sample = samples[place]
        ahead[sample.index, False] = pool.submit(filter_values, sample.before)
        if sample.after is not None:
            ahead[sample.index, True] = pool.submit(filter_values, sample.after)
    return ahead


def _entry(scored: ScoredSample, ahead: Ahead | None = None) -> FrameEntry:
    sample = scored.sample

    def values(frame: Frame, is_after: bool) -> FilterValues:
        found = (ahead or {}).get((sample.index, is_after))
        return filter_values(frame) if found is None else found.result()

    after = None
    if scored.after is not None and sample.after is not None:
        after = Measures(scored.after, values(sample.after, True))
    return FrameEntry(
        index=sample.index,
        pts_seconds=sample.pts_seconds,
        shot=sample.shot,
        first_of_shot=sample.first_of_shot,
        before=Measures(scored.before, values(sample.before, False)),
        after=after,
    )


def _pictures(scored: Sequence[ScoredSample], most: int, until: float | None) -> tuple[Shown, ...]:
    chosen = choose(scored, most)
    packer = PicturePacker(len(chosen))
    made: list[Shown] = []
    for item in chosen:
        if until is not None and len(made) >= _LEAST_PICTURES and time.perf_counter() > until:
            break
        made.append(packer.pack(item))
    return tuple(made)


@one_thread()
def build_run(
    record: RunRecord,
    sampler: Sampler,
    *,
    source: Path | None = None,
    output: Path | None = None,
    device: str = "cpu",
) -> Built:
    """The report of a finished run, from the frames its sampler kept.

    `output` is measured for where its sound lies beside the picture, `source` for where it lay. Without `source` (of a
    cut, say) nothing is said of what moved.

    Takes at most RUN_SHARE of `record.seconds`, the sampler's own time included, beyond three scored frames and one
    picture, which are made in any case.
    """
    began = time.perf_counter()
    allowed = max(0.0, _AIM * RUN_SHARE * record.seconds - sampler.seconds)
    scorer = Scorer(device, crops=_CROPS if allowed >= _AMPLE_SECONDS else _FEW_CROPS)
    left = allowed - (time.perf_counter() - began)
    samples = sampler.samples
    with ThreadPoolExecutor(1, "report") as pool:
        ahead = _measured_ahead(pool, samples, LEAST_SCORED)
        scored = score_samples(samples, scorer, budget_seconds=max(0.0, left * _SCORING_SHARE))
        entries = tuple(_entry(item, ahead) for item in scored)
    pictures = _pictures(scored, _MOST_PICTURES, began + allowed)
    audio = _moved_audio(record, _audio(source), _audio(output))
    spent = time.perf_counter() - began + sampler.seconds
    report = Report(
        kind=RUN,
        version=record.version or __version__,
        clip=record.output,
        model_sha256=scorer.sha256,
        frames=entries,
        shots=sampler.shots,
        temporal=_temporal(sampler),
        cost=Cost(spent, spent / record.seconds if record.seconds else None, len(entries), sampler.frames),
        audio=audio,
        streams=tuple(StreamRow(row.index, row.type, row.codec, row.action) for row in record.streams),
        damage=tuple(record.damage),
        warnings=tuple(record.warnings),
        run=record,
    )
    return Built(replace(report, verdict=verdict(report)), pictures)


def _audio(path: Path | None) -> tuple[AudioOffset, ...]:
    if path is None or not path.is_file() or still_format(path) is not None:
        return ()
    try:
        return audio_offsets(path)
    except InputError:
        return ()  # a container that can't be read again: no offset is stated


def _moved_audio(
    record: RunRecord, before: Sequence[AudioOffset], after: Sequence[AudioOffset]
) -> tuple[AudioEntry, ...]:
    """The output's audio streams, each beside the one of the input that it was: they keep their order."""
    dropped = {row.index for row in record.streams if row.action.startswith("dropped")}
    was = [offset for offset in before if offset.stream_index not in dropped]
    known = was if len(was) == len(after) else [None] * len(after)  # a stream may have lost all it held
    return tuple(AudioEntry(offset, place) for offset, place in zip(after, known))


@one_thread()
def build_clip(
    clip: Path,
    reference: Path | None = None,
    *,
    device: str = "cpu",
    limit: int | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Built:
    """The report of a clip or still, against a reference where there is one.

    Memory is bounded: frames flow by, and the sampler's frames stay. Raises InputError, TooLargeError for pictures of
    more than `max_pixels`.
    """
    began = time.perf_counter()
    is_still = still_format(clip) is not None
    sampler = Sampler() if limit is None else Sampler(limit)
    if is_still:
        material = _still(clip, reference, sampler, max_pixels)
    elif reference is not None:
        material = _compared(clip, reference, sampler, max_pixels)
    else:
        material = _alone(clip, sampler, max_pixels)
    scorer = Scorer(device)
    scored = score_samples(sampler.samples, scorer, both=False)
    entries = {item.sample.index: _entry(item) for item in scored}
    for found in material.compared:
        entries[found.index] = _with_reference(found, entries.get(found.index))
    frames = tuple(entries[index] for index in sorted(entries))
    report = Report(
        kind=CLIP if reference is None else COMPARISON,
        version=__version__,
        clip=str(clip),
        model_sha256=scorer.sha256,
        frames=frames,
        full=material.full,
        shots=sampler.shots,
        temporal=_temporal(sampler),
        cost=Cost(time.perf_counter() - began, None, len(scored), sampler.frames),
        reference=None if reference is None else str(reference),
        alignment=material.alignment,
        audio=() if is_still else tuple(AudioEntry(offset) for offset in _audio(clip)),
        streams=material.streams,
        damage=material.damage,
        warnings=material.warnings,
    )
    pictures = _pictures(scored, _MOST_PICTURES, None)
    report = replace(report, cost=replace(report.cost, seconds=time.perf_counter() - began))
    return Built(replace(report, verdict=verdict(report)), pictures)


@dataclass(slots=True)
class _Compared:
    """A pair of a comparison."""

    index: int
    """Of the frame in the clip."""
    pts_seconds: float | None
    shot: int
    full: FullReference
    ms_ssim: float | None = None


@dataclass(frozen=True, slots=True)
class _Material:
    compared: tuple[_Compared, ...] = ()
    full: FullMeans | None = None
    alignment: Alignment | None = None
    streams: tuple[StreamRow, ...] = ()
    damage: tuple[Damage, ...] = ()
    warnings: tuple[str, ...] = ()


def _with_reference(found: _Compared, entry: FrameEntry | None) -> FrameEntry:
    if entry is None:
        entry = FrameEntry(found.index, found.pts_seconds, found.shot, first_of_shot=False)
    return replace(entry, index=found.index, full=found.full, ms_ssim=found.ms_ssim)


def _rows(info: ClipInfo) -> tuple[StreamRow, ...]:
    return tuple(
        StreamRow(s.index, s.type, s.codec, "scored" if s.index == info.video.index else "") for s in info.streams
    )


def _alone(clip: Path, sampler: Sampler, max_pixels: int) -> _Material:
    with frames_as_coded(clip, max_pixels=max_pixels) as reader:
        for frame in reader.frames():
            sampler.observe(frame)
        return _Material(streams=_rows(reader.info), damage=tuple(reader.damage), warnings=tuple(reader.warnings))


def _ms_ssim(first: Frame, second: Frame) -> float | None:
    if min(first.height, first.width) < _LEAST_SSIM_SIDE:
        return None
    with torch.inference_mode():
        one, two = (torch.from_numpy(luma_of(frame)).float()[None, None] for frame in (first, second))
        return float(ms_ssim(one, two))


class _Likenesses:
    """MS-SSIM of at most _MS_SSIM_FRAMES pairs, spread evenly over a comparison whose length isn't known beforehand."""

    def __init__(self) -> None:
        self.entries: list[_Compared] = []
        """Those that hold theirs."""
        self._pairs = 0
        self._stride = 1

    def measure(self, pair: Pair, entry: _Compared) -> None:
        """See one pair, in order; its entry is given its MS-SSIM if it is one of those."""
        if self._pairs % self._stride == 0:
            entry.ms_ssim = _ms_ssim(pair.clip, pair.reference)
            self.entries.append(entry)
        self._pairs += 1
        if len(self.entries) > _MS_SSIM_FRAMES:
            for passed_over in self.entries[1::2]:
                passed_over.ms_ssim = None
            self.entries = self.entries[::2]
            self._stride *= 2


def _shown_like(reference: Frame, clip: Frame) -> Frame:
    """The reference as wide and as turned as the clip, whatever its own file says: their samples are compared."""
    return replace(reference, pixel_aspect=clip.pixel_aspect, rotation=clip.rotation)


def _thinned(found: Sequence[_Compared], stride: int, sampler: Sampler) -> list[_Compared]:
    """The pairs of every `stride`-th frame, and those that are scored."""
    return [entry for entry in found if entry.index % stride == 0 or sampler.keeps(entry.index)]


def _compared(clip: Path, reference: Path, sampler: Sampler, max_pixels: int) -> _Material:
    if still_format(reference) is not None:
        raise InputError(f"the reference {reference.name} is a picture, {clip.name} is a clip", stage="compare")
    comparison = Comparison(clip, reference, max_pixels=max_pixels)
    found: list[_Compared] = []
    means, stride = FullMeansMeter(), 1
    likenesses = _Likenesses()
    for pair in comparison.walk():
        if isinstance(pair, Unpaired):
            sampler.observe(pair.clip)
            continue
        sampler.observe(pair.clip, _shown_like(pair.reference, pair.clip))
        means.add(pair.values, None)
        entry = _Compared(pair.index, pair.clip.pts_seconds, len(sampler.shots) - 1, pair.values)
        likenesses.measure(pair, entry)
        if pair.index % stride == 0 or sampler.keeps(pair.index):
            found.append(entry)
        if len(found) > _MOST_FRAMES:
            stride *= 2
            found = _thinned(found, stride, sampler)
    found = _thinned(found, stride, sampler)
    for entry in likenesses.entries:
        means.add_ms_ssim(entry.ms_ssim)
    reader = comparison.clip_reader
    assert reader is not None
    return _Material(
        compared=tuple(found),
        full=means.result(),
        alignment=comparison.alignment,
        streams=_rows(reader.info),
        damage=tuple(reader.damage),
        warnings=tuple(reader.warnings),
    )


def _still(clip: Path, reference: Path | None, sampler: Sampler, max_pixels: int) -> _Material:
    kind = still_format(clip) or "picture"
    rows = (StreamRow(0, "picture", kind, "scored"),)
    frame, about = read_still(clip, max_pixels=max_pixels)
    damage, notes = tuple(about.damage), tuple(about.notes)
    if reference is None:
        sampler.observe(frame)
        return _Material(streams=rows, damage=damage, warnings=notes)
    if still_format(reference) is None:
        raise InputError(f"{clip.name} is a picture, the reference {reference.name} is not", stage="compare")
    given = read_still(reference, max_pixels=max_pixels)[0]
    left, other = left_out(given, frame), coded_like(given, frame)
    values = FullReferenceMeter(Fraction(25)).measure(frame, other)
    sampler.observe(frame, _shown_like(other, frame))
    entry = _Compared(0, 0.0, 0, values, _ms_ssim(frame, other))
    means = FullMeansMeter()
    means.add(values, entry.ms_ssim)
    alignment = Alignment(0.0, 1, 1, 1, words_of_left_out(left), left)
    return _Material((entry,), means.result(), alignment, rows, damage, notes)
