"""Times of packets that are only copied: moved on where the clock of the source jumps back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ns_video.media.wrapped_clock import CLOCK_HZ

_COARSE, _PARTS = Fraction(1, 1000), 1000  # ticks in which a moved packet would be heard too early, and their parts


@dataclass(frozen=True, slots=True)
class CopiedPacket:
    """A packet of a stream that is not restored. `packet` is libav's, opaque outside `ns_video.media`."""

    stream_index: int
    packet: Any
    nbytes: int
    seconds: Fraction = Fraction(0)
    """Decode time."""


def marked_corrupt(packet: Any) -> str:
    """What is to be said of a packet to copy of which its demuxer knows that a part is missing or wrong."""
    return f"a packet of stream {packet.stream_index} ({packet.stream.type}) is marked corrupt"


class CopiedClock:
    """Moves the times of copied packets on where the clock of the source jumps back, as the video's were."""

    def __init__(self, jumps: Sequence[float]) -> None:
        """`jumps`: seconds added to the video's times from each jump on; it may grow meanwhile."""
        self._jumps = jumps
        self._passed: dict[int, int] = {}
        self._last: dict[int, Fraction] = {}

    def _offset(self, stream_index: int) -> Fraction:
        passed = self._jumps[: self._passed.get(stream_index, 0)]
        return sum((Fraction(j).limit_denominator(1 << 20) for j in passed), Fraction(0))

    def _seconds(self, packet: Any) -> Fraction:
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is None:
            return self._last.get(packet.stream_index, Fraction(0))
        return stamp * packet.time_base + self._offset(packet.stream_index)

    def _jumped(self, packet: Any) -> bool:
        last = self._last.get(packet.stream_index)
        return last is not None and self._seconds(packet) < last - 1

    def is_ahead(self, packet: Any) -> bool:
        """The packet lies behind a jump that the video has not passed yet."""
        return self._jumped(packet) and self._passed.get(packet.stream_index, 0) >= len(self._jumps)

    def move(self, packet: Any) -> CopiedPacket:
        """The packet, its times moved on."""
        index = packet.stream_index
        if self._jumped(packet) and not self.is_ahead(packet):
            self._passed[index] = self._passed.get(index, 0) + 1
        self._last[index] = seconds = self._seconds(packet)
        shift_packet(packet, self._offset(index))
        return CopiedPacket(index, packet, packet.size, seconds)


def finer_tick(tick: Fraction) -> Fraction:
    """A part of `tick` (seconds) that MPEG's clock holds without rounding, or whole parts of that clock's."""
    span = tick * CLOCK_HZ
    return tick / (span.numerator if span.denominator < _PARTS else math.ceil(span))


def shift_packet(packet: Any, seconds: Fraction) -> None:
    """Move the packet's times by `seconds`, to the next tick of its clock; coarse ones (sound in AVI) are refined."""
    if packet.time_base > _COARSE and seconds % packet.time_base:
        parts = int(packet.time_base / finer_tick(packet.time_base))
        packet.time_base /= parts
        packet.duration *= parts
        packet.pts = None if packet.pts is None else packet.pts * parts
        packet.dts = None if packet.dts is None else packet.dts * parts
    ticks = round(seconds / packet.time_base) if seconds else 0
    if ticks:
        packet.pts = None if packet.pts is None else packet.pts + ticks
        packet.dts = None if packet.dts is None else packet.dts + ticks
