"""The stages chained: decode → enhance → encode, each in its own thread, metered. Floor 3."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from ns_video.frame import Frame
from ns_video.prefetch import STOP_SECONDS, PrefetchMeter, close, prefetch
from ns_video.record import StageTimes
from ns_video.stage import EnhancedFrame, Stage

_ENHANCE_STOP_SECONDS = 3 * STOP_SECONDS  # outlasts the stage before, which it waits for
QUEUE_BYTES = 24 << 20  # each of the two queues: eight 1080p frames, two of 4K; a larger one passes alone

Item = TypeVar("Item")


class Observer(Protocol):
    """Sees every frame before and after, in order; must be quick."""

    def observe(self, before: Frame, after: Frame | None = None) -> None:
        """One pair."""
        ...


@dataclass(slots=True)
class FlowTimes:
    """Wall time of each stage, working and waiting."""

    decode: StageTimes = field(default_factory=StageTimes)
    enhance: StageTimes = field(default_factory=StageTimes)
    encode: StageTimes = field(default_factory=StageTimes)

    def limiting(self) -> str:
        """The stage that worked longest."""
        stages = {"decode": self.decode, "enhance": self.enhance, "encode": self.encode}
        return max(stages, key=lambda name: stages[name].busy_seconds)


@dataclass(frozen=True, slots=True)
class Aside:
    """Something that walks along between frames unchanged, such as a packet to copy."""

    payload: Any
    nbytes: int


@dataclass(slots=True)
class Meters:
    """The two queues of a flow."""

    decoded: PrefetchMeter = field(default_factory=PrefetchMeter)
    enhanced: PrefetchMeter = field(default_factory=PrefetchMeter)


def timed(items: Iterable[Item], times: StageTimes, waits: Callable[[], float] | None = None) -> Generator[Item]:
    """Adds the time spent inside `items` to the busy seconds, less what `waits` says was spent waiting for others.

    Closes `items` at its end.
    """
    iterator: Iterator[Item] = iter(items)
    try:
        while True:
            waited = waits() if waits is not None else 0.0
            began = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                idle = (waits() - waited) if waits is not None else 0.0
                times.busy_seconds += max(0.0, time.perf_counter() - began - idle)
            yield item
    finally:
        close(iterator)


def size_of(item: Any) -> int:
    """Bytes that a queue counts for an item of a flow."""
    if isinstance(item, (Frame, Aside)):
        return item.nbytes
    if isinstance(item, EnhancedFrame):
        return item.frame.nbytes
    return 1


def decoded_ahead(
    items: Iterable[Item],
    times: FlowTimes,
    meters: Meters,
    stall_seconds: float | None,
    stop: threading.Event | None = None,
) -> Generator[Item]:
    """The decode stage in its own thread. `stop`: see prefetch."""
    return prefetch(
        timed(items, times.decode),
        QUEUE_BYTES,
        size_of=size_of,
        name="decode",
        meter=meters.decoded,
        stall_seconds=stall_seconds,
        stop=stop,
    )


def enhanced_ahead(
    items: Iterable[Any],
    enhancer: Stage,
    times: FlowTimes,
    meters: Meters,
    *,
    before: Sequence[Frame] = (),
    start_index: int = 0,
    restart_every: int | None = None,
    most: int | None = None,
    observer: Observer | None = None,
    stall_seconds: float | None = None,
    stop: threading.Event | None = None,
) -> Generator[EnhancedFrame | Aside]:
    """The enhance stage in its own thread: Frames become EnhancedFrames, Asides keep their place between them.

    `items` belong to that thread from then on, which closes them at its end.

    `most`: how many results are wanted; frames behind those are only looked at.

    Asides that come while the stage holds frames back wait for these, but no more than QUEUE_BYTES of them: sound
    behind the last frame would all wait. The oldest ones then leave before frames that they came after.
    """

    def stage(put: Callable[[EnhancedFrame | Aside], None]) -> Generator[EnhancedFrame | Aside]:
        waiting_frames: deque[Frame] = deque()
        asides: deque[tuple[int, Aside]] = deque()
        entered = waiting_bytes = 0

        def next_aside() -> Aside:
            nonlocal waiting_bytes
            _, aside = asides.popleft()
            waiting_bytes -= aside.nbytes
            return aside

        def frames_only() -> Generator[Frame]:
            nonlocal entered, waiting_bytes
            for item in items:
                if isinstance(item, Aside):
                    asides.append((entered, item))
                    waiting_bytes += item.nbytes
                    while asides and (not waiting_frames or waiting_bytes > QUEUE_BYTES):
                        put(next_aside())
                else:
                    waiting_frames.append(item)
                    entered += 1
                    yield item

        try:
            running = enhancer.run(frames_only(), before=before, start_index=start_index, restart_every=restart_every)
            for left, out in enumerate(itertools.islice(running, most)):
                while asides and asides[0][0] <= left:
                    yield next_aside()
                source = waiting_frames.popleft()
                if observer is not None:
                    observer.observe(source, out.frame)
                yield out
            while asides:
                yield next_aside()
        finally:
            close(items)

    def waits() -> float:
        return meters.decoded.consumer_waiting_seconds + meters.enhanced.producer_waiting_seconds

    return prefetch(
        lambda put: timed(stage(put), times.enhance, waits),
        QUEUE_BYTES,
        size_of=size_of,
        name="enhance",
        meter=meters.enhanced,
        # Longer than the stage before waits, so that the stage that stands still is the one that is named.
        stall_seconds=None if stall_seconds is None else stall_seconds * 1.25 + 1,
        progress=lambda: enhancer.stats.passes,
        stop=stop,
        stop_seconds=_ENHANCE_STOP_SECONDS,
    )


def settle(times: FlowTimes, meters: Meters) -> None:
    """Add what the queues saw: a full queue is its producer's wait, an empty one its consumer's."""
    times.decode.waiting_seconds += meters.decoded.producer_waiting_seconds
    times.enhance.waiting_seconds += meters.decoded.consumer_waiting_seconds + meters.enhanced.producer_waiting_seconds
    times.encode.waiting_seconds += meters.enhanced.consumer_waiting_seconds
