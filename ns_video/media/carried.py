"""Quantisers that a frame's pixels were really made with. Floor 2.

A skipped block repeats what an earlier frame coded, and its own quantiser says nothing of it: a slide that was coded
finely once is told as coarse by every frame after it, or the other way round. A page that scrolls is repeated from
somewhere else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable
from functools import cache
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ns_video.frame import Frame, QuantiserMap

Item = TypeVar("Item")
Step = TypeVar("Step", np.float32, np.uint8)

_BLOCK = 16
_STILL = 2
"""8-bit steps by which the luma of a repeated block may differ: filters and rounding go on over it."""
_WINDOW = 256
"""Side in px of the middle of a frame, where its motion is looked for."""
_LEAST_PEAK = 0.05
"""Of the phase correlation: below, there is no motion that most of the picture shares."""
_MOSTLY = 0.95
"""Share of blocks that stand still above which no motion is looked for."""


def carry_quantisers(frames: Iterable[Item]) -> Generator[Item]:
    """The same frames (and what else comes along); a block of 16 x 16 that repeats the frame before, in its place or
    moved by whole pixels with the picture, has the step of that one: see `carried`."""
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
        own = _by_block(told, *now.shape)
        same = luma is not None and luma.shape == now.shape and luma.dtype == now.dtype
        before, luma = luma, now
        most = _STILL << (frame.format.bit_depth - 8)
        steps = own if not same or before is None or steps is None else carried(before, now, steps, own, most)
        if np.array_equal(steps, own):
            yield frame
            continue
        yield dataclasses.replace(frame, quantiser=dataclasses.replace(told, step=steps, block=_BLOCK))


def carried(
    before: npt.NDArray[np.generic],
    now: npt.NDArray[np.generic],
    old: npt.NDArray[Step],
    own: npt.NDArray[Step],
    most: int = _STILL,
) -> npt.NDArray[Step]:
    """(rows, columns) steps of a frame's blocks of 16 x 16: `own`, or those of the frame before, `old`, where the block
    repeats it exactly, or where it is finer and the block is like it, in its place or moved. Luma is (H, W); samples of
    blocks that are alike differ by `most` at most."""
    changed = _changes(before, now)
    still = changed <= most
    # Where nothing at all has changed nothing was coded, however fine the own step.
    steps = np.where(changed == 0, old, np.where(still, np.minimum(own, old), own))
    if still.mean() >= _MOSTLY:
        return steps
    dy, dx = _motion(before, now)
    height, width = now.shape
    if (dy, dx) == (0, 0) or abs(dy) >= height or abs(dx) >= width:
        return steps
    here = slice(max(0, dy), min(height, height + dy)), slice(max(0, dx), min(width, width + dx))
    there = slice(max(0, -dy), min(height, height - dy)), slice(max(0, -dx), min(width, width - dx))
    shifted = np.full_like(now, 255)  # what comes into the picture repeats nothing
    shifted[here] = before[there]
    moved = _changes(shifted, now) <= most
    moved &= _within(height, *here[0].indices(height)[:2])[:, None] & _within(width, *here[1].indices(width)[:2])
    rows, columns = _sources(own.shape[0], dy), _sources(own.shape[1], dx)
    source = np.max([old[np.ix_(y, x)] for y in rows for x in columns], 0)
    return np.where(moved, np.minimum(steps, source), steps)


def _changes(
    before: npt.NDArray[np.generic], now: npt.NDArray[np.generic]
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """(rows, columns): the largest difference of samples in each block."""
    change = np.maximum(before, now) - np.minimum(before, now)  # pyright: ignore[reportOperatorIssue]
    rows, columns = (np.arange(0, side, _BLOCK) for side in now.shape)
    return np.maximum.reduceat(np.maximum.reduceat(change, rows, 0), columns, 1)


def _motion(before: npt.NDArray[np.generic], now: npt.NDArray[np.generic]) -> tuple[int, int]:
    """(dy, dx) in whole pixels from the frame before to this one, (0, 0) where the middles of both show none."""
    height, width = now.shape
    if min(height, width) < 2 * _BLOCK:
        return 0, 0
    top, left = max(0, (height - _WINDOW) // 2), max(0, (width - _WINDOW) // 2)
    part = slice(top, top + _WINDOW), slice(left, left + _WINDOW)
    middle, middle_now = before[part].astype(np.float32), now[part].astype(np.float32)
    (x, y), peak = cv2.phaseCorrelate(middle, middle_now, _hanning(middle.shape))
    return (round(y), round(x)) if peak >= _LEAST_PEAK else (0, 0)


@cache
def _hanning(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    return cv2.createHanningWindow(shape[::-1], cv2.CV_32F)  # type: ignore[return-value]


def _within(side: int, begin: int, end: int) -> npt.NDArray[np.bool_]:
    """Blocks along a side that lie whole between two places."""
    starts = np.arange(0, side, _BLOCK)
    return (starts >= begin) & (np.minimum(starts + _BLOCK, side) <= end)


def _sources(blocks: int, shift: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The first and the last block along a side that each block, `shift` pixels ago, lay in."""
    starts = np.arange(blocks) * _BLOCK - shift
    return tuple(np.clip(at // _BLOCK, 0, blocks - 1) for at in (starts, starts + _BLOCK - 1))  # type: ignore[return-value]


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
