"""The run's self-check: what a file holds, read back packet by packet, against what it should hold."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from ns_video.errors import VerificationError
from ns_video.frame import MATRIX_RGB, RANGE_FULL, RANGE_LIMITED, ColorInfo, Frame, PixelFormat
from ns_video.media.animation import open_animation
from ns_video.media.decode import ClipReader, CopiedPacket, DecodeOptions, open_clip
from ns_video.media.encode import CHROMA_LEFT, color_as, first_frame_metadata, format_for
from ns_video.media.libav import open_input, printable
from ns_video.media.mux import (
    MOST_REORDERED,
    QUICKTIME_LANGUAGES,
    CopyPlan,
    begins_at_zero,
    holds_negative_times,
    plan_copies,
)
from ns_video.media.probe import ClipInfo, StreamInfo, clip_info, stream_info

_TERMINOLOGY_CODES = {b: t for t, b in QUICKTIME_LANGUAGES.items()}
_CHAPTER_SLACK_SECONDS = 0.0015
_ANIMATION_SLACK_SECONDS = 0.002
_TURN_SLACK = 16  # of 65536: Matroska holds a display matrix as angles
_TURNING = frozenset({"matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"})  # what holds a display matrix
# Tags of the colours that can't be told there: the run says so.
_UNTOLD = {**dict.fromkeys(("gif", "ivf"), ("primaries", "transfer")), **dict.fromkeys(("mpeg", "mxf"), ("range",))}
_WHOLE_FRAMES = frozenset({"mpeg1video", "mpeg2video"})  # whose encoders round times to the rate
_NO_ASPECT = frozenset({"gif", "ivf"})
_STRETCHED = 0.02  # change of width / height that is no rounding
# Payloads that muxers rewrite on the way between containers: counted, not compared byte by byte.
_REWRITTEN = frozenset(
    {"h264", "hevc", "aac", "vvc", "av1", "opus", "mov_text", "dvb_subtitle", "webvtt", "ass", "mp3"}
)


# What containers and encoders note of themselves; languages are compared with the streams.
_OWN_TAGS = re.compile(
    r"^(encoder|encoded_by|handler_name|vendor_id|major_brand|minor_version|compatible_brands|language|duration|rotate|"
    r"alpha_mode|variant_bitrate|source_id|bps|number_of_(frames|bytes)|_statistics.*)(-\w+)?$",
    re.I,
)


@dataclass(slots=True)
class PacketTally:
    """Number of the packets of one stream, and size and hash of all they hold."""

    packets: int = 0
    nbytes: int = 0
    digest: Any = field(default_factory=lambda: hashlib.blake2b(digest_size=16))

    def add(self, data: Any) -> None:
        """Count one packet's payload; the empty samples with which mov_text fills gaps are none."""
        size = memoryview(data).nbytes
        self.packets += not (size == 2 and bytes(data) == b"\0\0")
        self.nbytes += size
        self.digest.update(data)


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file turned out to hold, without decoding it."""

    info: ClipInfo
    video_times: list[Fraction]
    """Presentation times of the video's packets, sorted."""
    video_tick: Fraction
    tallies: dict[int, PacketTally]
    begins: dict[int, Fraction]
    """Stream → the earliest time at which a packet may have to be decoded."""
    chapters: list[tuple[Fraction, Fraction, str]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which an output is not what it should be."""

    what: str
    by_damage: bool = False
    """A damaged input explains it: words or data with nonsense in them, which the container would not take."""


def read_facts(path: str | Path, *, from_zero: bool = False) -> FileFacts:
    """Read every packet of a file. Raises InputError where it can't be opened.

    `from_zero`: without the packets from before 0 of streams beside the video, which AVI doesn't hold.
    """
    with open_input(path) as container:
        info = clip_info(container)
        stream = container.streams[info.video.index]
        times: list[Fraction] = []
        tallies: dict[int, PacketTally] = {s.index: PacketTally() for s in container.streams}
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
                tallies[index].add(packet)
                if is_video and not packet.is_discard:
                    known = packet.pts is not None and info.format != "avi"  # AVI holds none: libav guesses
                    stamp = packet.pts if known else packet.dts
                    if stamp is not None:
                        times.append(stamp * (packet.time_base or info.video.time_base))
        except av.FFmpegError as error:
            raise VerificationError(
                f"{printable(str(path))} can't be read back: {error.strerror}", stage="verify"
            ) from error
        chapters = [
            (
                c["start"] * Fraction(c["time_base"] or 0),
                c["end"] * Fraction(c["time_base"] or 0),
                str(dict(c["metadata"]).get("title", "")),
            )
            for c in container.chapters()
        ]
    return FileFacts(info, sorted(times), info.video.time_base, tallies, begins, chapters)


def _may_begin(packet: Any) -> Fraction | None:
    if packet.dts is None and packet.pts is None:
        return None
    reordered = MOST_REORDERED if packet.stream.type == "video" else 0
    stamp = packet.dts if packet.dts is not None else packet.pts - reordered
    return stamp * packet.time_base


def compare_times(
    expected: Sequence[Fraction], found: FileFacts, allowed_shift: Fraction = Fraction(0)
) -> list[Difference]:
    """Frame counts and each presentation time, exact to the output's clock.

    One common shift of up to `allowed_shift` seconds is allowed, and any where the first time lies before 0.
    """
    if len(expected) != len(found.video_times):
        return [Difference(f"{len(expected)} frames went in, {len(found.video_times)} are in the output")]
    if not expected:
        return []
    wanted = sorted(expected)
    slack = max(found.video_tick, Fraction(0)) + Fraction(1, 1_000_000)
    shift = found.video_times[0] - wanted[0]
    worst = max(((abs(b - a - shift), a) for a, b in zip(wanted, found.video_times)), key=lambda pair: pair[0])
    if worst[0] > slack:
        return [Difference(f"the frame at {float(worst[1]):.4f} s is {float(worst[0]) * 1000:.3f} ms off")]
    if shift < -slack or (shift > slack + allowed_shift and wanted[0] >= 0):
        return [Difference(f"the video begins at {float(found.video_times[0]):.4f} s, not {float(wanted[0]):.4f} s")]
    return []


def compare_animation(expected: Sequence[Fraction], found: Sequence[Fraction]) -> list[Difference]:
    """Times of an animated WebP, whose encoder shows a frame longer where the next one changes nothing."""
    begins = expected[0] if expected else Fraction(0)
    wanted = [t - begins for t in expected]
    if not found or len(found) > len(wanted):
        return [Difference(f"{len(wanted)} frames went in, {len(found)} decode")]
    far = [t for t in found if min(abs(t - w) for w in wanted) > _ANIMATION_SLACK_SECONDS]
    return [Difference(f"no frame went in at {float(far[0]):.3f} s")] if far else []


def compare_streams(
    source: ClipInfo, copies: Iterable[CopyPlan], counted: dict[int, PacketTally], found: FileFacts, refused: int = 0
) -> list[Difference]:
    """Copied streams in order: kind, packets, payload, language and disposition.

    `refused`: packets that the container would not take. It says so one packet too late, maybe of another stream.
    """
    out: list[Difference] = []
    others = [s for s in found.info.streams if s.index != found.info.video.index]
    quicktime = dict(found.info.metadata).get("major_brand", "").startswith("qt")
    pool = list(others)
    for copy in copies:
        if not copy.kept:
            continue
        about = copy.stream
        expected = counted.get(about.index)
        carries = about.type == "attachment" or about.is_cover
        if not carries and (expected is None or expected.packets == 0):
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
        name = f"stream {about.index} ({about.type} {about.codec})"
        beside = about.type in ("subtitle", "data")
        if match is None:
            out.append(Difference(f"{name} is missing", beside))
            continue
        pool.remove(match)
        language, kept = dict(about.metadata).get("language"), dict(match.metadata).get("language")
        lost = language not in (None, "und", kept, _TERMINOLOGY_CODES.get(kept or ""))
        if found.info.format == "mpegts" and about.type in ("data", "video"):
            lost = False  # libav writes descriptors of a language for sound and words only
        if quicktime and kept in (None, "und"):
            lost = False  # QuickTime knows about a hundred languages, by number
        if lost and found.info.format not in ("avi", "flv", "nut"):
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
            and about.codec not in _REWRITTEN
            and tally.digest.digest() != expected.digest.digest()
        ):
            out.append(Difference(f"{name}: its packets differ"))
    del source
    return out


def _family(stream: StreamInfo) -> str:
    """The codec, with the layers of MPEG audio as one: mp4 has a single code for all of them."""
    return "mpeg audio" if stream.codec in ("mp1", "mp2", "mp3") else stream.codec


def compare_picture(source: ClipInfo, first: Frame, found: ClipInfo, found_first: Frame) -> list[Difference]:
    """Colour tags, display matrix and sample aspect ratio of the first frame of the output."""
    out: list[Difference] = []
    wanted = color_as(first.color, first.format, found_first.format)
    tags, now_tags = (_tags(color, found_first.format) for color in (wanted, found_first.color))
    for name, tag in tags.items():
        if tag != now_tags[name] and name not in _UNTOLD.get(found.format, ()):
            out.append(Difference(f"colour {name} was {tag}, is {now_tags[name]}"))
    was, now = wanted.chroma_location, found_first.color.chroma_location
    subsampled = found.video.format.chroma_shift_x and found.video.format.chroma_shift_y
    if subsampled and found.video.codec in ("h264", "hevc") and (was or CHROMA_LEFT) != (now or CHROMA_LEFT):
        out.append(Difference(f"the chroma position was {was}, is {now}"))
    turns = zip(_turn(first), _turn(found_first))
    if found.format in _TURNING and any(abs(a - b) > _TURN_SLACK for a, b in turns):
        out.append(Difference("the display matrix (rotation) differs"))
    sar_in, sar_out = source.video.sample_aspect_ratio or Fraction(1), found.video.sample_aspect_ratio or Fraction(1)
    shape_in, shape_out = (Fraction(i.video.width, i.video.height) for i in (source, found))
    stretched = abs(shape_in / shape_out - 1) > _STRETCHED  # by --fit stretch, whose pixels are square
    rounded = found.format in _NO_ASPECT or found.video.codec == "mpeg2video"
    if not stretched and not rounded and abs(sar_in / sar_out - 1) > Fraction(1, 1000):
        out.append(Difference(f"the sample aspect ratio was {sar_in}, is {sar_out}"))
    return out


def _tags(color: ColorInfo, fmt: PixelFormat) -> dict[str, int]:
    """Colour tags as players take them: RGB is of full range and has no matrix, all else is limited unless tagged."""
    return {
        "matrix": MATRIX_RGB if fmt.is_rgb else color.matrix,
        "range": RANGE_FULL if fmt.is_rgb else color.range or RANGE_LIMITED,
        "primaries": color.primaries,
        "transfer": color.transfer,
    }


def _turn(frame: Frame) -> tuple[int, ...]:
    """Of the display matrix what turns and mirrors; not every container keeps what moves."""
    matrix, _ = first_frame_metadata(frame.carrier)
    return (*matrix[0:2], *matrix[3:5]) if matrix else (1 << 16, 0, 0, 1 << 16)


def compare_chapters(source: FileFacts, found: FileFacts) -> list[Difference]:
    """Chapters by number, time and title, where the container holds chapters."""
    if not source.chapters or found.info.format in ("avi", "flv", "mpegts", "nut"):
        return []
    if len(source.chapters) != len(found.chapters):
        return [Difference(f"{len(source.chapters)} chapters went in, {len(found.chapters)} are in the output")]
    out: list[Difference] = []
    for number, (a, b) in enumerate(zip(source.chapters, found.chapters), 1):
        if abs(a[0] - b[0]) > _CHAPTER_SLACK_SECONDS or a[2] != b[2]:
            out.append(
                Difference(f"chapter {number} was {a[2]!r} at {float(a[0]):.3f} s, is {b[2]!r} at {float(b[0]):.3f} s")
            )
    return out


def lost_tags(source: ClipInfo, copies: Iterable[CopyPlan], found: ClipInfo) -> list[str]:
    """Names of the tags of the container and of the kept streams that the output doesn't have, "stream 1: title"."""
    out = _missing(source.metadata, found.metadata)
    kept = {c.stream.index for c in copies if c.kept} | {source.video.index}
    pairs: list[tuple[StreamInfo, StreamInfo]] = []
    for kind in ("video", "audio", "subtitle"):
        were = [s for s in source.streams if s.type == kind and s.index in kept and not s.is_cover]
        are = [s for s in found.streams if s.type == kind and not s.is_cover]
        pairs += zip(were, are)
    for was, now in sorted(pairs, key=lambda pair: pair[0].index):
        names = _missing(was.metadata, now.metadata)
        if dict(was.metadata).get("language", "und") != "und" and dict(now.metadata).get("language", "und") == "und":
            names.append("language")
        out += [f"stream {was.index}: {name}" for name in names if name.lower() != "creation_time"]  # the container's
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
    """A reader, and whether it is of an animated WebP."""
    options = DecodeOptions(deinterlace="off")
    animation = open_animation(Path(path), options)
    return animation or open_clip(path, options), animation is not None


def verify_files(source: str | Path, output: str | Path, *, full: bool = True) -> list[Difference]:
    """Check a finished OUTPUT against its INPUT: frames, times, streams, tags. Decodes both where `full`."""
    reader, _ = _open(source)
    with reader:
        expected: list[Fraction] = []
        first = None
        for frame in reader.frames():
            first = first or frame
            assert frame.pts is not None
            expected.append(frame.pts * frame.time_base)
        info, damaged = reader.info, reader.damage_count > 0
    assert first is not None
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
        return differences + compare_animation(expected, made)
    if full and len(made) != len(expected):
        differences.append(Difference(f"{len(expected)} frames decode from the input, {len(made)} from the output"))
    found = read_facts(output)
    container_format = format_for(str(output), None)
    with open_input(source) as container:
        copies = plan_copies(container, info, container_format)
    facts = read_facts(source, from_zero=container_format == "avi")
    begins = [facts.begins[c.stream.index] for c in copies if c.kept and c.stream.index in facts.begins]
    moved = Fraction(0) if holds_negative_times(container_format) else -min(begins, default=Fraction(0))
    if found.info.video.codec in _WHOLE_FRAMES:
        expected = [math.floor(t * info.video.rate + Fraction(1, 2)) / info.video.rate for t in expected]
    if begins_at_zero(container_format):
        expected = [t - expected[0] for t in expected]
    differences += compare_times(expected, found, max(moved, Fraction(0)))
    differences += compare_streams(info, copies, facts.tallies, found)
    differences += compare_chapters(facts, found)
    if found.info.format not in ("avi", "flv", "nut", "mpegts", "asf", "yuv4mpegpipe"):
        differences += compare_picture(info, first, found.info, found_first)
    return [d for d in differences if not (damaged and d.by_damage)]


__all__ = [
    "CopiedPacket",
    "Difference",
    "FileFacts",
    "PacketTally",
    "compare_animation",
    "compare_chapters",
    "compare_picture",
    "compare_streams",
    "compare_times",
    "lost_tags",
    "read_facts",
    "stream_info",
    "verify_files",
]
