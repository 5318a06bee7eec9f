"""Work ahead in a thread, through a queue bounded in bytes: a generator in, a generator out."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from ns_video.errors import StallError

Item = TypeVar("Item")

logger = logging.getLogger("ns_video")

_JOIN_SECONDS = 30.0  # a libav call that decodes or encodes one frame ends far sooner
_TURN_SECONDS = 0.1
"""Waits with an end are made of turns: each looks at `stop`, as no event wakes who waits for something else, and
counts as so much, so that time for which the process was stopped (SIGSTOP, a suspended machine) is no stall."""
STOP_SECONDS = 1.0
"""For which a worker that may stand still for ever is waited for."""


_watching: set[int] = set()  # threads that wait for items, and look for how long


def is_watching(thread: threading.Thread) -> bool:
    """Whether a thread waits for items of a prefetch that raises StallError if they don't come."""
    return thread.ident in _watching


@dataclass(slots=True)
class PrefetchMeter:
    """What one prefetch saw. Seconds of wall time; bytes as `size_of` counts them."""

    producer_waiting_seconds: float = 0.0
    consumer_waiting_seconds: float = 0.0
    peak_bytes: int = 0
    items: int = 0


def prefetch(
    items: Iterable[Item] | Callable[[Callable[[Item], None]], Iterable[Item]],
    budget_bytes: int,
    *,
    size_of: Callable[[Item], int],
    name: str = "prefetch",
    meter: PrefetchMeter | None = None,
    stall_seconds: float | None = None,
    progress: Callable[[], int] | None = None,
    stop: threading.Event | None = None,
    stop_seconds: float = STOP_SECONDS,
) -> Generator[Item]:
    """Run `items` in a thread, at most `budget_bytes` ahead of the consumer.

    The order is kept. An item larger than the budget passes alone, so that nothing can deadlock. The
    worker's exception is re-raised at the consumer, after the items made before it, with the worker's traceback.
    A consumer that stops early (close, exception, garbage collection) ends the worker, closes the upstream
    generator in the worker's thread and joins it; one that goes on for half a minute more is left to itself, and said
    to be. Prefetches nest: what a worker consumes is its own to close.

    `items` may be a function that makes them: what it is given puts an item into the queue at once, from inside of the
    making of another.

    `stop` is for sources that may wait forever: once it is set, a consumer that finds nothing ends as if the items had
    ended, and waits no longer than `stop_seconds` for the worker, which may stand still in a call that nothing wakes.
    Where the worker consumes another prefetch, these are to be more than that one's.

    `progress` is for sources whose items may take long: a number that changes as long as one goes on.

    Raises whatever `items` raises, and StallError where nothing came for `stall_seconds` and `progress` made none.
    """
    queue: deque[tuple[Item, int]] = deque()
    condition = threading.Condition()
    state = {"bytes": 0, "stop": False, "done": False}
    failure: list[BaseException] = []
    seen = meter if meter is not None else PrefetchMeter()

    def put(item: Item) -> None:
        size = max(1, size_of(item))
        with condition:
            began = time.perf_counter()
            while state["bytes"] and state["bytes"] + size > budget_bytes and not state["stop"]:
                condition.wait()
            seen.producer_waiting_seconds += time.perf_counter() - began
            if state["stop"]:
                return
            queue.append((item, size))
            state["bytes"] += size
            seen.items += 1
            seen.peak_bytes = max(seen.peak_bytes, state["bytes"])
            condition.notify_all()

    def work() -> None:
        iterator: Iterator[Item] | None = None
        try:
            iterator = iter(items(put) if callable(items) else items)
            for item in iterator:
                put(item)
                del item
                if state["stop"]:
                    break
        except BaseException as error:
            failure.append(error)
        finally:
            try:
                close(iterator)
            except BaseException as error:
                failure.append(error)
            with condition:
                state["done"] = True
                condition.notify_all()

    stalled = False
    turn = None if stop is None and stall_seconds is None else _TURN_SECONDS
    worker = threading.Thread(target=work, name=name, daemon=True)
    worker.start()
    try:
        while True:
            with condition:
                began, waited, done = time.perf_counter(), 0.0, progress and progress()
                if stall_seconds is not None:
                    _watching.add(threading.get_ident())
                while not queue and not state["done"]:
                    if condition.wait(turn) or queue or state["done"]:
                        continue
                    done, before = progress and progress(), done
                    waited = waited + _TURN_SECONDS if done == before else 0.0
                    if stop is not None and stop.is_set():
                        state["done"] = True
                    elif stall_seconds is not None and waited >= stall_seconds:
                        stalled = True
                        raise StallError(f"nothing came for {stall_seconds:.0f} s", stage=name)
                _watching.discard(threading.get_ident())
                seen.consumer_waiting_seconds += time.perf_counter() - began
                if not queue:
                    break
                item, size = queue.popleft()
                state["bytes"] -= size
                condition.notify_all()
            yield item
            del item
        if failure:
            raise failure[0]
    finally:
        _watching.discard(threading.get_ident())
        with condition:
            state["stop"] = True
            queue.clear()
            condition.notify_all()
        may_stand_still = stalled or (stop is not None and stop.is_set())
        seconds = stop_seconds if may_stand_still else _JOIN_SECONDS
        if not _join(worker, seconds):
            level = logging.DEBUG if may_stand_still else logging.WARNING
            logger.log(level, "thread %s goes on after %.0f s, and is left to itself", name, seconds)


def _join(worker: threading.Thread, seconds: float) -> bool:
    """Wait for the worker's end, no longer than `seconds`; False where it goes on."""
    for _ in range(round(seconds / _TURN_SECONDS)):
        worker.join(_TURN_SECONDS)
        if not worker.is_alive():
            return True
    return False


def close(items: object) -> None:
    """Close what can be closed, as generators can; one that another thread is in is left to that thread."""
    closing = getattr(items, "close", None)
    if closing is None:
        return
    try:
        closing()
    except ValueError:
        if not getattr(items, "gi_running", False):
            raise
