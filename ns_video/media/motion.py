"""Where the samples of a frame lie in its neighbour: dense optical flow on 8-bit luma. Floor 2.

Dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) as OpenCV has it.
Vectors that a file brings are not used: libav tells those of MPEG and H.264 alone, without the frame that they point
at, and an encoder chooses them for its bits.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from ns_video.frame import MOTION_CELL, Motion

_LEAST_SIDE = 32
"""Smaller pictures have too few patches."""
_MULTIPLE_OF = 4
"""Of sides of what is searched: it begins at a quarter of the size, and would take the rest for part of the motion."""
_HALVED_ABOVE = 1_200_000
"""Pixels above which the search looks at a picture of half the size: four times as fast."""


def find_motion(current: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> Motion | None:
    """Motion from (H, W) uint8 luma to that of a neighbour; None where there is none, or the picture is too small.

    Depends on the two pictures alone. Raises MemoryError.
    """
    height, width = current.shape
    if min(height, width) < _LEAST_SIDE or np.array_equal(current, other):
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
