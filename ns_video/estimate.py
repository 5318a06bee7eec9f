"""A JPEG's quantisation tables from its pixels alone: for files that say nothing, or not all of it. Floor 2.

A decoded JPEG's block DCT coefficients lie near multiples of the quantiser steps. Each frequency's histogram is
compared with every step by a likelihood ratio (a comb of narrow peaks against a smooth density); the tables are
those of the IJG quality that gains most over all frequencies, or free ones where they gain far more. A picture saved
a second time at a finer quality still shows the first quantiser, as a comb with wider peaks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from ns_video.collage import BIN, BINS, OUTLIER, REACH, bin_centres, bins_of, foreign_blocks, on_steps, tooth
from ns_video.frame import JpegTables
from ns_video.jpeg_tables import ANNEX_K_CHROMA, ANNEX_K_LUMA, JFIF_YCBCR, dct_matrix, ijg_percent, scaled_table

__all__ = ["JpegEvidence", "find_jpeg", "reconcile", "share_on_steps"]

Samples = npt.NDArray[np.float32]

_MAX_BLOCKS = 12288
"""8x8 blocks looked at. Larger pictures are sampled in whole rows of blocks, very wide ones in columns, too."""
_PHASE_BLOCKS = 2048
"""Blocks that decide where the grid lies."""
_LEAST_UNCLIPPED = 64
"""Blocks with clipped samples, whose coefficients moved, are left out where at least this many others remain."""
_STEPS = 200  # steps 1.._STEPS are tried; IJG luma reaches 121 at q 50, 255 only below q 24 in the highest rows
_ZERO = 1.3
"""Coefficients below this are taken for zero: rounding to 8-bit RGB moves one by 0.35 (1 sigma)."""
_SIGMAS = (0.42, 1.0, 2.0)
"""Widths of the comb's peaks: rounding alone; saved again at about q 95; at about q 85."""
_HIGHEST_QUALITY = 98  # above, the steps are 1 or 2: no more than rounding
_LEAST_EVIDENCE = 60.0
"""Log likelihood ratio (nats) over the whole picture; and per coefficient that isn't zero: """
_LEAST_MEAN_EVIDENCE = 0.12
_FREE_TABLE_FACTOR = 2.0
"""Free steps must explain this much more than the best IJG table to be believed."""
_LEAST_FREE_MEAN_EVIDENCE = 0.4
"""And as much per coefficient that isn't zero."""
_LEAST_FREE_BLOCKS = 32
"""Different blocks that must speak for free steps: a few, drawn many times, have any comb one likes."""
_MEAN_LEAP, _FALL = 0.6, 0.03
"""Of free steps from one frequency to the next: mean change of the logarithm, and how much it may fall on the whole.
Encoders' tables are at 0.3 and less, and rise; QR codes saved as JPEG at 1.6 and more, or fall by 0.2."""
_DEAD_ZONE_STEPS = 62  # 2 QP for QP up to 31
_DEAD_ZONE_SIGMA = 0.6
_PHASE_CANDIDATES = 2
_STRONGER = 1.3
"""Mean step of the estimate / of the header from which the estimate is taken for an earlier, stronger save."""


@dataclass(frozen=True, slots=True)
class JpegEvidence:
    """A JPEG in a picture's past: as its file says, or as its pixels do."""

    tables: JpegTables
    phase: tuple[int, int] = (0, 0)
    """(row, column) of the first block's corner, 0..7: (0, 0) unless the picture was cropped."""
    quality: int | None = None
    """IJG quality, None for tables of another kind, and where the file told the tables."""
    nats: float = math.inf
    """Log likelihood ratio against "no JPEG"."""
    foreign: npt.NDArray[np.bool_] | None = field(default=None, compare=False, repr=False)
    """(rows, columns) of the whole blocks from `phase` on: True for those that never were a part of it, which only
    pixels tell; None where there are none."""


@cache
def _comb() -> npt.NDArray[np.float32]:
    """(len(_SIGMAS), BINS, _STEPS) log likelihood ratio of a coefficient in a bin for each step."""
    centre = bin_centres()
    step = np.arange(1, _STEPS + 1, dtype=np.float64)
    comb = np.stack([on_steps(centre[:, None], step, sigma) for sigma in _SIGMAS])
    comb[:, centre < _ZERO] = 0
    return comb.astype(np.float32)


def _log_ratio(
    centre: npt.NDArray[np.floating], teeth: npt.NDArray[np.floating], step: float
) -> npt.NDArray[np.floating]:
    """Log likelihood ratio of coefficients at `centre` for a comb of evenly weighted teeth."""
    density = tooth(centre[:, None] - teeth, _DEAD_ZONE_SIGMA).sum(1)
    ratio = np.log(OUTLIER + (1 - OUTLIER) * step * density)
    ratio[centre < _ZERO] = 0
    return ratio


@cache
def _dead_zone_combs() -> npt.NDArray[np.float32]:
    """(BINS, hypotheses): what H.263 and MPEG do to a residual, one flat step and a reconstruction beside the middle.

    Coefficients lie at (L + 1/2) step, or 1 less (H.263 section 6.2.1, even quantisers), L from 1; in limited range
    seen as full range too.
    """
    centre = bin_centres()
    combs: list[npt.NDArray[np.floating]] = []
    for scale in (1.0, 255 / 219):
        for step in range(4, _DEAD_ZONE_STEPS + 1):
            for less in (0.0, 1.0):
                teeth = ((np.arange(1, int(REACH / step) + 2) + 0.5) * step - less) * scale
                combs.append(_log_ratio(centre, teeth, step * scale))
    return np.stack(combs, 1).astype(np.float32)


def _blocks(plane: npt.NDArray[np.generic], phase: tuple[int, int], at_most: int) -> npt.NDArray[np.generic]:
    """(blocks, 8, 8) of a plane, from `phase` on; above `at_most` rows of blocks are left out, and columns where one
    row alone has more."""
    row, column = phase
    rows, columns = (plane.shape[0] - row) // 8, (plane.shape[1] - column) // 8
    part = plane[row : row + rows * 8, column : column + columns * 8].reshape(rows, 8, columns, 8)
    across = -(-columns // at_most)
    part = part[:, :, across // 2 :: across]
    stride = -(-rows * part.shape[2] // at_most)
    return part[stride // 2 :: stride].transpose(0, 2, 1, 3).reshape(-1, 8, 8)


@cache
def _signature_weights() -> Samples:
    return np.random.default_rng(0).random(63).astype(np.float32)


def _coefficients(
    plane: Samples, clipped: npt.NDArray[np.bool_], phase: tuple[int, int], at_most: int = _MAX_BLOCKS
) -> Samples:
    """(blocks, 64) orthonormal DCT coefficients of the 8x8 blocks that begin at `phase`, each block once.

    Drawings, text and patterns repeat a block, mirrored or in another brightness too; that is no second witness.
    """
    blocks = _blocks(plane, phase, at_most).astype(np.float32)
    whole = ~_blocks(clipped, phase, at_most).any((1, 2))
    if int(whole.sum()) >= _LEAST_UNCLIPPED:
        blocks = blocks[whole]
    matrix = dct_matrix()
    coefficients: Samples = np.matmul(np.matmul(matrix, blocks - 128), matrix.T).reshape(-1, 64)
    signatures = np.abs(np.rint(coefficients[:, 1:])) @ _signature_weights()
    return coefficients[np.unique(signatures, return_index=True)[1]]


def _histograms(coefficients: Samples) -> Samples:
    """(64, BINS) counts of each frequency's magnitudes; DC left out."""
    counts = np.bincount(bins_of(coefficients).ravel(), minlength=64 * BINS).reshape(64, BINS).astype(np.float32)
    counts[:, -1] = 0
    counts[0] = 0
    return counts


def _seam_strength(plane: Samples) -> npt.NDArray[np.float64]:
    """(8,) how much more the picture jumps between columns x - 1 and x than around, by x modulo 8."""
    slope = np.abs(np.diff(plane, axis=1))
    jump = slope[:, 1:-1] - 0.5 * (slope[:, :-2] + slope[:, 2:])
    by_column = np.clip(jump, -8, 8).mean(0)  # edges of the picture itself must not outvote the grid
    column = (np.arange(by_column.size) + 2) % 8
    return np.bincount(column, by_column, 8) / np.maximum(np.bincount(column, minlength=8), 1)


def _phases(plane: Samples) -> list[tuple[int, int]]:
    """(0, 0) and the likeliest other grid positions."""
    rows = np.argsort(-_seam_strength(plane.T))[:_PHASE_CANDIDATES]
    columns = np.argsort(-_seam_strength(plane))[:_PHASE_CANDIDATES]
    found = [(int(row), int(column)) for row in rows for column in columns]
    return list(dict.fromkeys([(0, 0), *found]))


@cache
def _quality_steps(chroma: bool) -> npt.NDArray[np.int64]:
    """(_HIGHEST_QUALITY, 64) steps of each IJG quality from 1."""
    source = ANNEX_K_CHROMA if chroma else ANNEX_K_LUMA
    return np.stack(
        [scaled_table(source, ijg_percent(q)).ravel().astype(np.int64) for q in range(1, _HIGHEST_QUALITY + 1)]
    )


def _nats_of_steps(evidence: Samples, steps: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """(qualities, 64) evidence of each frequency for each table; steps that weren't tried count 0."""
    known = steps <= _STEPS
    values = evidence[np.arange(64)[None, :], np.minimum(steps, _STEPS) - 1]
    return np.where(known, values, 0.0)


def _fit(coefficients: Samples) -> tuple[float, int, Samples, float, float]:
    """Best IJG luma quality: (nats, quality, (64, _STEPS) evidence at the best width, coefficients counted), and the
    nats of the best comb with a dead zone."""
    histograms = _histograms(coefficients)
    count = float(histograms[:, int(_ZERO / BIN) :].sum())
    best: tuple[float, int, Samples] | None = None
    for comb in _comb():
        evidence: Samples = histograms @ comb
        nats = _nats_of_steps(evidence, _quality_steps(False)).sum(1)
        quality = int(nats.argmax())
        if best is None or nats[quality] > best[0]:
            best = (float(nats[quality]), quality + 1, evidence)
    assert best is not None
    return (*best, count, float((histograms.sum(0) @ _dead_zone_combs()).max()))


def _looks_chosen(steps: npt.NDArray[np.floating], sure: npt.NDArray[np.bool_]) -> bool:
    """Whether (8, 8) steps may be an encoder's choice: alike in neighbouring frequencies, and not finer in higher ones.

    Regular graphics (modules of a QR code, pixel art) have combs too, of any step in any frequency.
    """
    logs = np.log(steps)
    across, down = sure[:, 1:] & sure[:, :-1], sure[1:] & sure[:-1]
    leaps = np.concatenate([np.abs(np.diff(logs, axis=1))[across], np.abs(np.diff(logs, axis=0))[down]])
    if not leaps.size:
        return False
    frequency = np.add.outer(np.arange(8.0), np.arange(8.0))[sure]
    around = frequency - frequency.mean()
    slope = float(around @ logs[sure]) / max(float(around @ around), 1e-9)
    return bool(leaps.mean() <= _MEAN_LEAP and slope >= -_FALL)


def _free_table(evidence: Samples, percent: float) -> tuple[npt.NDArray[np.uint16], float]:
    """Steps chosen for each frequency alone, and their evidence; where one says nothing, its neighbour's.

    No evidence where no encoder would choose such steps.
    """
    best = evidence.argmax(1)
    gain = evidence[np.arange(64), best]
    sure = gain > 6.0  # e^6 to one; 200 steps were tried
    table = scaled_table(ANNEX_K_LUMA, percent).ravel()
    if not _looks_chosen((best + 1.0).reshape(8, 8), sure.reshape(8, 8)):
        return table.astype(np.uint16).reshape(8, 8), 0.0
    if sure.any():
        place = np.stack(np.divmod(np.arange(64), 8), 1)
        distance = np.abs(place[:, None] - place[sure][None]).sum(-1)
        table = (best + 1)[sure][distance.argmin(1)]
    return table.astype(np.uint16).reshape(8, 8), float(gain[sure].sum())


def _is_believable(free_nats: float, count: float, blocks: int) -> bool:
    """Whether free steps may be believed at all: enough evidence per coefficient, of enough different blocks."""
    return free_nats >= _LEAST_FREE_MEAN_EVIDENCE * count and blocks >= _LEAST_FREE_BLOCKS


def _nats_of_grid(coefficients: Samples) -> float:
    """What the blocks of one grid position say for a JPEG, by the IJG's tables or by free ones."""
    nats, quality, evidence, count, _ = _fit(coefficients)
    free_nats = _free_table(evidence, float(ijg_percent(quality)))[1]
    return max(nats, free_nats / _FREE_TABLE_FACTOR if _is_believable(free_nats, count, len(coefficients)) else 0.0)


def _chroma_subsampling(
    planes: tuple[Samples, Samples], clipped: npt.NDArray[np.bool_], phase: tuple[int, int], quality: int
) -> tuple[int, int]:
    """(1, 1) where full-size chroma blocks show the quality's chroma table, else (2, 2), by far the commonest."""
    steps = _quality_steps(True)[quality - 1 : quality]
    full = 0.0
    for plane in planes:
        histograms = _histograms(_coefficients(plane, clipped, phase))
        full += float(_nats_of_steps(histograms @ _comb()[0], steps).sum())
    return (1, 1) if full > 0 else (2, 2)


def share_on_steps(picture: npt.NDArray[np.uint8], table: npt.NDArray[np.uint16], phase: tuple[int, int]) -> float:
    """How many of the luma coefficients that aren't zero lie within 0.2 steps of a multiple of their step, 0 to 1.

    `picture` is (H, W, 3) RGB, `table` (8, 8). Chance gives 0.4, as any other grid than the right one shows. Steps
    below 4 are left out: rounding alone spreads a coefficient by 0.35. NaN where nothing is left.
    """
    luma: Samples = picture.astype(np.float32) @ JFIF_YCBCR[0]
    clipped = ((picture == 0) | (picture == 255)).any(-1)
    steps = table.astype(np.float32).ravel()
    turns = np.abs(_coefficients(luma, clipped, phase)) / steps
    counted = (turns > 0.6) & (steps >= 4)
    counted[:, 0] = False
    return float((np.abs(turns - np.rint(turns))[counted] < 0.2).mean()) if counted.any() else float("nan")


def find_jpeg(picture: npt.NDArray[np.uint8]) -> JpegEvidence | None:
    """The JPEG in a picture's past, from (H, W, 3) RGB or (H, W) luma samples, uint8; None where none is seen.

    None too for pictures below 32x32 and for tables so fine that rounding hides them (IJG quality above 98).
    """
    if picture.shape[0] < 32 or picture.shape[1] < 32:
        return None
    samples = picture.astype(np.float32)
    luma: Samples = samples @ JFIF_YCBCR[0] if samples.ndim == 3 else samples
    extreme = (picture == 0) | (picture == 255)
    clipped = extreme.any(-1) if picture.ndim == 3 else extreme
    phase = max(_phases(luma), key=lambda p: _nats_of_grid(_coefficients(luma, clipped, p, _PHASE_BLOCKS)))
    coefficients = _coefficients(luma, clipped, phase)
    nats, quality, evidence, count, dead_zone = _fit(coefficients)
    percent = float(ijg_percent(quality))
    free, free_nats = _free_table(evidence, percent)
    is_free = free_nats > _FREE_TABLE_FACTOR * max(nats, 0.0) + _LEAST_EVIDENCE
    is_free = is_free and _is_believable(free_nats, count, len(coefficients))
    believed = free_nats if is_free else nats
    if believed < _LEAST_EVIDENCE or believed < _LEAST_MEAN_EVIDENCE * count or believed < dead_zone:
        return None
    subsampling = (1, 1)
    if samples.ndim == 3:
        blue: Samples = 128 + samples @ JFIF_YCBCR[1]
        red: Samples = 128 + samples @ JFIF_YCBCR[2]
        subsampling = _chroma_subsampling((blue, red), clipped, phase, quality)
    if is_free:
        ratio = float(free.astype(np.float64).mean() / ANNEX_K_LUMA.mean())
        tables = JpegTables(free, scaled_table(ANNEX_K_CHROMA, 100 * ratio), subsampling)
        return JpegEvidence(tables, phase, None, believed, foreign_blocks(picture, tables.luma, phase))
    tables = JpegTables(scaled_table(ANNEX_K_LUMA, percent), scaled_table(ANNEX_K_CHROMA, percent), subsampling)
    return JpegEvidence(tables, phase, quality, believed, foreign_blocks(picture, tables.luma, phase))


def reconcile(header: JpegEvidence | None, found: JpegEvidence | None) -> JpegEvidence | None:
    """What to tell the network, of the file's own tables and those seen in its pixels.

    The header is trusted, since a plain JPEG's is the truth, unless the pixels show clearly coarser steps: then the
    picture was saved before, and the coarser step of each frequency counts. Without a header the estimate stands.
    It looks for luma and chroma: what a file that codes R, G and B says stands, too.
    """
    if header is None or found is None:
        return header if found is None else found
    if header.tables.is_rgb:
        return header
    saved, seen = header.tables, found.tables
    if float(seen.luma.mean()) <= _STRONGER * float(saved.luma.mean()):
        return header
    subsampling = max(saved.subsampling, seen.subsampling, key=lambda s: s[0] * s[1])
    coarser = JpegTables(np.maximum(saved.luma, seen.luma), np.maximum(saved.chroma, seen.chroma), subsampling)
    return replace(found, tables=coarser)
