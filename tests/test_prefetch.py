"""The contract of work ahead in a thread."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator

import pytest

from ns_video.errors import StallError
from ns_video.prefetch import PrefetchMeter, is_watching, prefetch

WAIT = 10.0


def one(_: object) -> int:
    """Every item counts one byte."""
    return 1


def until(condition: Callable[[], bool]) -> bool:
    """Wait for a condition of another thread."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.002)
    return condition()


def threads(name: str) -> list[threading.Thread]:
    """Live threads of this name."""
    return [t for t in threading.enumerate() if t.name == name and t.is_alive()]


class Source:
    """A generator that says what became of it."""

    def __init__(self, count: int = 1_000_000, fail_at: int | None = None) -> None:
        self.count, self.fail_at = count, fail_at
        self.made = 0
        self.closed_in: str | None = None

    def items(self) -> Generator[int]:
        try:
            for index in range(self.count):
                if index == self.fail_at:
                    raise ValueError(f"item {index} is broken")
                self.made = index + 1
                yield index
        finally:
            self.closed_in = threading.current_thread().name


@pytest.mark.parametrize("budget", [1, 3, 10_000])
def test_order_is_kept_and_nothing_is_lost(budget: int) -> None:
    assert list(prefetch(range(500), budget, size_of=one)) == list(range(500))
    assert list(prefetch([], budget, size_of=one)) == []


def test_runs_ahead_but_never_over_its_budget() -> None:
    source, meter = Source(), PrefetchMeter()
    ahead = prefetch(source.items(), 100, size_of=lambda _: 10, name="t-bounded", meter=meter)
    assert next(ahead) == 0
    assert until(lambda: source.made == 12)  # one taken, ten queued, one in the worker's hand
    time.sleep(0.05)
    assert source.made == 12
    assert [next(ahead) for _ in range(50)] == list(range(1, 51))
    ahead.close()
    assert meter.peak_bytes == 100
    assert meter.items >= 51 and meter.producer_waiting_seconds > 0


def test_an_item_larger_than_the_budget_passes_alone() -> None:
    meter = PrefetchMeter()
    sizes = [5, 1000, 5, 5, 2000, 1]
    assert list(prefetch(sizes, 10, size_of=lambda n: n, meter=meter)) == sizes
    assert meter.peak_bytes == 2000


def test_items_of_no_size_still_count() -> None:
    source = Source()
    ahead = prefetch(source.items(), 4, size_of=lambda _: 0, name="t-zero")
    next(ahead)
    time.sleep(0.05)
    assert source.made <= 6
    ahead.close()


def test_the_worker_is_ahead_of_a_slow_consumer() -> None:
    source = Source(20)
    ahead = prefetch(source.items(), 1000, size_of=one)
    next(ahead)
    assert until(lambda: source.made == 20)
    assert list(ahead) == list(range(1, 20))


def test_an_exception_comes_after_the_items_before_it_with_its_traceback() -> None:
    source = Source(fail_at=5)
    seen: list[int] = []
    with pytest.raises(ValueError, match="item 5 is broken") as caught:
        for item in prefetch(source.items(), 100, size_of=one, name="t-failing"):
            seen.append(item)
    assert seen == [0, 1, 2, 3, 4]
    assert any(frame.name == "items" for frame in traceback.extract_tb(caught.value.__traceback__))
    assert not threads("t-failing")


def test_an_exception_of_size_of_or_of_iter_reaches_the_consumer() -> None:
    def broken(_: object) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(prefetch([1], 1, size_of=broken, name="t-size"))

    class NoIterator:
        def __iter__(self) -> Generator[int]:
            raise LookupError("no iterator")

    with pytest.raises(LookupError, match="no iterator"):
        list(prefetch(NoIterator(), 1, size_of=one, name="t-iter", stall_seconds=WAIT))
    assert not threads("t-iter")


def test_base_exceptions_pass_too() -> None:
    def interrupted() -> Generator[int]:
        yield 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(prefetch(interrupted(), 10, size_of=one))


def test_a_consumer_that_closes_ends_the_worker_and_closes_the_source_there() -> None:
    source = Source()
    ahead = prefetch(source.items(), 10, size_of=one, name="t-early")
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert threads("t-early")
    ahead.close()
    assert source.closed_in == "t-early"
    assert not threads("t-early")


def test_a_consumer_that_raises_ends_the_worker() -> None:
    source = Source()
    with pytest.raises(RuntimeError, match="consumer"):
        for item in prefetch(source.items(), 10, size_of=one, name="t-raising"):
            if item == 4:
                raise RuntimeError("consumer")
    gc.collect()
    assert until(lambda: not threads("t-raising"))
    assert source.closed_in == "t-raising"


def test_a_forgotten_prefetch_ends_its_worker() -> None:
    source = Source()
    ahead = prefetch(source.items(), 10, size_of=one, name="t-forgotten")
    next(ahead)
    assert threads("t-forgotten")
    del ahead
    gc.collect()
    assert until(lambda: not threads("t-forgotten"))
    assert source.closed_in == "t-forgotten"


def test_one_that_was_never_asked_starts_nothing() -> None:
    source = Source()
    ahead = prefetch(source.items(), 10, size_of=one, name="t-idle")
    assert not threads("t-idle")
    ahead.close()
    assert source.made == 0


def test_nested_ones_keep_order_and_end_together() -> None:
    source = Source(300)
    inner = prefetch(source.items(), 7, size_of=one, name="t-inner")
    middle = prefetch((i * 2 for i in inner), 5, size_of=one, name="t-middle")
    outer = prefetch((i + 1 for i in middle), 3, size_of=one, name="t-outer")
    assert list(outer) == [i * 2 + 1 for i in range(300)]
    assert not (threads("t-inner") or threads("t-middle") or threads("t-outer"))


def test_closing_the_outermost_closes_all() -> None:
    source = Source()

    def stage(items: Generator[int]) -> Generator[int]:
        try:
            yield from items
        finally:
            items.close()

    inner = prefetch(source.items(), 7, size_of=one, name="t-in")
    outer = prefetch(stage(inner), 3, size_of=one, name="t-out")
    next(outer)
    outer.close()
    assert source.closed_in == "t-in"
    assert not (threads("t-in") or threads("t-out"))


def test_an_exception_passes_through_nested_ones() -> None:
    source = Source(fail_at=20)
    outer = prefetch(prefetch(source.items(), 3, size_of=one, name="t-a"), 3, size_of=one, name="t-b")
    seen: list[int] = []
    with pytest.raises(ValueError, match="item 20"):
        for item in outer:
            seen.append(item)
    assert seen == list(range(20))
    assert not (threads("t-a") or threads("t-b"))


def test_an_error_while_the_source_is_closed_is_not_lost() -> None:
    def source() -> Generator[int]:
        yield 1
        raise OSError("the file could not be closed")

    with pytest.raises(OSError, match="could not be closed"):
        list(prefetch(source(), 10, size_of=one))


def test_a_source_that_stands_still_is_named() -> None:
    release = threading.Event()

    def stuck() -> Generator[int]:
        yield 1
        release.wait(WAIT)

    ahead = prefetch(stuck(), 10, size_of=one, name="t-stuck", stall_seconds=0.1)
    assert next(ahead) == 1
    timer = threading.Timer(0.4, release.set)  # the worker is joined before the error leaves
    timer.start()
    with pytest.raises(StallError, match="nothing came") as caught:
        next(ahead)
    assert caught.value.stage == "t-stuck"
    timer.join()


def test_an_item_that_takes_long_goes_on_as_long_as_there_is_progress() -> None:
    done, seen, caller = [0], list[bool](), threading.current_thread()

    def slow() -> Generator[int]:
        for item in range(2):
            for _ in range(8):
                time.sleep(0.05)
                done[0] += 1
                seen.append(is_watching(caller))
            yield item
        time.sleep(0.5)

    ahead = prefetch(slow(), 10, size_of=one, name="t-slow", stall_seconds=0.3, progress=lambda: done[0])
    assert [next(ahead), next(ahead)] == [0, 1]
    assert any(seen) and not is_watching(caller)
    with pytest.raises(StallError, match="t-slow: nothing came"):
        next(ahead)
    assert not is_watching(caller)


STOPPED = """
import time
from ns_video.prefetch import prefetch
def items():
    for number in range(4):
        for _ in range(5):
            time.sleep(0.04)  # what is left of one sleep would be over once the process goes on
        yield number
print("begun", flush=True)
print(list(prefetch(items(), 10, size_of=lambda _: 1, stall_seconds=0.8)))
"""


def test_time_for_which_the_process_was_stopped_is_no_stall(environment: dict[str, str]) -> None:
    with subprocess.Popen([sys.executable, "-c", STOPPED], stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None and run.stdout.readline() == "begun\n"
        time.sleep(0.3)
        run.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        run.send_signal(signal.SIGCONT)
        assert run.stdout.read() == f"{list(range(4))}\n"


def test_stop_ends_a_wait_for_a_source_that_says_nothing() -> None:
    release, ended, stop = threading.Event(), threading.Event(), threading.Event()

    def silent() -> Generator[int]:
        yield 1
        release.wait(WAIT)
        ended.set()

    ahead = prefetch(silent(), 10, size_of=one, name="t-silent", stop=stop, stop_seconds=0.1)
    assert next(ahead) == 1
    stop.set()
    assert list(ahead) == []
    assert not ended.is_set()  # its source still says nothing
    release.set()
    assert until(lambda: not threads("t-silent"))


@pytest.mark.parametrize("stops", [False, True])
def test_a_worker_that_goes_on_is_named_unless_it_may(
    stops: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One whose source may say nothing for ever is let go without a word."""
    monkeypatch.setattr("ns_video.prefetch._JOIN_SECONDS", 0.1)
    release, stop = threading.Event(), threading.Event()

    def silent() -> Generator[int]:
        yield 1
        release.wait(WAIT)

    ahead = prefetch(silent(), 10, size_of=one, name="t-goes-on", stop=stop, stop_seconds=0.1)
    assert next(ahead) == 1
    if stops:
        stop.set()
    with caplog.at_level(logging.WARNING, "ns_video"):
        ahead.close()
    assert [record.levelname for record in caplog.records] == ([] if stops else ["WARNING"])
    assert stops or "t-goes-on" in caplog.text
    release.set()
    assert until(lambda: not threads("t-goes-on"))


def test_items_are_let_go_once_they_are_taken() -> None:
    import weakref

    class Item:
        pass

    ahead = prefetch((Item() for _ in range(4)), 1, size_of=one)
    item = next(ahead)
    gone = weakref.ref(item)
    del item
    next(ahead)
    gc.collect()
    assert gone() is None
    ahead.close()
