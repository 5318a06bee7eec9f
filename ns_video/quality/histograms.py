"""RGB and HSV histograms, and what the colours of a picture are like in a few numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ns_video.frame import BT601_LUMA

Rgb = npt.NDArray[np.uint8]
"""(H, W, 3) uint8."""

BINS = 64


@dataclass(frozen=True, slots=True)
class Histograms:
    """Shares of the pixels in percent, BINS bins each over 0–255 (hue: 0–360 degrees)."""

    red: tuple[float, ...]
    green: tuple[float, ...]
    blue: tuple[float, ...]
    hue: tuple[float, ...]
    """Of pixels with a saturation of at least 5 %; all zero for a gray picture."""
    saturation: tuple[float, ...]
    value: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ColorStatistics:
    """Means and deviations on the scale 0–255."""

    mean_rgb: tuple[float, float, float]
    luma_mean: float
    contrast: float
    """Standard deviation of luma."""
    saturation_mean: float
    """Percent."""
    colorfulness: float
    """Hasler and Süsstrunk 2003 (doi:10.1117/12.477378)."""


def hue_saturation_value(rgb: Rgb) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Hue in degrees [0, 360), saturation in [0, 1], value in [0, 255]; (H, W) each. Gray has hue 0."""
    red, green, blue = (np.ascontiguousarray(rgb[..., channel], np.float32) for channel in range(3))
    value, least = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    span = value - least
    turn = 60.0 / np.maximum(span, 1e-6)
    hue = np.where(
        value == red,
        (green - blue) * turn,
        np.where(value == green, (blue - red) * turn + 120.0, (red - green) * turn + 240.0),
    )
    hue[hue < 0.0] += 360.0
    hue[span == 0.0] = 0.0
    return hue.astype(np.float32), (span / np.maximum(value, 1.0)).astype(np.float32), value


def _shares(values: npt.NDArray[np.uint8] | npt.NDArray[np.float32], high: float, pixels: int) -> tuple[float, ...]:
    bins = np.minimum((values.ravel() * np.float32(BINS / high)).astype(np.uint8), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    return tuple(round(float(count) * 100.0 / max(1, pixels), 3) for count in counts)


def histograms(rgb: Rgb) -> Histograms:
    """The six histograms of a picture."""
    pixels = rgb.shape[0] * rgb.shape[1]
    hue, saturation, value = hue_saturation_value(rgb)
    return Histograms(
        red=_shares(rgb[..., 0], 256.0, pixels),
        green=_shares(rgb[..., 1], 256.0, pixels),
        blue=_shares(rgb[..., 2], 256.0, pixels),
        hue=_shares(hue[saturation >= 0.05], 360.0, pixels),
        saturation=_shares(saturation * 255.0, 256.0, pixels),
        value=_shares(value, 256.0, pixels),
    )


def histogram_correlation(first: Histograms, second: Histograms) -> float:
    """Mean Pearson correlation of the red, green and blue histograms, -1 to 1; 1 for equal ones."""
    found: list[float] = []
    for one, other in ((first.red, second.red), (first.green, second.green), (first.blue, second.blue)):
        a, b = np.asarray(one) - np.mean(one), np.asarray(other) - np.mean(other)
        power = float(np.sqrt((a * a).sum() * (b * b).sum()))
        found.append(1.0 if power == 0.0 else float((a * b).sum()) / power)
    return float(np.mean(found))


def color_statistics(rgb: Rgb) -> ColorStatistics:
    """The colours of a picture in numbers."""
    red, green, blue = (np.ascontiguousarray(rgb[..., channel], np.float32) for channel in range(3))
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    luma = BT601_LUMA[0] * red + BT601_LUMA[1] * green + BT601_LUMA[2] * blue
    opponent = red - green, 0.5 * (red + green) - blue
    spread = float(np.hypot(opponent[0].std(), opponent[1].std()))
    center = float(np.hypot(opponent[0].mean(), opponent[1].mean()))
    return ColorStatistics(
        mean_rgb=(float(red.mean()), float(green.mean()), float(blue.mean())),
        luma_mean=float(luma.mean()),
        contrast=float(luma.std()),
        saturation_mean=float(((highest - lowest) / np.maximum(highest, 1.0)).mean()) * 100.0,
        colorfulness=spread + 0.3 * center,
    )
