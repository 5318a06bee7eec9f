"""Motion compensation: a frame's neighbour, moved onto it. Floor 1: torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.frame import MOTION_CELL

_AT_ONCE = 1 << 20
"""Samples of a plane whose places are held at once: 16 bytes each."""


def compensate(picture: Tensor, motion: Tensor, subsampling: tuple[int, int]) -> Tensor:
    """(1, 3, H, W) YCbCr of a neighbour → the same, seen where the frame has it: cubic, the border repeats.

    `motion`: (1, 2, ceil(H / MOTION_CELL), ceil(W / MOTION_CELL)) px, x and y, from the frame to the neighbour.
    `subsampling`: luma (rows, columns) of a chroma sample; such chroma is repeated, and is moved as it is stored.
    """
    rows, columns = subsampling
    if (rows, columns) == (1, 1):
        return _moved(picture, motion, (MOTION_CELL, MOTION_CELL))
    height, width = picture.shape[-2:]
    vectors = torch.cat((motion[:, :1] / columns, motion[:, 1:] / rows), 1)
    small = _moved(picture[:, 1:, ::rows, ::columns], vectors, (MOTION_CELL // rows, MOTION_CELL // columns))
    chroma = small.repeat_interleave(rows, -2).repeat_interleave(columns, -1)[..., :height, :width]
    return torch.cat((_moved(picture[:, :1], motion, (MOTION_CELL, MOTION_CELL)), chroma), 1)


def _moved(planes: Tensor, motion: Tensor, square: tuple[int, int]) -> Tensor:
    """`motion`: in px of these planes, one vector for `square` (rows, columns) of them."""
    height, width = planes.shape[-2:]
    factors = [float(side) for side in square]
    dense = F.interpolate(motion, scale_factor=factors, mode="bilinear", align_corners=False)[0, :, :height, :width]
    columns = torch.arange(width, device=planes.device, dtype=torch.float32)
    rows = torch.arange(height, device=planes.device, dtype=torch.float32)[:, None]
    moved = torch.empty_like(planes)
    at_once = max(1, _AT_ONCE // width)
    for top in range(0, height, at_once):
        part = slice(top, top + at_once)
        x = (columns + dense[0, part]) * (2.0 / max(1, width - 1)) - 1.0
        y = (rows[part] + dense[1, part]) * (2.0 / max(1, height - 1)) - 1.0
        place = torch.stack((x, y), -1)[None]
        moved[..., part, :] = F.grid_sample(planes, place, mode="bicubic", padding_mode="border", align_corners=True)
    return moved
