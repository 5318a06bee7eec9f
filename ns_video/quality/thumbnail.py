"""A frame as a few hundred cell means: what shot detection and temporal measures look at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ns_video.frame import Frame, Plane

CELLS = (36, 64)
"""Rows and columns of cells at most; a cell is about 30 px at 1080p."""
_ROWS_PER_CELL = 2
"""Picture rows read per cell row: a mean over 1/15 of a 1080p picture costs 0.05 ms, over all of it 3 ms."""

Cells = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Cell means of a frame, each on the scale 0–255 whatever the bit depth."""

    luma: Cells
    """(rows, columns); the mean of the three planes where the frame is RGB."""
    chroma: tuple[float, float] | None
    """Means of the two chroma planes, None where there are none."""


def cell_means(plane: Plane, bit_depth: int, cells: tuple[int, int] = CELLS) -> Cells:
    """(rows, columns) float32 means in 0–255 of `plane` (H, W), from `_ROWS_PER_CELL` rows of each cell row."""
    height, width = plane.shape
    rows, columns = min(cells[0], height), min(cells[1], width)
    edges = np.arange(columns + 1) * width // columns
    picked = np.minimum(
        (np.arange(rows)[:, None] * height // rows + np.arange(_ROWS_PER_CELL) * (height // (2 * rows))).ravel(),
        height - 1,
    )
    strip = plane[picked].reshape(rows, _ROWS_PER_CELL, width).sum(1, dtype=np.float32)
    means = np.add.reduceat(strip, edges[:-1], axis=1) / (np.diff(edges) * np.float32(_ROWS_PER_CELL))
    return means.astype(np.float32) * np.float32(255.0 / ((1 << bit_depth) - 1))


def thumbnail(frame: Frame) -> Thumbnail:
    """The cells of `frame`: luma (or the mean of R, G and B) as a picture, chroma as two means."""
    depth = frame.format.bit_depth
    if frame.format.is_rgb:
        colors = [cell_means(plane, depth) for plane in frame.planes[:3]]
        return Thumbnail(luma=(colors[0] + colors[1] + colors[2]) / np.float32(3.0), chroma=None)
    luma = cell_means(frame.planes[0], depth)
    if len(frame.planes) < 3:
        return Thumbnail(luma=luma, chroma=None)
    first, second = (float(cell_means(plane, depth, (12, 16)).mean()) for plane in frame.planes[1:3])
    return Thumbnail(luma=luma, chroma=(first, second))
