"""What a JPEG's coefficients say about the picture it was made of: each lies within half a step. Floor 1: torch.

A restored picture is moved to the nearest one whose coefficients lie in those intervals, or in narrower ones around
their middles: the quantisation constraint set (Zakhor, IEEE Transactions on Circuits and Systems for Video Technology
2(1), 1992) and the narrow one (Park and Kim, IEEE Transactions on Image Processing 8(10), 1999). Where a network
expects another kind of picture, the file has the last word.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ns_video.frame import JpegTables
from ns_video.jpeg_tables import JFIF_YCBCR, dct_matrix

WIDTH = 0.33
"""Half the width of an interval in steps. 0.5 is certain; narrower ones hold most coefficients and less of a network's
errors: `benchmarks/still_choices.py` compares them on held-out training pictures."""


def _coefficients(plane: Tensor, dct: Tensor) -> Tensor:
    """(8 m, 8 n) → (m, n, 8, 8) orthonormal DCT coefficients."""
    height, width = plane.shape
    return dct @ plane.reshape(height // 8, 8, width // 8, 8).transpose(1, 2) @ dct.T


def _plane(coefficients: Tensor, dct: Tensor) -> Tensor:
    rows, columns = coefficients.shape[:2]
    return (dct.T @ coefficients @ dct).transpose(1, 2).reshape(rows * 8, columns * 8)


def project(
    restored: Tensor, decoded: Tensor, tables: JpegTables, phase: tuple[int, int] = (0, 0), width: float = WIDTH
) -> Tensor:
    """(1, 3, H, W) RGB in [0, 1], moved to where the JPEG that `decoded` shows leaves room; not clamped.

    `phase` is the (row, column) of the first whole block. Luma is held, and chroma where it wasn't subsampled; blocks
    that the border cuts are left. A coefficient may always keep the value that it has in `decoded`.
    """
    top, left = phase
    height, width_px = (restored.shape[-2] - top) // 8 * 8, (restored.shape[-1] - left) // 8 * 8
    if height <= 0 or width_px <= 0:
        return restored
    device = restored.device
    dct, to_ycbcr = (torch.from_numpy(matrix).to(device) for matrix in (dct_matrix(), JFIF_YCBCR))
    inner = (..., slice(top, top + height), slice(left, left + width_px))
    planes = 3 if tables.subsampling == (1, 1) else 1
    change = torch.zeros(3, height, width_px, device=device)
    for index in range(planes):
        weights = to_ycbcr[index].view(3, 1, 1) * 255.0
        table = tables.luma if index == 0 else tables.chroma
        step = torch.from_numpy(table.astype(np.float32)).to(device)
        offset = 128.0 if index == 0 else 0.0
        was = _coefficients((decoded[0][inner] * weights).sum(0) - offset, dct)
        now = _coefficients((restored[0][inner] * weights).sum(0) - offset, dct)
        middle = torch.round(was / step) * step
        held = now.maximum((middle - width * step).minimum(was)).minimum((middle + width * step).maximum(was))
        change[index] = _plane(held - now, dct)
    moved = restored.clone()
    back = torch.linalg.inv(to_ycbcr)
    moved[0][inner] += torch.einsum("ij,jhw->ihw", back, change) / 255.0
    return moved
