"""Which blocks of a picture never were part of the JPEG in its past: letters and charts put beside a photograph, a
caption over it. Floor 1: numpy.

Each 8x8 block's coefficients are compared with the JPEG's steps by a log likelihood ratio: a comb of peaks against a
smooth density, as for the whole picture. A block without coefficients says nothing and follows those around it, as in
an Ising field (Geman and Geman, IEEE Transactions on Pattern Analysis and Machine Intelligence 6(6), 1984; solved by
mean fields). Decoding clips samples, which moves all coefficients of a block. There, samples beyond 0 and 255 are
sought that put them back on the steps: one block of a JPEG in a hundred keeps none.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ns_video.jpeg_tables import ANNEX_K_LUMA, JFIF_YCBCR, dct_matrix, ijg_percent, scaled_table

Samples = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

BIN, REACH = 0.25, 256.0
"""Width of the bins in which the comb is tabulated, and where it ends; units of orthonormal coefficients of 8 bits."""
BINS = int(REACH / BIN)
_ZERO_SIGMAS, _SIGMA = 4.5, 0.42
"""Standard deviations up to which a coefficient is taken for zero; the one that rounding to 8-bit RGB leaves."""
OUTLIER = 0.04  # share of a JPEG's coefficients that may lie anywhere
_TEETH = 4.5
"""Multiples of a step that are looked at: where the step that was found is a little wrong, higher ones are no more on
it."""
_LEAST_SIGMAS = 7.0  # a frequency whose step is smaller has no comb
_SAVED_AGAIN = (None, 97, 94, 92, 90, 87, 84, 80, 75)
"""IJG qualities of a later save, whose error widens the peaks."""
_FIT_BLOCKS, _MOST_CLIPPED = 4096, 16384
"""Blocks by which that quality is chosen, and blocks with clipped samples that are looked at more closely, at most."""
_LEAST_UNCLIPPED = 64  # blocks without clipped samples that suffice for the choice
_DOUBTED = -10.0
"""Log likelihood ratio (nats) below which clipped samples are sought elsewhere: """
_OVERSHOOTS, _ROUNDS, _RELAXATION = (0.0, 4.0, 10.0, 20.0, 40.0), 10, 1.5
"""how far beyond the range they begin, how often the nearest picture on the steps is taken, and how far one goes to
it."""
_MARGIN = 4.0
"""Samples that the first decoding clipped lie within so many standard deviations of 0 or 255 after a later save."""
_CLIPPED_WEIGHT = 0.5  # of what a block with clipped samples says against a JPEG
_MOST_NATS = 40.0  # that one block says
_COUPLING, _PRIOR = 1.5, 1.0
"""A block's 8 neighbours weigh this each, half nats: alone it must say 24 nats against all of them. And what is said
for the JPEG beforehand, nats."""
_SWEEPS = 40
_LEAST_AGAINST = 60.0
"""Nats against the JPEG in all blocks taken out of it, below which none is."""
_STRIP = 64  # rows of blocks at a time


@cache
def _block_dct() -> Samples:
    """(64, 64): a block's 64 samples @ this are its coefficients; the transpose is the inverse."""
    matrix = dct_matrix()
    return np.kron(matrix, matrix).T.copy()


def bin_centres() -> npt.NDArray[np.floating]:
    """(BINS,) magnitudes in the middle of the bins."""
    return (np.arange(BINS) + 0.5) * BIN


def bins_of(coefficients: Samples) -> npt.NDArray[np.int32]:
    """(blocks, 64): where (blocks, 64) coefficients lie in a flat table of (64, BINS)."""
    index = np.minimum(np.abs(coefficients) / BIN, BINS - 1).astype(np.int32)
    index += np.arange(64, dtype=np.int32) * BINS
    return index


def tooth(distance: npt.NDArray[np.floating], sigma: float | npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Density, at a distance from a step, of coefficients in bins that an error of `sigma` moved away from it."""
    width = np.sqrt(sigma**2 + BIN**2 / 12)
    return np.exp(-0.5 * (distance / width) ** 2) / (width * np.sqrt(2 * np.pi))


def on_steps(
    magnitude: npt.NDArray[np.floating], step: npt.NDArray[np.floating], sigma: float | npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Log likelihood ratio of magnitudes for multiples of a step; all three are broadcast."""
    index = np.rint(magnitude / step)
    density = np.zeros_like(index)
    for turn in (-1, 0, 1):  # neighbouring teeth matter where the step is small
        # the tooth at zero explains nothing that isn't zero
        density += np.where(index + turn > 0, tooth(magnitude - (index + turn) * step, sigma), 0.0)
    return np.log(OUTLIER + (1 - OUTLIER) * step * density)


def _comb(steps: Samples, sigmas: npt.NDArray[np.float64]) -> Samples:
    """(64, BINS) log likelihood ratio of a coefficient's magnitude for a JPEG; 0 where it says nothing."""
    centre = bin_centres()
    step, sigma = steps[:, None], sigmas[:, None]
    ratio = on_steps(centre, step, sigma)
    silent = (centre < _ZERO_SIGMAS * sigma) | (centre > _TEETH * step) | (step < _LEAST_SIGMAS * sigma)
    ratio[silent] = 0
    ratio[0], ratio[:, -1] = 0, 0
    return ratio.astype(np.float32)


def _nats(coefficients: Samples, comb: Samples) -> Samples:
    """(blocks,) log likelihood ratio of (blocks, 64) coefficients."""
    return comb.ravel()[bins_of(coefficients)].sum(1)


def _fitting_comb(coefficients: Samples, steps: Samples) -> tuple[Samples, float]:
    """The comb whose peaks are as wide as those of the blocks that are on it, and the error of a later save, RMS."""
    chosen = coefficients[:: -(-len(coefficients) // _FIT_BLOCKS)]
    best: tuple[float, Samples, float] | None = None
    for quality in _SAVED_AGAIN:
        later = np.zeros(64) if quality is None else scaled_table(ANNEX_K_LUMA, ijg_percent(quality)).ravel()
        comb = _comb(steps, np.sqrt(_SIGMA**2 + later.astype(np.float64) ** 2 / 12))
        score = float(np.maximum(_nats(chosen, comb), 0).sum())
        if best is None or score > best[0]:
            best = score, comb, float(np.sqrt(np.mean(later.astype(np.float64) ** 2) / 12))
    assert best is not None
    return best[1:]


def _unclipped_nats(blocks: Samples, above: Mask, below: Mask, steps: Samples, comb: Samples) -> Samples:
    """(blocks,) best log likelihood ratio where samples `above` may be higher, and those `below` lower."""
    dct = _block_dct()
    best = _nats(blocks @ dct, comb)
    for overshoot in _OVERSHOOTS:
        left = np.flatnonzero(best < _DOUBTED)
        if not left.size:
            break
        held, up, down = blocks[left], above[left], below[left]
        samples: npt.NDArray[np.floating] = held + np.float32(overshoot) * (up.astype(np.float32) - down)
        for _ in range(_ROUNDS):
            on_steps = (np.rint(samples @ dct / steps) * steps) @ dct.T
            moved = samples + np.float32(_RELAXATION) * (on_steps - samples)
            samples = np.where(up & down, moved, held)
            samples = np.where(up & ~down, np.maximum(held, moved), samples)
            samples = np.where(down & ~up, np.minimum(held, moved), samples)
        best[left] = np.maximum(best[left], _nats((samples @ dct).astype(np.float32), comb))
    return best


def _settled(nats: Samples) -> Mask:
    """(rows, columns): where the field of (rows, columns) nats for a JPEG settles against it."""
    own = (nats + np.float32(_PRIOR)) / 2
    state: Samples = np.tanh(own)
    for _ in range(_SWEEPS):
        padded = np.pad(state, 1, mode="edge")
        across = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
        around = across[:-2] + across[1:-1] + across[2:] - state
        state = np.tanh(own + np.float32(_COUPLING) * around)
    return state < 0


class _Blocks:
    """Whole blocks of a picture in (blocks, 64), some rows of them at a time."""

    def __init__(self, picture: npt.NDArray[np.uint8], phase: tuple[int, int]) -> None:
        self._picture, self._phase = picture, phase
        self.rows, self.columns = ((side - first) // 8 for side, first in zip(picture.shape, phase, strict=False))

    def of(self, rows: npt.NDArray[np.integer], margin: int = 0) -> tuple[Samples, Mask, Mask]:
        """Luma around 0; where a sample is the highest or within a margin of it, and where the lowest."""
        top, left = self._phase
        part = self._picture[top + (rows[:, None] * 8 + np.arange(8)).ravel(), left : left + self.columns * 8]
        if part.ndim == 3:
            luma: Samples = part.astype(np.float32) @ JFIF_YCBCR[0]
            ends = (part >= 255 - margin, part <= margin)
            above, below = (end.max(axis=-1) for end in ends)
        else:
            luma, above, below = part.astype(np.float32), part >= 255 - margin, part <= margin
        return self._tiled(luma - 128), self._tiled(above), self._tiled(below)

    def _tiled(self, plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return plane.reshape(-1, 8, self.columns, 8).transpose(0, 2, 1, 3).reshape(-1, 64)


def foreign_blocks(
    picture: npt.NDArray[np.uint8], table: npt.NDArray[np.uint16], phase: tuple[int, int]
) -> Mask | None:
    """(rows, columns) of the whole blocks from `phase` on: True for those that no JPEG with this luma table made.

    `picture` is (H, W, 3) RGB or (H, W) luma, at least one block; None where all may be the JPEG's.
    """
    steps = table.astype(np.float32).ravel()
    dct = _block_dct()
    blocks = _Blocks(picture, phase)
    rows, columns = blocks.rows, blocks.columns
    few = np.arange(rows)[:: -(-rows * columns // (2 * _FIT_BLOCKS))]
    luma, above, below = blocks.of(few)
    whole = ~(above | below).any(1)
    comb, error = _fitting_comb(luma[whole] @ dct if whole.sum() >= _LEAST_UNCLIPPED else luma @ dct, steps)
    margin = round(_MARGIN * error)
    stride = -(-rows * columns // _MOST_CLIPPED)
    nats = np.zeros((rows, columns), np.float32)
    for first in range(0, rows, _STRIP):
        luma, above, below = blocks.of(np.arange(first, min(rows, first + _STRIP)), margin)
        said = _nats(luma @ dct, comb)
        clipped = np.flatnonzero((above | below).any(1))
        said[clipped] = said[clipped].clip(min=0)
        seen = clipped[::stride]
        closer = _unclipped_nats(luma[seen], above[seen], below[seen], steps, comb)
        said[seen] = np.where(closer < 0, closer * np.float32(_CLIPPED_WEIGHT), closer)
        nats[first : first + _STRIP] = said.reshape(-1, columns)
    foreign = _settled(nats.clip(-_MOST_NATS, _MOST_NATS))
    return foreign if float(-nats[foreign].sum()) >= _LEAST_AGAINST else None
