"""What callers give: pictures, and what they say of their damage, looked at before anything is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

import ns_video.tile as tile
from ns_video.cells import as_kind
from ns_video.conditioning import example_planes
from ns_video.enhance.side_information import Side
from ns_video.errors import UsageError
from ns_video.estimate import JpegEvidence
from ns_video.frame import JpegTables, QuantiserMap
from ns_video.weights import Descriptor

_READ: dict[str, tuple[type, ...]] = {"jpeg": (JpegTables, JpegEvidence), "quantiser": (QuantiserMap,)}
"""Conditioning → what says how a picture was damaged."""
_MOST = 2.0
"""Sample that is no overshoot of a picture in [0, 1]."""


def check_pictures(rgb: object) -> None:
    """Raises UsageError for what is no (N, 3, H, W) tensor of floats with values in [0, 1] or a little beyond."""
    if not isinstance(rgb, Tensor):
        raise UsageError(f"a tensor of shape (N, 3, H, W) is wanted, not a {type(rgb).__name__}")
    if rgb.dim() != 4 or rgb.shape[1] != 3 or rgb.numel() == 0:
        raise UsageError(f"a tensor of shape (N, 3, H, W) is wanted, not {tuple(rgb.shape)}")
    if not rgb.is_floating_point():
        raise UsageError(f"floats in [0, 1] are wanted, not {rgb.dtype}", remedy="samples of 8 bits: rgb / 255")
    _check_dense(rgb)
    if (highest := float(rgb.detach().amax())) > _MOST:
        raise UsageError(f"floats in [0, 1] are wanted, not {highest:g}", remedy="samples of 8 bits: rgb / 255")


def split_side(side: Tensor | Side, rgb: Tensor, descriptor: Descriptor) -> Sequence[Tensor | Side]:
    """What is told of each picture of (N, 3, H, W). Raises UsageError for what the model doesn't read."""
    if isinstance(side, Tensor):
        _check_planes(side, rgb, descriptor)
        return side.expand(len(rgb), -1, -1, -1).split(1)
    if side is not None:
        _check_side(side, rgb, descriptor)
    return [side] * len(rgb)


def _check_dense(tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_meta:
        raise UsageError(f"a dense tensor with values is wanted, not {tensor.layout} on {tensor.device}")


def _check_planes(planes: Tensor, rgb: Tensor, descriptor: Descriptor) -> None:
    count, _, height, width = rgb.shape
    height, width = tile.padded_size(height, width, descriptor.multiple_of)
    wanted = example_planes(descriptor.conditioning, 1, 1)
    if wanted is None or as_kind(descriptor.conditioning) is not None:  # the size of cells is found in the picture
        raise UsageError(f"{descriptor.name} reads no planes", remedy="give pictures alone")
    shapes = [(n, wanted.shape[1], *size) for n in (1, count) for size in ((1, 1), (height, width))]
    if tuple(planes.shape) not in shapes:
        known = " or ".join(map(str, dict.fromkeys(shapes)))
        raise UsageError(f"planes of shape {known} are wanted, not {tuple(planes.shape)}")
    _check_dense(planes)


def _check_side(side: object, rgb: Tensor, descriptor: Descriptor) -> None:
    wanted = _READ.get(descriptor.conditioning, ())
    if not isinstance(side, wanted):
        known = " or ".join(kind.__name__ for kind in wanted) or "no side information"
        raise UsageError(f"{descriptor.name} reads {known}, not a {type(side).__name__}", remedy="give pictures alone")
    if isinstance(side, QuantiserMap):
        if not _is_table(side.step) or not _are_whole((side.block,), 1, 1):
            raise UsageError("a QuantiserMap has (rows, columns) of steps, and blocks of 1 px a side or more")
    elif isinstance(side, JpegTables):
        _check_jpeg(JpegEvidence(side), rgb)
    elif isinstance(side, JpegEvidence):
        _check_jpeg(side, rgb)


def _check_jpeg(told: JpegEvidence, rgb: Tensor) -> None:
    tables, phase = told.tables, told.phase
    if not isinstance(tables, JpegTables) or not _is_table(tables.luma, (8, 8)) or not _is_table(tables.chroma, (8, 8)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UsageError("tables of 8 x 8 steps are wanted")
    if not _are_whole(tables.subsampling, 2, 0):
        raise UsageError(f"{tables.subsampling!r} is no subsampling", remedy="(2, 2) is that of 4:2:0")
    if not _are_whole(phase, 2, 0) or max(phase) > 7:
        raise UsageError(f"{phase!r} is no corner of a first block", remedy="(row, column), 0 to 7 each")
    blocks = tuple(max(0, side_px - begins) // 8 for side_px, begins in zip(rgb.shape[-2:], phase, strict=True))
    foreign = told.foreign
    if foreign is not None and (not _is_table(foreign, blocks) or foreign.dtype != np.bool_):
        raise UsageError(f"foreign blocks are bools of shape {blocks}")


def _is_table(values: object, shape: tuple[int, ...] | None = None) -> bool:
    """Whether these are finite numbers of that shape; without one, in rows and columns."""
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "buif" or not np.isfinite(values).all():
        return False
    return values.ndim == 2 and values.size > 0 if shape is None else values.shape == shape


def _are_whole(numbers: object, count: int, least: int) -> bool:
    """Whether these are so many whole numbers, none below `least`."""
    given = cast(tuple[Any, ...], numbers) if isinstance(numbers, tuple) else ()
    return len(given) == count and all(isinstance(n, (int, np.integer)) and n >= least for n in given)
