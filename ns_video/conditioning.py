"""What the file knows, as planes a network can read. Floor 1: torch and numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.frame import JpegTables, QuantiserMap
from ns_video.upload import upload

JPEG_PLANES = 7
"""luma low, luma middle, luma high, chroma low, chroma high, subsampling, gate."""
QUANTISER_PLANES = 6
"""step, previous step, next step, is intra, is bidirectional, gate."""

PITCH_PLANES = 1
"""Side of a mosaic's cells."""

FADE_START, FADE_END = 9.2, 3.9
"""Mean low-frequency steps (IJG quality 88 and 95) between which the gate for JPEG stills closes."""

_ZIGZAG_SUM = np.add.outer(np.arange(8), np.arange(8))  # anti-diagonal = coarse frequency


def _log_step(step: float) -> float:
    """A quantiser step (8-bit sample units) on a scale where 1 → 0 and 128 → 1."""
    return float(np.log2(max(step, 1.0)) / 7.0)


_SHARE_OF_RGB = 0.8
"""Of the steps of R, G and B, told as those of luma and chroma: three errors make less of one. On held-out pictures a
JPEG that codes R, G and B gains as much by it as by all of them, and none loses."""


def jpeg_planes(tables: JpegTables | None) -> Tensor:
    """(1, JPEG_PLANES, 1, 1) float32 of constants. None means "no damage": zeros, so the gate is closed.

    The gate is tanh of the mean luma step over low frequencies / 8, less what a step of 1 (rounding only) gives. It
    fades to nothing between IJG qualities 88 and 95: there the little that is lost isn't worth the risk (measured:
    small networks made single pictures of quality 95 worse by up to 1.25 dB).
    """
    if tables is None:
        return torch.zeros(1, JPEG_PLANES, 1, 1)
    share = _SHARE_OF_RGB if tables.is_rgb else 1.0
    luma, chroma = share * tables.luma.astype(np.float64), share * tables.chroma.astype(np.float64)

    def mean(table: np.ndarray, low: int, high: int) -> float:
        order = _ZIGZAG_SUM
        return float(table[(order >= low) & (order < high)].mean())

    subsampling = min(1.0, (tables.subsampling[0] * tables.subsampling[1] - 1) / 3.0)  # no more than 4:2:0 was learned
    overall = max(mean(luma, 0, 8), 0.5 * mean(chroma, 0, 8))
    gate = float(np.tanh(max(0.0, overall - 1.0) / 8.0))
    gate *= min(1.0, max(0.0, (overall - FADE_END) / (FADE_START - FADE_END)))
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


def even_map(step: float, width: int, height: int) -> QuantiserMap:
    """One quantiser step (8-bit sample units) for a whole frame of width × height samples."""
    return QuantiserMap(np.full((1, 1), step, np.float32), max(width, height), "P")


def raised_map(told: QuantiserMap, octaves: float, share: float) -> QuantiserMap:
    """`told` moved towards one step of 2 ** `octaves`, by a share in [0, 1] of the way (in octaves)."""
    own = np.log2(np.maximum(told.step, 1.0))
    return replace(told, step=np.exp2(own + share * (octaves - own)).astype(np.float32))


def _blocks(map_: QuantiserMap | None) -> Tensor:
    """(1, 1, rows, columns): log2(step) / 7 of each block; one zero without a map."""
    if map_ is None:
        return torch.zeros(1, 1, 1, 1)
    step = torch.from_numpy(np.ascontiguousarray(map_.step, dtype=np.float32))[None, None]
    return torch.log2(step.clamp(min=1.0)) / 7.0


def _fill(target: Tensor, blocks: Tensor, block: int) -> None:
    """Writes (1, 1, rows, columns) into (H, W), each value over its block; what lies beyond repeats the last block."""
    if blocks.shape[-1] == 1 and blocks.shape[-2] == 1:
        target.fill_(float(blocks))
        return
    height, width = target.shape
    rows, columns = -(-height // block), -(-width // block)
    blocks = upload(blocks, target.device)
    down, right = max(0, rows - blocks.shape[-2]), max(0, columns - blocks.shape[-1])
    if down or right:
        blocks = F.pad(blocks, (0, right, 0, down), mode="replicate")
    line = blocks[0, 0, :rows].repeat_interleave(block, -1)[:, :width]
    target.copy_(line.repeat_interleave(block, 0)[:height])


def quantiser_planes(
    previous: QuantiserMap | None,
    current: QuantiserMap | None,
    following: QuantiserMap | None,
    height: int,
    width: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """(1, QUANTISER_PLANES, H, W) float32 on `device` for a frame and its neighbours in presentation order.

    `current` None means "no damage": the gate is closed. The gate is tanh((step - 1) / 8) of the current frame.
    """
    planes = torch.zeros(1, QUANTISER_PLANES, height, width, device=device)  # only blocks travel to a GPU, not pixels
    if current is None:
        return planes
    step = _blocks(current)
    gate = torch.tanh((torch.exp2(step * 7.0) - 1.0).clamp(min=0.0) / 8.0)
    _fill(planes[0, 0], step, current.block)
    _fill(planes[0, 1], _blocks(previous), 1 if previous is None else previous.block)
    _fill(planes[0, 2], _blocks(following), 1 if following is None else following.block)
    planes[0, 3] = 1.0 if current.picture_type == "I" else 0.0
    planes[0, 4] = 1.0 if current.picture_type == "B" else 0.0
    _fill(planes[0, 5], gate, current.block)
    return planes


def pitch_plane(pitch: int, device: torch.device | str = "cpu") -> Tensor:
    """(1, PITCH_PLANES, 1, 1) float32: how many px a side a mosaic's cells have; 2 → -1, 4 → 1."""
    return torch.full((1, PITCH_PLANES, 1, 1), pitch - 3.0, device=device)


def example_planes(conditioning: str, height: int, width: int, device: torch.device | str = "cpu") -> Tensor | None:
    """What a network of that conditioning gets for an H × W picture of middling damage; None where it gets nothing."""
    if conditioning == "jpeg":
        flat = np.full((8, 8), 8, np.uint16)
        return jpeg_planes(JpegTables(flat, flat)).to(device)
    if conditioning == "quantiser":
        steps = QuantiserMap(np.full((1, 1), 8.0, np.float32), max(height, width))
        return quantiser_planes(steps, steps, steps, height, width, device)
    return pitch_plane(3, device) if conditioning == "mosaic" else None
