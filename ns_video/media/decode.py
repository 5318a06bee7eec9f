"""A clip as a generator of frames, and of packets that are only to be copied.

Every frame libav can decode leaves once, with its own presentation time; B-frames are drained at the end; what is
damaged is counted and located, never skipped in silence.
"""

from __future__ import annotations

import math
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import av
import av.container
import av.error
from av.filter import Graph
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ns_video.errors import DamageError, InputError, TooLargeError
from ns_video.frame import UNSPECIFIED, ColorInfo, Frame, JpegTables, QuantiserMap
from ns_video.machine import can_map, is_exhausted
from ns_video.media.coded_headers import CODECS as HEADER_CODECS
from ns_video.media.coded_headers import HeaderQuantisers, chroma_location, frame_chroma_location
from ns_video.media.containers import of_demuxer
from ns_video.media.copied_clock import CopiedClock, CopiedPacket, marked_corrupt
from ns_video.media.damage_log import news
from ns_video.media.deinterlace import Deinterlacer
from ns_video.media.exported_quantisers import PICTURE_TYPES, ExportedQuantisers
from ns_video.media.frame_order import FrameOrder
from ns_video.media.jpeg_headers import CODECS as JPEG_CODECS
from ns_video.media.jpeg_headers import JpegHeaders
from ns_video.media.libav import (
    LogLine,
    at_rest,
    bytes_of,
    heard,
    muted_log,
    not_streamable,
    open_input,
    own_log,
    printable,
    workers_log,
)
from ns_video.media.lost_start import LostStart
from ns_video.media.planes import plane_views
from ns_video.media.png_chunks import tells_profile
from ns_video.media.probe import ClipInfo, clip_info, matrix_of, pixel_format
from ns_video.media.promised_end import bytes_missing, promised_end
from ns_video.media.steady_picture import SteadyPicture
from ns_video.media.wrapped_clock import WrappedClock
from ns_video.record import Damage, list_damage

MAX_PIXELS = 1 << 28  # 268 megapixels: sixteen times 4K, far under what a 65535 x 65535 header claims
_INTERLEAVED_SECONDS = 5  # by which sound may lie in a file behind the picture that it belongs to
_HELD_PACKETS = 512  # copied packets that wait for the video to pass a jump of the clock: seconds of sound
_TOLD_APART = Fraction(1, 1000)  # seconds between frames that are two in Matroska, too
_SHORT_BYTES = 64 << 20  # where even these can't be mapped any more, memory is short
_MOST_THREADS = 16  # that libav, or a library that it decodes with, takes by itself
_PACKED_BITS = frozenset({"rgb4", "bgr4"})  # two pixels in a byte
_REPEATING = frozenset({"theora"})  # a packet of no bytes repeats the frame before (Theora specification, 7.11)
_NAMING_PROFILES = frozenset({"apng", "png"})
"""Their decoders give the colour profile beside a frame a name, which PyAV frees a second time where it is looked at
(`SideData.metadata`): the process ends. The file's is read by `animation_header`."""
_SKIPPED_TOLD = 100  # frames of which one is told on the way to `start_seconds`
_PROFILE_LOST = "the ICC profile of the pictures is left out"


def check_pixels(width: int, height: int, most: int) -> None:
    """Raises TooLargeError where a header claims more than `most` pixels."""
    if width * height > most:
        raise TooLargeError(
            f"the header claims {width}x{height} pixels, more than --max-pixels allows",
            stage="open",
            remedy=f"--max-pixels {width * height}",
        )


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """How a clip is read."""

    container_format: str | None = None
    container_options: Mapping[str, str] = field(default_factory=dict)
    allow_protocols: tuple[str, ...] = ()
    threads: int = 0
    """libav decoder threads; 0 lets libav choose."""
    quantisers: bool = False
    """Attach each frame's quantiser map where the codec tells (H.264, MPEG-2, VP9)."""
    jpeg_tables: bool = False
    """Attach each frame's quantisation tables where they are a JPEG's (Motion JPEG)."""
    deinterlace: str = "auto"
    """"auto": frames flagged interlaced, "on": all frames, "off": none. libav's bwdif, one frame out per frame in."""
    start_seconds: float | None = None
    end_seconds: float | None = None
    """Both from where the clip begins on its own clock, `ClipInfo.begins`."""
    strict: bool = False
    max_pixels: int = MAX_PIXELS
    compared: bool = False
    """It is compared with what it was made of: a time that repeats, or an end before the header's, is no damage yet."""
    cancel: threading.Event | None = None
    """Once it is set, the way to `start_seconds` is given up."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A frame before `start_seconds`: where the reader is on its way there."""

    seconds: float


class _ThreadedError(Exception):
    """A packet could not be decoded while several threads decoded, or was damaged while they were drained."""


def _check_memory(error: Exception) -> None:
    """Raises MemoryError where libav lacked memory: that is no damage, unless a damaged header asked for too much."""
    if is_exhausted(error) and not can_map(_SHORT_BYTES):
        raise MemoryError(str(error)) from error


class ClipReader:
    """An open clip. `info` is what its header says; `items()` walks through it once.

    Use as a context manager. `damage`, in the order of time, and `warnings` fill while `items()` runs; `damage_count`
    counts also what is not listed one by one.
    """

    def __init__(self, source: str | Path | IO[bytes], options: DecodeOptions | None = None) -> None:
        self.options = options or DecodeOptions()
        self._source = source
        # Only a file can be read again from its start; see _all_items.
        self._threads = self.options.threads if isinstance(source, (str, Path)) and str(source) != "-" else 1
        self._items: Generator[Frame | CopiedPacket | Skipped] | None = None
        self._left: list[av.container.InputContainer] = []
        """Containers of walks that were begun anew: packets to copy, and whoever writes them, still look into them."""
        self._begin()
        self._open()

    def _begin(self) -> None:
        self.damage: list[Damage] = []
        self.damage_count = 0
        self.warnings: list[str] = []
        self.frames_decoded = 0
        self.frames_given = 0
        """Frames between `start_seconds` and `end_seconds`."""
        self.end_seconds: float | None = None
        """Presentation time after the last frame, once known."""
        self.clock_jumps: list[float] = []
        """Seconds added to all times from each place on where the clock of the source jumped back (MPEG-TS)."""
        self._clock = CopiedClock(self.clock_jumps)
        self._held_packets: deque[Any] = deque()
        self._last_pts: int | None = None
        self._last_duration = 0
        self._shown: VideoFrame | None = None
        self._repeats: deque[int] = deque()
        """Times of frames that repeat the one before, which libav's decoder may not have given yet."""
        self._counted: int | None = None
        self._miscounted = False
        self._damage_before: deque[int] = deque()
        self._clock_offset = 0
        self._packet_end = 0
        self._packet_step = 0

    def _open(self) -> None:
        with muted_log():
            self._container = open_input(
                self._source,
                container_format=self.options.container_format,
                options=self.options.container_options,
                allow_protocols=self.options.allow_protocols,
            )
        try:
            self.info: ClipInfo = clip_info(self._container)
            self._stream: VideoStream = self._container.streams[self.info.video.index]  # pyright: ignore[reportAttributeAccessIssue]
            self._check_header()
        except BaseException:
            self._container.close()
            raise
        codec = self.info.video.codec
        self._chroma_location = chroma_location(self._stream, codec)
        self._quantisers = ExportedQuantisers(codec, self.info.video.format.bit_depth)
        self._steady = SteadyPicture(self.info.video.time_base, self.options.max_pixels, self.warnings)
        self._lost_start = LostStart(self.info.format, codec)
        self._order = FrameOrder(self.info.video.time_base)
        self._deinterlacer = Deinterlacer(self.options.deinterlace, self.info.video.time_base, self.warnings)
        by_headers = codec in HEADER_CODECS or self._decoder.name == "libvpx-vp9"  # which exports nothing
        self._headers = HeaderQuantisers(self._stream, codec) if self.options.quantisers and by_headers else None
        self._jpegs = JpegHeaders() if self.options.jpeg_tables and codec in JPEG_CODECS else None

    def __enter__(self) -> ClipReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the container. Harmless when closed already.

        A container that a thread which stands still is reading from is left alone: closing it would crash.
        """
        if self._items is not None:
            running: Any = self._items
            if running.gi_running:
                return
            self._items.close()
        self._leave()
        for container in self._left:
            container.close()

    def _leave(self) -> None:
        self._deinterlacer.release()
        at_rest(self._decoder)
        self._left.append(self._container)

    @property
    def shown(self) -> str:
        """The source's name, safe to print."""
        if isinstance(self._source, (str, Path)):
            return "standard input" if str(self._source) == "-" else printable(self._source)
        return "the input"

    @property
    def container(self) -> av.container.InputContainer:
        """The libav container, for `ns_video.media` only."""
        return self._container

    def _check_header(self) -> None:
        video, context = self.info.video, self._stream.codec_context
        if context.codec_tag in ("encv", "drmi"):
            raise InputError(f"{self.shown} is encrypted", stage="open")
        name = video.format.name
        if name in _PACKED_BITS or video.format.bit_depth > 16 or "f16" in name:
            raise InputError(
                f"{self.shown}: pixels of the format {name} can't be read",
                stage="open",
                remedy="convert it with ffmpeg",
            )
        check_pixels(video.width, video.height, self.options.max_pixels)
        context.options = {
            "max_pixels": str(self.options.max_pixels),
            **({"export_side_data": "venc_params"} if self.options.quantisers else {}),
        }
        # libav's frame threads give out an H.264 frame's quantisers while others may still be writing them.
        by_slices = self.options.quantisers and video.codec == "h264"
        context.thread_type = "SLICE" if by_slices else "AUTO"  # pyright: ignore[reportAttributeAccessIssue]
        context.thread_count = self._threads
        self._decoder: Any = context
        if video.alpha_in_side_channel and video.codec in ("vp8", "vp9"):
            # libav's own VP8/VP9 decoders drop the alpha channel; libvpx keeps it.
            alpha = av.CodecContext.create("libvpx-vp9" if video.codec == "vp9" else "libvpx", "r")
            alpha.extradata = context.extradata
            alpha.thread_count = self._threads
            self._decoder = alpha

    def _damaged(self, what: str, pts_seconds: float | None) -> None:
        self.damage_count += 1
        where = pts_seconds if pts_seconds is not None else self._seconds(self._last_pts)
        if self.options.strict:
            raise DamageError(what, stage="decode", pts_seconds=where, remedy="leave out --strict to go on past damage")
        list_damage(self.damage, Damage(where, what))

    def _seconds(self, pts: int | None) -> float | None:
        return None if pts is None else float(pts * self.info.video.time_base)

    def items(self, copied: Iterable[int] = ()) -> Generator[Frame | CopiedPacket]:
        """All frames of the video stream and all packets of the streams in `copied`, in the order of the file."""
        for item in self.items_and_skipped(copied):
            if not isinstance(item, Skipped):
                yield item

    def items_and_skipped(self, copied: Iterable[int] = ()) -> Generator[Frame | CopiedPacket | Skipped]:
        """`items`, and some of the frames that come before `start_seconds`."""
        self._items = self._all_items(frozenset(copied))
        return self._items

    def _all_items(self, wanted: frozenset[int]) -> Generator[Frame | CopiedPacket | Skipped]:
        given: Counter[int] = Counter()  # by stream: how frames and packets alternate depends on the threads
        while True:
            again, walked = False, Counter[int]()
            with workers_log(self._threads != 1) as workers:
                if workers is None and self._threads != 1:  # another clip's decoder has threads
                    self._threads = self._decoder.thread_count = 1
                try:
                    for item in self._walk(self._chosen(wanted), [] if workers is None else workers):
                        if isinstance(item, Skipped):
                            yield item
                            continue
                        index = item.stream_index if isinstance(item, CopiedPacket) else self._stream.index
                        walked[index] += 1
                        if walked[index] > given[index]:
                            given[index] += 1
                            yield item
                except _ThreadedError:
                    again = True
                finally:
                    at_rest(self._decoder)  # no thread of the decoder is about to log when the capture ends
            if not again:
                break
            # Frame threads lose other frames around a broken packet than one thread does, and report it elsewhere.
            # So a damaged file is read again from its start by one thread; what was given already is not given twice.
            self._leave()
            self._threads = 1
            self._begin()
            self._open()
        self.frames_given = max(self.frames_given, given[self._stream.index])  # one thread may have found fewer
        self._steady.close()
        if not self.frames_given and self._is_cancelled:
            return
        if not self.frames_decoded and str(self._source) == "-" and "mp4" in self.info.format:
            raise not_streamable("standard input")
        if not self.frames_decoded:
            problem = self.damage[0].what if self.damage else "its video stream is empty"
            raise InputError(f"{self.shown}: no decodable frame ({problem})", stage="decode")
        self._check_length()

    @property
    def _is_cancelled(self) -> bool:
        return self.options.cancel is not None and self.options.cancel.is_set()

    def _chosen(self, wanted: frozenset[int]) -> list[Any]:
        streams = [s for s in self._container.streams if s.index == self._stream.index or s.index in wanted]
        for s in self._container.streams:
            if s not in streams:
                s.discard = Discard.all
        return streams

    def frames(self) -> Generator[Frame]:
        """All frames, packets of other streams left out."""
        for item in self.items():
            if isinstance(item, Frame):
                yield item

    def _walk(self, streams: list[Any], lines: list[LogLine]) -> Generator[Frame | CopiedPacket | Skipped]:
        packets = self._packets(streams, lines)
        for packet in packets:
            if not self.frames_given and self._is_cancelled:
                return
            if packet is None:
                decoded = self._decode(None, lines)
            elif packet.stream_index != self._stream.index:
                if packet.size:
                    self._held_packets.append(packet)
                    yield from self._let_go()
                continue
            else:
                if not packet.size and packet.dts is None and packet.pts is None:
                    continue  # PyAV's own flush packet; the decoder is drained below, once
                self._note_work()
                if packet.is_corrupt:
                    self._damaged("a packet is marked corrupt", self._seconds(packet.pts))
                if self._headers is not None:
                    self._headers.see(packet)
                if self._jpegs is not None:
                    self._jpegs.see(packet)
                if not packet.size and self.info.video.codec in _REPEATING and packet.pts is not None:
                    self._repeats.append(packet.pts)
                    continue
                decoded = self._decode(packet, lines)
                for lost, pts in self._lost_start.take(packet, decoded):
                    self._damaged(lost, self._seconds(pts))
            for frame in decoded:
                if frame.key_frame:
                    seconds = self.end_seconds if frame.pts is None else self._seconds(frame.pts)
                    self._steady.see_aspect(self._decoder.sample_aspect_ratio, seconds)
            for frame in self._repeated(decoded, at_end=packet is None):
                if self._jpegs is not None and self.options.deinterlace != "on" and not frame.interlaced_frame:
                    frame.opaque = self._jpegs.of(frame.pts, frame.height)
                if of_demuxer(self.info.format).decode_times_only:
                    self._count(frame)
                self._read_log(lines, self._seconds(frame.pts))
                for picture in self._deinterlacer.take(frame):
                    for ordered in self._order.take(picture):
                        out = self._timed(ordered)
                        if out is None:
                            yield from self._behind_the_end(packets, {s.index for s in streams})
                            return
                        if isinstance(out, Frame) or self.frames_decoded % _SKIPPED_TOLD == 0:
                            yield out
            yield from self._let_go()
            self._read_log(lines, None)
        rest = self._deinterlacer.drain()
        for ordered in [f for picture in rest for f in self._order.take(picture)] + self._order.drain(self._told_end()):
            out = self._timed(ordered)
            if out is None:
                break
            if isinstance(out, Frame):
                yield out
        yield from self._let_go(at_end=True)
        self._read_log(lines, None)

    def _name_profile(self, packet: Any) -> None:
        """Of the first PNG; that of an animation in a file goes along."""
        if packet is None or self.frames_decoded or self.info.animation is not None or _PROFILE_LOST in self.warnings:
            return
        if tells_profile(self._stream.codec_context.extradata or b"") or tells_profile(bytes(packet)):
            self.warnings.append(_PROFILE_LOST)

    def _let_go(self, *, at_end: bool = False) -> Generator[CopiedPacket]:
        """Copied packets, but for those behind a jump of the clock that the video has yet to measure."""
        held = self._held_packets
        while held and (at_end or len(held) > _HELD_PACKETS or not self._clock.is_ahead(held[0])):
            yield self._moved(held.popleft())

    def _moved(self, packet: Any) -> CopiedPacket:
        item = self._clock.move(packet)
        begins, start, end = float(self.info.begins), self.options.start_seconds, self.options.end_seconds
        inside = (start is None or item.seconds >= begins + start) and (end is None or item.seconds < begins + end)
        if packet.is_corrupt and inside:
            self._damaged(f"a copied stream is damaged: {marked_corrupt(packet)}", float(item.seconds))
        return item

    def _behind_the_end(self, packets: Iterable[Any], streams: set[int]) -> Generator[CopiedPacket]:
        """Copied packets from before the end that lie in the file behind the first frame past it."""
        assert self.options.end_seconds is not None
        end = self.options.end_seconds + float(self.info.begins)
        waited = streams - {self._stream.index}
        held, self._held_packets = self._held_packets, deque()
        for packet in chain(held, packets):
            if packet is None or not waited:
                return
            index, stamp = packet.stream_index, packet.pts if packet.dts is None else packet.dts
            if index == self._stream.index:
                past = 0.0 if stamp is None else float(stamp * packet.time_base) + sum(self.clock_jumps) - end
                if past > _INTERLEAVED_SECONDS:
                    return
            elif index in waited and packet.size:
                item = None if self._clock.is_ahead(packet) else self._moved(packet)
                if item is None or item.seconds >= end:
                    waited.discard(index)
                else:
                    yield item

    def _repeated(self, decoded: list[VideoFrame], *, at_end: bool) -> Generator[VideoFrame]:
        """The frames, and between them once more those that packets of no bytes repeat."""
        for frame in decoded:
            yield from self._again(frame.pts)
            self._shown = frame if self.info.video.codec in _REPEATING else None
            yield frame
        if at_end:
            yield from self._again(None)

    def _again(self, until: int | None) -> Generator[VideoFrame]:
        """The last frame, its samples shared, for each repeat before `until`."""
        shown = self._shown
        while self._repeats and (until is None or self._repeats[0] < until):
            pts = self._repeats.popleft()
            if shown is None:
                continue
            copy = self._passed(shown, "null")
            copy.pts = pts
            yield copy

    def _passed(self, picture: VideoFrame, name: str, settings: str = "") -> VideoFrame:
        """The picture, its samples shared, as one of libav's filters gives it back."""
        graph, tick = Graph(), self.info.video.time_base
        source = graph.add_buffer(width=picture.width, height=picture.height, format=picture.format, time_base=tick)
        graph.link_nodes(source, graph.add(name, settings), graph.add("buffersink")).configure()
        graph.vpush(picture)
        copy = graph.vpull()
        copy.pts, copy.time_base = picture.pts, tick
        return copy

    def _count(self, frame: VideoFrame) -> None:
        """AVI holds decode times only; libav's presentation times of H.264 in it are in the wrong order."""
        if frame.dts is not None:
            self._miscounted |= frame.pts is not None and frame.pts != frame.dts
            frame.pts = frame.dts
        elif self._miscounted and self._counted is not None:  # drained at the end
            frame.pts = self._counted + max(1, round(1 / (self.info.video.rate * self.info.video.time_base)))
        self._counted = frame.pts

    def _told_end(self) -> Fraction | None:
        """Seconds at which the header lets the video end, where packets don't tell how long the last frame is shown."""
        container, stream = of_demuxer(self.info.format), self._stream
        # Of Matroska without a default duration libav takes the average rate's; with one, both rates are that one's.
        guessed = container.is_matroska and stream.average_rate != stream.base_rate
        end = promised_end(self.info) if container.is_mov or guessed else None
        if end is None:
            return None
        from_start = guessed and "_STATISTICS_TAGS" in stream.metadata  # mkvmerge's duration is the track's alone
        return Fraction(end) + (max(0, stream.start_time or 0) * self.info.video.time_base if from_start else 0)

    def _packets(self, streams: list[Any], lines: list[LogLine]) -> Generator[Any]:
        failures, clock = 0, WrappedClock(self.info.format)
        while True:
            try:
                for packet in heard(self._container.demux(*streams), lines):
                    clock.move(packet)
                    if packet.size:
                        failures = 0
                    if packet.size and packet.pos is not None:
                        self._packet_step = packet.pos - self._packet_end + packet.size
                        self._packet_end = packet.pos + packet.size
                    yield packet
                break
            except av.error.EOFError:
                break
            except IndexError:  # PyAV ends so where libav found a stream that was not there when the file was opened
                self.warnings.append("a stream that begins in the middle of the file was left out")
                break
            except (av.FFmpegError, OSError) as error:
                _check_memory(error)
                failures += 1
                self._damaged(f"the container is damaged: {error.strerror or error}", None)
                if failures > 8:
                    break
        yield None

    def _decode(self, packet: Any, lines: list[LogLine]) -> list[VideoFrame]:
        try:
            with own_log(lines):
                decoded = self._decoder.decode(packet)
        except av.error.EOFError:
            return []
        except (av.FFmpegError, ValueError) as error:
            _check_memory(error)
            if self._threads != 1:
                raise _ThreadedError from error
            where = self._seconds(packet.pts) if packet is not None else None
            self._damaged(f"a packet can't be decoded: {getattr(error, 'strerror', None) or error}", where)
            return []
        if packet is None and self._is_damaged_at_work(lines):
            raise _ThreadedError
        if self.info.video.codec not in _NAMING_PROFILES:
            return decoded
        self._name_profile(packet)
        return [self._passed(frame, "sidedata", "mode=delete:type=ICC_PROFILE") for frame in decoded]

    def _note_work(self) -> None:
        """Another packet is about to be decoded: how much damage there was before each one that threads may work at."""
        if self._threads == 1:
            return
        self._damage_before.append(self.damage_count)
        if len(self._damage_before) > (self._decoder.thread_count or _MOST_THREADS):
            self._damage_before.popleft()

    def _is_damaged_at_work(self, lines: list[LogLine]) -> bool:
        """Whether a packet that threads still worked at when they were drained was damaged: PyAV (18.1) then leaves
        with the frames from before it and without a word, and those behind it can't be had any more."""
        return bool(self._damage_before) and (self.damage_count > self._damage_before[0] or bool(news(list(lines))))

    def _read_log(self, lines: list[LogLine], pts_seconds: float | None) -> None:
        if not lines:
            return
        count = len(lines)  # libav's threads may add to the list meanwhile
        new = lines[:count]
        del lines[:count]
        for what in news(new):
            self._damaged(what, pts_seconds)

    def _timed(self, picture: VideoFrame) -> Frame | Skipped | None:
        """The frame with its time; Skipped for what lies before the start, None once the end has passed."""
        video = self.info.video
        tick = video.time_base
        nominal = max(1, round(1 / (video.rate * tick)))
        pts, guessed = picture.pts, False
        if pts is None:
            guessed = True
            step = self._last_duration if nominal / 2 <= self._last_duration <= nominal * 2 else nominal
            pts = 0 if self._last_pts is None else self._last_pts + step
        else:
            pts += self._clock_offset
            if self._last_pts is not None and pts <= self._last_pts:
                shift = self._last_pts + self._last_duration - pts
                if (self._last_pts - pts) * tick >= 1:
                    self._clock_offset += shift
                    self.clock_jumps.append(float(shift * tick))
                    what = f"the clock jumps back by {float(shift * tick):.3f} s; later times were moved on"
                    self._damaged(what, self._seconds(self._last_pts))
                    pts += shift
                else:
                    if not self.options.compared:
                        self._damaged(f"a frame repeats the time {float(pts * tick):.3f} s", self._seconds(pts))
                    pts = self._last_pts + max(1, min(math.ceil(_TOLD_APART / tick), nominal // 2))
        if guessed and not any(w.startswith("frames without") for w in self.warnings):
            self.warnings.append("frames without a timestamp were given one from the stream's rate")
        duration = picture.duration or None
        self._last_pts, self._last_duration = pts, duration or nominal
        seconds = float(pts * tick)
        counted = float(pts * tick - self.info.begins)
        if self.options.end_seconds is not None and counted >= self.options.end_seconds:
            if not self.frames_decoded:
                raise InputError(f"no frame lies before --end; the first is at {counted:.3f} s", stage="decode")
            return None
        if self.options.end_seconds is not None and duration:
            left = round((Fraction(self.options.end_seconds) + self.info.begins) / tick) - pts
            duration = min(duration, max(1, left))
        self.frames_decoded += 1
        self.end_seconds = seconds + float((duration or nominal) * tick)
        if self.options.start_seconds is not None and counted < self.options.start_seconds:
            return Skipped(seconds)
        self.frames_given += 1
        picture, color = self._steady.take(picture, self._color(picture), seconds)
        return self._wrap(picture, color, pts, duration)

    def _color(self, picture: VideoFrame) -> ColorInfo:
        """What the picture tells of its colours, or else the header."""
        fmt, header = pixel_format(picture.format.name), self.info.video.color
        matrix, primaries, transfer = int(picture.colorspace), int(picture.color_primaries), int(picture.color_trc)
        return ColorInfo(
            matrix=matrix_of(header.matrix if matrix == UNSPECIFIED else matrix, fmt),
            range=int(picture.color_range) or header.range,
            primaries=header.primaries if primaries == UNSPECIFIED else primaries,
            transfer=header.transfer if transfer == UNSPECIFIED else transfer,
        )

    def _wrap(self, picture: VideoFrame, color: ColorInfo, pts: int, duration: int | None) -> Frame:
        fmt = pixel_format(picture.format.name)
        if picture.is_corrupt:
            self._damaged("a frame is marked corrupt by its decoder", float(pts * self.info.video.time_base))
        if self._chroma_location is None:
            self._chroma_location = frame_chroma_location(picture)
        located = self._chroma_location if fmt.chroma_shift_x and fmt.chroma_shift_y else 0
        return Frame(
            planes=plane_views(picture, fmt),
            width=picture.width,
            height=picture.height,
            format=fmt,
            color=replace(color, chroma_location=located),
            pts=pts,
            time_base=self.info.video.time_base,
            duration=duration,
            picture_type=PICTURE_TYPES.get(int(picture.pict_type), "?"),
            rotation=int(picture.rotation),
            pixel_aspect=self.info.video.sample_aspect_ratio or Fraction(1),
            quantiser=self._quantiser(picture) if self.options.quantisers else None,
            jpeg=replace(picture.opaque, is_rgb=fmt.is_rgb) if isinstance(picture.opaque, JpegTables) else None,
            carrier=picture,
        )

    def _quantiser(self, picture: VideoFrame) -> QuantiserMap | None:
        if self._headers is not None:
            return self._headers.of(picture.pts, picture.width, picture.height)
        return self._quantisers.read(picture)

    def _check_length(self) -> None:
        """A file that was cut short says so nowhere but in the time its header promised."""
        if self.options.end_seconds is not None or self.end_seconds is None:
            return
        cut = bytes_of(self._container) - self._packet_end if self.info.format == "yuv4mpegpipe" else 0
        if 0 < cut < self._packet_step:  # libav takes it for the end
            self._damaged("the video was cut in the middle of a frame", self.end_seconds)
            return
        missing = bytes_missing(self._source)
        if missing and any("ended prematurely" in place.what for place in self.damage):
            return  # libav said so
        if missing:
            self._damaged(f"the file was cut: {missing} bytes are missing at its end", self.end_seconds)
            return
        promised = promised_end(self.info)
        if promised is None or self.options.compared:
            return
        slack = max(0.5, 3 / float(self.info.video.rate))
        if self.end_seconds + slack < promised:
            self._damaged(
                f"the video ends at {self.end_seconds:.3f} s, its header promises {promised:.3f} s", self.end_seconds
            )


def open_clip(source: str | Path | IO[bytes], options: DecodeOptions | None = None) -> ClipReader:
    """Open a clip for reading; use as a context manager. Raises InputError."""
    return ClipReader(source, options)
