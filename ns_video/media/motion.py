"""Where the samples of a frame lie in its neighbour: dense optical flow on 8-bit luma; and moving them. Floor 2.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) as OpenCV has it.
Vectors that a file brings are not used: libav tells those of MPEG and H.264 alone, without the frame that they point
at, and an encoder chooses them for its bits.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.align import compensate
from ns_video.frame import MOTION_CELL, Motion

_LEAST_SIDE = 32
"""Smaller pictures have too few patches."""
_MULTIPLE_OF = 4
"""Of sides of what is searched: it begins at a quarter of the size, and would take the rest for part of the motion."""
_HALVED_ABOVE = 1_200_000
"""Pixels above which the search looks at a picture of half the size: four times as fast."""
_LARGEST_SIDE = 20_000
"""Of what OpenCV searches and remaps whatever its shape."""


def find_motion(current: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> Motion | None:
    """Motion from (H, W) uint8 luma to that of a neighbour; None where there is none, or a side is too small or large.

    Depends on the two pictures alone. Raises MemoryError.
    """
    height, width = current.shape
    if min(height, width) < _LEAST_SIDE or max(height, width) > _LARGEST_SIDE or np.array_equal(current, other):
        return None
    try:
        return _search(np.ascontiguousarray(current), np.ascontiguousarray(other))
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        raise


def _search(current: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> Motion:
    height, width = current.shape
    pictures = [current, other]
    cell = MOTION_CELL
    if height * width > _HALVED_ABOVE:
        cell = MOTION_CELL // 2
        size = (-(-width // 2), -(-height // 2))
        pictures = [np.asarray(cv2.resize(one, size, interpolation=cv2.INTER_AREA), np.uint8) for one in pictures]
    rows, columns = -(-height // MOTION_CELL), -(-width // MOTION_CELL)
    across, down = (-side % _MULTIPLE_OF for side in pictures[0].shape[::-1])
    first, second = (cv2.copyMakeBorder(one, 0, down, 0, across, cv2.BORDER_REPLICATE) for one in pictures)
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)  # anew: small pictures change its settings
    flow = np.asarray(search.calc(first, second, cast(npt.NDArray[np.float32], None)), np.float32)
    flow = flow[: rows * cell, : columns * cell]
    mean = flow.reshape(rows, cell, columns, cell, 2).mean((1, 3), dtype=np.float32)
    return mean * np.float32(MOTION_CELL / cell)


def compensate_here(picture: Tensor, motion: Motion, subsampling: tuple[int, int]) -> Tensor:
    """`ns_video.align.compensate` of a float32 picture on the CPU, by OpenCV, which takes a third of the time.

    `motion` as `find_motion` gives it. Raises MemoryError.
    """
    height, width = picture.shape[-2:]
    rows, columns = subsampling
    vectors = torch.from_numpy(motion).permute(2, 0, 1)[None]
    if max(height, width) > _LARGEST_SIDE:
        return compensate(picture, vectors.contiguous(), subsampling)
    moved = torch.empty_like(picture)
    try:
        _move(picture[0, :1], vectors, (MOTION_CELL, MOTION_CELL), moved[0, :1])
        small = picture[0, 1:, ::rows, ::columns]
        if (rows, columns) == (1, 1):
            _move(small, vectors, (MOTION_CELL, MOTION_CELL), moved[0, 1:])
        else:
            smaller = torch.cat((vectors[:, :1] / columns, vectors[:, 1:] / rows), 1)
            chroma = torch.empty_like(small, memory_format=torch.contiguous_format)
            _move(small, smaller, (MOTION_CELL // rows, MOTION_CELL // columns), chroma)
            repeated = chroma.repeat_interleave(rows, -2).repeat_interleave(columns, -1)
            moved[0, 1:] = repeated[..., :height, :width]
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        raise
    return moved


def _move(planes: Tensor, vectors: Tensor, square: tuple[int, int], moved: Tensor) -> None:
    """`vectors` (1, 2, rows, columns) in px of these planes, one for `square` (rows, columns) of them."""
    height, width = planes.shape[-2:]
    factors = [float(side) for side in square]
    dense = F.interpolate(vectors, scale_factor=factors, mode="bilinear", align_corners=False)[0, :, :height, :width]
    across = (dense[0] + torch.arange(width, dtype=torch.float32)).numpy()
    down = (dense[1] + torch.arange(height, dtype=torch.float32)[:, None]).numpy()
    for plane, target in zip(planes, moved, strict=True):
        source = np.ascontiguousarray(plane.numpy())
        target.copy_(
            torch.from_numpy(cv2.remap(source, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE))
        )
