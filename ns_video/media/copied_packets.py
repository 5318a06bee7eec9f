"""Packets that are only copied, read from the source again, and put in order with the video's."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.stream
from av.packet import Packet

from ns_video.media.copied_clock import CopiedClock, CopiedPacket, marked_corrupt
from ns_video.media.copy_plan import CopyPlan
from ns_video.media.cut import Cut
from ns_video.media.damage_log import news
from ns_video.media.libav import LogLine, heard, open_input, own_log
from ns_video.media.wrapped_clock import WrappedClock


def read_covers(path: str | Path, copies: Iterable[CopyPlan], **open_options: Any) -> dict[int, bytes]:
    """The bytes of each cover picture that is to be attached, by stream index."""
    wanted = {c.stream.index for c in copies if c.action == "attached"}
    found: dict[int, bytes] = {}
    if not wanted:
        return found
    with open_input(path, **open_options) as container:
        streams = [s for s in container.streams if s.index in wanted]
        for packet in container.demux(*streams):
            if packet.size and packet.stream_index not in found:
                found[packet.stream_index] = bytes(packet)
            if len(found) == len(wanted):
                break
    return found


@dataclass(frozen=True, slots=True)
class TimedPacket:
    """A packet and its decode time in seconds."""

    seconds: Fraction
    packet: Packet


def merged(
    video: Iterable[TimedPacket], copied: Iterable[tuple[Fraction, CopiedPacket]]
) -> Generator[tuple[Packet | None, CopiedPacket | None]]:
    """Two streams of packets in one, by decode time: (video packet, None) or (None, copied packet)."""
    left = ((p.seconds, 0, n, p.packet, None) for n, p in enumerate(video))
    right = ((s, 1, n, None, c) for n, (s, c) in enumerate(copied))
    for _, _, _, packet, copy in heapq.merge(left, right, key=lambda x: x[:3]):
        yield packet, copy


def copied_packets(
    path: str | Path,
    copies: Iterable[CopyPlan],
    *,
    clock_jumps: Iterable[float] = (),
    cut: Cut | None = None,
    on_damage: Callable[[str, float], None] = lambda what, seconds: None,
    **open_options: Any,
) -> Generator[tuple[Fraction, CopiedPacket]]:
    """All packets to copy, read from the file again, with their decode times in seconds.

    Where the clock of the source jumps back (MPEG-TS), times are moved on by what the video's were. `on_damage` is told
    what is damaged and at how many seconds.
    """
    copies = list(copies)
    wanted = {c.stream.index for c in copies if c.kept and c.action != "attached"}
    if not wanted:
        return
    clock = CopiedClock(list(clock_jumps))
    cut = cut or Cut(copies, None, None)
    lines: list[LogLine] = []
    with own_log(lines):
        container = open_input(path, **open_options)
    with container:
        # What decoders say while libav probes the file is mostly of the video, and the video's reader hears it in time.
        lines = [line for line in lines if line[1] == container.format.name]
        for stream in container.streams:
            if stream.index not in wanted:
                stream.discard = av.stream.Discard.all
        streams = [s for s in container.streams if s.index in wanted]
        wrapped, shown = WrappedClock(container.format.name), Fraction(0)
        packets = heard(container.demux(*streams), lines)

        def tell(*more: str) -> None:
            if cut.end is None or shown < cut.end:
                for what in (*news(lines), *more):
                    on_damage(what, float(shown))
            lines.clear()

        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # IndexError: see ClipReader
                tell()
                return
            except (av.FFmpegError, OSError) as error:
                tell(getattr(error, "strerror", None) or str(error))
                return
            if not packet.size or packet.stream_index not in wanted:
                continue
            wrapped.move(packet)
            item = clock.move(packet)
            shown = item.seconds
            tell()
            time = cut.take(item)
            if time is not None:
                if packet.is_corrupt:
                    tell(marked_corrupt(packet))
                yield time, item
