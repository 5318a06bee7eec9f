"""Difference of two pictures: MSE, PSNR and a heat map."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ns_video.quality.histograms import Rgb

HEAT_FULL = 32.0
"""Mean absolute difference of a pixel, in 8-bit steps, that is drawn at the hot end."""

# Five knots of matplotlib's "inferno" (CC0), black to pale yellow; between them the colours are interpolated.
_HEAT = np.array([[0, 0, 4], [87, 16, 110], [188, 55, 84], [249, 142, 9], [252, 255, 164]], np.float32)


def mse(first: Rgb, second: Rgb) -> float:
    """Mean squared error over all samples of two pictures of one size."""
    return float(np.mean((first.astype(np.float32) - second.astype(np.float32)) ** 2))


def psnr(first: Rgb, second: Rgb) -> float:
    """PSNR in dB of 8-bit samples; infinite for equal pictures."""
    error = mse(first, second)
    return math.inf if error == 0.0 else 10.0 * math.log10(255.0**2 / error)


def difference_map(first: Rgb, second: Rgb) -> npt.NDArray[np.float32]:
    """(H, W) mean over R, G and B of the absolute difference, 0–255."""
    return np.abs(first.astype(np.float32) - second.astype(np.float32)).mean(-1)


def heat(values: npt.NDArray[np.float32], full: float = HEAT_FULL) -> Rgb:
    """(H, W, 3) colours of a map, dark for 0, pale for `full` and more."""
    place = np.clip(values / full, 0.0, 1.0) * (len(_HEAT) - 1)
    low = np.minimum(place.astype(np.int64), len(_HEAT) - 2)
    share = (place - low)[..., None].astype(np.float32)
    return (_HEAT[low] * (1 - share) + _HEAT[low + 1] * share).round().astype(np.uint8)
