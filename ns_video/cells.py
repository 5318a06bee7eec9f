"""Pictures made of cells: found, shrunk to one sample per cell. Floor 1: torch and numpy.

A mosaic, or a picture that was shrunk and enlarged bilinearly, holds one sample per cell and nothing else. A network
that sees one pixel per cell has a fourth to a sixteenth of the work, knows where each cell lies, and sees as far.
"""

from __future__ import annotations

import math
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
_CPU = torch.device("cpu")
_BLOCK_CELLS, _NEIGHBOURS = 256, 11
_LINES = 96
"""Rows and columns looked at, at least."""
_RIGHT_GRID = {"mosaic": 0.25, "shrunk": 0.35}
"""Error of the right grid / error of one half a cell beside it, at most. Pictures without cells have much the same
on both, but a JPEG of quality 5, whose 8 x 8 blocks are cells of 2 px too, may come near."""

_ONE_WAY = 1.6
"""The same may be this much more in one direction, rows or columns, alone."""
_WIDE_CELLS = 6.0
"""Error within the cells that are wider than others / within those, above which they hold parts of two."""
_PAIRS = 0.1
"""Mean squared step between cells 0 and 1, 2 and 3, … / between 1 and 2, 3 and 4, …, below which they are pairs."""
_SOFT_DECIBELS = -13.7
"""Power of the finest detail of shrunk cells / of middling detail, at most: the study blurs before it shrinks, and
that blur is undone. Chosen on training pictures; some that were shrunk without the blur are below it all the same."""


def as_kind(conditioning: str) -> Kind | None:
    """The kind of cells that a conditioning names, None where it names none."""
    return conditioning if conditioning == "mosaic" or conditioning == "shrunk" else None


def cell_counts(kind: Kind, height: int, width: int, pitch: int) -> tuple[int, int]:
    """(rows, columns) of cells in a picture, at least 1: as `degrade` makes them."""
    if kind == "mosaic":
        return max(1, height // pitch), max(1, width // pitch)
    return max(1, round(height / pitch)), max(1, round(width / pitch))


class _Axis:
    """Rows or columns of pixels and the cells they were made of, in OpenCV's geometry."""

    def __init__(self, kind: Kind, length: int, cells: int, shift: float, device: torch.device) -> None:
        """`shift`: the pixels lie that many px to the right of where they would."""
        self._kind, self._cells = kind, cells
        place = np.arange(length) + shift
        if kind == "mosaic":
            first = np.clip(np.floor(place * (cells / length)), 0, cells - 1).astype(np.int64)
            weight = np.zeros(length)
        else:
            at = np.clip((place + 0.5) * (cells / length) - 0.5, 0, cells - 1)
            first = np.minimum(at.astype(np.int64), max(0, cells - 2))
            weight = at - first
        count = np.maximum(np.bincount(first, minlength=cells), 1)
        second = np.minimum(first + 1, cells - 1)
        part = weight.astype(np.float32)
        places, shares = _shares(first, second, part, cells)
        band = None if kind == "mosaic" else _inverse_band(first, weight, cells).astype(np.float32)
        self._first, self._second = torch.from_numpy(first).to(device), torch.from_numpy(second).to(device)
        self._weight = torch.from_numpy(part).to(device)
        self._count = torch.from_numpy(count).float()[:, None].to(device)
        self._places, self._shares = torch.from_numpy(places).to(device), torch.from_numpy(shares)[..., None].to(device)
        self._inverse = None if band is None else torch.from_numpy(band)[..., None].to(device)
        self.width_at = self._count[self._first, 0]
        """Pixels of the cell that each pixel lies in."""

    def spread(self, cells: Tensor) -> Tensor:
        """(..., cells) → (..., length)."""
        near = cells[..., self._first]
        if self._kind == "mosaic":
            return near
        return torch.lerp(near, cells[..., self._second], self._weight)

    def shrink(self, pixels: Tensor) -> Tensor:
        """(..., length) → (..., cells): the least-squares inverse of `spread`."""
        rows = pixels.transpose(-1, -2).contiguous()  # quicker to gather
        sums = torch.zeros(*rows.shape[:-2], self._cells, rows.shape[-1], device=rows.device)
        for place, share in zip(self._places, self._shares, strict=True):  # index_add_ has no fixed order on CUDA
            sums.add_(rows.index_select(-2, place).mul_(share))
        if self._inverse is None:
            return (sums / self._count).transpose(-1, -2)
        padded = F.pad(sums, (0, 0, _NEIGHBOURS, _NEIGHBOURS))
        result = torch.zeros_like(sums)
        for offset, factor in enumerate(self._inverse):
            result.addcmul_(padded[..., offset : offset + self._cells, :], factor)
        return result.transpose(-1, -2)


def _shares(first: np.ndarray, second: np.ndarray, weight: np.ndarray, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """(taps, cells) pixels that have a share in each cell, and their shares; as many taps as the widest cell needs.

    Pixel i has 1 - weight[i] in first[i] and weight[i] in second[i]. Cells with fewer pixels repeat one, with share 0.
    """
    pixels = np.tile(np.arange(len(first)), 2)
    owners, shares = np.concatenate((first, second)), np.concatenate((1 - weight, weight))
    order = np.flatnonzero(shares)
    order = order[np.argsort(owners[order], kind="stable")]
    pixels, owners, shares = pixels[order], owners[order], shares[order]
    counts = np.bincount(owners, minlength=cells)
    begins = np.cumsum(counts) - counts
    taps = np.arange(counts.max())[:, None]
    at = np.minimum(begins + np.minimum(taps, np.maximum(counts - 1, 0)), len(pixels) - 1)
    return pixels[at], np.where(taps < counts, shares[at], np.float32(0))


def _inverse_band(first: np.ndarray, weight: np.ndarray, cells: int) -> np.ndarray:
    """(2 _NEIGHBOURS + 1, cells): the inverse of the normal equations of linear interpolation, around its diagonal.

    It falls by five from cell to cell. Worked out in blocks of cells with neighbours enough to make that exact.
    """
    straight = np.bincount(first, (1 - weight) ** 2, cells) + np.bincount(first + 1, weight**2, cells + 1)[:cells]
    beside = np.bincount(first, weight * (1 - weight), cells)[: cells - 1]
    band = np.zeros((2 * _NEIGHBOURS + 1, cells))
    for begin in range(0, cells, _BLOCK_CELLS):
        low, end = max(0, begin - 3 * _NEIGHBOURS), min(cells, begin + _BLOCK_CELLS)
        high = min(cells, end + 3 * _NEIGHBOURS)
        some = beside[low : high - 1]
        gram = np.diag(straight[low:high] + 1e-9) + np.diag(some, 1) + np.diag(some, -1)
        inverse = np.linalg.inv(gram)
        for offset in range(-_NEIGHBOURS, _NEIGHBOURS + 1):
            rows = np.arange(max(begin, -offset), min(end, cells - offset))
            band[offset + _NEIGHBOURS, rows] = inverse[rows - low, rows + offset - low]
    return band


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # kept for trainings too
def _axis(kind: Kind, length: int, cells: int, shift: float, device: torch.device = _CPU) -> _Axis:
    return _Axis(kind, length, cells, shift, device)


def shrink(picture: Tensor, kind: Kind, pitch: int) -> Tensor:
    """(..., H, W) → (..., rows, columns), one sample per cell: the inverse of how the cells were enlarged."""
    height, width = picture.shape[-2:]
    rows, columns = cell_counts(kind, height, width, pitch)
    narrow = _axis(kind, width, columns, 0.0, picture.device).shrink(picture.float())
    return (
        _axis(kind, height, rows, 0.0, picture.device).shrink(narrow.transpose(-1, -2)).transpose(-1, -2).contiguous()
    )


def _misfit(lines: Tensor, kind: Kind, cells: int, shift: float) -> Tensor:
    """Mean squared error of (N, length) lines that are shrunk to cells and enlarged again."""
    axis = _axis(kind, lines.shape[-1], cells, shift)
    return (axis.spread(axis.shrink(lines)) - lines).square().mean()


def _is_cropped(lines: Tensor, cells: int, pitch: int) -> bool:
    """Whether a mosaic's cells that are wider than its pitch, if it has any, hold parts of two.

    Where the length is no multiple of the pitch they take up what is left over. In a cropped mosaic the other cells
    may lie where they should.
    """
    axis = _axis("mosaic", lines.shape[-1], cells, 0.0)
    wide = axis.width_at > pitch
    if not bool(wide.any()) or bool(wide.all()):
        return False
    error = (axis.spread(axis.shrink(lines)) - lines).square()
    return float(error[:, wide].mean()) > max(_ROUNDING, _WIDE_CELLS * float(error[:, ~wide].mean()))


def _is_on_grid(kind: Kind, error: float, beside: float) -> bool:
    """Whether lines of a picture have cells, by the errors on their grid and beside it; or are flat."""
    if beside <= _LEAST_DETAIL[kind] / 2:
        return error <= _ROUNDING
    return error < max(min(_ROUNDING, 0.5 * beside), _RIGHT_GRID[kind] * beside)


def _are_pairs(cells: Tensor) -> bool:
    """Whether (N, cells) come in equal pairs: they are halves of the larger cells of a mosaic that was cropped."""
    steps = cells.diff(dim=-1).square().mean(0)
    first, second = float(steps[::2].mean()), float(steps[1::2].mean())
    return min(first, second) < _PAIRS * max(first, second)


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
        axes = ((across, columns), (down, rows))
        errors = [tuple(float(_misfit(lines, kind, cells, by)) for by in (0.0, shift)) for lines, cells in axes]
        if sum(beside for _, beside in errors) <= _LEAST_DETAIL[kind]:
            continue
        if not _is_on_grid(kind, sum(error for error, _ in errors), sum(beside for _, beside in errors)):
            continue
        if not all(_is_on_grid(kind, error / _ONE_WAY, beside) for error, beside in errors):
            continue
        if kind == "shrunk":
            return pitch if _is_soft(shrink(luma[None], kind, pitch)[0]) else None
        if any(_is_cropped(lines, cells, pitch) for lines, cells in axes):
            continue
        if pitch > 2 or not _are_pairs(_axis(kind, width, columns, 0.0).shrink(across)):
            return pitch
    return None


def _is_soft(cells: Tensor) -> bool:
    """Whether (rows, columns) cells were blurred before the picture was shrunk to them."""
    rows, columns = cells.shape
    window = torch.hann_window(rows)[:, None] * torch.hann_window(columns)
    power = torch.fft.fft2((cells - cells.mean()) * window).abs().square()
    radius = torch.hypot(torch.fft.fftfreq(rows)[:, None], torch.fft.fftfreq(columns))

    def decibels(low: float, high: float) -> float:
        ring = power[(radius > low) & (radius <= high)]
        return 10.0 * math.log10(max(float(ring.mean()), 1e-20)) if ring.numel() else 0.0

    return decibels(0.45, 0.5) - (decibels(0.15, 0.2) + decibels(0.2, 0.25)) / 2 <= _SOFT_DECIBELS


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
