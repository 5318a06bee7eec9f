"""Faults and delays that a run can be given at named places."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Mapping
from typing import Any


def inject(tunings: Mapping[str, Any]) -> None:
    """Apply `tunings` to the code of this process.

    segment_frames: frames of a segment. frame_delay: seconds spent on each frame by the encoder.
    stall_seconds: the watchdog's patience. decode_stalls_after, enhance_stalls_after, encode_stalls_after: frames after
    which that stage stands still. pause: {"place": ..., "at": call, "seconds": ...}. fail: {"place": ..., "after":
    calls, "error": name of an errno or an exception}. lose: {"place": ..., "at": call that does nothing}. Places are
    the keys of `_places`. user: the run goes on as this one (root may write everywhere).
    """
    from ns_video.pipeline import clip, segmented

    if "user" in tunings:
        os.setgid(int(tunings["user"]))
        os.setuid(int(tunings["user"]))
    if "segment_frames" in tunings:
        count = int(tunings["segment_frames"])
        segmented._SEGMENT_FRAMES = (count, count)
    if "stall_seconds" in tunings:
        clip.STALL_SECONDS = float(tunings["stall_seconds"])
    if "frame_delay" in tunings:
        _before("encode", lambda _: time.sleep(float(tunings["frame_delay"])))
    if "decode_stalls_after" in tunings:
        _before("decode", _after(int(tunings["decode_stalls_after"]), lambda: time.sleep(3600)))
    if "enhance_stalls_after" in tunings:
        _before("enhance", _after(int(tunings["enhance_stalls_after"]), lambda: time.sleep(3600)))
    if "encode_stalls_after" in tunings:
        _before("encode", _after(int(tunings["encode_stalls_after"]), lambda: time.sleep(3600)))
    if "pause" in tunings:
        pause = tunings["pause"]
        _before(pause["place"], _at(int(pause["at"]), lambda: time.sleep(float(pause["seconds"]))))
    if "lose" in tunings:
        _without(tunings["lose"]["place"], int(tunings["lose"]["at"]))
    if "fail" in tunings:
        fault = tunings["fail"]
        _before(fault["place"], _after(int(fault["after"]), lambda: _raise(fault["error"])))


def _raise(name: str) -> None:
    number = getattr(errno, name, None)
    if number is not None:
        raise OSError(number, os.strerror(number))
    import builtins

    raise getattr(builtins, name)("injected")


def _after(count: int, act: Callable[[], None]) -> Callable[[int], None]:
    def check(calls: int) -> None:
        if calls > count:
            act()

    return check


def _at(count: int, act: Callable[[], None]) -> Callable[[int], None]:
    def check(calls: int) -> None:
        if calls == count:
            act()

    return check


def _places() -> dict[str, tuple[Any, str]]:
    """Where a fault can be put: the object and the name of the function that is called there."""
    from ns_video import journal, stage
    from ns_video.media import decode, encode, mux, segment_file
    from ns_video.pipeline import check

    return {
        "decode": (decode.ClipReader, "_wrap"),
        "enhance": (stage, "EnhancedFrame"),
        "encode": (encode.FrameEncoder, "encode"),
        "flush": (encode.FrameEncoder, "flush"),
        "segment": (segment_file.SegmentFile, "write"),
        "segment close": (segment_file.SegmentFile, "close"),
        "journal": (journal.Journal, "_append"),
        "mux": (mux.ClipWriter, "_mux"),
        "mux close": (mux.ClipWriter, "close"),
        "sync": (check, "sync_file"),
        "verify": (check, "read_facts"),
    }


def _without(place: str, at: int) -> None:
    owner, name = _places()[place]
    original = getattr(owner, name)
    calls = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return None if calls == at else original(*arguments, **named)

    setattr(owner, name, wrapped)


def _before(place: str, check: Callable[[int], None]) -> None:
    owner, name = _places()[place]
    original = getattr(owner, name)
    calls = 0

    def wrapped(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        check(calls)
        return original(*arguments, **named)

    setattr(owner, name, wrapped)
