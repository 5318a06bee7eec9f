"""Pictures made of cells: found, shrunk to one sample per cell. Floor 1: torch and numpy.

A mosaic, or a picture that was shrunk and enlarged bilinearly, holds one sample per cell and nothing else. A network
that sees one pixel per cell has a fourth to a sixteenth of the work, knows where each cell lies, and sees as far.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["mosaic", "shrunk"]
"""How cells became pixels: each repeated over its place, or joined by straight lines (bilinear)."""

PITCHES: dict[str, tuple[int, ...]] = {"mosaic": (4, 3, 2), "shrunk": (3,)}
"""Sides of a cell in px that are looked for, the largest first: cells of 4 px are cells of 2 px too."""
CELL_SCALES = {"mosaic": 4, "shrunk": 3}
"""What a network makes of a cell's side, whatever it was: the result is then brought to the picture's size."""
_LEAST_DETAIL = {"mosaic": (2.0 / 255) ** 2, "shrunk": (0.25 / 255) ** 2}
"""Mean squared error of a wrong grid below which a picture is too flat to tell."""
_ROUNDING = (0.5 / 255) ** 2
"""Mean squared error that rounding alone may leave."""
_LINES = 96
"""Rows and columns looked at, at least."""
_RIGHT_GRID = {"mosaic": 0.25, "shrunk": 0.35}
"""Error of the right grid / error of one half a cell beside it, at most. Pictures without cells are at 0.6 and more,
but JPEGs of quality 5, whose 8 x 8 blocks are cells of 2 px too, at 0.23."""


def cell_counts(kind: Kind, height: int, width: int, pitch: int) -> tuple[int, int]:
    """(rows, columns) of cells in a picture, at least 1: as `degrade` makes them."""
    if kind == "mosaic":
        return max(1, height // pitch), max(1, width // pitch)
    return max(1, round(height / pitch)), max(1, round(width / pitch))


def _spreading(kind: str, length: int, cells: int, shift: float) -> np.ndarray:
    """(length, cells) float64: what each pixel takes of each cell, OpenCV's geometry; `shift` px to the left."""
    place = np.arange(length) + shift
    matrix = np.zeros((length, cells))
    rows = np.arange(length)
    if kind == "mosaic":
        matrix[rows, np.clip(np.floor(place * (cells / length)), 0, cells - 1).astype(np.int64)] = 1.0
        return matrix
    at = np.clip((place + 0.5) * (cells / length) - 0.5, 0, cells - 1)
    first = np.minimum(at.astype(np.int64), max(0, cells - 2))
    matrix[rows, first] = 1 - (at - first)
    if cells > 1:
        matrix[rows, first + 1] = at - first
    return matrix


@lru_cache(maxsize=32)
def _matrices(kind: str, length: int, cells: int, shift: float) -> tuple[Tensor, Tensor]:
    """(length, cells) from cells to pixels, and (cells, length) back: the least-squares inverse. float32."""
    spread = _spreading(kind, length, cells, shift)
    gram = spread.T @ spread
    gram[np.diag_indices(cells)] += 1e-9  # a cell without a pixel, where the grid was shifted
    back = np.linalg.solve(gram, spread.T)
    return torch.from_numpy(spread).float(), torch.from_numpy(back).float()


def shrink(picture: Tensor, kind: Kind, pitch: int) -> Tensor:
    """(..., H, W) → (..., rows, columns), one sample per cell: the inverse of how the cells were enlarged."""
    height, width = picture.shape[-2:]
    rows, columns = cell_counts(kind, height, width, pitch)
    down, across = _matrices(kind, height, rows, 0.0)[1], _matrices(kind, width, columns, 0.0)[1]
    return down.to(picture.device) @ picture.float() @ across.to(picture.device).T


def _misfit(lines: Tensor, kind: Kind, cells: int, shift: float) -> Tensor:
    """Mean squared error of (N, length) lines that are shrunk to cells and enlarged again."""
    spread, back = _matrices(kind, lines.shape[-1], cells, shift)
    return (lines @ back.T @ spread.T - lines).square().mean()


def find_pitch(luma: Tensor, kind: Kind) -> int | None:
    """Side in px of the cells that (H, W) luma in [0, 1] is made of; None where it isn't made of any.

    Some rows and columns are shrunk to cells and enlarged again, on the grid that they would have and on one half a
    cell beside: a picture of cells survives the first alone. Compression since then costs certainty, not the find.
    """
    luma = luma.detach().float().cpu()
    height, width = luma.shape
    across, down = luma[:: max(1, height // _LINES)], luma[:, :: max(1, width // _LINES)].T
    for pitch in PITCHES[kind]:
        if min(height, width) < 4 * pitch:
            continue
        rows, columns = cell_counts(kind, height, width, pitch)
        shift = pitch / 2 if kind == "shrunk" else pitch // 2
        error, beside = (
            float(_misfit(across, kind, columns, by) + _misfit(down, kind, rows, by)) for by in (0.0, shift)
        )
        if beside > _LEAST_DETAIL[kind] and error < max(min(_ROUNDING, 0.5 * beside), _RIGHT_GRID[kind] * beside):
            return pitch
    return None


def fit(enlarged: Tensor, kind: Kind, height: int, width: int) -> Tensor:
    """What a network made of the cells, (N, C, scale * rows, scale * columns), as a picture of (height, width).

    A mosaic's cells are spread evenly over the picture, so the result is resized, antialiased. A shrunk picture's
    began as exactly 3 px each, whatever its size: OpenCV shrinks by a third exactly, rounds the size, and enlarges
    what it has to the old size. There the result is cut, or its border repeated.
    """
    if enlarged.shape[-2:] == (height, width):
        return enlarged
    if kind == "mosaic":
        return F.interpolate(enlarged, size=(height, width), mode="bicubic", align_corners=False, antialias=True)
    cut = enlarged[..., :height, :width]
    below, right = height - cut.shape[-2], width - cut.shape[-1]
    return F.pad(cut, (0, right, 0, below), mode="replicate") if below or right else cut
