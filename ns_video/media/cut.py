"""A cut of a clip: which of its chapters and copied packets lie in it, and where in the output; and what an edit list
hides of these packets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

from av.packet import Packet

from ns_video.media.containers import PRIMING_SECONDS, Container
from ns_video.media.copied_clock import CopiedPacket, shift_packet
from ns_video.media.copy_plan import CopyPlan

CUT_OFF = "left out: the input's edit list hides what lies there"
_LENGTH = 2  # bytes of the length of words in mov_text, and all of a sample that fills a gap
_CHAPTER_TICK = Fraction(1, 1_000_000)


def cut_chapters(chapters: list[Any], start: Fraction | None, end: Fraction | None) -> list[Any]:
    """Chapters between `start` and `end`, which become the times from 0 on."""
    if start is None and end is None:
        return chapters
    kept: list[Any] = []
    for chapter in chapters:
        tick = Fraction(chapter["time_base"])
        begins, ends = chapter["start"] * tick, chapter["end"] * tick
        begins = begins if start is None else max(begins, start)
        ends = ends if end is None else min(ends, end)
        if begins < ends:
            times = [round((t - (start or 0)) / _CHAPTER_TICK) for t in (begins, ends)]
            kept.append({**chapter, "start": times[0], "end": times[1], "time_base": _CHAPTER_TICK})
    return kept


class HiddenPackets:
    """Which packets of sound and words nobody hears or sees: an edit list (MP4) lets their stream begin later, or takes
    something out of its middle.

    Kept is what decoders need to begin with: an encoder's delay before 0, where nothing is heard, or one packet. A cue
    that is still shown when its stream begins begins with it.
    """

    def __init__(self, into: Container, start: Fraction | None = None) -> None:
        """`into`: what they are copied into, `start`: where a cut of them begins, seconds on the source's clock."""
        self.counts: Counter[int] = Counter()
        """Stream → its packets that were found to be hidden."""
        self._has_edit_lists = into.is_mov
        self._start = start or Fraction(0)
        self._heard: set[int] = set()

    def hides(self, packet: Packet) -> bool:
        """Whether a packet is to be left out; of each stream in order, moved to where it lies in the output.

        A cue of which only the first part is hidden is shortened to the rest.
        """
        if packet.stream.type not in ("audio", "subtitle"):
            return False
        if not packet.is_discard:
            self._heard.add(packet.stream_index)
            return False
        hidden = packet.stream_index in self._heard or self._lies_before(packet)
        fills_gap = packet.stream.type == "subtitle" and packet.size <= _LENGTH
        self.counts[packet.stream_index] += hidden and not fills_gap
        return hidden

    def _lies_before(self, packet: Packet) -> bool:
        """Whether it ends before its stream begins, and what comes after it is enough for the decoder."""
        stamp, about = packet.pts if packet.pts is not None else packet.dts, packet.stream
        if stamp is None:
            return False
        begins = (about.start_time or 0) * (about.time_base or packet.time_base) - self._start
        lasts = (packet.duration or 0) * packet.time_base
        ends = stamp * packet.time_base + lasts
        if about.type == "subtitle":
            return not _begins_late(packet, stamp * packet.time_base, begins, 0) and ends <= begins
        if begins <= lasts and self._has_edit_lists:  # libav's muxer hides what lies before 0
            return False
        return ends <= begins - (lasts if begins > lasts else Fraction(PRIMING_SECONDS))


def left_out_notes(counts: Mapping[int, int], why: str) -> list[str]:
    """What is to be said of the packets of each stream that were left out."""
    named = {index: "a packet" if n == 1 else f"{n} packets" for index, n in sorted(counts.items()) if n}
    return [f"stream {index}: {packets} {why}" for index, packets in named.items()]


_SYNCED = ("truehd", "mlp")
"""Sound of which most packets need one before them."""


class Cut:
    """What of the copied streams lies in [start, end) seconds; in the output it begins at 0.

    A cue that runs into the cut begins with it, one that runs out of it ends with it; video and TrueHD begin at their
    first key frame, and a cover goes out whole.
    """

    def __init__(self, copies: Iterable[CopyPlan], start: Fraction | None, end: Fraction | None) -> None:
        copies = list(copies)
        video = [c.stream for c in copies if c.stream.type == "video"]
        self._covers = {s.index for s in video if s.is_cover}
        self._keyed = {s.index for s in video if not s.is_cover}
        self._keyed |= {c.stream.index for c in copies if c.stream.codec in _SYNCED}
        self.start, self.end = start, end
        self._cues: dict[int, int] = {}
        self._keys: dict[int, Fraction] = {}
        self._without_key: set[int] = set()

    def take(self, item: CopiedPacket) -> Fraction | None:
        """The packet's decode time in the output, to which it is moved; None where it lies outside."""
        packet, time = item.packet, item.seconds
        if self.start is None and self.end is None:
            return time
        if item.stream_index in self._covers:
            packet.pts = packet.dts = 0
            return Fraction(0)
        if self.end is not None:
            if time >= self.end:
                return None
            if packet.stream.type == "subtitle" and packet.duration:
                packet.duration = min(packet.duration, max(1, (self.end - time) // packet.time_base))
        if self.start is None:
            return time
        if item.stream_index in self._keyed:
            if not self._is_playable(item, self.start):
                return None
        elif time < self.start:
            beside = self._cues.get(item.stream_index, 0)
            late = _begins_late(packet, time, self.start, beside)
            if not late:
                return None
            self._cues[item.stream_index] = beside + 1
            time += late * packet.time_base
        shift_packet(packet, -self.start)
        return time - self.start

    def _is_playable(self, item: CopiedPacket, start: Fraction) -> bool:
        """Video is copied from its first key frame on, without the frames after it that are shown before it."""
        packet = item.packet
        reordered = 0 if packet.pts is None or packet.dts is None else packet.pts - packet.dts
        shown = item.seconds + reordered * packet.time_base
        if item.stream_index not in self._keys and packet.is_keyframe and shown >= start:
            self._keys[item.stream_index] = shown
        key = self._keys.get(item.stream_index)
        if key is None and shown >= start:
            self._without_key.add(item.stream_index)
        return key is not None and shown >= key

    @property
    def notes(self) -> list[str]:
        """What the cut lacks, in words."""
        out: list[str] = []
        for index in sorted(self._without_key):
            key = self._keys.get(index)
            if key is None or self.start is None:
                out.append(f"stream {index} is empty: no key frame of it lies in the cut")
            else:
                out.append(
                    f"stream {index} begins {float(key - self.start):.3f} s into the cut, at its first key frame"
                )
        return out


def _begins_late(packet: Packet, time: Fraction, start: Fraction, beside: int) -> int:
    """Ticks by which a cue that runs into a cut was moved to begin with it; 0 for what ends before.

    `time` is the packet's, `beside` the number of such cues before it: no two of them begin at the same tick.
    """
    if packet.stream.type != "subtitle" or not packet.duration:
        return 0
    late = -((time - start) // packet.time_base) + beside
    if late >= packet.duration:
        return 0
    shift_packet(packet, late * packet.time_base)
    packet.duration -= late
    return late
