"""The chain of stages: frames and what walks between them, in order and bounded."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from ns_video.errors import StallError
from ns_video.flow import QUEUE_BYTES, Aside, FlowTimes, Meters, decoded_ahead, enhanced_ahead, settle
from ns_video.frame import ColorInfo, Frame, PixelFormat
from ns_video.stage import EnhancedFrame, PassThrough

FORMAT = PixelFormat("gray", 8, False, 1, 0, 0, False)


def frame(pts: int) -> Frame:
    """A small gray one."""
    plane = np.zeros((16, 16), np.uint8)
    return Frame((plane,), 16, 16, FORMAT, ColorInfo(), pts=pts, time_base=Fraction(1, 25))


class Holding(PassThrough):
    """Looks at `held` frames more before it gives one, as networks of several frames do."""

    held = 1

    def run(self, frames: Iterable[Frame], **_: Any) -> Generator[EnhancedFrame]:
        before: list[Frame] = []
        for item in frames:
            before.append(item)
            if len(before) > self.held:
                yield EnhancedFrame(before.pop(0))
        yield from (EnhancedFrame(item) for item in before)


def names(items: Iterable[EnhancedFrame | Aside]) -> list[Any]:
    """Presentation times of the frames, payloads of the rest."""
    return [item.payload if isinstance(item, Aside) else item.frame.pts for item in items]


@pytest.mark.parametrize("stage", [PassThrough(), Holding()])
def test_what_walks_along_keeps_its_place(stage: PassThrough) -> None:
    given = [Aside("a", 9), frame(0), Aside("b", 9), Aside("c", 9), frame(1), frame(2), Aside("d", 9)]
    assert names(enhanced_ahead(given, stage, FlowTimes(), Meters())) == ["a", 0, "b", "c", 1, 2, "d"]


@pytest.mark.parametrize(("stage", "queues"), [(PassThrough(), 1), (Holding(), 2)])
def test_no_more_of_it_waits_than_the_queues_hold(stage: PassThrough, queues: int) -> None:
    """Sound without frames, before, between and behind them: the reader of the input is stopped, not the memory."""
    size, count = QUEUE_BYTES // 50, 400
    made = itertools.count()

    def items() -> Generator[Frame | Aside]:
        for first in (0, 2):
            for _ in range(count):
                yield Aside(next(made), size)
            yield from (frame(first), frame(first + 1))

    given: list[Any] = []
    for item in enhanced_ahead(items(), stage, FlowTimes(), Meters()):
        given.append(item)
        ahead = int(repr(made)[6:-1]) - sum(isinstance(thing, Aside) for thing in given)
        assert ahead <= 50 * queues + 2
    assert [item.frame.pts for item in given if isinstance(item, EnhancedFrame)] == [0, 1, 2, 3]
    assert [item.payload for item in given if isinstance(item, Aside)] == list(range(2 * count))


def test_a_frame_of_many_tiles_is_no_stall_and_a_tile_that_takes_for_ever_is_one() -> None:
    class Slow(PassThrough):
        def run(self, frames: Iterable[Frame], **_: Any) -> Generator[EnhancedFrame]:
            for item in frames:
                for _tile in range(12):
                    time.sleep(0.1)
                    self.stats.passes += item.pts == 0
                yield EnhancedFrame(item)

    stage = enhanced_ahead([frame(0), frame(1)], Slow(), FlowTimes(), Meters(), stall_seconds=0.0)
    assert names([next(stage)]) == [0]
    with pytest.raises(StallError, match="enhance: nothing came for 1 s"):
        next(stage)


def test_waiting_for_room_from_inside_of_the_stage_is_no_work() -> None:
    """What walks along without frames is put while the stage asks for its next one."""
    times, meters = FlowTimes(), Meters()
    given = [*(Aside(number, QUEUE_BYTES) for number in range(4)), frame(0)]
    for _ in enhanced_ahead(given, PassThrough(), times, meters):
        time.sleep(0.1)
    settle(times, meters)
    assert times.enhance.busy_seconds < 0.15 < 0.25 < times.enhance.waiting_seconds


@pytest.mark.parametrize("leaves", [True, False])
def test_a_stop_ends_both_stages_while_the_source_stands_still(leaves: bool) -> None:
    """The enhance stage waits for a decode stage that nothing wakes: it closes that one, and is waited for."""
    release, stop = threading.Event(), threading.Event()

    def items() -> Generator[Frame]:
        yield from (frame(pts) for pts in range(3))
        release.wait(30)

    decoded = decoded_ahead(items(), FlowTimes(), Meters(), None, stop)
    stage = enhanced_ahead(decoded, PassThrough(), FlowTimes(), Meters(), stop=stop)
    seen = 0
    with closing(stage):
        for _ in stage:
            seen += 1
            if seen == 3:
                stop.set()
                if leaves:
                    break
    assert seen == 3
    assert decoded.gi_frame is None  # closed
    assert not [t for t in threading.enumerate() if t.name == "enhance"]
    release.set()
