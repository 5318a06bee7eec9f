"""A clip with damaged pictures: all else, streams, times and tags, is kept as a run keeps it."""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
from av.codec.codec import Codec, find_best_pix_fmt_of_list
from av.packet import Packet
from av.video.frame import VideoFrame

from ns_video.errors import InputError, OutputError, UsageError, VerificationError
from ns_video.frame import (
    MATRIX_BT601_625,
    RANGE_FULL,
    RANGE_LIMITED,
    ColorInfo,
    Frame,
    PixelFormat,
    effective_matrix,
    is_full_range,
)
from ns_video.media.compare import compare
from ns_video.media.containers import format_for, of_output, refuse_as_file
from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.copied_packets import read_covers
from ns_video.media.copy_plan import CopyPlan, plan_copies
from ns_video.media.cut import Cut, cut_chapters
from ns_video.media.decode import MAX_PIXELS, ClipReader, DecodeOptions, open_clip
from ns_video.media.degrade import Degradation, coding, degrade_picture
from ns_video.media.encode import FrameEncoder, add_video_stream
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.file_facts import PacketTally, Times, chapters_of, read_facts, write_counted
from ns_video.media.hdr_header import needs_container_hdr
from ns_video.media.left_out import joined_services
from ns_video.media.libav import file_url, printable
from ns_video.media.mux import ClipWriter, OutputSettings
from ns_video.media.pictures import Rgb
from ns_video.media.planes import planar_name, plane_views
from ns_video.media.probe import VideoInfo, pixel_format
from ns_video.media.promise import Promise, look_of
from ns_video.media.swscale import EXACT, swscale_matrix
from ns_video.media.video_plan import VideoPlan, color_as, plan_video

__all__ = ["ClipOutcome", "degrade_clip"]

_MPEG2_RATES = tuple(
    Fraction(*rate)
    for rate in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1))
)
"""frame_rate_code of ISO/IEC 13818-2, table 6-4."""
_LOSSLESS = "ffv1"


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """What `degrade_clip` wrote."""

    frames: int
    codec: str
    payload_bytes: int
    notes: tuple[str, ...] = ()
    """What of the source the output doesn't have, in words."""


def degrade_clip(
    source: Path,
    output: Path,
    degradation: Degradation,
    seed: int = 0,
    max_frames: int = 0,
    *,
    max_pixels: int = MAX_PIXELS,
) -> ClipOutcome:
    """Damages the pictures of a clip into a new file (Matroska or whatever the suffix says), all else is kept.

    A SPEC that ends in a codec leaves that codec's bitstream in the file, so that a decoder finds its quantisers; any
    other is stored losslessly (FFV1), with the pixel format and colour tags of the source. Codecs get the decoded
    planes untouched (no RGB between) unless a pixel step comes before: those work in 8-bit RGB, without alpha.
    Timestamps are kept (MPEG-2 knows only constant standard rates: frames lie on the ticks of the nearest one).
    `max_frames` 0 means all; sound and words end with the last frame.

    Raises:
        InputError: the source can't be opened or has no video; OutputError: the output can't be written;
        UsageError: a codec is followed by another step, the output's container holds it or its times not, or the source
            is a URL;
        VerificationError: read back, the output lacks something that was written.
    """
    if any(step.is_codec for step in degradation.steps[:-1]):
        raise UsageError("in a clip a codec must be the last step", remedy="write it first, then degrade the result")
    if output.exists() and not output.is_file():
        raise OutputError(f"{printable(output)} is a folder or a device", stage="open", remedy="name a file")
    place = Path(os.path.realpath(output))  # a link stays
    temporary = place.with_name(f".ns-video-{os.urandom(8).hex()}{output.suffix or '.mkv'}")
    refuse_as_file(format_for(temporary.name))
    try:
        temporary.open("xb").close()
    except FileNotFoundError as error:
        raise OutputError(f"{printable(output.parent)}: no such folder", stage="open") from error
    except OSError as error:
        raise OutputError(f"{printable(output)}: {error.strerror or error}", stage="open") from error
    plain = DecodeOptions(deinterlace="off", max_pixels=max_pixels)
    try:
        first, end, begins = _first_and_end(source, max_frames, plain)
        ends = _Ends(source, temporary, str(output), end, plain)
        with open_clip(source, replace(plain, end_seconds=None if end is None else float(end - begins))) as reader:
            outcome = _written(reader, _Pictures(degradation, seed), first, ends)
        temporary.replace(place)
    except av.FFmpegError as error:
        temporary.unlink(missing_ok=True)
        shown = f"{printable(source)} can't be degraded into {printable(output)}"
        raise OutputError(f"{shown}: {error}", stage="degrade") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return outcome


def _first_and_end(source: Path, max_frames: int, plain: DecodeOptions) -> tuple[Frame, Fraction | None, Fraction]:
    """The first frame; the time at which the one behind the last is shown, None where all are wanted; where the clip
    begins."""
    with open_clip(source, plain) as reader:
        frames = reader.frames()
        first = next(frames, None)
        if first is None:
            raise InputError("no frame could be decoded", stage="degrade")
        past = next(islice(frames, max_frames - 1, None), None) if max_frames else None
    return first, None if past is None or past.pts is None else past.pts * past.time_base, reader.info.begins


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where a walk begins and ends."""

    source: Path
    output: Path
    shown: str
    """The output's name in messages."""
    seconds: Fraction | None
    """Where the source is cut; None: nowhere."""
    plain: DecodeOptions
    """How either is read."""


def _written(reader: ClipReader, pictures: _Pictures, first: Frame, ends: _Ends) -> ClipOutcome:
    """One walk; `first`: of the source's frames."""
    output, end = ends.output, ends.seconds
    container_format = format_for(output.name)
    copies = plan_copies(reader.container, reader.info, of_output(container_format, output))
    plan = pictures.plan(container_format, reader.info.video, first)
    made = _Made(plan)
    cut = Cut(copies, None, end)
    settings = OutputSettings(file_url(output), ends.shown, None, end)
    in_header = needs_container_hdr(plan)
    covers = read_covers(ends.source, copies)
    with ExitStack() as files:
        writer = ClipWriter(settings, plan, reader.container, reader.info, copies, covers, already_encoded=in_header)
        files.callback(writer.abandon)
        encoder = FrameEncoder(files.enter_context(_stream_beside(plan)) if in_header else writer.video, plan)
        for item in _timed(reader.items([c.stream.index for c in copies if c.kept]), plan):
            if isinstance(item, Frame):
                made.write(writer, encoder.encode(pictures.damaged(item, len(made.ticks))))
                made.expect(item)
            elif cut.take(item) is not None:
                made.copy(writer, item)
        made.write(writer, encoder.flush())
        writer.close()
    notes = _notes(reader, plan, copies, writer, cut)
    damaged = bool(reader.damage or writer.troubles)
    explained = _check(ends, made.promise(reader, first, copies, writer, end), damaged=damaged)
    return ClipOutcome(len(made.ticks), plan.codec, made.payload, (*notes, *explained))


class _Made:
    """What an output is to hold."""

    def __init__(self, plan: VideoPlan) -> None:
        self.payload = 0
        """Bytes of the pictures."""
        self.ticks: array[int] = array("q")
        self._plan, self._shown, self._tallies = plan, Fraction(0), dict[int, PacketTally]()

    def write(self, writer: ClipWriter, packets: Iterable[Packet]) -> None:
        """Packets of the pictures."""
        for packet in packets:
            self.payload += packet.size
            writer.write_video(packet)

    def copy(self, writer: ClipWriter, item: CopiedPacket) -> None:
        """A packet of another stream."""
        write_counted(writer, item, self._tallies)

    def expect(self, frame: Frame) -> None:
        """Note when a frame is to be shown."""
        assert frame.pts is not None
        self.ticks.append(self._plan.tick_of(frame.pts * frame.time_base))
        self._shown = (frame.duration or 0) * frame.time_base

    def promise(
        self, reader: ClipReader, first: Frame, copies: Sequence[CopyPlan], writer: ClipWriter, end: Fraction | None
    ) -> Promise:
        """All of it, once the writer is closed. `first`: of the source's frames."""
        plan, times = self._plan, Times(self.ticks, self._plan.time_base, -self._plan.offset)
        aspect, shape = plan.sample_aspect_ratio or Fraction(1), Fraction(plan.width, plan.height)
        return Promise(
            source=reader.info,
            look=replace(look_of(first, reader.info), aspect=aspect, shape=shape),
            times=times.from_zero() if plan.container.begins_at_zero else times,
            shown=self._shown,
            copies=copies,
            tallies={**self._tallies, **{n: PacketTally.of(data) for n, data in writer.attached.items()}},
            chapters=chapters_of(cut_chapters(reader.container.chapters(), None, end)),
            shift=writer.shift,
            refused=writer.refused,
        )


def _check(ends: _Ends, promise: Promise, *, damaged: bool) -> list[str]:
    """What differs for a reason, in words: the damage of the source, or the SPEC's encoder. Raises VerificationError
    for what has none."""
    found = read_facts(ends.output)
    with open_clip(ends.output, ends.plain) as reader:
        differences = compare(promise, found, look_of(next(reader.frames()), found.info))
    explained = [d for d in differences if d.by_wish or (d.by_damage and damaged)]
    if wrong := [d.what for d in differences if d not in explained]:
        raise VerificationError(f"the output is not what it should be: {'; '.join(wrong[:5])}", stage="verify")
    return [d.what for d in explained]


@contextmanager
def _stream_beside(plan: VideoPlan) -> Generator[av.VideoStream]:
    """An encoder whose packets go into the stream of another container, which tells the HDR metadata."""
    with av.open(io.BytesIO(), "w", format="nut") as container:
        yield add_video_stream(container, plan)


def _timed(items: Iterable[Frame | CopiedPacket], plan: VideoPlan) -> Iterator[Frame | CopiedPacket]:
    """For MPEG-2 with each frame on a tick of its own, all else as it is."""
    last: int | None = None
    for item in items:
        if plan.codec == "mpeg2video" and isinstance(item, Frame) and item.pts is not None:
            tick = plan.tick_of(item.pts * item.time_base)
            last = tick if last is None else max(tick, last + 1)
            shown = item.duration and max(1, plan.ticks(item.duration * item.time_base))
            pts, parts = round(plan.time_of(last) / plan.clock), int(plan.time_base / plan.clock)
            yield replace(item, pts=pts, time_base=plan.clock, duration=shown and shown * parts)
        else:
            yield item


def _notes(
    reader: ClipReader, plan: VideoPlan, copies: Iterable[CopyPlan], writer: ClipWriter, cut: Cut
) -> tuple[str, ...]:
    lost = [f"stream {c.stream.index}: {c.action}" for c in copies if not c.kept or c.target_codec]
    joined = joined_services(reader.info, plan.container)
    lost += [joined] if joined else []
    damage = [f"INPUT is damaged: {reader.damage[0].what}"] if reader.damage else []
    troubles = [what for _, what in writer.troubles]
    return (*lost, *plan.notes, *reader.warnings, *damage, *writer.notes, *troubles, *cut.notes)


class _Pictures:
    """The frames of a clip on their way into an encoder."""

    def __init__(self, degradation: Degradation, seed: int) -> None:
        last = degradation.steps[-1]
        self._codec = last if last.is_codec else None
        self._steps = degradation.steps[:-1] if last.is_codec else degradation.steps
        self._seed = seed
        self._encoder, self._options = (_LOSSLESS, {}) if self._codec is None else coding(self._codec)

    @property
    def _is_mpeg2(self) -> bool:
        return self._encoder == "mpeg2video"

    def plan(self, container_format: str, video: VideoInfo, first: Frame) -> VideoPlan:
        """How frames are encoded that begin with `first`, as far as the SPEC leaves that open."""
        made = self.damaged(first, 0)
        if self._is_mpeg2:
            video = replace(video, rate=min(_MPEG2_RATES, key=lambda known: abs(known - video.rate)))
        pix_fmt = self._target(first.format) if self._steps or self._is_mpeg2 else None
        wanted = EncodeOptions(codec=self._encoder, pix_fmt=pix_fmt, encoder_options=self._options, threads=1)
        plan = plan_video(container_format, video, first, (made.width, made.height), wanted)
        # MPEG-2's quantiser is fixed by its bounds alone
        options = tuple((key, value) for key, value in plan.options if key != "qscale")
        color = replace(plan.color, range=made.color.range) if self._steps else plan.color
        return replace(plan, options=options, color=color)

    def damaged(self, frame: Frame, number: int) -> Frame:
        """What the encoder is given of frame `number`."""
        if not self._steps:
            return frame
        target = pixel_format(planar_name(self._target(frame.format)))
        source, color = frame.format, frame.color
        full = is_full_range(source, color)
        matrix = MATRIX_BT601_625 if source.is_rgb else _swscale_matrix(color, frame.width, frame.height)
        rgb = degrade_picture(_rgb(frame, matrix, full=full), self._steps, self._seed, number)
        if self._codec is not None:
            rgb = _halved(rgb, target)
        # MPEG-2 tells no range
        made_full = full and not self._is_mpeg2 and source.is_rgb == target.is_rgb
        color = color_as(color, source, target)
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
            format=target.name,
            interpolation=EXACT,
            src_color_range=RANGE_FULL,
            dst_colorspace=_swscale_matrix(color, rgb.shape[1], rgb.shape[0]),
            dst_color_range=RANGE_FULL if made_full else RANGE_LIMITED,
        )
        if full and not made_full:
            color = replace(color, range=RANGE_LIMITED)
        same = target == source and (picture.width, picture.height) == (frame.width, frame.height)
        return replace(
            frame,
            planes=plane_views(picture, target),
            width=picture.width,
            height=picture.height,
            format=target,
            color=color,
            carrier=frame.carrier if same else None,
        )

    def _target(self, source: PixelFormat) -> str:
        """The pixel format that is encoded: the frames' own, or the nearest that the encoder takes.

        4:2:0 for MPEG-2, and never with alpha: no step knows of it.
        """
        if self._is_mpeg2:
            return "yuv420p"
        formats = Codec(self._encoder, "w").video_formats or []
        opaque = [known for known in formats if not any(c.is_alpha for c in known.components)]
        best, _ = find_best_pix_fmt_of_list(opaque, source.name)
        return source.name if best is None else best.name


def _swscale_matrix(color: ColorInfo, width: int, height: int) -> int:
    return swscale_matrix(effective_matrix(color, width, height))


def _rgb(frame: Frame, matrix: int, *, full: bool) -> Rgb:
    """(H, W, 3) uint8 of a decoded frame."""
    plain = frame.carrier.reformat(
        format="rgb24",
        interpolation=EXACT,
        src_colorspace=matrix,
        src_color_range=RANGE_FULL if full else RANGE_LIMITED,
        dst_color_range=RANGE_FULL,
    )
    return np.ascontiguousarray(plain.to_ndarray())


def _halved(rgb: Rgb, target: PixelFormat) -> Rgb:
    """Without the last row or column of an odd side that the pixel format halves."""
    height, width = (
        side >> shift << shift for side, shift in zip(rgb.shape, (target.chroma_shift_y, target.chroma_shift_x))
    )
    return rgb[:height, :width]
