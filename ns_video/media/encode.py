"""Frames into encoded packets."""

from __future__ import annotations

import math
import os
from array import array
from collections.abc import Generator, Iterable
from fractions import Fraction
from typing import Any

import av
import av.container
import numpy as np
from av.codec.context import Flags
from av.filter import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ns_video.errors import UsageError
from ns_video.frame import MATRIX_BT601_625, RANGE_FULL, RANGE_LIMITED, Frame, effective_matrix, is_full_range
from ns_video.media import chroma_place
from ns_video.media.first_frame import TOP_FIELD_FIRST
from ns_video.media.gif import with_palette
from ns_video.media.hevc_tag import HVC1, holds_hvc1
from ns_video.media.planes import limited_range, plane_views
from ns_video.media.probe import pixel_format
from ns_video.media.riding import riding_on
from ns_video.media.swscale import swscale_matrix
from ns_video.media.video_plan import VideoPlan, loses_full_range

ENCODER_ERRORS = (av.FFmpegError, ValueError, OSError)
_NOT_REORDERED = 2  # frames: a third one is needed between them
_EVEN = Fraction(1, 4)  # of a tick: rounded times of a steady rate are nearer


def describe_picture(context: VideoCodecContext, plan: VideoPlan) -> None:
    """Write pixel format, rate, aspect ratio, field order and colour tags of `plan` into a libav codec context."""
    context.pix_fmt = plan.pix_fmt
    context.framerate = plan.rate
    if plan.sample_aspect_ratio > 0:
        context.sample_aspect_ratio = plan.sample_aspect_ratio
    if plan.field_order:
        context.field_order = plan.field_order
    context.color_range = plan.color.range
    context.colorspace = plan.color.matrix
    context.color_primaries = plan.color.primaries
    context.color_trc = plan.color.transfer


def add_video_stream(container: av.container.OutputContainer, plan: VideoPlan) -> VideoStream:
    """Add the encoder of `plan` to an output container. The same plan always gives the same stream header."""
    if plan.codec == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: it writes to stderr by itself
    try:
        stream = container.add_stream(plan.codec, rate=plan.rate, width=plan.width, height=plan.height)
    except ValueError as error:
        raise UsageError(str(error), remedy="choose another codec or container") from error
    assert isinstance(stream, VideoStream)
    context = stream.codec_context
    stream.time_base = plan.clock
    context.time_base = plan.time_base
    describe_picture(context, plan)
    context.thread_count = plan.threads
    if plan.codec in ("ffv1", "mpeg4", "mpeg2video", "mjpeg"):
        context.thread_type = "SLICE"  # pyright: ignore[reportAttributeAccessIssue]
    options = dict(plan.options)
    if "qscale" in options:
        quality = float(options.pop("qscale"))
        context.flags |= int(Flags.qscale)
        context.global_quality = round(quality * 118)  # FF_QP2LAMBDA
    if plan.field_order:
        context.flags |= int(Flags.interlaced_dct | Flags.interlaced_me)
    if not plan.global_header:
        context.flags &= ~int(Flags.global_header)
    if plan.container.decode_times_only:
        context.max_b_frames = 0
    place = chroma_place.encoder_option(plan.color, pixel_format(plan.pix_fmt), plan.codec, plan.container)
    context.options = {**place, **options}
    if plan.global_header and av.Codec(plan.codec, "w").canonical_name == "hevc" and holds_hvc1(container):
        context.codec_tag = HVC1
    if plan.display_matrix:
        stream.set_display_matrix(plan.display_matrix)
    return stream


class FrameEncoder:
    """Turns Frames into packets of one encoder. `encode(frame)`, then `flush()`."""

    def __init__(self, stream: VideoStream, plan: VideoPlan) -> None:
        self._stream = stream
        self._plan = plan
        self._format = pixel_format(plan.pix_fmt)
        self._written = "rgba" if plan.pix_fmt == "pal8" else plan.pix_fmt
        self._graphs: dict[tuple[str, str, str], Graph] = {}
        self._count = 0
        self._durations: dict[int, int] = {}
        """Of the frames whose packets are still to come, by their ticks."""
        self._last_tick: int | None = None
        self._opened = self._began = False
        self.changes: array[int] = array("B")
        """For animated WebP, whose encoder joins pictures that look alike: the most by which a sample of each one
        differs from the picture before."""
        self._before: np.ndarray | None = None

    def encode(self, frame: Frame) -> list[Any]:
        """Packets that this frame completes, shown for as long as it was. libav's error leaves as it is; the caller
        knows the path.

        Raises UsageError where the encoder doesn't know an option that the user gave.
        """
        picture = self._picture(frame)
        if frame.duration and picture.pts is not None:
            self._durations[picture.pts] = self._plan.ticks(frame.duration * frame.time_base)
        if self._plan.container_format == "webp":
            self._note_change(picture)
        packets = self._timed(self._stream.encode(picture))
        self._began |= bool(packets)
        if not self._opened:
            self._opened = True
            left = self._stream.codec_context.options  # opening takes out what it understood
            if unknown := [name for name in self._plan.wished if name in left]:
                raise UsageError(
                    f"{self._plan.codec} knows no option '{unknown[0]}'",
                    remedy="`ffmpeg -h encoder=NAME` lists an encoder's options",
                )
        return packets

    def _note_change(self, picture: VideoFrame) -> None:
        now = picture.to_ndarray(format="bgra")
        now = np.where(now[..., 3:] > 0, now, np.zeros_like(now))  # nobody sees the colours of what is transparent
        before, self._before = self._before, now
        self.changes.append(0 if before is None else int((np.maximum(before, now) - np.minimum(before, now)).max()))

    @property
    def plan(self) -> VideoPlan:
        """What it was set up with."""
        return self._plan

    @property
    def is_open(self) -> bool:
        """It has taken a frame."""
        return self._opened

    def flush(self) -> list[Any]:
        """What the encoder still holds."""
        packets = self._timed(self._stream.encode(None))
        return packets if self._began or self._plan.codec != "libx265" else in_order(packets)

    def _timed(self, packets: list[Any]) -> list[Any]:
        """With the durations of their frames, which not every encoder passes on."""
        for packet in packets:
            if duration := self._durations.pop(packet.pts, 0):
                packet.duration = duration
        return packets

    def _need_even_times(self, frame: Frame) -> None:
        """AVI counts frames: each must lie on a tick of the rate from the first one on, and on one of its own."""
        if frame.pts is None:
            return
        ticks = (frame.pts * frame.time_base - self._plan.offset) / self._plan.time_base
        tick = round(ticks)
        if abs(ticks - tick) > _EVEN or (self._last_tick is not None and tick <= self._last_tick):
            raise UsageError(
                f"the frame at {float(frame.pts * frame.time_base):.4f} s does not fit into AVI, which holds only "
                f"frames at an even {float(self._plan.rate):.6g} per second",
                remedy="write .mkv or .mp4: they keep every frame's time",
            )
        self._last_tick = tick

    def _need_own_tick(self, frame: Frame) -> None:
        """Of a coarse clock each frame has to have a tick of its own."""
        if frame.pts is None:
            return
        container, seconds = self._plan.container, frame.pts * frame.time_base
        tick = math.floor(seconds / container.own_ticks + Fraction(1, 2))
        if self._last_tick is not None and tick <= self._last_tick:
            raise UsageError(
                f"the frame at {float(seconds):.4f} s does not fit into {container.name}, which holds at most "
                f"{1 / container.own_ticks} frames per second",
                remedy="write .mkv, .mp4 or .apng",
            )
        self._last_tick = tick

    def _picture(self, frame: Frame) -> VideoFrame:
        picture = self._filled(frame)
        if self._plan.field_order and not picture.interlaced_frame:  # encoders take the order from each frame
            order = "tff" if self._plan.field_order == TOP_FIELD_FIRST else "bff"
            picture = self._through("setparams", f"field_mode={order}", picture)
        picture.pts = None if frame.pts is None else self._plan.tick_of(frame.pts * frame.time_base)
        picture.time_base = self._plan.time_base
        if self._plan.container.decode_times_only:
            self._need_even_times(frame)
        if self._plan.container.own_ticks:
            self._need_own_tick(frame)
        if self._plan.container.gapless:
            picture.pts = self._count
            self._count += 1
        picture.pict_type = 0
        if picture.format.name != self._written:
            picture = self._converted(picture, frame)
        if loses_full_range(frame, self._plan.color, self._format):
            picture = self._limited(picture)
        for name in self._plan.upright:
            picture = self._through(name, "", picture)
        if self._plan.upright:  # PNG encoders would ask in EXIF for what was done
            picture = self._through("sidedata", "mode=delete:type=DISPLAYMATRIX", picture)
        if self._plan.pix_fmt == "pal8":
            return with_palette(picture, translucent=frame.format.has_alpha)
        return picture

    def _filled(self, frame: Frame) -> VideoFrame:
        """A libav frame that holds the planes: the decoded one itself where nothing was changed."""
        carrier: VideoFrame | None = frame.carrier
        name = frame.format.name
        target = self._plan.pix_fmt if name.startswith("yuvj") and self._plan.pix_fmt == "yuv" + name[4:] else name
        if carrier is not None and carrier.width == frame.width and carrier.height == frame.height and target == name:
            own = plane_views(carrier, frame.format)
            if all(a.ctypes.data == b.ctypes.data for a, b in zip(own, frame.planes)):
                return carrier
            if riding_on(carrier) or carrier.interlaced_frame:
                picture = self._through("copy", "", carrier)  # with captions, time code, dynamic HDR
            else:
                picture = VideoFrame(frame.width, frame.height, target)
        elif carrier is not None and carrier.format.name == target == name and riding_on(carrier):
            picture = self._through("scale", f"{frame.width}:{frame.height}:flags=neighbor", carrier)  # for what rides
            if carrier.interlaced_frame:
                picture = self._through("setparams", "field_mode=prog", picture)
        else:
            picture = VideoFrame(frame.width, frame.height, target)
        for view, plane in zip(plane_views(picture, frame.format), frame.planes):
            np.copyto(view, plane)
        picture.color_range = frame.color.range
        picture.colorspace = frame.color.matrix
        picture.color_primaries = frame.color.primaries
        picture.color_trc = frame.color.transfer
        return picture

    def _through(self, name: str, settings: str, picture: VideoFrame) -> VideoFrame:
        """The picture with all its side data as one of libav's filters gives it back."""
        key = (name, settings, picture.format.name)
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._graphs[key] = Graph()
            source = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=self._plan.time_base
            )
            graph.link_nodes(source, graph.add(name, settings), graph.add("buffersink")).configure()
        graph.vpush(picture)
        return graph.vpull()

    def _limited(self, picture: VideoFrame) -> VideoFrame:
        """A planar picture of full range in limited range. libswscale (9.5) would make chroma 0.45 steps too large."""
        made = self._through("copy", "", picture)
        luma, chroma = limited_range(self._format.bit_depth)
        for view, table in zip(plane_views(made, self._format), (luma, chroma, chroma)):
            np.copyto(view, table[view])
        made.color_range = RANGE_LIMITED
        return made

    def _converted(self, picture: VideoFrame, frame: Frame) -> VideoFrame:
        source, target = frame.format, self._format
        span = RANGE_FULL if is_full_range(source, frame.color) else RANGE_LIMITED
        if source.is_rgb:
            matrix = MATRIX_BT601_625
        else:
            matrix = swscale_matrix(effective_matrix(frame.color, frame.width, frame.height))
        made = picture.reformat(
            format=self._written,
            interpolation="BICUBIC",
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=span,
            dst_color_range=span if source.is_rgb == target.is_rgb else self._plan.color.range,
        )
        made.pts, made.time_base = picture.pts, picture.time_base
        made.color_range = self._plan.color.range
        made.colorspace = self._plan.color.matrix
        return made


def in_order(packets: list[Any]) -> list[Any]:
    """All packets of a clip, with decode times where it is too short to be reordered: libx265 (build 216) leaves those
    of one or two frames as its memory was."""
    if len(packets) <= _NOT_REORDERED:
        for packet in packets:
            packet.dts = packet.pts
    return packets


def encoded(frames: Iterable[Frame], encoder: FrameEncoder) -> Generator[Packet]:
    """All packets of all frames, the encoder drained at the end."""
    for frame in frames:
        yield from encoder.encode(frame)
    yield from encoder.flush()


__all__ = ["ENCODER_ERRORS", "FrameEncoder", "add_video_stream", "encoded", "in_order"]
