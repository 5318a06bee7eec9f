"""MPEG's clock of 33 bits: libav takes one that fell back by more than a minute for one that wrapped."""

from __future__ import annotations

from typing import Any

CLOCK_HZ = 90_000
_WRAP = 1 << 33  # ticks, 26.5 hours (ISO/IEC 13818-1, 2.4.3.7)
_FARTHEST = _WRAP // 2  # what seems to lie farther ahead lies behind
_LONG_AGO = 3600 * CLOCK_HZ
_WRAPPING = frozenset({"mpegts", "mpeg"})  # demuxers whose times are of 33 bits


def is_misjudged(duration: int, container_format: str) -> bool:
    """Whether libav's duration (ticks) of what it reads from a container is that of a clock that fell back."""
    return container_format in _WRAPPING and duration > _FARTHEST


class WrappedClock:
    """Moves times of packets by whole wraps, each as near as can be to the one before it in its stream.

    libav adds a wrap to all that lies more than a minute before the file's first time: right where the clock wrapped,
    26.5 hours too much where a recording that was begun earlier is joined on.
    """

    def __init__(self, container_format: str) -> None:
        """`container_format`: libav's name of the demuxer; the times of those without such a clock are left alone."""
        self._wraps = container_format in _WRAPPING
        self._last: dict[int, int] = {}
        self._newest: int | None = None
        """Of all packets, where it was moved: what a stream's last one of long ago can't tell."""
        self._file_last: int | None = None
        """Of the packet before, of whichever stream, where that was moved."""

    def move(self, packet: Any) -> None:
        """Correct the packet's times."""
        stamp = packet.dts if packet.dts is not None else packet.pts
        if not self._wraps or stamp is None:
            return
        index = packet.stream_index
        last = self._last.get(index, self._file_last)
        if last is not None and self._newest is not None and self._newest - last > _LONG_AGO:
            last = self._newest
        right = _nearest(stamp, last)
        self._last[index] = self._newest = right
        self._file_last = None if right == stamp else right
        packet.dts = None if packet.dts is None else _nearest(packet.dts, right)
        packet.pts = None if packet.pts is None else _nearest(packet.pts, right)


def _nearest(stamp: int, last: int | None) -> int:
    return stamp if last is None else stamp - (stamp - last + _FARTHEST) // _WRAP * _WRAP
