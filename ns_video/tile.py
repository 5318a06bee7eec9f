"""Tiles: where they lie, how they are padded and how their results become one picture. Floor 1: torch.

Exact tiles: a network that sees `halo` px to each side gives, inside a tile cut `halo` px larger than what is kept,
what it gives on the whole picture. The picture is padded once, before it is cut, and a tile at the border ends where
the padded picture ends: so the zeros that convolutions put around a picture are the same tiled and whole.
Windows are for networks that look at everything (attention): there the results overlap and are averaged.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Blend = Literal["crop", "gaussian", "improved-gaussian", "linear", "cosine", "poisson"]
BLENDS: tuple[str, ...] = get_args(Blend)

ALIGNMENT = 16
"""Tiles begin on multiples of this many px (the last one of a row may not): the grid of macroblocks and of JPEG."""
SMALLEST_CORE = 32
"""A tile keeps at least this many px of what it computes, however large the halo is."""


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in px of the padded input: rows top..bottom, columns left..right, ends excluded."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def cut(self, x: Tensor, scale: int = 1) -> Tensor:
        """The view of `x` (…, H, W) under this box, `x` being `scale` times the input's size."""
        return x[..., self.top * scale : self.bottom * scale, self.left * scale : self.right * scale]


@dataclass(frozen=True, slots=True)
class Tile:
    """`outer` is what the network sees, `core` the part of it that is kept. Cores cover the picture once."""

    outer: Box
    core: Box


def padded_size(height: int, width: int, multiple_of: int) -> tuple[int, int]:
    """(H, W) rounded up to multiples."""
    return -(-height // multiple_of) * multiple_of, -(-width // multiple_of) * multiple_of


def pad_to_multiple(x: Tensor, multiple_of: int) -> Tensor:
    """Pads the right and bottom of (N, C, H, W): reflected as far as there is picture, then repeated."""
    height, width = x.shape[-2:]
    target_height, target_width = padded_size(height, width, multiple_of)
    down, right = target_height - height, target_width - width
    if not down and not right:
        return x
    reflect_down, reflect_right = min(down, height - 1), min(right, width - 1)
    if reflect_down or reflect_right:
        x = F.pad(x, (0, reflect_right, 0, reflect_down), mode="reflect")
    if down > reflect_down or right > reflect_right:
        x = F.pad(x, (0, right - reflect_right, 0, down - reflect_down), mode="replicate")
    return x


def plan(
    height: int, width: int, *, tile: int | None, overlap: int, multiple_of: int, shrink: bool = True
) -> tuple[Tile, ...]:
    """Tiles of an H × W picture, row by row.

    H and W are multiples of `multiple_of`. `tile` is the side of what the network sees, None for the whole picture;
    `overlap` is the total overlap of neighbours, half of which is the halo that is not kept. All tiles have the same
    size; the fewest that cover the picture are spread evenly, and with `shrink` made no larger than that number needs
    (a network whose result depends on the tile's size wants False). A tile too small for its overlap is enlarged.
    """
    rows = _plan_axis(height, tile, overlap, multiple_of, shrink)
    columns = _plan_axis(width, tile, overlap, multiple_of, shrink)
    return tuple(
        Tile(Box(top, left, bottom, right), Box(core_top, core_left, core_bottom, core_right))
        for top, bottom, core_top, core_bottom in rows
        for left, right, core_left, core_right in columns
    )


def halo_cost(tiles: Sequence[Tile]) -> float:
    """Pixels computed over pixels kept, minus one: 0.1 is a tenth more work than the whole picture at once."""
    seen = sum(tile.outer.height * tile.outer.width for tile in tiles)
    kept = sum(tile.core.height * tile.core.width for tile in tiles)
    return seen / kept - 1.0


def window(blend: Blend, height: int, width: int) -> Tensor:
    """(H, W) float32 weights of a tile, over x, y in [-1, 1] and d = √(x² + y²); positive, not yet normalised.

    Source: the five windows of NS-IC. "crop" is ones: its cores do not overlap.
    """
    if blend == "crop":
        return torch.ones(height, width)
    y = torch.linspace(-1, 1, height).view(-1, 1)
    x = torch.linspace(-1, 1, width).view(1, -1)
    d = (x * x + y * y).sqrt()
    if blend == "gaussian":
        return torch.exp(-(d**2) / (2 * 0.5**2))
    if blend == "improved-gaussian":
        sigma = torch.where(d <= 0.5, 0.7, 0.3)
        return torch.exp(-(d**2) / (2 * sigma**2)).clamp(min=0.1)
    if blend == "linear":
        return (1 - d).clamp(min=0.1)
    if blend == "cosine":
        return torch.cos(d.clamp(max=1.0) * (math.pi / 2)).clamp(min=0.1)
    return torch.exp(-3 * d).clamp(min=0.1)


@lru_cache(maxsize=4)
@torch.inference_mode(False)  # kept for trainings too
def _window_on(blend: Blend, height: int, width: int, device: torch.device) -> Tensor:
    return window(blend, height, width).to(device)


def run_tiled(
    forward: Callable[[Sequence[Tile]], Sequence[Tensor]],
    tiles: Sequence[Tile],
    canvas: Tensor,
    *,
    scale: int,
    blend: Blend,
    batch: int = 1,
) -> Tensor:
    """Fills `canvas` (N, C, scale * H, scale * W) from the results of `forward` and returns it.

    `forward` takes up to `batch` tiles of equal size and returns (N, C, scale * h, scale * w) for each. With "crop" the
    cores are put side by side; else whole tiles are added by their window and divided by the sum of the windows.
    """
    crop = blend == "crop" or len(tiles) == 1
    total: Tensor | None = None
    if not crop:
        canvas.zero_()
        total = torch.zeros(canvas.shape[-2:], device=canvas.device)
    for first in range(0, len(tiles), batch):
        group = tiles[first : first + batch]
        for tile, result in zip(group, forward(group), strict=True):
            if total is None:
                box = tile.core
                inside = Box(
                    box.top - tile.outer.top,
                    box.left - tile.outer.left,
                    box.bottom - tile.outer.top,
                    box.right - tile.outer.left,
                )
                box.cut(canvas, scale).copy_(inside.cut(result, scale))
            else:
                weight = _window_on(blend, result.shape[-2], result.shape[-1], canvas.device)
                tile.outer.cut(canvas, scale).add_(result.to(canvas.dtype) * weight)
                tile.outer.cut(total, scale).add_(weight)
    if total is not None:
        canvas.div_(total)
    return canvas


def _plan_axis(
    length: int, tile: int | None, overlap: int, multiple_of: int, shrink: bool
) -> list[tuple[int, int, int, int]]:
    """(start, end, core start, core end) of each tile along one axis."""
    step = math.lcm(multiple_of, ALIGNMENT)
    halo = -(-overlap // (2 * multiple_of)) * multiple_of
    if tile is None:
        return [(0, length, 0, length)]
    side = max(-(-tile // multiple_of) * multiple_of, 2 * halo + -(-SMALLEST_CORE // step) * step)
    if side >= length:
        return [(0, length, 0, length)]
    # Neighbours must share at least 2 * halo, also after their starts were rounded down to `step`.
    stride = max((side - 2 * halo) // step * step, multiple_of)
    count = 1 + -(-(length - side) // stride)
    if shrink:
        needed = -(-(length + (count - 1) * (2 * halo + step)) // count)
        side = min(side, -(-needed // step) * step)
        if side >= length:
            return [(0, length, 0, length)]
    even = -(-(length - side) // (count - 1))
    even = min(stride, -(-even // step) * step)
    starts = [index * even for index in range(count - 1)]
    starts = [start for start in starts if start + side < length] + [length - side]
    cuts = [0]
    for left, right in itertools.pairwise(starts):
        middle = (left + side + right) // 2  # of what both see
        cuts.append(middle // multiple_of * multiple_of)
    cuts.append(length)
    return [(start, start + side, cuts[i], cuts[i + 1]) for i, start in enumerate(starts)]
