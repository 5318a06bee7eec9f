"""Decoded frames in the order of their times, none shown for longer than until the next one."""

from __future__ import annotations

from fractions import Fraction

from av.video.frame import VideoFrame

_MISPLACED_SECONDS = 1  # what lies further back is a jump of the clock


class FrameOrder:
    """Holds one frame back: a decoder that learns of B-frames late gives the first pictures out of order.

    A frame has its packet's duration, in MP4 the time until the next packet is decoded: of reordered frames that is
    another one's. `take(picture)`, then `drain()`.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._held: VideoFrame | None = None

    def take(self, picture: VideoFrame) -> list[VideoFrame]:
        """The frame whose turn it is."""
        held = self._held
        if picture.pts is None or held is None or held.pts is None:
            self._held = picture
            return [] if held is None else [held]
        if 0 < (held.pts - picture.pts) * self._time_base < _MISPLACED_SECONDS:
            _end_at(picture, held.pts)
            return [picture]
        _end_at(held, picture.pts)
        self._held = picture
        return [held]

    def drain(self, end: Fraction | None = None) -> list[VideoFrame]:
        """The last frame, shown until `end` seconds at most."""
        held, self._held = self._held, None
        if held is None:
            return []
        if end is not None:
            _end_at(held, round(end / self._time_base))
        return [held]


def _end_at(picture: VideoFrame, pts: int) -> None:
    if picture.pts is not None and picture.duration and pts > picture.pts:
        picture.duration = min(picture.duration, pts - picture.pts)
