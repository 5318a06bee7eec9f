"""What the file knows, as planes a network can read. Floor 1: torch and numpy."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.frame import JpegTables, QuantiserMap

JPEG_PLANES = 7
"""luma low, luma middle, luma high, chroma low, chroma high, subsampling, gate."""
QUANTISER_PLANES = 6
"""step, previous step, next step, is intra, is bidirectional, gate."""

_ZIGZAG_SUM = np.add.outer(np.arange(8), np.arange(8))  # anti-diagonal = coarse frequency


def _log_step(step: float) -> float:
    """A quantiser step (8-bit sample units) on a scale where 1 → 0 and 128 → 1."""
    return float(np.log2(max(step, 1.0)) / 7.0)


def jpeg_planes(tables: JpegTables | None) -> Tensor:
    """(1, JPEG_PLANES, 1, 1) float32 of constants. None means "no damage": zeros, so the gate is closed.

    The gate is tanh of the mean luma step over low frequencies / 8, less what a step of 1 (rounding only) gives.
    """
    if tables is None:
        return torch.zeros(1, JPEG_PLANES, 1, 1)
    luma, chroma = tables.luma.astype(np.float64), tables.chroma.astype(np.float64)

    def mean(table: np.ndarray, low: int, high: int) -> float:
        return float(table[(_ZIGZAG_SUM >= low) & (_ZIGZAG_SUM < high)].mean())

    subsampling = (tables.subsampling[0] * tables.subsampling[1] - 1) / 3.0
    overall = max(mean(luma, 0, 8), 0.5 * mean(chroma, 0, 8))
    gate = float(np.tanh(max(0.0, overall - 1.0) / 8.0))
    if subsampling > 0:
        gate = max(gate, 0.15)
    values = [
        _log_step(mean(luma, 0, 3)),
        _log_step(mean(luma, 3, 6)),
        _log_step(mean(luma, 6, 15)),
        _log_step(mean(chroma, 0, 3)),
        _log_step(mean(chroma, 3, 15)),
        subsampling,
        gate,
    ]
    return torch.tensor(values, dtype=torch.float32).view(1, JPEG_PLANES, 1, 1)


def _step_plane(map_: QuantiserMap | None, height: int, width: int) -> Tensor:
    """(1, 1, H, W): log2(step) / 7 of each pixel's block; zeros without a map."""
    if map_ is None:
        return torch.zeros(1, 1, height, width)
    step = torch.from_numpy(np.ascontiguousarray(map_.step, dtype=np.float32))[None, None]
    plane = torch.log2(step.clamp(min=1.0)) / 7.0
    rows, columns = -(-height // map_.block), -(-width // map_.block)
    if step.shape[-2] < rows or step.shape[-1] < columns:
        plane = F.pad(plane, (0, max(0, columns - step.shape[-1]), 0, max(0, rows - step.shape[-2])), mode="replicate")
    plane = plane.repeat_interleave(map_.block, -2).repeat_interleave(map_.block, -1)
    return plane[..., :height, :width]


def quantiser_planes(
    previous: QuantiserMap | None, current: QuantiserMap | None, following: QuantiserMap | None, height: int, width: int
) -> Tensor:
    """(1, QUANTISER_PLANES, H, W) float32 for a frame and its neighbours in presentation order.

    `current` None means "no damage": the gate is closed. The gate is tanh((step - 0.625) / 8) of the current frame.
    """
    if current is None:
        return torch.zeros(1, QUANTISER_PLANES, height, width)
    step = _step_plane(current, height, width)
    real = torch.exp2(step * 7.0)
    gate = torch.tanh((real - 1.0).clamp(min=0.0) / 8.0)
    intra = torch.full_like(step, 1.0 if current.picture_type == "I" else 0.0)
    both = torch.full_like(step, 1.0 if current.picture_type == "B" else 0.0)
    return torch.cat(
        (step, _step_plane(previous, height, width), _step_plane(following, height, width), intra, both, gate), 1
    )
