"""The plan of an output video: codec, pixel format, time base, options, and what it can't hold in words."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

from av.codec.codec import Codec
from av.format import ContainerFormat
from av.format import Flags as FormatFlags

from ns_video.errors import UsageError
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
    is_full_range,
)
from ns_video.media import chroma_place
from ns_video.media.containers import COLOR_TAGS, Container, of_muxer
from ns_video.media.copied_clock import finer_tick
from ns_video.media.display_matrix import is_identity, turn_alone, upright_filters
from ns_video.media.encoder_choice import (
    VP9_ALPHA,
    check_offered,
    choose_pix_fmt,
    default_codec,
    format_to_write,
    hardware_api,
    stand_in_of,
    video_encoder,
)
from ns_video.media.encoder_options import (
    BY_QSCALE,
    DEFAULT_CRF,
    WHOLE_PICTURES,
    EncodeOptions,
    EncoderChoice,
    highest_crf,
    options_of,
)
from ns_video.media.first_frame import BOTTOM_FIELD_FIRST, HdrMetadata, field_order, first_frame_metadata
from ns_video.media.gif import COLORS
from ns_video.media.probe import VideoInfo, pixel_format
from ns_video.media.riding import lost_riders, riding_on
from ns_video.media.sample_boxes import stereo_mode

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
_HDR_IN_STREAM = frozenset({"libx264", "libx264rgb", "libx265", "libsvtav1", "apng", "png"})
_STEREO_IN_STREAM = frozenset({"libx264", "libx264rgb", "mpeg1video", "mpeg2video"})
HDR_IN_HEADER = frozenset({"ffv1", "libvpx-vp9"})  # where the container holds it, see hdr_header
_MPEG2_SHAPES = (Fraction(4, 3), Fraction(16, 9), Fraction(221, 100))  # of whole pictures; or square samples
_FIXED_RATE = frozenset({"mpeg2video", "mpeg1video", "mpeg4", "h263"})  # time bases of these are a frame rate

# Encoders that can tell players of interlaced frames; the container or the y4m header tells of the last one's.
_INTERLACED = frozenset({"libx264", "libx264rgb", "mpeg2video", "mpeg4", "ffv1", "prores_ks", "wrapped_avframe"})
# Codecs whose decoders take all samples for limited range, whatever the container tells.
_LIMITED_ALONE = frozenset({"mpeg1video", "mpeg2video", "vp8", "prores"})
_ASPECT_SLACK = Fraction(1, 1000)
_REORDER_SECONDS = 1  # no encoder here decodes a frame further ahead than this


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
    """Seconds at which tick 0 lies: what knows only whole frames counts them from the first one's time."""
    begins: Fraction = Fraction(0)
    """Presentation time of the first frame, seconds."""
    stereo: str = ""
    """How two views share a frame, in Matroska's words (`stereo_mode`)."""

    @property
    def container(self) -> Container:
        """What the output's container holds."""
        return of_muxer(self.container_format)

    @property
    def shown(self) -> str:
        """The pictures in words."""
        return f"{self.width}x{self.height} px as {self.pix_fmt}, {float(self.rate):.6g} per second"

    @property
    def alpha_beside(self) -> bool:
        """The alpha channel rides beside the packets (Matroska's BlockAdditional)."""
        return self.codec == "libvpx-vp9" and self.pix_fmt == VP9_ALPHA

    @property
    def holds_stereo(self) -> bool:
        """How two views share a frame is told by its encoder, or by Matroska."""
        return self.codec in _STEREO_IN_STREAM or bool(self.container.is_matroska and self.stereo)

    @property
    def whole_pictures(self) -> bool:
        """Each picture of a GIF is a whole one, which what was there before it must not shine through."""
        return WHOLE_PICTURES in self.options

    def ticks(self, seconds: Fraction) -> int:
        """A span in ticks of `time_base`, to the nearest."""
        return math.floor(seconds / self.time_base + Fraction(1, 2))

    @property
    def clock(self) -> Fraction:
        """Seconds of a tick on which all times of the output lie."""
        return finer_tick(self.time_base) if self.offset and not self.container.counts_frames else self.time_base

    def tick_of(self, seconds: Fraction) -> int:
        """The tick of a time on the output's clock, the nearest one."""
        return self.ticks(seconds - self.offset)

    def time_of(self, tick: int) -> Fraction:
        """Seconds on the output's clock at which a tick lies."""
        return tick * self.time_base + self.offset


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
    codec = video_encoder(wanted.codec or default_codec(container, fmt, *size))
    usual = default_codec(container, fmt, *(side + side % 2 for side in size))
    if wanted.codec is None and codec != usual:
        notes.append(f"written as {codec}, for {usual} takes no {size[0]}x{size[1]}: it wants even sides")
    if wanted.pix_fmt is not None and not hardware_api(codec):
        check_offered(codec, wanted.pix_fmt)
    pix_fmt = wanted.pix_fmt or choose_pix_fmt(codec, container, fmt, size)
    if (stand_in := stand_in_of(codec, pix_fmt, size)) is not None:
        codec, note = stand_in
        notes.append(note + (" without the encoder options" if wanted.encoder_options else ""))
        wanted = replace(wanted, encoder_options={})
        pix_fmt = wanted.pix_fmt or choose_pix_fmt(codec, container, fmt, size)
    if codec == "png" and wanted.codec is None and not fmt.is_rgb:
        kept = "keeps ProRes" if source.codec == "prores" else "writes ProRes 4444"
        notes.append(f"written as PNG video for the alpha channel; --codec prores_ks {kept}, nearly without loss")
    if wanted.crf is not None:
        if not (codec in DEFAULT_CRF or codec in BY_QSCALE or hardware_api(codec)):
            notes.append(f"{codec} takes no --crf; --encoder-option sets what it takes")
        elif wanted.crf > highest_crf(codec):
            raise UsageError(f"--crf {wanted.crf:g} is beyond the scale of {codec}, which ends at {highest_crf(codec)}")
    out = format_to_write(pix_fmt)
    color = color_as(first.color, fmt, out, "" if hardware_api(codec) else Codec(codec, "w").canonical_name)
    if not (out.chroma_shift_x and out.chroma_shift_y):
        color = replace(color, chroma_location=0)
    matrix, hdr = first_frame_metadata(first.carrier) if first.carrier is not None else ((), None)
    fields = field_order(first.carrier)
    kept_fields = fields if fields and _holds_fields(codec, out, first, size) else 0
    settings = options_of(EncoderChoice(codec, fmt, out, color, hdr, wanted))
    if kept_fields == BOTTOM_FIELD_FIRST and codec.startswith("libx264"):
        settings["x264-params"] += ":bff=1"  # for the header; it takes each frame's order from the frame
    begins = (first.pts or 0) * first.time_base
    if container.moves_for_reordering and begins < _REORDER_SECONDS:
        settings.setdefault("bf", "0")
    by_frames = container.counts_frames or _knows_only_frames(codec, first.time_base)
    on_grid = container.begins_at_zero or not by_frames
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
        stereo=stereo_mode(first.carrier),
    )
    plan = _oriented(plan, matrix)
    notes += _lost_samples(plan, fmt, asked=wanted.pix_fmt is not None)
    return replace(plan, notes=(*notes, *_losses(plan, first, fields, matrix)))


def _knows_only_frames(codec: str, time_base: Fraction) -> bool:
    """Whether an encoder can't count in ticks of `time_base`."""
    return codec in _FIXED_RATE and (time_base.denominator > 65535 or codec != "mpeg4")


def _oriented(plan: VideoPlan, matrix: tuple[int, ...]) -> VideoPlan:
    """The plan with the display matrix, or with the filters that turn the frames themselves."""
    if plan.container.holds_turn:
        if matrix and plan.container.turns_only:
            matrix = turn_alone(matrix)
        return replace(plan, display_matrix=() if is_identity(matrix) else matrix)
    if not (matrix and plan.container.shown_as_stored):
        return plan
    plan = replace(plan, upright=upright_filters(matrix))
    if "transpose" not in plan.upright:
        return plan
    aspect = plan.sample_aspect_ratio
    return replace(plan, width=plan.height, height=plan.width, sample_aspect_ratio=1 / aspect if aspect else aspect)


def _losses(plan: VideoPlan, first: Frame, fields: int, matrix: tuple[int, ...]) -> list[str]:
    """What the output can't hold of a source with this first frame, field order and display matrix, in words."""
    codec, container_format, aspect = plan.codec, plan.container_format, plan.sample_aspect_ratio
    notes: list[str] = []
    if fields and not plan.field_order:
        notes.append(
            f"the frames are interlaced, which {codec} can't tell here: players will take them for progressive"
        )
    notes += _lost_colour(plan, first)
    if first.carrier is not None and any(d.type.name.startswith("DOVI") for d in first.carrier.side_data):
        notes.append("Dolby Vision's metadata is left out: the base picture stays")  # PyAV can't tell encoders of it
    notes += lost_riders(codec, riding_on(first.carrier))
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


def _lost_samples(plan: VideoPlan, fmt: PixelFormat, *, asked: bool) -> list[str]:
    """`asked`: the pixel format is the user's wish."""
    notes: list[str] = []
    codec, pix_fmt, out = plan.codec, plan.pix_fmt, pixel_format(plan.pix_fmt)
    if pix_fmt == "pal8":
        notes.append(f"{codec} holds {COLORS} colours a picture: what has more is dithered")
    elif out.bit_depth < fmt.bit_depth and pix_fmt not in ("rgb8", "bgr8"):
        holder = f"--pix-fmt {pix_fmt}" if asked else codec
        notes.append(f"{holder} holds {out.bit_depth} of {fmt.bit_depth} bits per sample")
    if fmt.has_alpha and not out.has_alpha:
        holder = f"--pix-fmt {pix_fmt}" if asked else f"{codec} as {pix_fmt}"
        notes.append(f"the alpha channel is left out: {holder} can't hold it")
    sampling = (fmt.is_rgb, fmt.chroma_shift_x, fmt.chroma_shift_y)
    if out.is_rgb and codec in ("libx264", "libx265") and not asked:
        notes.append(f"{codec} keeps the picture as RGB, which few players show; --pix-fmt yuv420p suits all")
    if fmt.planes > 2 and sampling != (out.is_rgb, out.chroma_shift_x, out.chroma_shift_y):
        notes.append(f"the pixels are converted from {fmt.name} to {pix_fmt}")
    return notes


def color_as(color: ColorInfo, fmt: PixelFormat, out: PixelFormat, codec: str = "") -> ColorInfo:
    """The tags of pictures of format `fmt` once they are written as `out`, by `codec` (its name, not an encoder's)."""
    if out.is_rgb and not fmt.is_rgb:
        return replace(color, matrix=MATRIX_RGB, range=RANGE_FULL)
    if fmt.is_rgb and not out.is_rgb:
        return replace(
            color, matrix=MATRIX_BT601_625, range=RANGE_FULL if out.name.startswith("yuvj") else RANGE_LIMITED
        )
    if codec in _LIMITED_ALONE and not out.is_rgb and is_full_range(fmt, color):
        return replace(color, range=RANGE_LIMITED)
    return color


def loses_full_range(frame: Frame, color: ColorInfo, out: PixelFormat) -> bool:
    """Whether samples of full range are to be written as limited ones, with the tags `color`; not from or to RGB."""
    limited = color.range == RANGE_LIMITED and not (out.is_rgb or frame.format.is_rgb)
    return limited and is_full_range(frame.format, frame.color)


def _holds_fields(codec: str, out: PixelFormat, first: Frame, size: tuple[int, int]) -> bool:
    """Whether lines are still those of the fields, and the encoder can tell of them."""
    if (first.carrier.width, first.carrier.height) != size or codec not in _INTERLACED:
        return False
    rows = 4 if out.chroma_shift_y else 2  # that libx264 codes in pairs of each field
    return not codec.startswith("libx264") or size[1] % rows == 0


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
    if loses_full_range(first, plan.color, out):
        notes.append(f"the samples are converted from full to limited range, all that {codec} tells; libx264 keeps it")
    known = COLOR_TAGS if hardware_api(codec) else container.told_of(plan.color)
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
