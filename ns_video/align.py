"""Motion compensation: a frame's neighbour, moved onto it. Floor 1: torch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.belief import BLOCK, LUMA_SPAN, block_means
from ns_video.frame import MOTION_CELL

_SAME, _OTHER = 0.8, 1.6
"""Root mean square of what a neighbour and the frame differ by around a block / quantiser step: up to the first they
show the same, from the second on they don't. Chosen on training clips: neighbours help up to about 1, and hurt then."""
_LIT, _LIT_OTHERWISE = 0.25, 0.5
"""Brightness by which they differ around a block / quantiser step: from the second on it is taken out (a fade, a light
that goes on), up to the first it is coding's."""
_STRICTER = 0.75
"""Share by which those other limits are lower where brightness is taken out: light burns detail away."""
_FLASH = 2.0
"""Twice so much brightness / quantiser step is no fade: what differs by more stays another thing."""
_LEAST_STEP = 1.5  # 8-bit units
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


def matched(neighbour: Tensor, frame: Tensor, octaves: Tensor, likeness: float) -> Tensor:
    """A neighbour that was moved onto the frame, (1, 3, H, W) YCbCr, lit as the frame, where it shows what that does;
    the frame itself where it shows something else: after a cut, behind what moves, where the motion is wrong.

    What the two differ by is measured by the quantiser: `octaves`, (1, 1, H, W), are log2 of its steps in 8-bit units,
    which do as much damage as those of H.264 of a `likeness`-th of their size.
    """
    step = likeness * torch.exp2(block_means(octaves)).clamp_min(_LEAST_STEP)
    difference = (neighbour - frame).float()
    light = _smoothed(block_means(difference), 2)
    lit = light[:, :1].abs() * LUMA_SPAN / step
    strength = ((lit - _LIT) / (_LIT_OTHERWISE - _LIT)).clamp(0.0, 1.0) * (2.0 - lit / _FLASH).clamp(0.0, 1.0)
    difference.sub_(_enlarged(light.mul_(strength), difference))
    error = _smoothed(block_means(difference[:, :1].mul(LUMA_SPAN).square_()), 1).sqrt()
    ratio = error / (step * (1.0 - _STRICTER * strength))
    weight = ((_OTHER - ratio) / (_OTHER - _SAME)).clamp(0.0, 1.0)
    return difference.mul_(_enlarged(weight, difference)).add_(frame).to(frame.dtype)


def _smoothed(blocks: Tensor, reach: int) -> Tensor:
    """The mean of each and of its neighbours, `reach` to each side."""
    return F.avg_pool2d(blocks, 2 * reach + 1, stride=1, padding=reach, count_include_pad=False)


def _enlarged(blocks: Tensor, like: Tensor) -> Tensor:
    """Blocks → samples, as many as `like` has."""
    return F.interpolate(blocks, scale_factor=BLOCK, mode="bilinear")[..., : like.shape[-2], : like.shape[-1]]


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
