"""The final file: the restored video stream and all that is copied beside it, in one container."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.format import ContainerFormat
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.stream import AttachmentStream, Disposition, Stream

from ns_video.errors import NsVideoError, OutputError
from ns_video.media.animation_header import MOST_PLAYS, add_parts
from ns_video.media.aspect_header import COMPLETED, AspectWriter, complete_file
from ns_video.media.avi_header import write_starts
from ns_video.media.containers import PRIMING_SECONDS
from ns_video.media.copied_clock import CopiedPacket, shift_packet
from ns_video.media.copy_plan import COVER_MIME, CopyPlan, add_copied_stream
from ns_video.media.cut import CUT_OFF, HiddenPackets, cut_chapters, left_out_notes
from ns_video.media.encode import add_video_stream
from ns_video.media.gif import GifPackets
from ns_video.media.hdr_header import add_video_stream_with_hdr, needs_container_hdr
from ns_video.media.languages import told_language
from ns_video.media.libav import abandon, muted_log, printable, translate_output
from ns_video.media.probe import ANIMATIONS, ClipInfo
from ns_video.media.sample_boxes import complete_movie, writable
from ns_video.media.sound import unwraps
from ns_video.media.stream_tags import move_time_codes, reel_tags, told_tags
from ns_video.media.text_subtitles import Cue, TextConverter, conversion_notes
from ns_video.media.transport_tables import are_free, only_program, table_pid
from ns_video.media.video_plan import VideoPlan

_STALE_VIDEO_TAGS = re.compile(
    r"^(encoder|BPS|NUMBER_OF_FRAMES|NUMBER_OF_BYTES|_STATISTICS.*|DURATION|alpha_mode)(-\w+)?$", re.I
)
_FILE_TYPE_TAGS = frozenset({"major_brand", "minor_version", "compatible_brands"})  # of the input's own container
_LEAST_NAMED = Fraction(1, 1000)  # seconds by which a stream is moved, for a note
_LEAST_TEXT_CLOCK = 48_000  # finer than the clocks that the muxer of mp4 makes of coarse ones (10,000 to 20,000)
_LARGEST_TIMESCALE = 1_000_000  # of a movie header whose 32 bits of duration still hold an hour
# The header waits for the first packets: written before them, it has no edit lists, and times would move.
_FRAGMENTED = "+frag_keyframe+delay_moov+default_base_moof"
_TROUBLES_KEPT = 100
MOST_REORDERED = 16  # packets without a decode time, with which Matroska's reordered video begins


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
    resumes: bool = False
    """Whether --resume goes on where a write fails."""


def _is_streamed(target: Any) -> bool:
    """Whether what is written can't be gone back to: a pipe, by number or by name."""
    if not isinstance(target, str):
        return False
    path = Path(target.removeprefix("file:"))
    return target.startswith("pipe:") or (path.exists() and not path.is_file())


def _kept_metadata(info: ClipInfo) -> dict[str, str]:
    return {k: v for k, v in info.metadata if k.lower() not in _FILE_TYPE_TAGS}


def _holds_all_times(plan: VideoPlan, info: ClipInfo, start: Fraction | None) -> bool:
    """Whether times before 0 are kept; otherwise libav shifts all streams alike. `start`: of a cut."""
    promised = (info.start_seconds or 0.0) if start is None else 0.0
    unforeseen = plan.begins < 0 <= promised  # a damaged index: a block of video before 0 would have no time
    hidden = plan.begins < 0 and plan.container.is_mov  # by the edit list
    return plan.container.holds_negative_times and promised > -PRIMING_SECONDS and not (unforeseen or hidden)


def _container_options(plan: VideoPlan, info: ClipInfo, *, streamed: bool, shifted: bool) -> dict[str, str]:
    """Options of libav's muxer. `streamed`: the output can't be gone back to, `shifted`: for times before 0."""
    options = dict(plan.container.muxer_options)
    if plan.container.is_mov:
        flags = "+use_metadata_tags" if any(key.startswith("com.") for key in _kept_metadata(info)) else ""
        flags += _FRAGMENTED if streamed else ""
        if flags:
            options["movflags"] = flags
        # Start offsets are written in ticks of the movie; its default of 1 ms would move what begins between two.
        ticks = plan.clock.denominator
        options["movie_timescale"] = str(min(_LARGEST_TIMESCALE, ticks * max(1, -(-1000 // ticks))))
        if shifted:
            options["avoid_negative_ts"] = "make_non_negative"
    if plan.container.plays_option:
        told = info.animation.plays if info.animation is not None else None
        plays = min(told or 0, MOST_PLAYS)  # of what is no animation yet, without end
        if plan.container.counts_repeats and plays:
            plays = plays - 1 or -1
        options[plan.container.plays_option] = str(plays)
    if plan.container.is_matroska and not shifted:
        # A block may lie before 0 (encoder delay of AAC); shifting all streams for it would move every frame.
        options["avoid_negative_ts"] = "disabled"
    return options


def _header_failure(error: Exception, settings: OutputSettings, plan: VideoPlan) -> NsVideoError:
    """What a container refused when its header was written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EPIPE, errno.EACCES):
        return translate_output(error, settings.shown, "open", resumes=settings.resumes)
    text = getattr(error, "strerror", None) or str(error)
    return OutputError(
        f"{printable(settings.shown)}: {plan.container_format} refuses {plan.codec} ({plan.pix_fmt}): {text}",
        stage="open",
        remedy="choose another codec, pixel format or container",
    )


def _ticks(seconds: Fraction, tick: Fraction) -> int:
    return math.floor(seconds / tick + Fraction(1, 2))


def _numbers(
    plan: VideoPlan, source: InputContainer, info: ClipInfo, copies: Iterable[CopyPlan], shown: str
) -> tuple[dict[int, int], dict[str, str]] | None:
    """From MPEG-TS to MPEG-TS, of one program: stream → its PID, and options for the program's numbers; those that the
    output can't have, or that nothing tells, are left out. None for other containers."""
    if not plan.container.read_by == info.format == "mpegts" or info.services > 1:
        return None
    kept = {info.video.index, *(copy.stream.index for copy in copies if copy.kept)}
    pids = {stream.index: stream.id for stream in source.streams if stream.index in kept}
    path = Path(info.name.removeprefix("file:"))
    program = only_program(path) if info.name.startswith("file:") and path.is_file() else None
    options = program.muxer_options(pids.values()) if program is not None else {}
    table = table_pid(options, shown)
    return (pids, options) if are_free([table, *pids.values()]) else ({}, {})


def _text_clock(plan: VideoPlan, source: InputContainer, copies: Iterable[CopyPlan]) -> Fraction:
    """Seconds a tick of text in MP4.

    libav's muxer compares the ends of cues with other streams' times, in their ticks: where these are finer than the
    cue's, it ends the cue too soon, and what begins before that end is moved. The coarser the tick, the longer may a
    gap between cues be, of 31 bits.
    """
    sound = [source.streams[copy.stream.index] for copy in copies if copy.kept and copy.stream.type == "audio"]
    rates = [stream.codec_context.sample_rate for stream in sound if isinstance(stream, AudioStream)]
    return Fraction(1, min(_LARGEST_TIMESCALE, max(_LEAST_TEXT_CLOCK, plan.clock.denominator, *rates)))


class ClipWriter:
    """An output container with the restored video stream and all that is copied beside it.

    `write_video(packets)` and, of what it `takes`, `write_copy(packet)` in any order; `close()` writes the trailer.
    Foreign errors leave as OutputError with the path.
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
        self._resumes = settings.resumes
        self._closed = False
        self.troubles: list[tuple[float | None, str]] = []
        """(seconds, what) of copied packets that could not be written as they were."""
        self.refused = 0
        """Copied packets that the container would not take."""
        self.left_out: dict[int, int] = {}
        """Stream → copied packets from before 0 that were left out, for the container has no times at all."""
        self._hidden = HiddenPackets(plan.container, settings.start)
        self.attached: dict[int, bytes] = {}
        """Stream → what the header holds of it: attachments and covers."""
        self.early: dict[int, Fraction] = {}
        """Stream → seconds by which it begins too early, once closed, for the container counts packets."""
        self.moved = Fraction(0)
        """Seconds by which all streams are later, once closed, for the picture begins with a whole tick."""
        self._holder, self._offset = plan.container, plan.offset
        self._begins = plan.begins
        self._starts: dict[int, Fraction] = {}
        """Stream → seconds taken from all its times, where the container begins each at 0."""
        self._starts_at_zero = plan.container.decode_times_only and plan.begins >= 0
        self._holds_negative_times = _holds_all_times(plan, info, settings.start)
        self._strict = not ContainerFormat(plan.container_format, "w").flags & FormatFlags.ts_nonstrict.value
        self._first: Fraction | None = None
        self._last: dict[int, tuple[Fraction, int]] = {}
        """Stream → seconds of its latest copied packet, and the tick of the container at which the last one was put."""
        self._heard: dict[int, tuple[Fraction, int, Fraction]] = {}
        """Stream → seconds at which its counted sound begins, its packets, and by how much it was told to be early."""
        self._undated: dict[int, tuple[int, int]] = {}
        """Stream → presentation time of its first packet, and how many had no decode time."""
        self._streams: dict[int, Stream] = {}
        self._convert: dict[int, TextConverter] = {}
        self._unwrap: dict[int, BitStreamFilterContext] = {}
        self._held: dict[int, Cue] = {}
        """Stream → its latest cue, until something that begins later is written: cues of MP4 are shown one at a time,
        so those that begin together are one."""
        self._cues: dict[int, tuple[Fraction, int]] = {}
        """Stream → seconds at which its latest cue ends, and how many were still shown when the next one began."""
        self._waves: list[int] = []
        """Numbers of the tracks of sound that is held as in WAVE files."""
        self._incomplete: tuple[Path, str, Fraction] | None = None
        """A file whose header lacks something until it is closed."""
        self._boxes: dict[int, tuple[bytes, ...]] = {}
        """Track of MP4 and MOV → what is put into it once the file is whole."""
        self._off: list[int] = []
        """Tracks of MP4 and MOV that players show only if asked: libav enables the first one of each kind."""
        self._parts = info.animation.parts if info.animation is not None else ()
        self._upright = bool(plan.upright)
        self._untold = bool(plan.container.plays_option) and info.animation is None and info.format in ANIMATIONS
        self._beneath: AspectWriter | None = None
        copies = list(copies)
        numbers = _numbers(plan, source, info, copies, settings.shown)
        self._pids, self._program = numbers or ({}, {})
        self._renumbered = numbers is not None and not self._program
        self._text_clock = _text_clock(plan, source, copies)
        self._gif = GifPackets(whole=plan.whole_pictures) if plan.container_format == "gif" else None
        self._video_index, target = info.video.index, settings.target
        in_file = isinstance(target, str) and not _is_streamed(target)
        self._file = Path(target.removeprefix("file:")) if in_file else None
        """The output, where it can be gone back to."""
        self._container = self._opened(settings, plan, info, waves=any(copy.as_wave for copy in copies))
        with ExitStack() as failed:
            failed.callback(self.abandon)
            try:
                self._add_streams(plan, source, info, copies, covers, already_encoded=already_encoded)
                self._container.metadata.update(_kept_metadata(info))
                self._move_time_codes(settings.start, plan, info)
                chapters = cut_chapters(source.chapters(), settings.start, settings.end)
                if chapters and plan.container.first_chapter_at_zero:
                    chapters[0] = {**chapters[0], "start": 0}  # it begins there anyway, but would keep its length
                if chapters and plan.container.holds_chapters:
                    self._container.set_chapters(chapters)
                self._container.start_encoding()
            except (av.FFmpegError, OSError, ValueError) as error:
                raise _header_failure(error, settings, plan) from error
            failed.pop_all()

    def _opened(self, settings: OutputSettings, plan: VideoPlan, info: ClipInfo, *, waves: bool) -> OutputContainer:
        target, container_format = settings.target, plan.container_format
        shifted, streamed = not self._holds_negative_times, _is_streamed(target)
        options = _container_options(plan, info, streamed=streamed, shifted=shifted)
        options.update(self._program)
        with ExitStack() as failed:
            failed.callback(self._abandon_beneath)
            try:
                if waves or (plan.sample_aspect_ratio not in (0, 1) and container_format in COMPLETED):
                    target = self._completed(target, container_format, plan.sample_aspect_ratio)
                container = av.open(
                    target, "w", format=container_format, container_options=options, metadata_errors="surrogateescape"
                )
            except (av.FFmpegError, OSError, ValueError) as error:
                raise translate_output(error, self.shown, "open", resumes=settings.resumes) from error
            failed.pop_all()
        return container

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
                if isinstance(stream, AttachmentStream):
                    self.attached[stream.index] = stream.data or b""
                made = self._streams[stream.index] = self._add_copy(stream, copy)
                if stream.index in self._pids:
                    made.id = self._pids[stream.index]
                self._boxes[made.index + 1] = copy.stream.boxes
                if made.type == "subtitle" and not stream.disposition & Disposition.default:
                    self._off.append(made.index + 1)
                self._tell_language(made)
            elif copy is not None and stream.index in covers:
                self.attached[stream.index] = covers[stream.index]
                self._container.add_attachment(*COVER_MIME[copy.stream.codec], covers[stream.index])

    def _move_time_codes(self, start: Fraction | None, plan: VideoPlan, info: ClipInfo) -> None:
        """Those of a cut tell its first frame."""
        if start is None:
            return
        frames = round((start + plan.begins - info.begins) * info.video.rate)
        for tags in (self._container.metadata, *(stream.metadata for stream in self._container.streams)):
            move_time_codes(tags, frames, info.video.rate)

    def _add_video(self, plan: VideoPlan, info: ClipInfo, *, already_encoded: bool) -> None:
        in_header = already_encoded and needs_container_hdr(plan)
        self.video = (add_video_stream_with_hdr if in_header else add_video_stream)(self._container, plan)
        about = next(s for s in info.streams if s.index == info.video.index)
        kept = ((k, v) for k, v in about.metadata if not _STALE_VIDEO_TAGS.match(k))
        self.video.metadata.update({**reel_tags(info), **told_tags(kept)})
        self._tell_language(self.video)
        if info.video.index in self._pids:
            self.video.id = self._pids[info.video.index]
        if plan.alpha_beside:
            self.video.metadata["alpha_mode"] = "1"
        if plan.stereo and plan.container.is_matroska:
            self.video.metadata["stereo_mode"] = plan.stereo
        self.video.disposition = Disposition(about.disposition)
        same_size = (plan.width, plan.height) == (info.video.width, info.video.height)
        self._boxes[self.video.index + 1] = writable(about.boxes, same_size=same_size)

    def _tell_language(self, made: Stream) -> None:
        if (language := made.metadata.pop("language", "")) and (told := told_language(language, self._holder)):
            made.metadata["language"] = told

    def _add_copy(self, stream: Stream, copy: CopyPlan) -> Stream:
        if not copy.target_codec:
            made = add_copied_stream(self._container, stream, self._holder, as_wave=copy.as_wave)
            if self._file is None and unwraps(stream, self._holder):  # in fragments libav's muxer doesn't
                self._unwrap[stream.index] = BitStreamFilterContext("aac_adtstoasc", stream)
            if copy.as_wave:
                self._waves.append(sum(s.type != "attachment" for s in self._container.streams))
            return made
        made = self._container.add_mux_stream(copy.target_codec)
        made.time_base = self._text_clock
        made.metadata.update(told_tags(stream.metadata.items()))
        made.disposition = stream.disposition
        self._convert[stream.index] = TextConverter(copy.stream.codec, copy.target_codec)
        return made

    def write_video(self, packet: Packet) -> None:
        """Mux one packet of the restored stream. Takes the packet over."""
        shift_packet(packet, self._offset)
        if self._gif is not None:
            packet = self._gif.take(packet)
        packet.stream = self.video
        self._from_zero(packet, self._video_index)
        self._mux(packet)

    def takes(self, item: CopiedPacket) -> bool:
        """Whether a copied packet is to be written: its stream is, and an edit list doesn't hide it; to be asked once.

        A cue of which only the first part is hidden is shortened to the rest.
        """
        return item.stream_index in self._streams and not self._hidden.hides(item.packet)

    def write_copy(self, item: CopiedPacket) -> bool:
        """Mux one copied packet that it `takes`. Takes the packet over. False where there are no words to write."""
        packet, index = item.packet, item.stream_index
        convert = self._convert.get(index)
        if convert is None:
            return self._write_beside(self._unwrapped(packet, index), index)
        words = convert.words(bytes(packet))
        if not words:
            return False
        if packet.pts is None:
            return self._refuse(None, index)
        cue = Cue(words, packet.pts, packet.duration or 0, packet.time_base)
        if not convert.one_at_a_time:
            return self._write_cue(cue, index)
        held = self._held.get(index)
        if held is not None and held.join(cue):
            convert.joined += 1
            return True
        if held is not None:
            self._write_cue(held, index)
        self._held[index] = cue
        return True

    def _unwrapped(self, packet: Packet, index: int) -> Packet:
        """Without the header of its own that the output has no room for. Raises OutputError."""
        if index not in self._unwrap:
            return packet
        tick = packet.time_base
        try:
            (bare,) = self._unwrap[index].filter(packet)
        except (av.FFmpegError, ValueError) as error:
            raise translate_output(error, self.shown, "encode", resumes=self._resumes) from error
        bare.time_base = tick
        return bare

    def _release(self, before: Fraction | None = None) -> None:
        """Write the cues that were held for others to join them: those that begin before so many seconds, or all."""
        while due := [index for index, cue in self._held.items() if before is None or cue.begins < before]:
            first = min(due, key=lambda index: self._held[index].begins)
            self._write_cue(self._held.pop(first), first)

    def _write_cue(self, cue: Cue, index: int) -> bool:
        packet = av.Packet(self._convert[index].payload(cue.words))
        packet.pts = packet.dts = cue.pts
        packet.time_base, packet.duration = cue.time_base, cue.duration
        self._note_overlap(packet, index)
        return self._write_beside(packet, index)

    def _write_beside(self, packet: Packet, index: int) -> bool:
        """Mux a packet of any stream but the restored one. False where it is left out."""
        target = self._streams[index]
        if packet.dts is None and packet.pts is not None:
            packet.dts = self._decode_time(packet.pts, index, is_video=target.type == "video")
        if self._starts_at_zero and packet.dts is not None and packet.dts < 0:
            self.left_out[index] = self.left_out.get(index, 0) + 1
            return False
        self._from_zero(packet, index)
        self._tell_duration(packet, index, target)
        self._in_order(packet, index, target)
        if self._holder.counts_sound and target.type == "audio":
            self._count(packet, index, target)
        stamp = None if packet.dts is None else float(packet.dts * packet.time_base)
        packet.stream = target
        try:
            self._mux(packet)
        except OutputError as error:
            if not isinstance(error.__cause__, av.error.ArgumentError):
                raise
            return self._refuse(stamp, index)
        return True

    def _refuse(self, seconds: float | None, index: int) -> bool:
        self.refused += 1
        self._trouble(seconds, f"stream {index}: the container refuses a packet; it is left out")
        return False

    def _note_overlap(self, cue: Packet, index: int) -> None:
        if cue.pts is None or not self._holder.is_mov:
            return
        begins = cue.pts * cue.time_base
        before, count = self._cues.get(index, (begins, 0))
        self._cues[index] = begins + (cue.duration or 0) * cue.time_base, count + (begins < before)

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
        start = Fraction(0) if packet.dts is None else packet.dts * packet.time_base
        if self._starts_at_zero:
            shift_packet(packet, -self._starts.setdefault(index, start))
        elif self._holder.begins_at_zero:  # libav's muxer of MXF does so by itself
            self._starts.setdefault(index, start)

    def _tell_starts(self) -> None:
        """Raises OSError."""
        numbers = {index: stream.index for index, stream in {**self._streams, self._video_index: self.video}.items()}
        if self._holder.begins_at_zero:
            self.early = {i: start - self._begins for i, start in self._starts.items() if i != self._video_index}
            return
        begins = self._starts.get(self._video_index, Fraction(0))
        self.moved = _ticks(begins, self.tick) * self.tick - begins
        late = {index: start + self.moved for index, start in self._starts.items() if start + self.moved}
        told: dict[int, Fraction] = {}
        if late and self._file is not None:
            told = write_starts(self._file, {numbers[index]: max(start, Fraction(0)) for index, start in late.items()})
        self.early = {index: start - told.get(numbers[index], 0) for index, start in late.items()}

    def _tell_duration(self, packet: Packet, index: int, target: Any) -> None:
        """Where the container would tell none: a cue that is shown for less than a tick is shown for one.

        libav's muxer of MP4 ends sound with the last packet: where it begins, if it doesn't say how long it lasts
        (NUT). It is taken to last as long as the one before.
        """
        if (
            target.type == "subtitle"
            and packet.duration
            and not _ticks(packet.duration * packet.time_base, target.time_base)
        ):
            packet.duration = math.ceil(target.time_base / packet.time_base)
        if packet.duration or packet.dts is None or not self._holder.is_mov or target.type != "audio":
            return
        seconds, context = packet.dts * packet.time_base, target.codec_context
        step = Fraction(context.frame_size, context.sample_rate or 1)
        if index in self._last:
            step = seconds - self._last[index][0]
        packet.duration = max(0, _ticks(step, packet.time_base))

    def _in_order(self, packet: Packet, index: int, target: Any) -> None:
        """Decode times as the container takes them, each at a later tick of its own; the payload stays.

        A coarse clock (Matroska's) gives packets that follow soon the same time; times that run backwards are damage.
        """
        if packet.dts is None:
            return
        seconds, tick = packet.dts * packet.time_base, target.time_base
        latest, last = self._last.get(index, (seconds, None))
        place = _ticks(seconds, tick)
        if seconds < latest:
            self._trouble(float(seconds), f"stream {index}: its times run backwards; they were moved on")
        if last is not None and place < (least := last + (self._strict or seconds < latest)):
            place, shown = least, None if packet.pts is None else packet.pts * packet.time_base
            packet.duration = _ticks((packet.duration or 0) * packet.time_base, tick)
            packet.time_base, packet.dts = tick, place
            packet.pts = None if shown is None else max(place, _ticks(shown, tick))
        self._last[index] = max(seconds, latest), place

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
        out = left_out_notes(self._hidden.counts, CUT_OFF)
        out += left_out_notes(self.left_out, "before 0 left out: this container has no times")
        out += conversion_notes(self._convert)
        for index, (_, count) in sorted(self._cues.items()):
            if count:
                cues = "a cue ends" if count == 1 else f"{count} cues end"
                out.append(f"stream {index}: {cues} when the next one begins: this container shows one at a time")
        for index, early in sorted(self.early.items()):
            if abs(early) >= _LEAST_NAMED:
                moved = f"{abs(float(early)) * 1000:.0f} ms {'early' if early > 0 else 'late'}"
                out.append(f"stream {index} is {moved}: this container counts packets, not times")
        if self._file is None and (lost := [p.name for p in self._parts if p.kind in self._holder.parts]):
            out.append(f"left out, for this output can't be gone back to: {printable(', '.join(lost))}")
        if self._untold:
            out.append("shown without end: of an animation from a pipe neither its number of plays nor texts are read")
        if abs(self.moved) >= _LEAST_NAMED:
            moved = f"{abs(float(self.moved)) * 1000:.0f} ms {'later' if self.moved > 0 else 'earlier'}"
            out.append(f"all times are {moved}: this container counts frames")
        if self._renumbered:
            out.append("numbers of streams, of the program and of its table (PIDs) are not all those of the input")
        if self.shift:
            out.append(f"all times are {float(self.shift) * 1000:.0f} ms later: this container holds none before 0")
        return out

    def _mux(self, packet: Packet) -> None:
        stamp = packet.dts if packet.dts is not None else packet.pts
        if stamp is not None:
            seconds = stamp * packet.time_base
            self._release(seconds)
            self._first = seconds if self._first is None else min(self._first, seconds)
        try:
            with muted_log():
                self._container.mux_one(packet)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise translate_output(error, self.shown, "encode", resumes=self._resumes) from error

    def close(self) -> None:
        """Write the trailer. Raises OutputError."""
        if self._closed:
            return
        self._release()
        self._closed = True
        try:
            try:
                self._container.close()
            finally:
                if self._beneath is not None:
                    self._beneath.close()
            if self._incomplete is not None:
                complete_file(*self._incomplete, self._waves)
            if self._file is not None and self._holder.is_mov and (self._off or any(self._boxes.values())):
                complete_movie(self._file, self._boxes, self._off)
            if self._file is not None:
                add_parts(self._file, self._parts, self._holder.parts, turned=self._upright)
            self._tell_starts()
        except (av.FFmpegError, OSError, ValueError) as error:
            raise translate_output(error, self.shown, "encode", resumes=self._resumes) from error

    def abandon(self) -> None:
        """Close without caring for the file."""
        if not self._closed:
            self._closed = True
            abandon(self._container)
            self._abandon_beneath()

    def _abandon_beneath(self) -> None:
        if self._beneath is not None:
            with suppress(OSError):
                self._beneath.close()


__all__ = ["MOST_REORDERED", "ClipWriter", "OutputSettings"]
