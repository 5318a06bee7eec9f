"""Containers written: streams copied beside the restored one, segments, the final file."""

from __future__ import annotations

import errno
import heapq
import io
import re
from array import array
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import av
import av.error
import av.stream
from av.container import InputContainer, OutputContainer
from av.format import ContainerFormat
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.stream import Disposition, Stream

from ns_video.errors import NsVideoError, OutputError, UsageError
from ns_video.media.aspect_header import COMPLETED, AspectWriter, complete_file
from ns_video.media.avi_header import write_starts
from ns_video.media.containers import Container, of_muxer
from ns_video.media.decode import CopiedClock, CopiedPacket, is_news, shift_packet
from ns_video.media.encode import add_video_stream
from ns_video.media.gif import GifPackets
from ns_video.media.hdr_header import add_video_stream_with_hdr, needs_container_hdr
from ns_video.media.libav import (
    LogLine,
    file_url,
    heard,
    muted_log,
    open_input,
    own_log,
    printable,
    translate_output,
)
from ns_video.media.probe import ClipInfo, StreamInfo, codec_name
from ns_video.media.sound import refusal_of_sound, tell_of_sound
from ns_video.media.video_plan import VideoPlan
from ns_video.media.wave_sound import add_wave_stream
from ns_video.record import StreamAction

_TEXT_SUBTITLES = frozenset({"subrip", "srt", "text", "mov_text", "webvtt", "ass", "ssa"})
_COVER_MIME = {
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "png": ("cover.png", "image/png"),
    "bmp": ("cover.bmp", "image/bmp"),
}
_STALE_VIDEO_TAGS = re.compile(
    r"^(encoder|BPS|NUMBER_OF_FRAMES|NUMBER_OF_BYTES|_STATISTICS.*|DURATION|alpha_mode)(-\w+)?$", re.I
)
_FILE_TYPE_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands"})  # of the input's own container
_PRIMING_SECONDS = 0.25  # encoder delay of audio; what begins earlier still is shifted by libav, all streams alike
_LEAST_NAMED = Fraction(1, 1000)  # seconds by which a stream is moved, for a note
_CHAPTER_TICK = Fraction(1, 1_000_000)
_LARGEST_TIMESCALE = 1_000_000  # of a movie header whose 32 bits of duration still hold an hour
# QuickTime's own language table has the bibliographic codes of ISO 639-2 for these.
QUICKTIME_LANGUAGES = {
    "bod": "tib",
    "ces": "cze",
    "cym": "wel",
    "deu": "ger",
    "ell": "gre",
    "eus": "baq",
    "fas": "per",
    "hye": "arm",
    "isl": "ice",
    "kat": "geo",
    "mkd": "mac",
    "msa": "may",
    "mya": "bur",
    "nld": "dut",
    "ron": "rum",
    "slk": "slo",
    "sqi": "alb",
    "zho": "chi",
}
# The header waits for the first packets: written before them, it has no edit lists, and times would move.
_FRAGMENTED = "+frag_keyframe+delay_moov+default_base_moof"
_SEGMENT_FORMATS = {".nut": "nut", ".mkv": "matroska"}
_TROUBLES_KEPT = 100
MOST_REORDERED = 16  # packets without a decode time, with which Matroska's reordered video begins
_ASS_LINE_BREAK = b"\\N"


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What becomes of one input stream that isn't restored."""

    stream: StreamInfo
    action: str
    """"copied", "attached", "converted: …" or "dropped: …"."""
    target_codec: str = ""
    """The codec of a converted text subtitle."""
    as_wave: bool = False
    """It is held as in WAVE files."""

    @property
    def kept(self) -> bool:
        """It is in the output."""
        return not self.action.startswith("dropped")


@dataclass(frozen=True, slots=True)
class OutputSettings:
    """Where a container is written, and which part of the source it holds."""

    target: Any
    """What libav opens: a URL, or a file object."""
    shown: str
    """The output's name in messages."""
    start: Fraction | None = None
    """Where the cut begins on the source's clock, seconds; 0 in the output."""
    end: Fraction | None = None


def plan_copies(source: InputContainer, info: ClipInfo, container_format: str) -> list[CopyPlan]:
    """Decide for each stream beside the restored one; what the container refuses is found out by trying.

    `source` is only asked for its streams' parameters; no packet is read.
    """
    plans, container = list[CopyPlan](), of_muxer(container_format)
    for stream in source.streams:
        about = next(s for s in info.streams if s.index == stream.index)
        if about.index == info.video.index:
            continue
        plans.append(_plan_one(stream, about, container))
    return plans


def _plan_one(stream: Stream, about: StreamInfo, container: Container) -> CopyPlan:
    if container.video_only:
        return CopyPlan(about, f"dropped: {container.name} holds one video stream only")
    if about.is_cover and container.covers != "streams":
        if container.covers == "attached" and about.codec in _COVER_MIME:
            return CopyPlan(about, "attached")
        lacking = f"can't hold {about.codec}" if container.is_matroska else "holds no"
        return CopyPlan(about, f"dropped: {container.name} {lacking} cover art")
    if about.type == "data" and container.makes_time_codes and "timecode" in dict(about.metadata):
        return CopyPlan(about, "dropped: libav makes the time code's track anew")
    problem = _refusal(stream, container)
    if problem is None:
        return CopyPlan(about, "copied")
    if container.holds_waves and about.type == "audio" and _refusal(stream, container, as_wave=True) is None:
        return CopyPlan(about, "copied", as_wave=True)
    target = container.text_codec
    if about.type == "subtitle" and about.codec in _TEXT_SUBTITLES and target:
        return CopyPlan(about, f"converted: {about.codec} to {target}", target)
    return CopyPlan(about, f"dropped: {container.name} can't hold {_named(about)} ({problem})")


def _named(about: StreamInfo) -> str:
    """A stream in words; one whose codec libav doesn't know by what the file calls its kind."""
    if about.codec != "none":
        return f"{about.codec} {about.type}"
    kind = dict(about.metadata).get("handler_name")
    return f"{about.type} of the kind {printable(kind)!r}" if kind else about.type


def _refusal(stream: Stream, container: Container, *, as_wave: bool = False) -> str | None:
    """Why a container doesn't take a stream, found out by writing a header with it into memory."""
    if stream.type == "attachment" and not container.holds_attachments:
        return "attachments belong to Matroska"
    if stream.type == "data" and not container.takes_data:
        return "libav writes no timed metadata there"
    if stream.type not in ("video", "audio", "subtitle", "data", "attachment"):
        return "of an unknown kind"
    if container.codecs is not None and stream.type != "data" and codec_name(stream) not in container.codecs:
        return "readers of MPEG streams would not know it"
    if (problem := refusal_of_sound(stream, container)) is not None:
        return problem
    try:
        trial = av.open(io.BytesIO(), "w", format=container.name)
        try:
            if container.wants_video or stream.type == "attachment":
                trial.add_stream(container.encoder or "libx264", rate=25, width=16, height=16)
            _copy_stream(trial, stream, container, as_wave=as_wave)
            trial.start_encoding()
        finally:
            _abandon(trial)
    except (av.FFmpegError, ValueError, OSError, TypeError, AttributeError) as error:
        return re.sub(r"\s+", " ", str(getattr(error, "strerror", None) or error))[:120]
    return None


def _abandon(container: OutputContainer) -> None:
    try:
        container.close()
    except (av.FFmpegError, ValueError, OSError):
        return


def _copy_stream(output: OutputContainer, stream: Stream, container: Container, *, as_wave: bool = False) -> Stream:
    made = add_wave_stream(output, stream) if as_wave else output.add_stream_from_template(stream, opaque=True)
    made.metadata.update(dict(stream.metadata))
    made.disposition = stream.disposition
    tell_of_sound(made, stream, container)
    return made


def _is_streamed(target: Any) -> bool:
    """Whether what is written can't be gone back to: a pipe, by number or by name."""
    if not isinstance(target, str):
        return False
    path = Path(target.removeprefix("file:"))
    return target.startswith("pipe:") or (path.exists() and not path.is_file())


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


class Cut:
    """What of the copied streams lies in [start, end) seconds; in the output it begins at 0.

    A cue that runs into the cut begins with it, video at its first key frame; a cover goes out whole.
    """

    def __init__(self, copies: Iterable[CopyPlan], start: Fraction | None, end: Fraction | None) -> None:
        video = [c.stream for c in copies if c.stream.type == "video"]
        self._covers = {s.index for s in video if s.is_cover}
        self._videos = {s.index for s in video if not s.is_cover}
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
        if self.end is not None and time >= self.end:
            return None
        if self.start is None:
            return time
        if item.stream_index in self._videos:
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


def _kept_metadata(info: ClipInfo) -> dict[str, str]:
    return {k: v for k, v in info.metadata if k.lower() not in _FILE_TYPE_TAGS}


def _container_options(plan: VideoPlan, info: ClipInfo, *, streamed: bool) -> dict[str, str]:
    """Options of libav's muxer. `streamed`: the output can't be gone back to."""
    options = dict(plan.container.muxer_options)
    if plan.container.is_mov:
        flags = "+use_metadata_tags" if any(key.startswith("com.") for key in _kept_metadata(info)) else ""
        flags += _FRAGMENTED if streamed else ""
        if flags:
            options["movflags"] = flags
        # Start offsets are written in ticks of the movie; its default of 1 ms would move what begins between two.
        ticks = plan.clock.denominator
        options["movie_timescale"] = str(min(_LARGEST_TIMESCALE, ticks * max(1, -(-1000 // ticks))))
    if plan.container.is_matroska:
        promised = info.start_seconds or 0.0
        unforeseen = plan.begins < 0 <= promised  # a damaged index: a block of video before 0 would have no time
        if promised > -_PRIMING_SECONDS and not unforeseen:
            # A block may lie before 0 (encoder delay of AAC); shifting all streams for it would move every frame.
            options["avoid_negative_ts"] = "disabled"
    return options


def _header_failure(error: Exception, shown: str, plan: VideoPlan) -> NsVideoError:
    """What a container refused when its header was written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EACCES):
        return translate_output(error, shown, "open")
    text = getattr(error, "strerror", None) or str(error)
    return OutputError(
        f"{printable(shown)}: {plan.container_format} refuses {plan.codec} ({plan.pix_fmt}): {text}",
        stage="open",
        remedy="choose another --codec, --pix-fmt or container",
    )


class ClipWriter:
    """An output container with the restored video stream and all that is copied beside it.

    `write_video(packets)` and `write_copy(packet)` in any order; `close()` writes the trailer. Foreign errors leave as
    OutputError with the path.
    """

    def __init__(
        self,
        settings: OutputSettings,
        plan: VideoPlan,
        source: InputContainer,
        info: ClipInfo,
        copies: Iterable[CopyPlan],
        covers: dict[int, bytes],
        *,
        already_encoded: bool = False,
    ) -> None:
        """`already_encoded`: the video's packets come from segments; the stream needs no encoder of its own."""
        self.tick = plan.time_base
        """Seconds by which the restored video's times are told apart."""
        self.shown = settings.shown
        self._closed = False
        self.troubles: list[tuple[float | None, str]] = []
        """(seconds, what) of copied packets that could not be written as they were."""
        self.refused = 0
        """Copied packets that the container would not take."""
        self.left_out: dict[int, int] = {}
        """Stream → copied packets from before 0 that were left out, for the container has no times at all."""
        self.early: dict[int, Fraction] = {}
        """Stream → seconds by which it begins too early, once closed, for the container counts packets."""
        self._holder, self._offset = plan.container, plan.offset
        self._starts: dict[int, Fraction] = {}
        """Stream → seconds taken from all its times, where the container begins each at 0."""
        self._starts_at_zero = plan.container.decode_times_only and plan.begins >= 0
        self._holds_negative_times = plan.container.holds_negative_times
        self._strict = not ContainerFormat(plan.container_format, "w").flags & FormatFlags.ts_nonstrict.value
        self._first: Fraction | None = None
        self._last: dict[int, int] = {}
        self._heard: dict[int, tuple[Fraction, int, Fraction]] = {}
        """Stream → seconds at which its counted sound begins, its packets, and by how much it was told to be early."""
        self._undated: dict[int, tuple[int, int]] = {}
        """Stream → presentation time of its first packet, and how many had no decode time."""
        self._streams: dict[int, Stream] = {}
        self._convert: dict[int, Callable[[bytes], bytes]] = {}
        self._waves: list[int] = []
        """Numbers of the tracks of sound that is held as in WAVE files."""
        self._incomplete: tuple[Path, str, Fraction] | None = None
        """A file whose header lacks something until it is closed."""
        self._beneath: AspectWriter | None = None
        copies = list(copies)
        self._gif = GifPackets(whole=plan.whole_pictures) if plan.container_format == "gif" else None
        self._target, self._video_index = settings.target, info.video.index
        self._container = self._opened(settings, plan, info, waves=any(copy.as_wave for copy in copies))
        try:
            self._add_streams(plan, source, info, copies, covers, already_encoded=already_encoded)
            self._container.metadata.update(_kept_metadata(info))
            chapters = cut_chapters(source.chapters(), settings.start, settings.end)
            if chapters and plan.container.holds_chapters:
                self._container.set_chapters(chapters)
            self._container.start_encoding()
        except (av.FFmpegError, OSError, ValueError) as error:
            _abandon(self._container)
            raise _header_failure(error, self.shown, plan) from error

    def _opened(self, settings: OutputSettings, plan: VideoPlan, info: ClipInfo, *, waves: bool) -> OutputContainer:
        target, container_format = settings.target, plan.container_format
        options = _container_options(plan, info, streamed=_is_streamed(target))
        try:
            if waves or (plan.sample_aspect_ratio not in (0, 1) and container_format in COMPLETED):
                target = self._completed(target, container_format, plan.sample_aspect_ratio)
            return av.open(
                target, "w", format=container_format, container_options=options, metadata_errors="surrogateescape"
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise translate_output(error, self.shown, "open") from error

    def _completed(self, target: Any, container_format: str, ratio: Fraction) -> Any:
        """What libav is to write to, so that the header tells the sample aspect ratio and all sound. Raises OSError."""
        if not isinstance(target, str):
            return target
        path = Path(target.removeprefix("file:"))
        if not _is_streamed(target) and container_format != "yuv4mpegpipe":
            self._incomplete = (path, container_format, ratio)
            return target
        if target.startswith("pipe:"):
            file = open(int(target.removeprefix("pipe:")), "wb", buffering=0, closefd=False)  # noqa: SIM115  closed with the container
        else:
            file = path.open("wb", buffering=0)
        self._beneath = AspectWriter(file, container_format, ratio, self._waves)
        return self._beneath

    def _add_streams(
        self,
        plan: VideoPlan,
        source: InputContainer,
        info: ClipInfo,
        copies: Iterable[CopyPlan],
        covers: dict[int, bytes],
        *,
        already_encoded: bool,
    ) -> None:
        """In the order of the source."""
        kept = {c.stream.index: c for c in copies if c.kept}
        for stream in source.streams:
            copy = kept.get(stream.index)
            if stream.index == info.video.index:
                self._add_video(plan, info, already_encoded=already_encoded)
            elif copy is not None and copy.action != "attached":
                made = self._streams[stream.index] = self._add_copy(stream, copy)
                language = made.metadata.get("language", "")
                if plan.container.numbers_languages and language in QUICKTIME_LANGUAGES:
                    made.metadata["language"] = QUICKTIME_LANGUAGES[language]
            elif copy is not None and stream.index in covers:
                self._container.add_attachment(*_COVER_MIME[copy.stream.codec], covers[stream.index])

    def _add_video(self, plan: VideoPlan, info: ClipInfo, *, already_encoded: bool) -> None:
        in_header = already_encoded and needs_container_hdr(plan)
        self.video = (add_video_stream_with_hdr if in_header else add_video_stream)(self._container, plan)
        about = next(s for s in info.streams if s.index == info.video.index)
        self.video.metadata.update({k: v for k, v in about.metadata if not _STALE_VIDEO_TAGS.match(k)})
        if plan.alpha_beside:
            self.video.metadata["alpha_mode"] = "1"
        self.video.disposition = Disposition(about.disposition)

    def _add_copy(self, stream: Stream, copy: CopyPlan) -> Stream:
        if not copy.target_codec:
            made = _copy_stream(self._container, stream, self._holder, as_wave=copy.as_wave)
            if copy.as_wave:
                self._waves.append(sum(s.type != "attachment" for s in self._container.streams))
            return made
        made = self._container.add_mux_stream(copy.target_codec)
        made.time_base = Fraction(1, 1000)
        made.metadata.update(dict(stream.metadata))
        made.disposition = stream.disposition
        self._convert[stream.index] = _text_converter(copy.stream.codec, copy.target_codec)
        return made

    def write_video(self, packet: Packet) -> None:
        """Mux one packet of the restored stream. Takes the packet over."""
        shift_packet(packet, self._offset)
        if self._gif is not None:
            packet = self._gif.take(packet)
        packet.stream = self.video
        self._from_zero(packet, self._video_index)
        self._mux(packet)

    def write_copy(self, item: CopiedPacket) -> bool:
        """Mux one copied packet. Takes the packet over.

        False where nothing is to be written: no such stream, or the empty sample with which mov_text fills gaps.
        """
        target = self._streams.get(item.stream_index)
        if target is None:
            return False
        packet = item.packet
        convert = self._convert.get(item.stream_index)
        if convert is not None:
            text = convert(bytes(packet))
            if not text.strip():
                return False
            made = av.Packet(text)
            made.pts, made.dts = packet.pts, packet.pts
            made.time_base, made.duration = packet.time_base, packet.duration
            packet = made
        if packet.dts is None and packet.pts is not None:
            packet.dts = self._decode_time(packet.pts, item.stream_index, is_video=target.type == "video")
        if self._starts_at_zero and packet.dts is not None and packet.dts < 0:
            self.left_out[item.stream_index] = self.left_out.get(item.stream_index, 0) + 1
            return False
        self._from_zero(packet, item.stream_index)
        self._in_order(packet, item.stream_index)
        if self._holder.counts_sound and target.type == "audio":
            self._count(packet, item.stream_index, target)
        stamp = None if packet.dts is None else float(packet.dts * packet.time_base)
        packet.stream = target
        try:
            self._mux(packet)
        except OutputError as error:
            if not isinstance(error.__cause__, av.error.ArgumentError):
                raise
            self.refused += 1
            self._trouble(stamp, f"stream {item.stream_index}: the container refuses a packet; it is left out")
            return False
        return True

    def _decode_time(self, pts: int, index: int, *, is_video: bool) -> int | None:
        """Of a packet without one. Of reordered video libav works it out, but would shift all streams untold for it."""
        if not is_video:
            return pts
        if self._holds_negative_times or self._starts_at_zero:
            return None
        first, count = self._undated.get(index, (pts, 0))
        self._undated[index] = first, count + 1
        return None if count >= MOST_REORDERED else min(pts, first - MOST_REORDERED + count)

    def _from_zero(self, packet: Packet, index: int) -> None:
        """libav's muxer of AVI shows the first packet of each stream at 0, and the others when they are to be shown."""
        if self._starts_at_zero:
            start = Fraction(0) if packet.dts is None else packet.dts * packet.time_base
            shift_packet(packet, -self._starts.setdefault(index, start))

    def _tell_starts(self) -> None:
        """Raises OSError."""
        numbers = {index: stream.index for index, stream in {**self._streams, self._video_index: self.video}.items()}
        late = {index: start for index, start in self._starts.items() if start}
        told: dict[int, Fraction] = {}
        if late and isinstance(self._target, str) and not _is_streamed(self._target):
            path = Path(self._target.removeprefix("file:"))
            told = write_starts(path, {numbers[index]: start for index, start in late.items()})
        self.early = {index: start - told.get(numbers[index], 0) for index, start in late.items()}

    def _in_order(self, packet: Packet, index: int) -> None:
        """Decode times that run backwards, which no container takes, are moved on; the payload stays."""
        if packet.dts is None:
            return
        last = self._last.get(index)
        if last is not None and (packet.dts < last or (self._strict and packet.dts == last)):
            self._trouble(
                float(packet.dts * packet.time_base), f"stream {index}: its times run backwards; they were moved on"
            )
            packet.dts = last + 1
            if packet.pts is not None:
                packet.pts = max(packet.pts, packet.dts)
        self._last[index] = packet.dts

    def _count(self, packet: Packet, index: int, target: Any) -> None:
        """Name gaps in sound of which the container counts the packets: what comes after them is early."""
        if packet.dts is None or not target.codec_context.frame_size:
            return
        seconds = packet.dts * packet.time_base
        first, count, told = self._heard.get(index, (seconds, 0, Fraction(0)))
        early = seconds - first - count * target.time_base
        if abs(early - told) > 2 * target.time_base:
            told = early
            moved = f"{abs(float(early)) * 1000:.0f} ms {'early' if early > 0 else 'late'}"
            self._trouble(
                float(seconds), f"stream {index}: from here on {moved}: this container holds no gaps in sound"
            )
        self._heard[index] = first, count + 1, told

    def _trouble(self, seconds: float | None, what: str) -> None:
        if len(self.troubles) < _TROUBLES_KEPT:
            self.troubles.append((seconds, what))

    @property
    def shift(self) -> Fraction:
        """Seconds by which libav moved all streams alike, where the container holds no times before 0."""
        return Fraction(0) if self._holds_negative_times or self._first is None else max(Fraction(0), -self._first)

    @property
    def notes(self) -> list[str]:
        """What was moved or left out by a writer that is closed, in words."""
        out: list[str] = []
        for index, count in sorted(self.left_out.items()):
            packets = "a packet" if count == 1 else f"{count} packets"
            out.append(f"stream {index}: {packets} before 0 left out: this container has no times")
        for index, early in sorted(self.early.items()):
            if abs(early) >= _LEAST_NAMED:
                moved = f"{abs(float(early)) * 1000:.0f} ms {'early' if early > 0 else 'late'}"
                out.append(f"stream {index} is {moved}: this container counts packets, not times")
        if self.shift:
            out.append(f"all times are {float(self.shift) * 1000:.0f} ms later: this container holds none before 0")
        return out

    def _mux(self, packet: Packet) -> None:
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is not None:
            seconds = stamp * packet.time_base
            self._first = seconds if self._first is None else min(self._first, seconds)
        try:
            with muted_log():
                self._container.mux_one(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise translate_output(error, self.shown, "encode") from error

    def close(self) -> None:
        """Write the trailer. Raises OutputError."""
        if self._closed:
            return
        self._closed = True
        try:
            self._container.close()
            if self._beneath is not None:
                self._beneath.close()
            if self._incomplete is not None:
                complete_file(*self._incomplete, self._waves)
            self._tell_starts()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise translate_output(error, self.shown, "encode") from error

    def abandon(self) -> None:
        """Close without caring for the file."""
        if not self._closed:
            self._closed = True
            _abandon(self._container)
            if self._beneath is not None:
                with suppress(OSError):
                    self._beneath.close()


def _text_converter(source: str, target: str) -> Callable[[bytes], bytes]:
    """Payload of one text subtitle codec to another's. Styling that the target can't hold is left out."""

    def text_of(data: bytes) -> bytes:
        if source == "mov_text":
            return data[2 : 2 + int.from_bytes(data[:2], "big")]
        if source in ("ass", "ssa"):
            body = data.split(b",", 8)[-1]
            return re.sub(rb"\{[^}]*\}", b"", body).replace(_ASS_LINE_BREAK, b"\n").replace(b"\\n", b"\n")
        return data

    def convert(data: bytes) -> bytes:
        text = text_of(data)
        if target == "mov_text":
            text = re.sub(rb"</?[a-zA-Z][^>]*>", b"", text)[:0xFFFF]
            return len(text).to_bytes(2, "big") + text
        return text

    return convert


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
    on_damage: Callable[[str, float | None], None] | None = None,
    **open_options: Any,
) -> Generator[tuple[Fraction, CopiedPacket]]:
    """All packets to copy, read from the file again, with their decode times in seconds.

    Where the clock of the source jumps back (MPEG-TS), times are moved on by what the video's were.
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
        for stream in container.streams:
            if stream.index not in wanted:
                stream.discard = av.stream.Discard.all
        streams = [s for s in container.streams if s.index in wanted]
        shown = Fraction(0)
        packets = heard(container.demux(*streams), lines)
        while True:
            try:
                packet = next(packets)
            except (StopIteration, IndexError):  # IndexError: see ClipReader
                for level, who, text in lines:
                    if on_damage is not None and (is_news(level, text.strip()) or "Packet corrupt" in text):
                        on_damage(f"a copied stream is damaged: {who}: {printable(text.strip())}", float(shown))
                return
            except (av.FFmpegError, OSError) as error:
                if on_damage is not None:
                    on_damage(f"a copied stream is damaged: {getattr(error, 'strerror', None) or error}", float(shown))
                return
            if not packet.size or packet.stream_index not in wanted:
                continue
            item = clock.move(packet)
            shown = item.seconds
            time = cut.take(item)
            if time is not None:
                yield time, item


def stream_actions(info: ClipInfo, copies: Iterable[CopyPlan]) -> list[StreamAction]:
    """The stream map of a run's record."""
    by_index = {c.stream.index: c.action for c in copies}
    return [
        StreamAction(s.index, s.type, s.codec, "restored" if s.index == info.video.index else by_index[s.index])
        for s in info.streams
    ]


def decode_times(segments: Sequence[Sequence[int]]) -> Generator[int]:
    """Decode times for packets whose presentation times, in decode order, are given (ticks, distinct).

    Each segment ends before the next one begins. dts[i] is the presentation time `depth` places earlier in presentation
    order, where depth is the smallest reorder depth that keeps every dts ≤ its pts; before the first one, times run on
    backwards by the smallest gap.
    """
    depth = max((_depth(segment) for segment in segments), default=0)
    gap = min((b - a for a, b in pairwise(_in_order(segments))), default=1)
    first = next(_in_order(segments), 0)
    early = (first - back * max(1, gap) for back in range(depth, 0, -1))
    yield from islice(chain(early, _in_order(segments)), sum(len(segment) for segment in segments))


def _in_order(segments: Sequence[Sequence[int]]) -> Generator[int]:
    for segment in segments:
        yield from sorted(segment)


def _depth(presentation: Sequence[int]) -> int:
    rank = {pts: place for place, pts in enumerate(sorted(presentation))}
    return max((place - rank[pts] for place, pts in enumerate(presentation)), default=0)


class SegmentFile:
    """One closed piece of encoded video: a file of one stream, kept with its times.

    By its suffix NUT, which keeps all of them, or Matroska, which holds alpha beside the picture too.
    """

    def __init__(self, path: Path, plan: VideoPlan) -> None:
        self.path = path
        try:
            self._container = av.open(file_url(path), "w", format=_SEGMENT_FORMATS[path.suffix])
        except (av.FFmpegError, OSError) as error:
            raise translate_output(error, str(path), "encode") from error
        self.stream = add_video_stream(self._container, plan)
        self.presentation: array[int] = array("q")
        """Times of the packets in decode order, in ticks of the plan's time base."""
        self.durations: array[int] = array("q")
        """Ticks that each of them is shown for, 0 where that isn't known."""

    def write(self, packets: Iterable[Any]) -> None:
        """Mux packets of this segment's encoder."""
        try:
            for packet in packets:
                self.presentation.append(int(packet.pts))
                self.durations.append(int(packet.duration or 0))
                self._container.mux_one(packet)
        except (av.FFmpegError, OSError) as error:
            raise translate_output(error, str(self.path), "encode") from error

    def close(self) -> None:
        """Write the trailer and flush to disk; what is not whole raises OutputError."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            raise translate_output(error, str(self.path), "encode") from error

    def abandon(self) -> None:
        """Close without caring for the file."""
        _abandon(self._container)


def segment_packets(path: Path) -> Generator[Packet]:
    """The packets of a segment in decode order."""
    with open_input(path, container_format=_SEGMENT_FORMATS[path.suffix]) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                yield packet


def require_codec(plan: VideoPlan) -> None:
    """A codec that the output or a segment (a NUT file) can't hold is refused before work begins. Raises UsageError."""
    for container_format in ("nut", plan.container_format):
        try:
            trial = av.open(io.BytesIO(), "w", format=container_format)
            try:
                trial.add_stream(plan.codec, rate=25, width=16, height=16)
            finally:
                _abandon(trial)
        except (ValueError, av.FFmpegError) as error:
            raise UsageError(
                f"{container_format} can't hold {plan.codec}: {error}", remedy="choose another --codec or container"
            ) from error


__all__ = [
    "MOST_REORDERED",
    "ClipWriter",
    "CopyPlan",
    "Cut",
    "OutputSettings",
    "SegmentFile",
    "TimedPacket",
    "codec_name",
    "copied_packets",
    "cut_chapters",
    "decode_times",
    "merged",
    "plan_copies",
    "read_covers",
    "segment_packets",
    "stream_actions",
]
