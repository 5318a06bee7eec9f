"""Curves as a picture, drawn with OpenCV: no plotting library needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ns_video.media.pictures import write_png

_WIDTH, _HEIGHT, _MARGIN = 900, 320, 60
_COLOURS = ((31, 119, 180), (214, 39, 40), (44, 160, 44), (148, 103, 189))
_INK, _GRID = (40, 40, 40), (225, 225, 225)
_TICKS = 5


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through (x, y) points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Chart:
    """Curves over one pair of axes."""

    title: str
    curves: tuple[Curve, ...]


def _range(values: list[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    return (low - 0.5, high + 0.5) if high == low else (low, high)


def _draw(chart: Chart) -> np.ndarray:
    canvas = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    left, right = _range([x for curve in chart.curves for x in curve.x])
    bottom, top = _range([y for curve in chart.curves for y in curve.y])

    def place(x: float, y: float) -> tuple[int, int]:
        across = (x - left) / (right - left) * (_WIDTH - 2 * _MARGIN)
        up = (y - bottom) / (top - bottom) * (_HEIGHT - 2 * _MARGIN)
        return round(_MARGIN + across), round(_HEIGHT - _MARGIN - up)

    def write(text: str, at: tuple[int, int], colour: tuple[int, int, int] = _INK) -> None:
        cv2.putText(canvas, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)

    for tick in range(_TICKS + 1):
        share = tick / _TICKS
        x, y = left + share * (right - left), bottom + share * (top - bottom)
        cv2.line(canvas, place(left, y), place(right, y), _GRID)
        write(f"{y:.4g}", (4, place(left, y)[1] + 4))
        write(f"{x:.0f}", (place(x, bottom)[0] - 14, _HEIGHT - _MARGIN + 18))
    write(chart.title, (_MARGIN, 18))
    for index, curve in enumerate(chart.curves):
        colour = _COLOURS[index % len(_COLOURS)]
        points = [place(x, y) for x, y in zip(curve.x, curve.y) if math.isfinite(y)]
        for one, two in itertools.pairwise(points):
            cv2.line(canvas, one, two, colour, 2, cv2.LINE_AA)
        for point in points if len(points) < 60 else ():
            cv2.circle(canvas, point, 2, colour, -1, cv2.LINE_AA)
        write(curve.label, (_MARGIN + 10 + 170 * index, 38), colour)
    return canvas


def write_charts(path: Path, charts: Sequence[Chart]) -> None:
    """Writes charts below each other into a PNG.

    Raises:
        OutputError: the file can't be written.
    """
    write_png(path, np.vstack([_draw(chart) for chart in charts]))
