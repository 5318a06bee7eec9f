"""Frames into encoded packets, and the choice of codec, pixel format and options that loses nothing needlessly."""

from __future__ import annotations

import math
import os
import struct
from array import array
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av
import av.container
import numpy as np
from av.codec.context import Flags
from av.filter import Graph
from av.format import ContainerFormat
from av.format import Flags as FormatFlags
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ns_video.errors import InputError, UsageError
from ns_video.frame import (
    MATRIX_BT601_625,
    MATRIX_RGB,
    MATRIX_YCGCO,
    RANGE_FULL,
    RANGE_LIMITED,
    UNSPECIFIED,
    ColorInfo,
    Frame,
    PixelFormat,
    effective_matrix,
    is_full_range,
)
from ns_video.media import chroma_place
from ns_video.media.containers import COLOR_TAGS, Container, of_muxer
from ns_video.media.decode import FINER, planar_name, plane_views
from ns_video.media.gif import COLORS, with_palette
from ns_video.media.probe import VideoInfo, pixel_format
from ns_video.media.swscale import swscale_matrix
from ns_video.media.versions import hardware_encoder_works

# Who tells of the colours: containers of what they list, encoders of what they are listed with, others of nothing.
_TAGS_IN_STREAM: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("libx264", "libx264rgb", "libx265", "libsvtav1"), COLOR_TAGS),
    "mpeg2video": COLOR_TAGS[:3],
    "libvpx-vp9": ("matrix", "range"),
    "mjpeg": ("range",),
    "apng": COLOR_TAGS[1:3],
    "png": COLOR_TAGS[1:3],
    "wrapped_avframe": ("range",),  # the header of y4m
}
_ONE = 1 << 16  # of a display matrix
_HDR_IN_STREAM = frozenset({"libx264", "libx264rgb", "libx265", "libsvtav1", "apng", "png"})
HDR_IN_HEADER = frozenset({"ffv1", "libvpx-vp9"})  # where the container holds it, see hdr_header
_MPEG2_SHAPES = (Fraction(4, 3), Fraction(16, 9), Fraction(221, 100))  # of whole pictures; or square samples
_FIXED_RATE = frozenset({"mpeg2video", "mpeg1video", "mpeg4", "h263"})  # time bases of these are a frame rate

# Encoders that can tell players of interlaced frames; the container or the y4m header tells of the last one's.
_INTERLACED = frozenset({"libx264", "libx264rgb", "mpeg2video", "mpeg4", "ffv1", "prores_ks", "wrapped_avframe"})
TOP_FIELD_FIRST, BOTTOM_FIELD_FIRST = 2, 3  # libav's AVFieldOrder: AV_FIELD_TT, AV_FIELD_BB
_VP9_ALPHA = "yuva420p"  # encoders list more formats with alpha than they encode; that of VP9 lies beside the picture
ENCODER_ERRORS = (av.FFmpegError, ValueError, OSError)
# What libav's y4m reader knows, most of it beyond the tool's own formats; 4:1:0, 4:4:0 and RGB have no name there.
_Y4M = (
    *(f"yuv{chroma}p{depth}" for chroma in (420, 422, 444) for depth in ("", "9le", "10le", "12le", "14le", "16le")),
    *("gray", "gray9le", "gray10le", "gray12le", "gray16le", "yuv411p", "yuva444p"),
)
# NUT has no tag for these, and readers would take them for another format.
_RAW_INSTEAD = {"yuvj411p": "yuv411p", "yuv440p10le": "yuv444p10le", "yuv440p12le": "yuv444p12le"}

# Visually lossless on restored material; the user's --crf replaces it.
_DEFAULT_CRF = {
    "libx264": 16,
    "libx264rgb": 16,
    "libx265": 15,
    "libvpx-vp9": 18,
    "libvpx": 8,
    "libsvtav1": 18,
    **dict.fromkeys(("flv", "h263", "h263p", "msmpeg4", "msmpeg4v2"), 2),  # quantisers; at 1, the others', these clip
}
_NO_LIMIT = "1000000000"  # bits per second: libvpx wants some for VP8
_BY_QSCALE = frozenset(
    {"mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "mjpeg", "flv", "h263", "h263p"}
)
_COARSEST = 31  # quantiser of these
_HIGHEST_AV1_CRF = 63
# Encoders by the names of their codecs.
_ENCODER_NAMES = {"h264": "libx264", "hevc": "libx265", "h265": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
# Encoders in hardware, and who does their work where the hardware isn't there.
_HARDWARE_APIS = ("nvenc", "qsv", "amf", "videotoolbox", "mf")
_SOFTWARE = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9", "mpeg2": "mpeg2video"}
_NVENC_CQ = 19
_ON_DEVICES = frozenset({"cuda", "qsv", "vaapi", "d3d11", "d3d12", "dxva2_vld", "videotoolbox_vld", "amf", "vulkan"})
_ASPECT_SLACK = Fraction(1, 1000)
_EVEN = Fraction(1, 4)  # of a tick: rounded times of a steady rate are nearer
_WHOLE_PICTURES = ("gifflags", "0")
_PARAMETER_LISTS = frozenset({"x264-params", "x265-params", "svtav1-params"})  # the last of two equal keys counts
_REORDER_SECONDS = 1  # no encoder here decodes a frame further ahead than this
_RIDING = frozenset(
    {"A53_CC", "AFD", "S12M_TIMECODE", "GOP_TIMECODE", "DYNAMIC_HDR_PLUS", "DYNAMIC_HDR_VIVID", "DOVI_METADATA"}
    | {"DOVI_RPU_BUFFER", "STEREO3D", "FILM_GRAIN_PARAMS", "AMBIENT_VIEWING_ENVIRONMENT"}
)


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """SMPTE ST 2086 mastering display and CTA-861.3 light level, as rational numbers and integers."""

    primaries: tuple[tuple[Fraction, Fraction], ...]
    """(x, y) of red, green and blue; empty where unknown."""
    white_point: tuple[Fraction, Fraction]
    luminance: tuple[Fraction, Fraction]
    """(minimum, maximum) in cd/m²."""
    light_level: tuple[int, int] | None
    """(MaxCLL, MaxFALL) in cd/m²."""


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What the user asked of the output video."""

    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0
    speed: str = "medium"
    """x264/x265 preset name."""


@dataclass(frozen=True, slots=True)
class VideoPlan:
    """Everything that decides the encoded bytes of one video stream."""

    container_format: str
    codec: str
    pix_fmt: str
    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    sample_aspect_ratio: Fraction
    color: ColorInfo
    options: tuple[tuple[str, str], ...]
    threads: int
    global_header: bool
    display_matrix: tuple[int, ...] = ()
    hdr: HdrMetadata | None = None
    notes: tuple[str, ...] = ()
    """What the output can't hold, in words."""
    field_order: int = 0
    """Of interlaced frames, TOP_FIELD_FIRST or BOTTOM_FIELD_FIRST."""
    wished: tuple[str, ...] = ()
    """Names of the encoder options that the user gave."""
    upright: tuple[str, ...] = ()
    """libav's filters by which the frames are turned, where no display matrix can tell players to."""
    offset: Fraction = Fraction(0)
    """Seconds at which tick 0 lies: an encoder that knows only whole frames counts them from the first one's time."""
    begins: Fraction = Fraction(0)
    """Presentation time of the first frame, seconds."""

    @property
    def container(self) -> Container:
        """What the output's container holds."""
        return of_muxer(self.container_format)

    @property
    def alpha_beside(self) -> bool:
        """The alpha channel rides beside the packets (Matroska's BlockAdditional)."""
        return self.codec == "libvpx-vp9" and self.pix_fmt == _VP9_ALPHA

    @property
    def whole_pictures(self) -> bool:
        """Each picture of a GIF is a whole one, which what was there before it must not shine through."""
        return _WHOLE_PICTURES in self.options

    def ticks(self, seconds: Fraction) -> int:
        """A span in ticks of `time_base`, to the nearest."""
        return math.floor(seconds / self.time_base + Fraction(1, 2))

    @property
    def clock(self) -> Fraction:
        """Seconds of a tick on which all times of the output lie."""
        return self.time_base / FINER if self.offset else self.time_base

    def tick_of(self, seconds: Fraction) -> int:
        """The tick of a time on the output's clock, the nearest one."""
        return self.ticks(seconds - self.offset)

    def time_of(self, tick: int) -> Fraction:
        """Seconds on the output's clock at which a tick lies."""
        return tick * self.time_base + self.offset


def video_encoder(codec: str) -> str:
    """The name of the encoder that is called so, or whose codec is. Raises UsageError where there is none."""
    codec = _ENCODER_NAMES.get(codec, codec)
    try:
        encoder = av.Codec(codec, "w")
    except ValueError:
        raise UsageError(f"there is no encoder {codec!r}", remedy="`ns-video doctor` lists them") from None
    if encoder.type != "video":
        raise UsageError(f"{codec!r} does not encode video")
    return codec


def first_frame_metadata(carrier: VideoFrame) -> tuple[tuple[int, ...], HdrMetadata | None]:
    """(display matrix or (), HDR metadata or None) that ride on a libav frame."""
    matrix: tuple[int, ...] = ()
    mastering: bytes | None = None
    level: tuple[int, int] | None = None
    side_data: list[Any] = list(carrier.side_data)
    for data in side_data:
        name = data.type.name
        if name == "DISPLAYMATRIX":
            matrix = struct.unpack("<9i", bytes(data)[:36])
        elif name == "MASTERING_DISPLAY_METADATA":
            mastering = bytes(data)
        elif name == "CONTENT_LIGHT_LEVEL":
            values = struct.unpack("<2I", bytes(data)[:8])
            level = (values[0], values[1])
    if mastering is None and level is None:
        return matrix, None
    points: tuple[tuple[Fraction, Fraction], ...] = ()
    white = luminance = (Fraction(0), Fraction(0))
    if mastering is not None:
        numbers = struct.unpack("<22i", mastering[:88])  # AVMasteringDisplayMetadata: 10 rationals, 2 flags
        rationals = [Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[0:20:2], numbers[1:20:2])]
        if numbers[20]:
            points = ((rationals[0], rationals[1]), (rationals[2], rationals[3]), (rationals[4], rationals[5]))
            white = (rationals[6], rationals[7])
        if numbers[21]:
            luminance = (rationals[8], rationals[9])
    return matrix, HdrMetadata(points, white, luminance, level)


def field_order(carrier: VideoFrame | None) -> int:
    """TOP_FIELD_FIRST or BOTTOM_FIELD_FIRST of an interlaced libav frame, else 0. A filter tells: PyAV doesn't."""
    if carrier is None or not carrier.interlaced_frame:
        return 0
    graph = Graph()
    source = graph.add_buffer(
        width=carrier.width, height=carrier.height, format=carrier.format, time_base=Fraction(1, 25)
    )
    chosen = graph.add("select", r"eq(interlace_type\,TOPFIRST)")
    graph.link_nodes(source, chosen, graph.add("buffersink")).configure()
    graph.vpush(carrier)
    graph.vpush(None)
    try:
        graph.vpull()
    except EOFError:
        return BOTTOM_FIELD_FIRST
    return TOP_FIELD_FIRST


def plan_video(
    container_format: str,
    source: VideoInfo,
    first: Frame,
    size: tuple[int, int],
    wanted: EncodeOptions,
) -> VideoPlan:
    """Choose codec, pixel format and options for an output of `size` (width, height).

    `first` is the first frame of the source: headers lie, frames don't. Raises UsageError where the wish can't be met.
    """
    fmt, container = first.format, of_muxer(container_format)
    notes: list[str] = []
    codec = video_encoder(wanted.codec or _default_codec(container, fmt, *size))
    pix_fmt = wanted.pix_fmt or _choose_pix_fmt(codec, container, fmt, size)
    if (stand_in := _stand_in(codec, pix_fmt, size)) is not None:
        codec, note = stand_in
        notes.append(note + (" without the encoder options" if wanted.encoder_options else ""))
        wanted = replace(wanted, encoder_options={})
        pix_fmt = wanted.pix_fmt or _choose_pix_fmt(codec, container, fmt, size)
    if wanted.crf is not None and not (codec in _DEFAULT_CRF or codec in _BY_QSCALE or _hardware_api(codec)):
        notes.append(f"{codec} takes no --crf; --encoder-option sets what it takes")
    out = _format_to_write(pix_fmt)
    color = color_as(first.color, fmt, out)
    if not (out.chroma_shift_x and out.chroma_shift_y):
        color = replace(color, chroma_location=0)
    matrix, hdr = first_frame_metadata(first.carrier) if first.carrier is not None else ((), None)
    fields = field_order(first.carrier)
    kept_fields = fields if fields and _holds_fields(codec, out, first, size) else 0
    settings = _options(_EncoderChoice(codec, fmt, color, hdr, wanted))
    if kept_fields == BOTTOM_FIELD_FIRST and codec.startswith("libx264"):
        settings["x264-params"] += ":bff=1"  # for the header; it takes each frame's order from the frame
    begins = (first.pts or 0) * first.time_base
    if container.moves_for_reordering and begins < _REORDER_SECONDS:
        settings.setdefault("bf", "0")
    by_frames = container.counts_frames or _knows_only_frames(codec, first.time_base)
    on_grid = container.counts_frames or container.begins_at_zero or not by_frames
    plan = VideoPlan(
        container_format=container_format,
        codec=codec,
        pix_fmt=pix_fmt,
        width=size[0],
        height=size[1],
        time_base=1 / source.rate if by_frames else first.time_base,
        rate=source.rate,
        sample_aspect_ratio=source.sample_aspect_ratio,
        color=color,
        options=tuple(sorted(settings.items())),
        threads=wanted.threads,
        global_header=bool(ContainerFormat(container_format, "w").flags & FormatFlags.global_header.value),
        hdr=hdr,
        field_order=kept_fields,
        wished=tuple(sorted(wanted.encoder_options)),
        offset=Fraction(0) if on_grid else begins % (1 / source.rate),
        begins=begins,
    )
    plan = _oriented(plan, matrix)
    return replace(plan, notes=(*notes, *_losses(plan, first, fields, matrix)))


def _hardware_api(codec: str) -> str:
    """Through which an encoder in hardware is driven; "" for any other encoder."""
    api = codec.rpartition("_")[2]
    return api if api in _HARDWARE_APIS else ""


def _stand_in(codec: str, pix_fmt: str, size: tuple[int, int]) -> tuple[str, str] | None:
    """(encoder, note) of the software that encodes where the hardware can't; None where it can, or isn't asked for."""
    software = _SOFTWARE.get(codec.rpartition("_")[0]) if _hardware_api(codec) else None
    if software is None or hardware_encoder_works(codec, pix_fmt, size):
        return None
    takes_others = hardware_encoder_works(codec)
    refused = f"take {size[0]}x{size[1]} pictures as {pix_fmt} here" if takes_others else "work on this machine"
    return software, f"{codec} does not {refused}: {software} encodes instead"


def _format_to_write(pix_fmt: str) -> PixelFormat:
    try:
        return pixel_format(pix_fmt)
    except (ValueError, InputError):
        raise UsageError(
            f"there is no pixel format {pix_fmt!r} to write", remedy="yuv420p, yuv422p10le, gbrp and the like"
        ) from None


def _knows_only_frames(codec: str, time_base: Fraction) -> bool:
    """Whether an encoder can't count in ticks of `time_base`."""
    return codec in _FIXED_RATE and (time_base.denominator > 65535 or codec != "mpeg4")


def _oriented(plan: VideoPlan, matrix: tuple[int, ...]) -> VideoPlan:
    """The plan with the display matrix, or with the filters that turn the frames themselves."""
    if plan.container.holds_turn:
        if matrix and plan.container.turns_only:
            matrix = turn_alone(matrix)
        return replace(plan, display_matrix=() if _is_identity_matrix(matrix) else matrix)
    if not (matrix and plan.container.shown_as_stored):
        return plan
    plan = replace(plan, upright=_upright_filters(matrix))
    if "transpose" not in plan.upright:
        return plan
    aspect = plan.sample_aspect_ratio
    return replace(plan, width=plan.height, height=plan.width, sample_aspect_ratio=1 / aspect if aspect else aspect)


def _losses(plan: VideoPlan, first: Frame, fields: int, matrix: tuple[int, ...]) -> list[str]:
    """What the output can't hold of a source with this first frame, field order and display matrix, in words."""
    codec, container_format, aspect = plan.codec, plan.container_format, plan.sample_aspect_ratio
    notes = _lost_samples(plan, first.format)
    if fields and not plan.field_order:
        notes.append(
            f"the frames are interlaced, which {codec} can't tell here: players will take them for progressive"
        )
    notes += _lost_colour(plan, first)
    if first.carrier is not None and any(d.type.name.startswith("DOVI") for d in first.carrier.side_data):
        notes.append("Dolby Vision's metadata is left out: the base picture stays")  # PyAV can't tell encoders of it
    if matrix and plan.container.turns_only and turn_alone(matrix)[:6] != matrix[:6]:
        notes.append(
            f"the picture is to be stretched or skewed, which {container_format} can't say: only its turn is kept"
        )
    if matrix and not plan.container.holds_turn:
        notes += _turn_notes(matrix, first.rotation, container_format, bool(plan.upright))
    if aspect and _loses_aspect(plan):
        notes.append(f"{container_format} can't tell the shape of a pixel, {aspect.numerator}:{aspect.denominator}")
    if _knows_only_frames(codec, first.time_base):
        notes.append(f"{codec} knows only whole frames of 1/{float(plan.rate):.6g} s")
    return notes


def _lost_samples(plan: VideoPlan, fmt: PixelFormat) -> list[str]:
    notes: list[str] = []
    codec, pix_fmt, out = plan.codec, plan.pix_fmt, pixel_format(plan.pix_fmt)
    if pix_fmt == "pal8":
        notes.append(f"{codec} holds {COLORS} colours a picture: what has more is dithered")
    elif out.bit_depth < fmt.bit_depth and pix_fmt not in ("rgb8", "bgr8"):
        notes.append(f"{codec} holds {out.bit_depth} of {fmt.bit_depth} bits per sample")
    if fmt.has_alpha and not out.has_alpha:
        notes.append(f"the alpha channel is left out: {codec} as {pix_fmt} can't hold it")
    sampling = (fmt.is_rgb, fmt.chroma_shift_x, fmt.chroma_shift_y)
    if fmt.planes > 2 and sampling != (out.is_rgb, out.chroma_shift_x, out.chroma_shift_y):
        notes.append(f"the pixels are converted from {fmt.name} to {pix_fmt}")
    return notes


def color_as(color: ColorInfo, fmt: PixelFormat, out: PixelFormat) -> ColorInfo:
    """The tags of pictures of format `fmt` once they are written as `out`."""
    if out.is_rgb and not fmt.is_rgb:
        return replace(color, matrix=MATRIX_RGB, range=RANGE_FULL)
    if fmt.is_rgb and not out.is_rgb:
        return replace(
            color, matrix=MATRIX_BT601_625, range=RANGE_FULL if out.name.startswith("yuvj") else RANGE_LIMITED
        )
    return color


def _holds_fields(codec: str, out: PixelFormat, first: Frame, size: tuple[int, int]) -> bool:
    """Whether lines are still those of the fields, and the encoder can tell of them."""
    if (first.carrier.width, first.carrier.height) != size or codec not in _INTERLACED:
        return False
    rows = 4 if out.chroma_shift_y else 2  # that libx264 codes in pairs of each field
    return not codec.startswith("libx264") or size[1] % rows == 0


def turn_alone(matrix: tuple[int, ...]) -> tuple[int, ...]:
    """The nearest display matrix that turns and mirrors only; `matrix` itself where it differs from it by rounding."""
    a, b, c, d = (matrix[n] for n in (0, 1, 3, 4))
    mirror = -1 if a * d < b * c else 1
    angle = math.atan2(b - mirror * c, a + mirror * d)
    x, y = round(_ONE * math.cos(angle)), round(_ONE * math.sin(angle))
    turn = (x, y, 0, -mirror * y, mirror * x, 0)
    if all(abs(one - other) <= 4 for one, other in zip(turn, matrix)):
        return matrix
    return (*turn, 0, 0, 1 << 30)


def _is_identity_matrix(matrix: tuple[int, ...]) -> bool:
    return matrix == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)


def _upright_filters(matrix: tuple[int, ...]) -> tuple[str, ...]:
    """libav's filters that do what a display matrix asks for; none where that is no turn by quarters."""
    a, b, c, d = (matrix[n] for n in (0, 1, 3, 4))
    if not a and not d and b and c:
        steps = (True, c < 0, b < 0)
    elif not b and not c and a and d:
        steps = (False, a < 0, d < 0)
    else:
        return ()
    return tuple(name for name, wanted in zip(("transpose", "hflip", "vflip"), steps) if wanted)


def _turn_notes(matrix: tuple[int, ...], rotation: int, container_format: str, upright: bool) -> list[str]:
    mirrored = matrix[0] * matrix[4] < matrix[1] * matrix[3]
    if not (mirrored or rotation % 360):
        return []
    asked = "mirrored" if mirrored else f"turned by {-rotation % 360} degrees clockwise"
    so = "it is stored so" if upright else "players will show it as it is stored; .mp4 and .mkv keep the turn"
    return [f"the picture is to be shown {asked}, which {container_format} can't say: {so}"]


def _loses_aspect(plan: VideoPlan) -> bool:
    """Whether the sample aspect ratio can't be told, or not that exactly."""
    aspect = plan.sample_aspect_ratio
    if aspect == 1:
        return False
    if plan.codec == "mpeg2video":
        shape = Fraction(plan.width, plan.height)
        return all(abs(aspect * shape / known - 1) > _ASPECT_SLACK for known in _MPEG2_SHAPES)
    if plan.container_format == "gif":  # counts 64ths from 16 on, in a byte
        told = Fraction(min(max(round(aspect * 64), 16), 270), 64)
        return abs(told / aspect - 1) > _ASPECT_SLACK
    return not plan.container.holds_aspect


def _lost_colour(plan: VideoPlan, first: Frame) -> list[str]:
    """What neither codec nor container tells of the colours."""
    notes: list[str] = []
    codec, container, out = plan.codec, plan.container, pixel_format(plan.pix_fmt)
    if out.is_rgb and not first.format.is_rgb and first.color.matrix == MATRIX_YCGCO:
        notes.append("YCgCo is converted to RGB as if it were BT.601: the colours are wrong")
    known = COLOR_TAGS if _hardware_api(codec) else container.told_of(plan.color)
    known = (*known, *_TAGS_IN_STREAM.get(codec, ()))
    tagged = {name: getattr(plan.color, name) != UNSPECIFIED for name in COLOR_TAGS[:3]}
    tagged["range"] = is_full_range(out, plan.color)
    if out.is_rgb:  # has no matrix, and full range, untold
        tagged["matrix"] = tagged["range"] = False
    where = f"{'raw video' if codec in ('rawvideo', 'wrapped_avframe') else codec} in {container.name}"
    if lost := [name for name in COLOR_TAGS if tagged[name] and name not in known]:
        shown = ", ".join("full range" if name == "range" else name for name in lost)
        keeper = "Matroska keeps" if container.color_tags_together else "Matroska and MP4 keep"
        notes.append(f"{where} can't tell of the colours: {shown}; {keeper} that")
    in_header = codec in HDR_IN_HEADER and container.holds_hdr
    if plan.hdr is not None and codec not in _HDR_IN_STREAM and not in_header:
        notes.append(f"{where} can't tell the HDR metadata (mastering display, light level)")
    return notes + chroma_place.moved_notes(plan.color, out, codec, container)


def _default_codec(container: Container, fmt: PixelFormat, width: int, height: int) -> str:
    if container.encoder:
        too_deep = container.encoder == "libvpx-vp9" and fmt.bit_depth > 8 and not fmt.has_alpha
        return "libsvtav1" if too_deep else container.encoder  # libvpx, as it is built here, would write 8 bits
    offered = container.encoders
    if fmt.has_alpha and {"ffv1", "libvpx-vp9"} <= offered:  # in AVI, FFV1 is chosen for its depth only
        return "libvpx-vp9" if fmt.name == _VP9_ALPHA and container.holds_alpha_beside else "ffv1"
    if fmt.has_alpha and "png" in offered:
        return "png"  # ProRes would hold it too, but no segment (a NUT file) holds ProRes
    if fmt.bit_depth > 12 and "ffv1" in offered:
        return "ffv1"
    if (fmt.bit_depth > 8 or fmt.is_rgb) and "libx265" in offered:
        return "libx265" if min(width, height) >= 16 else "ffv1" if "ffv1" in offered else "libx264"
    if _is_cut_short(fmt, (width, height)) and "libvpx-vp9" in offered:
        return "libvpx-vp9"
    return "libx264"


def _is_cut_short(fmt: PixelFormat, size: tuple[int, int]) -> bool:
    """Whether chroma samples at an edge stand for fewer pixels than the others; libx264 and libx265 refuse that."""
    return bool(size[0] % (1 << fmt.chroma_shift_x) or size[1] % (1 << fmt.chroma_shift_y))


def _choose_pix_fmt(codec: str, container: Container, fmt: PixelFormat, size: tuple[int, int]) -> str:
    offered = [f.name for f in (av.Codec(codec, "w").video_formats or []) if f.name not in _ON_DEVICES]
    if codec in ("libx265", "libvpx-vp9"):
        kept = _VP9_ALPHA if codec == "libvpx-vp9" and container.holds_alpha_beside else ""
        offered = [name for name in offered if name == kept or not pixel_format(name).has_alpha]
    if codec in ("apng", "png"):
        offered = [name for name in offered if pixel_format(name).planes > 2]  # its gray is of full range, untold
    if codec in ("libx264", "libx265"):
        offered = [name for name in offered if not _is_cut_short(pixel_format(name), size)]
    if codec == "libvpx-vp9" and container.is_mov:
        offered = [name for name in offered if name != "yuv440p"]  # the header of VP9 (vpcC) has no number for it
    if codec == "wrapped_avframe":
        offered = [name for name in _Y4M if pixel_format(name).bit_depth >= fmt.bit_depth]
    if codec == "rawvideo":
        return _RAW_INSTEAD.get(fmt.name, fmt.name)
    if codec == "libwebp_anim":
        return "bgra"  # WebP's lossless pictures are RGB: libwebp would take any YUV for BT.601
    if not offered or fmt.name in offered:
        return fmt.name
    if fmt.name.startswith("yuvj") and "yuv" + fmt.name[4:] in offered:
        return "yuv" + fmt.name[4:]
    same = {"gbrap": "bgra", "gbrp": "bgr0"}.get(fmt.name)
    if same in offered and codec == "ffv1":
        return str(same)
    if codec == "gif":
        return "pal8"

    def cost(name: str) -> tuple[int, ...]:
        other = pixel_format(name)
        return (
            int(other.planes <= 2 < fmt.planes),  # gray, with alpha or without
            int(fmt.has_alpha and not other.has_alpha),
            int(other.is_rgb != fmt.is_rgb),
            max(0, fmt.bit_depth - other.bit_depth),
            max(0, other.chroma_shift_x - fmt.chroma_shift_x) + max(0, other.chroma_shift_y - fmt.chroma_shift_y),
            int(fmt.planes <= 2 < other.planes),
            abs(other.bit_depth - fmt.bit_depth),
            abs(other.chroma_shift_x - fmt.chroma_shift_x) + abs(other.chroma_shift_y - fmt.chroma_shift_y),
            int(other.has_alpha and not fmt.has_alpha),
        )

    return min(offered, key=cost)


@dataclass(frozen=True, slots=True)
class _EncoderChoice:
    """All that the options of an encoder follow from."""

    codec: str
    source: PixelFormat
    color: ColorInfo
    hdr: HdrMetadata | None
    wanted: EncodeOptions

    @property
    def crf(self) -> float:
        """The user's, or the encoder's default; 0 where it has none."""
        return self.wanted.crf if self.wanted.crf is not None else _DEFAULT_CRF.get(self.codec, 0)


def _options(choice: _EncoderChoice) -> dict[str, str]:
    """The options of an encoder, the user's last."""
    of_codec = _ENCODER_OPTIONS.get(choice.codec) or _ENCODER_OPTIONS.get(_hardware_api(choice.codec))
    options = of_codec(choice) if of_codec else {}
    for key, value in choice.wanted.encoder_options.items():
        joined = key in _PARAMETER_LISTS and key in options
        options[key] = f"{options[key]}:{value}" if joined else value
    return options


def _x264_options(choice: _EncoderChoice) -> dict[str, str]:
    parameters = {
        # x264's assembly for macroblock-tree lookahead reads past its rows where the width in macroblocks is no
        # multiple of 8: the same input gave up to 15 different files in 25 runs. Its C code costs nothing measurable.
        "cpu-independent": "1",
        **_hdr_parameters(choice.hdr, "mastering-display", "cll"),
    }
    quality = {"crf": f"{choice.crf:g}"} if choice.crf else {"qp": "0"}
    return {"preset": choice.wanted.speed, **quality, "x264-params": _parameter_list(parameters)}


def _x265_options(choice: _EncoderChoice) -> dict[str, str]:
    parameters = {
        "log-level": "none",
        **({} if choice.crf else {"lossless": "1"}),
        **_hdr_parameters(choice.hdr, "master-display", "max-cll"),
    }
    if choice.color.transfer == 16 and choice.hdr is not None:  # PQ
        parameters.update({"hdr10": "1", "repeat-headers": "1"})
    quality = {"crf": f"{choice.crf:g}"} if choice.crf else {}
    preset = "fast" if choice.wanted.speed == "medium" else choice.wanted.speed
    return {"preset": preset, **quality, "x265-params": _parameter_list(parameters)}


def _svtav1_options(choice: _EncoderChoice) -> dict[str, str]:
    parameters = _hdr_parameters(choice.hdr, "mastering-display", "content-light", decimal=True)
    options = {"preset": "8", "crf": f"{choice.crf:g}"}
    return {**options, "svtav1-params": _parameter_list(parameters)} if parameters else options


def _vp9_options(choice: _EncoderChoice) -> dict[str, str]:
    quality = {"crf": f"{choice.crf:g}", "b": "0"} if choice.crf else {"lossless": "1"}
    alpha = {"auto-alt-ref": "0"} if choice.source.has_alpha else {}
    return {"deadline": "good", "cpu-used": "3", "row-mt": "1", **quality, **alpha}


def _vp8_options(choice: _EncoderChoice) -> dict[str, str]:
    return {"deadline": "good", "cpu-used": "3", "crf": f"{max(4, choice.crf):g}", "b": _NO_LIMIT}


def _qscale_options(choice: _EncoderChoice) -> dict[str, str]:
    quantiser = str(min(max(1, round(choice.crf)), _COARSEST))
    # Bounds, too: no frame tells of its own, as the flag wants. JPEG of limited range, as most sources have it.
    ranges = {"strict": "unofficial"} if choice.codec == "mjpeg" else {}
    return {"qscale": quantiser, "qmin": quantiser, "qmax": quantiser, **ranges}


def _nvenc_options(choice: _EncoderChoice) -> dict[str, str]:
    crf = choice.wanted.crf
    if crf == 0:
        return {"preset": "p5", "b": "0", "tune": "lossless"}
    return {"preset": "p5", "b": "0", "tune": "hq", "rc": "vbr", "cq": f"{_NVENC_CQ if crf is None else crf:g}"}


def _hardware_options(choice: _EncoderChoice) -> dict[str, str]:
    """Of an encoder in hardware, for about the quality that x264 has at a CRF."""
    crf, api = choice.wanted.crf, _hardware_api(choice.codec)
    if crf is None:
        return {}
    if api == "qsv":
        return {"global_quality": f"{max(1, round(crf))}"}
    if api == "amf":
        qp = round(crf * 255 / _HIGHEST_AV1_CRF) if choice.codec.startswith("av1") else min(51, round(crf))
        return {"rc": "cqp", "qp_i": str(qp), "qp_p": str(qp)}
    percent = str(max(1, round(100 - crf * 99 / 51)))
    return {"qscale": percent} if api == "videotoolbox" else {"rate_control": "quality", "quality": percent}


# By encoder, or by the API of an encoder in hardware.
_ENCODER_OPTIONS: dict[str, Callable[[_EncoderChoice], dict[str, str]]] = {
    "libx264": _x264_options,
    "libx264rgb": _x264_options,
    "libx265": _x265_options,
    "libsvtav1": _svtav1_options,
    "libvpx-vp9": _vp9_options,
    "libvpx": _vp8_options,
    "libwebp_anim": lambda _: {"lossless": "1"},
    "ffv1": lambda _: {"level": "3", "slicecrc": "1", "g": "1"},
    "gif": lambda choice: dict((_WHOLE_PICTURES,)) if choice.source.has_alpha else {},
    **dict.fromkeys(_BY_QSCALE, _qscale_options),
    **dict.fromkeys(_HARDWARE_APIS, _hardware_options),
    "nvenc": _nvenc_options,
}


def _parameter_list(parameters: Mapping[str, str]) -> str:
    return ":".join(f"{key}={value}" for key, value in parameters.items())


def _hdr_parameters(hdr: HdrMetadata | None, display: str, light: str, *, decimal: bool = False) -> dict[str, str]:
    """Encoder parameters that write the HDR metadata into the bitstream, in SMPTE ST 2086's units or as `decimal`s."""

    def pair(a: Fraction, b: Fraction, unit: int, digits: int) -> str:
        if decimal:
            return f"({float(a):.{digits}f},{float(b):.{digits}f})"
        return f"({round(a * unit)},{round(b * unit)})"

    out: dict[str, str] = {}
    if hdr is not None and hdr.primaries and hdr.luminance != (0, 0):
        red, green, blue, white = (pair(*xy, 50000, 6) for xy in (*hdr.primaries, hdr.white_point))
        low, high = hdr.luminance
        out[display] = f"G{green}B{blue}R{red}WP{white}L{pair(high, low, 10000, 4)}"
    if hdr is not None and hdr.light_level is not None:
        out[light] = ",".join(map(str, hdr.light_level))
    return out


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
        raise UsageError(str(error), remedy="choose another --codec or container") from error
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
        self._graphs: dict[str, Graph] = {}
        self._count = 0
        self._durations: dict[int, int] = {}
        """Of the frames whose packets are still to come, by their ticks."""
        self._last_tick: int | None = None
        self._opened = False
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

    def flush(self) -> list[Any]:
        """What the encoder still holds."""
        return self._timed(self._stream.encode(None))

    def _timed(self, packets: list[Any]) -> list[Any]:
        """With the durations of their frames, which not every encoder passes on."""
        for packet in packets:
            if duration := self._durations.pop(packet.pts, 0):
                packet.duration = duration
        return packets

    def _need_even_times(self, frame: Frame) -> None:
        """AVI counts frames: each must lie on a tick of the rate, and on one of its own."""
        if frame.pts is None:
            return
        ticks = frame.pts * frame.time_base / self._plan.time_base
        tick = round(ticks)
        if abs(ticks - tick) > _EVEN or (self._last_tick is not None and tick <= self._last_tick):
            raise UsageError(
                f"the frame at {float(frame.pts * frame.time_base):.4f} s does not fit into AVI, which holds only "
                f"frames at an even {float(self._plan.rate):.6g} per second",
                remedy="write .mkv or .mp4: they keep every frame's time",
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
        if self._plan.container.gapless:
            picture.pts = self._count
            self._count += 1
        picture.pict_type = 0
        if picture.format.name != self._written:
            picture = self._converted(picture, frame)
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
            riding: list[Any] = list(carrier.side_data)
            if any(d.type.name in _RIDING for d in riding) or carrier.interlaced_frame:
                picture = self._through("copy", "", carrier)  # with captions, time code, dynamic HDR
            else:
                picture = VideoFrame(frame.width, frame.height, target)
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
        graph = self._graphs.get(name)
        if graph is None:
            graph = self._graphs[name] = Graph()
            source = graph.add_buffer(
                width=picture.width, height=picture.height, format=picture.format, time_base=self._plan.time_base
            )
            graph.link_nodes(source, graph.add(name, settings), graph.add("buffersink")).configure()
        graph.vpush(picture)
        return graph.vpull()

    def _converted(self, picture: VideoFrame, frame: Frame) -> VideoFrame:
        source, target = frame.format, self._format
        span = RANGE_FULL if is_full_range(source, frame.color) else RANGE_LIMITED
        if source.is_rgb:
            matrix = MATRIX_BT601_625
        else:
            seen: Any = frame.carrier or frame  # untagged clips go by the size they came in
            matrix = swscale_matrix(effective_matrix(frame.color, seen.width, seen.height))
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


def encoded(frames: Iterable[Frame], encoder: FrameEncoder) -> Generator[Packet]:
    """All packets of all frames, the encoder drained at the end."""
    for frame in frames:
        yield from encoder.encode(frame)
    yield from encoder.flush()


__all__ = [
    "BOTTOM_FIELD_FIRST",
    "ENCODER_ERRORS",
    "TOP_FIELD_FIRST",
    "EncodeOptions",
    "FrameEncoder",
    "HdrMetadata",
    "VideoPlan",
    "add_video_stream",
    "color_as",
    "encoded",
    "field_order",
    "first_frame_metadata",
    "plan_video",
    "planar_name",
    "turn_alone",
]
