"""Perceptual hashes: how alike two pictures are to somebody who squints. 64 bits each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ns_video.frame import BT601_LUMA
from ns_video.quality.histograms import Rgb

_SIDE = 32


@dataclass(frozen=True, slots=True)
class HashSimilarity:
    """Share of equal bits in percent; about 50 for unrelated pictures, 100 for equal ones."""

    average: float
    difference: float
    perceptual: float


def _gray_means(rgb: Rgb, rows: int, columns: int) -> npt.NDArray[np.float64]:
    """Area means of luma on a rows x columns grid, whatever the size."""
    luma = rgb.astype(np.float64) @ np.array(BT601_LUMA)
    for axis, count in ((0, rows), (1, columns)):
        size = luma.shape[axis]
        if size < count:
            luma = np.repeat(luma, -(-count // size), axis)
            size = luma.shape[axis]
        edges = np.arange(count) * size // count
        sizes = np.diff(np.append(edges, size))
        luma = np.add.reduceat(luma, edges, axis) / (sizes[:, None] if axis == 0 else sizes[None])
    return luma


def average_hash(rgb: Rgb) -> npt.NDArray[np.bool_]:
    """(64,) bits: which cells of an 8x8 grid are lighter than the mean."""
    cells = _gray_means(rgb, 8, 8)
    return (cells > cells.mean()).ravel()


def difference_hash(rgb: Rgb) -> npt.NDArray[np.bool_]:
    """(64,) bits: which cells of an 8x9 grid are lighter than their left neighbour."""
    cells = _gray_means(rgb, 8, 9)
    return (cells[:, 1:] > cells[:, :-1]).ravel()


def perceptual_hash(rgb: Rgb) -> npt.NDArray[np.bool_]:
    """(64,) bits: which of the lowest 8x8 DCT coefficients of a 32x32 grid exceed their median."""
    n = np.arange(_SIDE)
    basis = np.cos(np.pi * (2 * n[None] + 1) * n[:8, None] / (2 * _SIDE))
    low = basis @ _gray_means(rgb, _SIDE, _SIDE) @ basis.T
    return (low > np.median(low)).ravel()


def hash_similarity(first: Rgb, second: Rgb) -> HashSimilarity:
    """Compare two pictures of any sizes by all three hashes."""

    def alike(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> float:
        return float((one == other).mean()) * 100.0

    return HashSimilarity(
        average=alike(average_hash(first), average_hash(second)),
        difference=alike(difference_hash(first), difference_hash(second)),
        perceptual=alike(perceptual_hash(first), perceptual_hash(second)),
    )
