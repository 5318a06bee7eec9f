"""Blocks that repeat the frame before keep the step that made them."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from test_enhance import clip

from ns_video.frame import Frame, QuantiserMap
from ns_video.media.carried import carried, carry_quantisers


def told(frame: Frame, step: float, block: int = 16, whole: bool = False) -> Frame:
    shape = (1, 1) if whole else (-(-frame.height // block), -(-frame.width // block))
    return dataclasses.replace(frame, quantiser=QuantiserMap(np.full(shape, step, np.float32), block, "P", "h264"))


def steps_of(frame: Frame) -> np.ndarray:
    assert frame.quantiser is not None
    return frame.quantiser.step


def test_a_slide_keeps_the_step_it_was_made_with() -> None:
    (slide,) = clip(1)
    frames = [told(slide, 3.0), *(told(dataclasses.replace(slide, pts=n), 20.0, 128, True) for n in range(1, 5))]
    carried = list(carry_quantisers(frames))
    assert [frame.pts for frame in carried] == [0, 1, 2, 3, 4]
    for frame in carried:
        assert (steps_of(frame) == 3.0).all() and frame.planes is slide.planes
    assert carried[0] is frames[0]


def test_only_the_blocks_that_repeat_are_carried() -> None:
    (first,) = clip(1)
    luma = first.planes[0].copy()
    luma[20, 40] ^= 64  # one sample of the block in row 1, column 2
    second = dataclasses.replace(first, planes=(luma, *first.planes[1:]))
    carried = list(carry_quantisers([told(first, 4.0), told(second, 9.0), told(second, 30.0)]))
    assert steps_of(carried[1])[1, 2] == 9.0 and (np.delete(steps_of(carried[1]).ravel(), 1 * 6 + 2) == 4.0).all()
    assert np.array_equal(steps_of(carried[2]), steps_of(carried[1]))


def test_moving_frames_are_told_as_they_are() -> None:
    moving = [told(frame, 10.0) for frame in clip(2)]
    assert all(a is b for a, b in zip(carry_quantisers(moving), moving, strict=True))


def test_a_finer_step_counts_where_something_was_coded() -> None:
    """A skipped block may be told finer than it was made; one that the finer frame improved differs a little."""
    (slide,) = clip(1)
    repeated = [told(slide, 10.0), told(slide, 2.0), told(slide, 20.0)]
    assert [float(steps_of(frame).max()) for frame in carry_quantisers(repeated)] == [10.0, 10.0, 10.0]
    better = dataclasses.replace(slide, planes=(slide.planes[0] ^ 1, *slide.planes[1:]))
    improved = [told(slide, 10.0), told(better, 2.0), told(slide, 20.0)]
    assert [float(steps_of(frame).max()) for frame in carry_quantisers(improved)] == [10.0, 2.0, 2.0]


def test_smaller_blocks_and_what_is_no_frame() -> None:
    (slide,) = clip(1)
    fine = np.full((-(-66 // 8), -(-90 // 8)), 5.0, np.float32)
    fine[0, 0] = 1.0
    small = dataclasses.replace(slide, quantiser=QuantiserMap(fine, 8, "I", "vp9"))
    carried = list(carry_quantisers([small, "aside", told(slide, 50.0)]))
    assert carried[1] == "aside" and isinstance(carried[2], Frame)
    assert steps_of(carried[2])[0, 0] == 4.0 and steps_of(carried[2])[2, 2] == 5.0


def test_an_unknown_frame_ends_what_was_known() -> None:
    (slide,) = clip(1)
    nothing = dataclasses.replace(slide, quantiser=None)
    carried = list(carry_quantisers([told(slide, 2.0), nothing, told(slide, 20.0)]))
    assert carried[1] is nothing and (steps_of(carried[2]) == 20.0).all()


@pytest.mark.parametrize(("dy", "dx"), [(-3, 0), (5, 0), (0, 7), (-2, -9), (16, 32)])
@pytest.mark.parametrize("depth", [8, 10])
def test_a_page_that_scrolls_keeps_the_steps_it_was_made_with(dy: int, dx: int, depth: int) -> None:
    rng = np.random.default_rng(7)
    page = (cv2.GaussianBlur(rng.integers(0, 256, (400, 480), np.uint8), (0, 0), 2.0).astype(np.uint16)) << (depth - 8)
    page = page.astype(np.uint8 if depth == 8 else np.uint16)
    before, now = page[60:220, 80:320], page[60 - dy : 220 - dy, 80 - dx : 320 - dx]
    steps = rng.uniform(2, 6, (10, 15)).astype(np.float32)
    own = np.full((10, 15), 20, np.float32)
    found = carried(before, np.ascontiguousarray(now), steps, own, 2 << (depth - 8))
    for row in range(10):
        for column in range(15):
            top, left = 16 * row - dy, 16 * column - dx
            inside = 0 <= top <= 160 - 16 and 0 <= left <= 240 - 16
            sources = steps[top // 16 : (top + 15) // 16 + 1, left // 16 : (left + 15) // 16 + 1]
            assert found[row, column] == (sources.max() if inside else 20), (row, column)
    assert (carried(before, page[200:360, 80:320], steps, own, 2 << (depth - 8)) == 20).all()


def test_frames_smaller_than_the_motion_are_told_as_they_are() -> None:
    rng = np.random.default_rng(8)
    for height, width in ((1, 1), (3, 40), (17, 2), (33, 33)):
        before, now = (rng.integers(0, 256, (height, width), np.uint8) for _ in range(2))
        shape = (-(-height // 16), -(-width // 16))
        own = np.full(shape, 9, np.float32)
        assert (carried(before, now, np.ones(shape, np.float32), own) == 9).all()
    black, white = np.zeros((64, 64), np.uint8), np.full((64, 64), 255, np.uint8)
    own = np.full((4, 4), 9, np.float32)
    assert (carried(black, white, own - 1, own) == 9).all() and (carried(white, black, own - 1, own) == 9).all()
