"""What a file holds, read packet by packet without decoding it: times, payloads, chapters."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, overload

import av
import numpy as np
from av.stream import AttachmentStream

from ns_video.errors import VerificationError
from ns_video.media.animation_header import delays_of_png
from ns_video.media.containers import Container, of_file
from ns_video.media.copied_clock import CopiedClock, CopiedPacket
from ns_video.media.copy_plan import CopyPlan
from ns_video.media.cut import HiddenPackets
from ns_video.media.libav import open_input, printable
from ns_video.media.movie_header import movie_seconds
from ns_video.media.mux import MOST_REORDERED, ClipWriter
from ns_video.media.probe import ClipInfo, clip_info, codec_name
from ns_video.media.text_subtitles import FILLS_GAP, TextConverter
from ns_video.media.wrapped_clock import WrappedClock

_DVD_HEAD = 3  # bytes
_NANOSECOND = Fraction(1, 1_000_000_000)


@dataclass(slots=True)
class PacketTally:
    """Number of the packets of one stream, size and hash of all they hold, and their times."""

    packets: int = 0
    nbytes: int = 0
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    first: Fraction | None = None
    """Seconds at which its first packet is shown or heard; None where no packet tells."""
    last: Fraction | None = None
    times: array[float] = field(default_factory=lambda: array("d"))
    """Seconds at which each packet that tells is shown or heard, in the file's order."""
    durations: array[float] = field(default_factory=lambda: array("d"))
    """Of subtitles, for how many seconds each of these is shown; 0 where it doesn't say."""

    @classmethod
    def of(cls, data: bytes) -> PacketTally:
        """Of what is no packet: an attachment."""
        tally = cls(packets=1, nbytes=len(data))
        tally.digest.update(data)
        return tally

    def add(self, data: Any, seconds: Fraction | None, duration: Fraction | None = None) -> bool:
        """Count one packet's payload, with its time and duration where it has them.

        False for the empty samples with which mov_text fills gaps: they are none.
        """
        if seconds is not None:
            self.first = seconds if self.first is None else min(self.first, seconds)
            self.last = seconds if self.last is None else max(self.last, seconds)
        size = memoryview(data).nbytes
        counts = not (size == len(FILLS_GAP) and bytes(data) == FILLS_GAP)
        if counts and seconds is not None:
            self.times.append(float(seconds))
            if duration is not None:
                self.durations.append(float(duration))
        self.packets += counts
        self.nbytes += size
        self.digest.update(data)
        return counts

    @property
    def span(self) -> Fraction | None:
        """Seconds between its first packet and its last one, where they tell."""
        return None if self.first is None or self.last is None else self.last - self.first


@dataclass(frozen=True, slots=True)
class Times(Sequence[Fraction]):
    """Presentation times in seconds, in order, kept as ticks: eight bytes each."""

    ticks: array[int]
    tick: Fraction
    begins: Fraction = Fraction(0)
    """Seconds that are taken from each."""

    def __len__(self) -> int:
        return len(self.ticks)

    @overload
    def __getitem__(self, index: int) -> Fraction: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Fraction]: ...

    def __getitem__(self, index: int | slice) -> Fraction | Sequence[Fraction]:
        if isinstance(index, slice):
            return replace(self, ticks=self.ticks[index])
        return self.ticks[index] * self.tick - self.begins

    def from_zero(self) -> Times:
        """The first one at 0, the others as far behind it as they are."""
        return replace(self, begins=self.begins + self[0])


Chapter = tuple[Fraction, Fraction, str]
"""Start and end in seconds, and title."""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file turned out to hold, without decoding it."""

    info: ClipInfo
    container: Container
    """By what the file holds, whatever its name."""
    video_times: Times
    """Of the video's packets, sorted."""
    video_tick: Fraction
    last_duration: Fraction
    """Seconds for which the last frame is shown; 0 where its packet doesn't say it."""
    last_is_last: bool
    """No packet comes after the last frame's."""
    tallies: dict[int, PacketTally]
    begins: dict[int, Fraction]
    """Stream → the earliest time at which a packet may have to be decoded."""
    chapters: list[Chapter]
    cut_off: Counter[int]
    """Stream → packets that were not looked at, for an edit list hides them."""
    words: dict[int, TextConverter]
    """Stream → what would convert its cues; those without words were not looked at."""
    movie_seconds: Fraction | None
    """For how long the header of MP4 or MOV says that it is shown."""


def read_facts(
    path: str | Path,
    *,
    into: Container | None = None,
    copies: Iterable[CopyPlan] = (),
    clock_jumps: Sequence[float] = (),
) -> FileFacts:
    """Read every packet of a file. Raises InputError where it can't be opened.

    `into`: without the packets of streams beside the video that aren't copied into such a container: from before 0,
    which AVI doesn't hold, or hidden by an edit list. `copies`: without the cues in which no words are left once they
    are converted. `clock_jumps`: what the reader of the video added to its times;
    those of other streams are moved on alike.
    """
    from_zero = into is not None and into.decode_times_only
    hidden = None if into is None else HiddenPackets(into)
    clock = CopiedClock(clock_jumps)
    words = {c.stream.index: TextConverter(c.stream.codec, c.target_codec) for c in copies if c.target_codec}
    with open_input(path) as container:
        info = clip_info(container)
        holder, wrapped = of_file(path, info), WrappedClock(info.format)
        stream = container.streams[info.video.index]
        ticks: array[int] = array("q")
        last = (-1 << 62, 0)
        tallies: dict[int, PacketTally] = {
            s.index: PacketTally.of(s.data or b"") if isinstance(s, AttachmentStream) else PacketTally()
            for s in container.streams
        }
        begins: dict[int, Fraction] = {}
        try:
            for packet in container.demux():
                if not packet.size:
                    continue
                wrapped.move(packet)
                index, is_video = packet.stream_index, packet.stream_index == stream.index
                if hidden is not None and hidden.hides(packet):
                    continue
                if index in words and not words[index].words(bytes(packet)):
                    continue
                begin = _may_begin(packet)
                if begin is not None:
                    if from_zero and begin < 0 and not is_video:
                        continue
                    begins[index] = min(begin, begins.get(index, begin))
                if not is_video:
                    clock.move(packet)
                tallies[index].add(_payload(packet), *_span_of(packet))
                if is_video and not packet.is_discard:
                    known = packet.pts is not None and not holder.decode_times_only  # there libav guesses
                    stamp = packet.pts if known else packet.dts
                    if stamp is not None:
                        ticks.append(stamp)
                        last = max(last, (stamp, packet.duration or 0))
        except av.FFmpegError as error:
            raise VerificationError(
                f"{printable(str(path))} can't be read back: {error.strerror}", stage="verify"
            ) from error
        chapters = chapters_of(container.chapters())
    tick, is_last = info.video.time_base, bool(ticks) and ticks[-1] == last[0]
    times = _exact_times(Path(path), info, len(ticks)) or Times(array("q", np.sort(ticks).tobytes()), tick)
    cut_off = Counter[int]() if hidden is None else hidden.counts
    seconds = movie_seconds(Path(path)) if holder.is_mov else None
    shown = last[1] * tick
    return FileFacts(info, holder, times, tick, shown, is_last, tallies, begins, chapters, cut_off, words, seconds)


def _exact_times(path: Path, info: ClipInfo, frames: int) -> Times | None:
    """Those of an animated PNG, of which libav tells what it made of them; None for other files."""
    delays = delays_of_png(path) if info.format == "apng" else []
    if not frames or len(delays) != frames:
        return None
    begins = accumulate(delays[:-1], initial=Fraction(0))
    return Times(array("q", (round(time / _NANOSECOND) for time in begins)), _NANOSECOND)


def _payload(packet: Any) -> Any:
    """What is copied of a packet: DVD's PCM is cut anew, each packet behind a head of its own."""
    dvd = packet.stream.type == "audio" and codec_name(packet.stream) == "pcm_dvd"
    return memoryview(packet)[_DVD_HEAD:] if dvd else packet


def _span_of(packet: Any) -> tuple[Fraction | None, Fraction | None]:
    """When a packet is shown or heard, where it tells, and of a subtitle for how long."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    duration = (packet.duration or 0) * packet.time_base if packet.stream.type == "subtitle" else None
    return None if stamp is None else stamp * packet.time_base, duration


def write_counted(writer: ClipWriter, item: CopiedPacket, counted: dict[int, PacketTally]) -> None:
    """Copy a packet and count it, where it is written."""
    if not writer.takes(item):
        return
    payload, span = bytes(_payload(item.packet)), _span_of(item.packet)
    if writer.write_copy(item):
        counted.setdefault(item.stream_index, PacketTally()).add(payload, *span)


def chapters_of(chapters: Iterable[Any]) -> list[Chapter]:
    """libav's chapters."""
    ticks = ((chapter, Fraction(chapter["time_base"] or 0)) for chapter in chapters)
    return [(c["start"] * tick, c["end"] * tick, str(dict(c["metadata"]).get("title", ""))) for c, tick in ticks]


def _may_begin(packet: Any) -> Fraction | None:
    if packet.dts is None and packet.pts is None:
        return None
    reordered = MOST_REORDERED if packet.stream.type == "video" else 0
    stamp = packet.dts if packet.dts is not None else packet.pts - reordered
    return stamp * packet.time_base
