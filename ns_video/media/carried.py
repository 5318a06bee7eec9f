"""Quantisers that a frame's pixels were really made with. Floor 2.

A skipped block repeats what an earlier frame coded, and its own quantiser says nothing of it: a slide that was coded
finely once is told as coarse by every frame after it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ns_video.frame import Frame, QuantiserMap

Item = TypeVar("Item")

_BLOCK = 16
_STILL = 2
"""8-bit steps by which the luma of a repeated block may differ: filters and rounding go on over it."""


def carry_quantisers(frames: Iterable[Item]) -> Generator[Item]:
    """The same frames (and what else comes along); a block of 16 x 16 that repeats the frame before has the finer step
    of the two."""
    luma: npt.NDArray[np.generic] | None = None
    steps: npt.NDArray[np.float32] | None = None
    for frame in frames:
        if not isinstance(frame, Frame):
            yield frame
            continue
        told = frame.quantiser
        now = frame.planes[0]
        if told is None:
            luma = steps = None
            yield frame
            continue
        still = None if luma is None or luma.shape != now.shape or luma.dtype != now.dtype else _still(luma, now, frame)
        luma = now
        if still is None or steps is None or not still.any():
            steps = _by_block(told, *now.shape)
            yield frame
            continue
        own = _by_block(told, *now.shape)
        steps = np.where(still, np.minimum(own, steps), own)
        if not (steps < own).any():
            yield frame
            continue
        yield dataclasses.replace(frame, quantiser=dataclasses.replace(told, step=steps, block=_BLOCK))


def _still(before: npt.NDArray[np.generic], now: npt.NDArray[np.generic], frame: Frame) -> npt.NDArray[np.bool_]:
    """(rows, columns) of blocks that differ nowhere by more than `_STILL`."""
    most = _STILL << (frame.format.bit_depth - 8)
    moved = (np.maximum(before, now) - np.minimum(before, now)) > most  # pyright: ignore[reportOperatorIssue]
    rows, columns = (np.arange(0, side, _BLOCK) for side in now.shape)
    return ~np.logical_or.reduceat(np.logical_or.reduceat(moved, rows, 0), columns, 1)


def _by_block(told: QuantiserMap, height: int, width: int) -> npt.NDArray[np.float32]:
    """Steps of blocks of 16 x 16: as they are, or the mean of the smaller blocks within, or the one they lie in."""
    rows, columns = -(-height // _BLOCK), -(-width // _BLOCK)
    step = told.step
    if step.size == 1:
        return np.full((rows, columns), float(step.reshape(-1)[0]), np.float32)
    if told.block < _BLOCK:
        parts = _BLOCK // told.block
        low, right = rows * parts - step.shape[0], columns * parts - step.shape[1]
        whole = np.pad(step, ((0, max(0, low)), (0, max(0, right))), mode="edge")[: rows * parts, : columns * parts]
        return whole.reshape(rows, parts, columns, parts).mean((1, 3), dtype=np.float32)
    y = np.minimum(np.arange(rows) * _BLOCK // told.block, step.shape[0] - 1)
    x = np.minimum(np.arange(columns) * _BLOCK // told.block, step.shape[1] - 1)
    return np.ascontiguousarray(step[y][:, x], dtype=np.float32)
