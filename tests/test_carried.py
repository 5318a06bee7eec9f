"""Blocks that repeat the frame before keep the step that made them."""

from __future__ import annotations

import dataclasses

import numpy as np
from test_enhance import clip

from ns_video.frame import Frame, QuantiserMap
from ns_video.media.carried import carry_quantisers


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


def test_moving_and_finer_frames_are_told_as_they_are() -> None:
    moving = [told(frame, 10.0) for frame in clip(2)]
    assert all(a is b for a, b in zip(carry_quantisers(moving), moving, strict=True))
    (slide,) = clip(1)
    better = [told(slide, 10.0), told(slide, 2.0), told(slide, 10.0)]
    assert [float(steps_of(frame).max()) for frame in carry_quantisers(better)] == [10.0, 2.0, 2.0]


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
