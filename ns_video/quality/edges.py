"""Edges compared: which a picture lost and which it gained."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ns_video.frame import BT601_LUMA
from ns_video.quality.histograms import Rgb

EDGE = 60.0
"""Sobel magnitude (of 8-bit luma, kernel sum 4 a side) from which a pixel counts as edge."""


@dataclass(frozen=True, slots=True)
class EdgeComparison:
    """Where two pictures have edges."""

    kept: float
    """Percent of the first picture's edges that lie within 1 px of one of the second's."""
    lost: npt.NDArray[np.bool_]
    """(H, W): edge in the first, none near in the second."""
    gained: npt.NDArray[np.bool_]
    common: npt.NDArray[np.bool_]


def sobel(rgb: Rgb) -> npt.NDArray[np.float32]:
    """(H, W) gradient magnitude of luma."""
    luma = rgb.astype(np.float32) @ np.array(BT601_LUMA, np.float32)
    padded = np.pad(luma, 1, mode="edge")
    smooth_down = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    smooth_across = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return np.hypot(smooth_down[:, 2:] - smooth_down[:, :-2], smooth_across[2:] - smooth_across[:-2])


def _grown(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def compare_edges(first: Rgb, second: Rgb) -> EdgeComparison:
    """Edges of two pictures of one size."""
    one, other = sobel(first) >= EDGE, sobel(second) >= EDGE
    lost, gained = one & ~_grown(other), other & ~_grown(one)
    count = int(one.sum())
    return EdgeComparison(
        kept=100.0 if count == 0 else 100.0 * (1.0 - int(lost.sum()) / count),
        lost=lost,
        gained=gained,
        common=(one | other) & ~lost & ~gained,
    )
