"""The run's self-check: what a file holds, read back packet by packet, against what it should hold."""

from __future__ import annotations

import hashlib
import math
import re
from array import array
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, overload

import av
import numpy as np
from av.stream import Disposition

from ns_video.errors import VerificationError
from ns_video.frame import MATRIX_RGB, RANGE_FULL, RANGE_LIMITED, ColorInfo, Frame, PixelFormat
from ns_video.media.animation import open_animation, seconds_of
from ns_video.media.chroma_place import is_moved
from ns_video.media.containers import COLOR_TAGS, Container, of_demuxer, of_file
from ns_video.media.copy_plan import CopyPlan, plan_copies
from ns_video.media.decode import ClipReader, CopiedClock, CopiedPacket, DecodeOptions, open_clip
from ns_video.media.display_matrix import turn_alone
from ns_video.media.first_frame import first_frame_metadata
from ns_video.media.libav import open_input, printable
from ns_video.media.mux import MOST_REORDERED, QUICKTIME_LANGUAGES, ClipWriter
from ns_video.media.probe import ClipInfo, StreamInfo, clip_info, codec_name, stream_info
from ns_video.media.still import read_still
from ns_video.media.video_plan import color_as

_TERMINOLOGY_CODES = {b: t for t, b in QUICKTIME_LANGUAGES.items()}
_CHAPTER_SLACK_SECONDS = Fraction(15, 10_000)
_ANIMATION_SLACK_SECONDS = Fraction(2, 1000)
_ALIKE = 5  # of 255, by which all samples of a frame may differ that libwebp, at its usual quality, takes for no change
_TURN_SLACK = 16  # of 65536: Matroska holds a display matrix as angles
# Codecs that tell all of the colours, and those whose decoders know some by themselves, whatever the container tells.
_TELLING = frozenset({"h264", "hevc", "vp9", "av1", "png", "prores"})
_IMPLIED = {
    **dict.fromkeys(("vp8", "mjpeg"), ("matrix", "range")),
    **dict.fromkeys(("mpeg1video", "mpeg2video"), ("range",)),
}
_WHOLE_FRAMES = frozenset({"mpeg1video", "mpeg2video"})  # whose encoders round times to the rate
_NAMED = 12  # of what can't be held, in one sentence
_STRETCHED = 0.02  # change of width / height that is no rounding
# Payloads that muxers rewrite on the way between containers, counted only: some always, others where the containers
# frame them in different ways (with or without ADTS headers, start codes or lengths of NAL units).
_REWRITTEN = frozenset({"av1", "mov_text", "dvb_subtitle"})
_REFRAMED = frozenset({"h264", "hevc", "vvc", "aac"})
_DVD_HEAD = 3  # bytes
_FORMATTED_TAGS = ("creation_time", "location", "software")
"""Beginnings of names of tags with other values: mp4 holds the first two as numbers, AVI its writer in the last."""

# What containers and encoders note of themselves; languages are compared with the streams.
_OWN_TAGS = re.compile(
    r"^(encoder|encoded_by|handler_name|vendor_id|major_brand|minor_version|compatible_brands|language|duration|rotate|"
    r"alpha_mode|variant_bitrate|source_id|bps|number_of_(frames|bytes)|_statistics.*|(product|toolkit)_version_num|application_platform|\w+_package_umid)(-\w+)?$",
    re.I,
)


@dataclass(slots=True)
class PacketTally:
    """Number of the packets of one stream, and size and hash of all they hold."""

    packets: int = 0
    nbytes: int = 0
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))
    first: Fraction | None = None
    """Seconds at which its first packet is shown or heard; None where no packet tells."""
    last: Fraction | None = None

    def add(self, data: Any, seconds: Fraction | None) -> bool:
        """Count one packet's payload, with its time where it has one.

        False for the empty samples with which mov_text fills gaps: they are none.
        """
        if seconds is not None:
            self.first = seconds if self.first is None else min(self.first, seconds)
            self.last = seconds if self.last is None else max(self.last, seconds)
        size = memoryview(data).nbytes
        counts = not (size == 2 and bytes(data) == b"\0\0")
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
    stamps: dict[int, array[int]]
    """Times of the packets of each stream beside the video, in the file's order, in ticks of that stream."""
    begins: dict[int, Fraction]
    """Stream → the earliest time at which a packet may have to be decoded."""
    chapters: list[Chapter]


@dataclass(frozen=True, slots=True)
class Look:
    """How the first picture of a clip is to be shown."""

    color: ColorInfo
    format: PixelFormat
    turn: tuple[int, ...]
    """Of the display matrix what turns and mirrors; not every container keeps what moves."""
    aspect: Fraction
    """Width / height of a sample."""
    shape: Fraction
    """Columns / rows."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What an output is to hold of its input."""

    source: ClipInfo
    look: Look
    times: Sequence[Fraction]
    """Presentation times of the frames."""
    shown: Fraction
    """Seconds for which the last frame is shown; 0 where that isn't known."""
    copies: Sequence[CopyPlan]
    tallies: Mapping[int, PacketTally]
    """Stream → what was copied of it."""
    chapters: Sequence[Chapter]
    shift: Fraction = Fraction(0)
    """Seconds by which all streams may be moved."""
    refused: int = 0
    """Packets that the container would not take."""
    changes: Sequence[int] = ()
    """Of animated WebP, by how much each picture differs from the one before (`FrameEncoder.changes`)."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which an output is not what it should be."""

    what: str
    by_damage: bool = False
    """A damaged input explains it: words or data with nonsense in them, which the container would not take."""
    by_wish: bool = False
    """Options that the user gave the encoder explain it: they can tell other things of the picture."""


def compare(promise: Promise, found: FileFacts, made: Look) -> list[Difference]:
    """All in which a file is not what was promised. `made`: of its first picture."""
    info, copies, tallies = promise.source, promise.copies, promise.tallies
    return [
        *compare_times(promise.times, found, promise.shift),
        *compare_ends(info, promise.shown, found),
        *compare_streams(info, copies, tallies, found, promise.refused),
        *compare_dispositions(info, copies, found, tallies),
        *compare_chapters(promise.chapters, found),
        *compare_picture(promise.look, made, found),
    ]


def read_facts(path: str | Path, *, from_zero: bool = False, clock_jumps: Sequence[float] = ()) -> FileFacts:
    """Read every packet of a file. Raises InputError where it can't be opened.

    `from_zero`: without the packets from before 0 of streams beside the video, which AVI doesn't hold. `clock_jumps`:
    what the reader of the video added to its times; those of other streams are moved on alike.
    """
    clock = CopiedClock(clock_jumps)
    with open_input(path) as container:
        info = clip_info(container)
        holder = of_file(path, info)
        stream = container.streams[info.video.index]
        ticks: array[int] = array("q")
        last = (-1 << 62, 0)
        tallies: dict[int, PacketTally] = {s.index: PacketTally() for s in container.streams}
        stamps: dict[int, array[int]] = {s.index: array("q") for s in container.streams}
        begins: dict[int, Fraction] = {}
        try:
            for packet in container.demux():
                if not packet.size:
                    continue
                index, is_video = packet.stream_index, packet.stream_index == stream.index
                begin = _may_begin(packet)
                if begin is not None:
                    if from_zero and begin < 0 and not is_video:
                        continue
                    begins[index] = min(begin, begins.get(index, begin))
                if not is_video:
                    clock.move(packet)
                stamp = packet.pts if packet.pts is not None else packet.dts
                counts = tallies[index].add(_payload(packet), _seconds_of(packet))
                if not is_video and counts and stamp is not None:
                    stamps[index].append(stamp)
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
    times = Times(array("q", np.sort(ticks).tobytes()), tick)
    return FileFacts(info, holder, times, tick, last[1] * tick, is_last, tallies, stamps, begins, chapters)


def _payload(packet: Any) -> Any:
    """What is copied of a packet: DVD's PCM is cut anew, each packet behind a head of its own."""
    dvd = packet.stream.type == "audio" and codec_name(packet.stream) == "pcm_dvd"
    return memoryview(packet)[_DVD_HEAD:] if dvd else packet


def _seconds_of(packet: Any) -> Fraction | None:
    """When a packet is shown or heard, where it tells."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    return None if stamp is None else stamp * packet.time_base


def write_counted(writer: ClipWriter, item: CopiedPacket, counted: dict[int, PacketTally]) -> None:
    """Copy a packet and count it, where it is written."""
    payload, seconds = bytes(_payload(item.packet)), _seconds_of(item.packet)
    if writer.write_copy(item):
        counted.setdefault(item.stream_index, PacketTally()).add(payload, seconds)


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


def compare_times(
    expected: Sequence[Fraction], found: FileFacts, allowed_shift: Fraction = Fraction(0)
) -> list[Difference]:
    """Frame counts and each presentation time, in order, exact to the output's clock.

    One common shift of up to `allowed_shift` seconds is allowed, and any where the first time lies before 0.
    """
    if len(expected) != len(found.video_times):
        return [Difference(f"{len(expected)} frames went in, {len(found.video_times)} are in the output")]
    if not expected:
        return []
    slack = max(found.video_tick, Fraction(0)) + Fraction(1, 1_000_000)
    shift = found.video_times[0] - expected[0]
    worst = max(((abs(b - a - shift), a) for a, b in zip(expected, found.video_times)), key=lambda pair: pair[0])
    if worst[0] > slack:
        return [Difference(f"the frame at {float(worst[1]):.4f} s is {float(worst[0]) * 1000:.3f} ms off")]
    if shift < -slack or (shift > slack + allowed_shift and expected[0] >= 0):
        return [Difference(f"the video begins at {float(found.video_times[0]):.4f} s, not {float(expected[0]):.4f} s")]
    return []


def compare_ends(source: ClipInfo, shown: Fraction, found: FileFacts) -> list[Difference]:
    """Whether the last frame is shown for `shown` seconds: by its packet's duration or the container's, to a frame; by
    the packet's it isn't shown longer either, where `shown` isn't 0 for unknown.

    Of interlaced pictures parsers tell the duration of a field. mp4 notes of a packet that is not the last one decoded
    only how long it is until the next.
    """
    untold = found.container.is_mov and not found.last_is_last
    if not found.container.tells_durations or not found.video_times or untold:
        return []
    whole = Fraction(found.info.duration_seconds or 0) + Fraction(found.info.start_seconds or 0)
    told, slack = max(found.last_duration, whole - found.video_times[-1]), 1 / source.video.rate
    if shown and found.last_duration > shown + slack:
        told = found.last_duration
    elif told >= shown - slack:
        return []
    return [Difference(f"the last frame was shown for {float(shown):.4f} s, is for {float(told):.4f} s", True)]


def compare_animation(
    expected: Sequence[Fraction],
    found: Sequence[Fraction],
    shown: Fraction = Fraction(0),
    lasts: Fraction = Fraction(0),
) -> list[Difference]:
    """Times of an animated WebP, whose encoder shows a frame longer where the next one changes nothing.

    `shown`: seconds for which the last frame is shown, for which libwebp takes the mean of the others'; `lasts`: how
    long the animation does, 0 where that isn't known.
    """
    if not found or len(found) > len(expected):
        return [Difference(f"{len(expected)} frames went in, {len(found)} decode")]
    wanted = [t - expected[0] for t in expected]
    _, strange = _unmatched(wanted, found)
    if strange:
        return [Difference(f"no frame went in at {float(strange[0]):.3f} s")]
    longest = wanted[-1] + max(shown, wanted[-1] / max(1, len(wanted) - 1)) + _ANIMATION_SLACK_SECONDS
    if lasts and not wanted[-1] - _ANIMATION_SLACK_SECONDS < lasts < longest:
        ends = f"the last frame begins at {float(wanted[-1]):.3f} s, the animation ends at {float(lasts):.3f} s"
        return [Difference(ends)]
    return []


def _unmatched(wanted: Sequence[Fraction], found: Iterable[Fraction]) -> tuple[list[int], list[Fraction]]:
    """Numbers of the wanted times that an animation doesn't have, and its times that nobody wants. All in order."""
    missing: list[int] = []
    strange: list[Fraction] = []
    place = 0
    for time in found:
        while place < len(wanted) and wanted[place] < time - _ANIMATION_SLACK_SECONDS:
            missing.append(place)
            place += 1
        if place < len(wanted) and wanted[place] <= time + _ANIMATION_SLACK_SECONDS:
            place += 1
        else:
            strange.append(time)
    return missing + list(range(place, len(wanted))), strange


def _compare_missing(source: str | Path, expected: Sequence[Fraction], found: Sequence[Fraction]) -> list[Difference]:
    """Whether each frame that an animation doesn't have looks like the one that is shown instead."""
    missing = set(_unmatched([t - expected[0] for t in expected], found)[0])
    if not missing:
        return []
    lost: list[Fraction] = []
    reader, _ = _open(source)
    with reader:
        instead: Frame | None = None
        for number, frame in enumerate(reader.frames()):
            if number not in missing:
                instead = frame
            elif instead is None or not _is_alike(instead, frame):
                lost.append(expected[number])
    return _missing_frames(lost)


def compare_joined(expected: Sequence[Fraction], found: Sequence[Fraction], changes: Sequence[int]) -> list[Difference]:
    """Whether each frame that an animation doesn't have changed nothing, by its `changes` from the frame before.

    Behind one that isn't there either, both may differ from what is shown instead.
    """
    missing = _unmatched([t - expected[0] for t in expected], found)[0]
    gone = set(missing)
    return _missing_frames([expected[n] for n in missing if changes[n] > _ALIKE * (2 if n - 1 in gone else 1)])


def _missing_frames(lost: Sequence[Fraction]) -> list[Difference]:
    return [Difference(f"frames missing: {len(lost)}, the first at {float(lost[0]):.3f} s")] if lost else []


def _is_alike(a: Frame, b: Frame) -> bool:
    shown = [frame.carrier.to_ndarray(format="rgba").astype(np.int16) for frame in (a, b)]
    return shown[0].shape == shown[1].shape and bool(np.abs(shown[0] - shown[1]).max() <= _ALIKE)


def compare_streams(
    source: ClipInfo, copies: Iterable[CopyPlan], counted: Mapping[int, PacketTally], found: FileFacts, refused: int = 0
) -> list[Difference]:
    """Copied streams in order: kind, packets, payload, language and disposition.

    `refused`: packets that the container would not take. It says so one packet too late, maybe of another stream.
    """
    out: list[Difference] = []
    added = {s.index: s for s in found.info.streams if s.type in ("video", "audio", "subtitle") and not s.is_cover}
    added.pop(found.info.video.index, None)
    for copy, match in _matched(copies, counted, found.info):
        if match is not None:
            added.pop(match.index, None)
        about, expected = copy.stream, counted.get(copy.stream.index)
        name = _name(about)
        beside = about.type in ("subtitle", "data")
        if match is None:
            out.append(Difference(f"{name} is missing", beside))
            continue
        language, kept = dict(about.metadata).get("language"), dict(match.metadata).get("language")
        lost = language not in (None, "und", kept, _TERMINOLOGY_CODES.get(kept or ""))
        if found.container.numbers_languages and kept in (None, "und"):
            lost = False  # it has no number
        if lost and about.type in found.container.languages_of:
            out.append(Difference(f"{name} lost its language {language}"))
        if expected is None or about.is_cover or about.type == "attachment":
            continue
        tally = found.tallies[match.index]
        if about.codec.startswith("pcm_"):  # without packets of its own: each container cuts it as it likes
            if tally.nbytes != expected.nbytes:
                out.append(Difference(f"{name}: {expected.nbytes} bytes went in, {tally.nbytes} are in the output"))
            elif tally.digest.digest() != expected.digest.digest():
                out.append(Difference(f"{name}: its samples differ"))
            continue
        if tally.packets != expected.packets:
            if "mov_text" in (about.codec, copy.target_codec) and tally.packets > expected.packets:
                continue  # gaps between cues are written as empty samples
            if about.codec == "hdmv_pgs_subtitle" and 0 < tally.packets < expected.packets:
                continue  # MPEG-TS cuts a picture into packets that other containers keep whole
            counts = f"{expected.packets} packets went in, {tally.packets} are in the output"
            out.append(Difference(f"{name}: {counts}", beside or abs(expected.packets - tally.packets) <= refused))
        elif (
            not copy.target_codec
            and _is_kept(about.codec, of_demuxer(source.format), found.container)
            and tally.digest.digest() != expected.digest.digest()
        ):
            out.append(Difference(f"{name}: its packets differ"))
        if about.type == "audio" and tally.packets == expected.packets:
            out += _compare_spans(name, (expected, about), (tally, match))
    out += [
        Difference(f"{_name(s)} of the output was not in the input", refused > 0)
        for s in added.values()
        if found.tallies[s.index].packets
    ]
    return out


def _compare_spans(
    name: str, was: tuple[PacketTally, StreamInfo], now: tuple[PacketTally, StreamInfo]
) -> list[Difference]:
    """Whether the same packets of sound lie within the same time, exact to the clocks of both files.

    Where it begins before 0 that is encoder delay, of which Matroska holds no times: libav's demuxer counts back.
    """
    before, after = was[0].span, now[0].span
    delay = max(Fraction(0), -(was[0].first or Fraction(0)))
    slack = 2 * max(stream.time_base or Fraction(0) for _, stream in (was, now)) + delay
    if before is None or after is None or abs(after - before) <= slack:
        return []
    text = f"its packets lay within {float(before):.3f} s, lie within {float(after):.3f} s"
    return [Difference(f"{name}: {text}", by_damage=True)]


def _is_kept(codec: str, was: Container, now: Container) -> bool:
    """Whether payloads pass from one container into the other bit by bit."""
    if codec in _REFRAMED:
        return (was.frames_by_length and now.frames_by_length) or (codec == "aac" and was.read_by == now.read_by)
    return codec not in _REWRITTEN


def _name(stream: StreamInfo) -> str:
    return f"stream {stream.index} ({stream.type} {stream.codec})"


def _matched(
    copies: Iterable[CopyPlan], counted: Mapping[int, PacketTally], found: ClipInfo
) -> Generator[tuple[CopyPlan, StreamInfo | None]]:
    """Each copied stream that held something, and the stream of the output that it became."""
    pool = [s for s in found.streams if s.index != found.video.index]
    for copy in copies:
        about, tally = copy.stream, counted.get(copy.stream.index)
        carries = about.type == "attachment" or about.is_cover
        if not copy.kept or (not carries and (tally is None or tally.packets == 0)):
            continue  # a track without samples leaves no trace in most containers
        match = next(
            (
                s
                for s in pool
                if (s.type == about.type or (about.is_cover and s.is_cover))
                and (_family(s) == _family(about) or copy.target_codec or about.type in ("attachment", "data"))
            ),
            None,
        )
        if match is not None:
            pool.remove(match)
        yield copy, match


def compare_copied_times(
    source: FileFacts, begins: Fraction, copies: Iterable[CopyPlan], found: FileFacts
) -> list[Difference]:
    """Times of the packets of copied streams beside the video's, exact to the clocks of both files.

    `begins`: time of the first frame of the source. Of samples without packets of their own (PCM) only the first one's
    counts: each container cuts them as it likes. What lies before 0 is encoder delay, which Matroska rounds.
    """
    out: list[Difference] = []
    if not found.video_times:
        return out
    moved = found.video_times[0] - begins
    for copy, match in _matched(copies, source.tallies, found.info):
        if match is None or match.is_cover:
            continue
        if found.container.decode_times_only and match.type != "audio":
            continue
        was, now = source.stamps[copy.stream.index], found.stamps[match.index]
        ticks = copy.stream.time_base or Fraction(0), match.time_base or Fraction(0)
        if len(was) != len(now) and not copy.stream.codec.startswith("pcm_"):
            continue  # told by their number
        offset = moved
        if found.container.counts_sound and was and now:
            offset = now[0] * ticks[1] - was[0] * ticks[0]  # from 0 on, whenever it began
        slack = 2 * max(*ticks, source.video_tick, found.video_tick)
        whole = len(was) == len(now) and copy.stream.codec != "pcm_dvd"
        both = ((a * ticks[0], b * ticks[1]) for a, b in zip(was, now if whole else now[:1]))
        far = next(((a, b - a - offset) for a, b in both if a >= 0 and abs(b - a - offset) > slack), None)
        if far is not None:
            where = f"its packet at {float(far[0]):.4f} s is {float(far[1]) * 1000:+.3f} ms off beside the video"
            out.append(Difference(f"{_name(copy.stream)}: {where}", by_damage=True))
    return out


def compare_dispositions(
    source: ClipInfo, copies: Iterable[CopyPlan], found: FileFacts, counted: Mapping[int, PacketTally]
) -> list[Difference]:
    """Flags of the streams (default, forced and the like), as far as the output's container holds them."""
    return [
        Difference(f"{_name(was)} {'lost' if was.disposition & flag else 'gained'} the flag {flag.name}")
        for was, flag, is_held in _changed_flags(source, copies, found, counted)
        if is_held
    ]


def _changed_flags(
    source: ClipInfo, copies: Iterable[CopyPlan], found: FileFacts, counted: Mapping[int, PacketTally]
) -> Generator[tuple[StreamInfo, Disposition, bool]]:
    """Flags that a kept stream lost or gained, and whether the output's container holds them there.

    That the first stream of its kind is the default goes without saying.
    """
    restored = [[s for s in info.streams if s.index == info.video.index] for info in (source, found.info)]
    pairs = list(zip(*restored)) + [(c.stream, m) for c, m in _matched(copies, counted, found.info) if m is not None]
    pairs = [(was, now) for was, now in pairs if not was.is_cover and was.type != "attachment"]
    for was, now in pairs:
        alike = [a for a, _ in pairs if a.type == was.type]
        kept = found.container.dispositions
        if found.container.is_mov and not any(a.disposition & Disposition.default for a in alike):
            kept &= ~Disposition.default  # one of each kind is enabled, always
        for flag in Disposition:
            implied = flag == Disposition.default and was is min(alike, key=lambda a: a.index)
            if flag & (was.disposition ^ now.disposition) and (kept & flag or not implied):
                yield was, flag, bool(kept & flag)


def _family(stream: StreamInfo) -> str:
    """The codec; the layers of MPEG audio are one, for which mp4 has a single code, and so are plain words."""
    families = {"mp1": "mpeg audio", "mp2": "mpeg audio", "mp3": "mpeg audio", "text": "subrip"}
    return families.get(stream.codec, stream.codec)


def look_of(first: Frame, info: ClipInfo) -> Look:
    """The look of a clip by its first frame."""
    matrix, _ = first_frame_metadata(first.carrier)
    turn = _turn_of(matrix) if matrix else (1 << 16, 0, 0, 1 << 16)
    video = info.video
    shape = Fraction(video.width or first.width, video.height or first.height)  # not every head tells them
    return Look(first.color, first.format, turn, video.sample_aspect_ratio or Fraction(1), shape)


def _turn_of(matrix: tuple[int, ...]) -> tuple[int, ...]:
    return (*matrix[0:2], *matrix[3:5])


def compare_picture(was: Look, now: Look, found: FileFacts) -> list[Difference]:
    """Colour tags, display matrix and sample aspect ratio of the first frame of the output."""
    container, codec = found.container, found.info.video.codec
    if not container.tells_look:
        return []
    out: list[str] = []
    wanted = color_as(was.color, was.format, now.format)
    tags, now_tags = (_tags(color, now.format) for color in (wanted, now.color))
    untold = _untold(wanted, container, codec)
    for name, tag in tags.items():
        if tag != now_tags[name] and name not in untold:
            out.append(f"colour {name} was {tag}, is {now_tags[name]}")
    if is_moved(wanted, now.color, now.format, codec):
        out.append(f"the chroma position was {wanted.chroma_location}, is {now.color.chroma_location}")
    turn = was.turn
    if container.turns_only:
        turn = _turn_of(turn_alone((*turn[:2], 0, *turn[2:], 0, 0, 0, 1 << 30)))
    if container.holds_turn and any(abs(a - b) > _TURN_SLACK for a, b in zip(turn, now.turn)):
        out.append("the display matrix (rotation) differs")
    stretched = abs(was.shape / now.shape - 1) > _STRETCHED  # by --fit stretch, whose pixels are square
    rounded = not container.holds_aspect or codec == "mpeg2video"
    if not stretched and not rounded and abs(was.aspect / now.aspect - 1) > Fraction(1, 1000):
        out.append(f"the sample aspect ratio was {was.aspect}, is {now.aspect}")
    return [Difference(what, by_wish=True) for what in out]


def _untold(color: ColorInfo, container: Container, codec: str) -> set[str]:
    """Names of the colour tags that a file of this kind can't tell, or not as they are."""
    untold = {*container.color_tags_unread, *_IMPLIED.get(codec, ())}
    if container.is_mov and codec not in _TELLING:
        untold |= set(COLOR_TAGS) - set(container.told_of(color))
    return untold


def _tags(color: ColorInfo, fmt: PixelFormat) -> dict[str, int]:
    """Colour tags as players take them: RGB is of full range and has no matrix, all else is limited unless tagged."""
    return {
        "matrix": MATRIX_RGB if fmt.is_rgb else color.matrix,
        "range": RANGE_FULL if fmt.is_rgb else color.range or RANGE_LIMITED,
        "primaries": color.primaries,
        "transfer": color.transfer,
    }


def compare_chapters(chapters: Sequence[Chapter], found: FileFacts) -> list[Difference]:
    """Chapters by number, time and title, where the container holds chapters; in mp4 the first one begins at 0."""
    if not chapters or not found.container.holds_chapters:
        return []
    if len(chapters) != len(found.chapters):
        return [Difference(f"{len(chapters)} chapters went in, {len(found.chapters)} are in the output")]
    out: list[Difference] = []
    for number, (a, b) in enumerate(zip(chapters, found.chapters), 1):
        from_zero = found.container.first_chapter_at_zero and number == 1 and b[0] == 0
        if (abs(a[0] - b[0]) > _CHAPTER_SLACK_SECONDS and not from_zero) or a[2] != b[2]:
            out.append(
                Difference(f"chapter {number} was {a[2]!r} at {float(a[0]):.3f} s, is {b[2]!r} at {float(b[0]):.3f} s")
            )
    return out


def left_out(promise: Promise, found: FileFacts) -> list[str]:
    """What of the kept streams and of the file as a whole the output's container doesn't hold, in words."""
    changed = _changed_flags(promise.source, promise.copies, found, promise.tallies)
    flags = [f"stream {s.index}: {f.name}" for s, f, is_held in changed if not is_held and s.disposition & f]
    kinds = {"flags": flags, "tags": lost_tags(promise.source, promise.copies, found.info)}
    out: list[str] = []
    for kind, lost in kinds.items():
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        if lost:
            out.append(f"{kind} that this container doesn't hold: {printable(', '.join(lost[:_NAMED]))}{more}")
    return out


def dropped_chapters(chapters: Sequence[Chapter], container: Container) -> str | None:
    """What is to be said of chapters that a container doesn't hold."""
    if not chapters or container.holds_chapters:
        return None
    return f"{'1 chapter' if len(chapters) == 1 else f'{len(chapters)} chapters'}: dropped: {container.name} holds none"


def lost_tags(source: ClipInfo, copies: Iterable[CopyPlan], found: ClipInfo) -> list[str]:
    """Names of the tags of the container and of the kept streams that the output doesn't have, "stream 1: title"."""
    out: list[str] = []
    for prefix, was, now in _tagged(source, copies, found):
        names = _missing(was, now)
        if prefix and dict(was).get("language", "und") != "und" and dict(now).get("language", "und") == "und":
            names.append("language")
        out += [prefix + name for name in names if not prefix or name.lower() != "creation_time"]  # the container's
    return out


Tags = tuple[tuple[str, str], ...]


def _tagged(source: ClipInfo, copies: Iterable[CopyPlan], found: ClipInfo) -> Generator[tuple[str, Tags, Tags]]:
    """Tags of the container and of each kept stream, in the input and in the output: ("stream 1: ", was, now)."""
    yield "", source.metadata, found.metadata
    kept = {c.stream.index for c in copies if c.kept} | {source.video.index}
    pairs: list[tuple[StreamInfo, StreamInfo]] = []
    for kind in ("video", "audio", "subtitle"):
        were = [s for s in source.streams if s.type == kind and s.index in kept and not s.is_cover]
        are = [s for s in found.streams if s.type == kind and not s.is_cover]
        pairs += zip(were, are)
    for was, now in sorted(pairs, key=lambda pair: pair[0].index):
        yield f"stream {was.index}: ", was.metadata, now.metadata


def compare_tags(source: ClipInfo, copies: Iterable[CopyPlan], found: FileFacts) -> list[Difference]:
    """Tags that are gone though the output's container holds them, and tags of another value."""
    out: list[Difference] = []
    for prefix, was, now in _tagged(source, copies, found.info):
        held = found.container.stream_tags if prefix else found.container.tags
        present, values = {name.lower(): value.strip() for name, value in now}, {value.strip() for _, value in now}
        missing = set(_missing(was, now))
        for name, value in was:
            own = bool(_OWN_TAGS.match(name)) or (prefix and name.lower() == "creation_time")  # that is the container's
            if name in missing and not own and (held is None or name.lower() in held):
                out.append(Difference(f"{prefix}the tag {name} is missing"))
            elif (
                not own
                and not name.lower().startswith(_FORMATTED_TAGS)
                and present.get(name.lower(), value.strip()) != value.strip()
                and value.strip() not in values
            ):
                out.append(Difference(f"{prefix}the tag {name} was {value!r}, is {present[name.lower()]!r}"))
    return out


def _missing(were: Iterable[tuple[str, str]], are: Iterable[tuple[str, str]]) -> list[str]:
    """Containers spell names in their own way: a tag is there by its name or by its value."""
    now = list(are)
    names, values = {name.lower() for name, _ in now}, {value.strip() for _, value in now}
    return [
        name
        for name, value in were
        if value.strip() and not _OWN_TAGS.match(name) and name.lower() not in names and value.strip() not in values
    ]


def _open(path: str | Path) -> tuple[ClipReader, bool]:
    """A reader, and whether it is of an animated WebP, or of the still that is made of one that never changes."""
    options = DecodeOptions(deinterlace="off")
    animation = open_animation(Path(path), options)
    reader = animation or open_clip(path, options)
    return reader, animation is not None or reader.info.format == "webp_pipe"


def verify_files(
    source: str | Path, output: str | Path, *, full: bool = True, notes: list[str] | None = None
) -> list[Difference]:
    """Check a finished OUTPUT against its INPUT: frames, times, streams, tags. Decodes both where `full`.

    `notes` gets what OUTPUT's container can't hold of it.
    """
    reader, _ = _open(source)
    with reader:
        ticks: array[int] = array("q")
        first, shown = None, Fraction(0)
        for frame in reader.frames():
            first = first or frame
            assert frame.pts is not None
            ticks.append(frame.pts)
            shown = (frame.duration or 0) * frame.time_base
        info, damaged, jumps = reader.info, reader.damage_count > 0, list(reader.clock_jumps)
    assert first is not None
    expected = Times(ticks, first.time_base)
    reader, is_animation = _open(output)
    with reader:
        made: list[Fraction] = []
        found_first = None
        for frame in reader.frames():
            found_first = found_first or frame
            made.append((frame.pts or 0) * frame.time_base)
            if not (full or is_animation):
                break
    assert found_first is not None
    differences = [Difference(f"the output is damaged: {reader.damage[0].what}")] if reader.damage_count else []
    if is_animation:
        differences += compare_animation(expected, made, shown, seconds_of(Path(output)))
        return differences + _compare_missing(source, expected, made)
    if full and len(made) != len(expected):
        differences.append(Difference(f"{len(expected)} frames decode from the input, {len(made)} from the output"))
    found = read_facts(output)
    with open_input(source) as container:
        copies = plan_copies(container, info, found.container.name)
    facts = read_facts(source, from_zero=found.container.decode_times_only, clock_jumps=jumps)
    begins = [facts.begins[c.stream.index] for c in copies if c.kept and c.stream.index in facts.begins]
    moved = Fraction(0) if found.container.holds_negative_times else -min(begins, default=Fraction(0))
    if found.info.video.codec in _WHOLE_FRAMES:
        begin = expected[0]
        whole = array("q", (math.floor((t - begin) * info.video.rate + Fraction(1, 2)) for t in expected))
        expected = Times(whole, 1 / info.video.rate, -begin)
    if found.container.begins_at_zero:
        expected = expected.from_zero()
    promise = Promise(
        source=info,
        look=look_of(first, info),
        times=expected,
        shown=shown,
        copies=copies,
        tallies=facts.tallies,
        chapters=facts.chapters,
        shift=max(moved, Fraction(0)),
    )
    differences += compare(promise, found, look_of(found_first, found.info))
    if notes is not None:
        notes += [f"stream {c.stream.index}: {c.action}" for c in copies if not c.kept or c.target_codec]
        notes += [note for note in (dropped_chapters(facts.chapters, found.container),) if note]
        notes += left_out(promise, found)
    differences += compare_copied_times(facts, expected[0], copies, found)
    differences += compare_tags(info, copies, found)
    return [d for d in differences if not (damaged and d.by_damage)]


def verify_stills(source: Path, output: Path) -> list[Difference]:
    """Check a picture against the one it was made from: size, channels, bits, profile and turn, as its format holds."""
    (frame, info), (made, found) = read_still(source), read_still(output)
    kind, out = found.source_format, list[Difference]()
    (width, height), (made_width, made_height) = (_shown_size(f) for f in (frame, made))
    if (width, height) != (made_width, made_height):
        out.append(Difference(f"the picture was {width}x{height}, is {made_width}x{made_height}"))
    if frame.format.is_rgb and not made.format.is_rgb:
        out.append(Difference("the picture had colours, is gray"))
    holds_alpha = kind in ("PNG", "TIFF") or (kind == "WEBP" and _is_seen_through(frame))
    if holds_alpha and frame.format.has_alpha and not made.format.has_alpha:
        out.append(Difference("the alpha channel is missing"))
    if kind in ("PNG", "TIFF") and frame.format.bit_depth > made.format.bit_depth:
        out.append(Difference(f"the samples had {frame.format.bit_depth} bits, have {made.format.bit_depth}"))
    if kind != "BMP" and info.icc != found.icc:
        out.append(
            Difference(
                f"the ICC profile {'differs' if info.icc and found.icc else 'is missing' if info.icc else 'is new'}"
            )
        )
    if not {kind, info.source_format} & {"BMP", "TIFF"} and info.orientation != found.orientation:  # those are upright
        out.append(Difference(f"the orientation (EXIF) was {info.orientation}, is {found.orientation}"))
    return out


def _shown_size(frame: Frame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.turned else (frame.width, frame.height)


def _is_seen_through(frame: Frame) -> bool:
    """Whether its alpha channel says anything: libwebp leaves out one that doesn't."""
    return frame.format.has_alpha and bool((frame.planes[-1] < (1 << frame.format.bit_depth) - 1).any())


__all__ = [
    "Chapter",
    "CopiedPacket",
    "Difference",
    "FileFacts",
    "Look",
    "PacketTally",
    "Promise",
    "Times",
    "chapters_of",
    "compare",
    "compare_animation",
    "compare_joined",
    "compare_streams",
    "compare_times",
    "dropped_chapters",
    "left_out",
    "look_of",
    "read_facts",
    "stream_info",
    "verify_files",
    "verify_stills",
    "write_counted",
]
