"""What a clip holds, read without decoding it."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.stream
import numpy as np
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from ns_video.errors import InputError, NsVideoError, UsageError
from ns_video.frame import MATRIX_RGB, UNSPECIFIED, ColorInfo, PixelFormat
from ns_video.media.animation_header import AnimationInfo, is_animated_png, read_animation_info
from ns_video.media.jpeg_segments import EOI, walk
from ns_video.media.libav import open_input, printable, traced_log
from ns_video.media.png_chunks import SIGNATURE
from ns_video.media.sample_boxes import sample_boxes
from ns_video.media.wrapped_clock import CLOCK_HZ, is_misjudged

DEFAULT_RATE = Fraction(25)  # what libav assumes for raw streams that state no rate
_MICROSECOND = 1e-6  # to which libav rounds when a container begins
ANIMATIONS = frozenset({"gif", "apng", "png_pipe", "webp_pipe"})
"""Demuxers of pictures that may move."""
ICON = "ico"
"""libav's name of the demuxer of icons: one picture in several sizes, each a stream."""
_PLACEHOLDER = 1 << 30  # frames that libav claims in the header of an AVI that goes to a pipe; others claim still more
MAX_STREAMS = 1000  # a header that claims more is hostile


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream of a container."""

    index: int
    type: str
    """"video", "audio", "subtitle", "data", "attachment" or "unknown"."""
    codec: str
    time_base: Fraction | None
    start_time: int | None
    duration: int | None
    disposition: int
    metadata: tuple[tuple[str, str], ...]
    header: bytes = b""
    """Of ASS subtitles, their styles."""
    boxes: tuple[bytes, ...] = ()
    """Of a file of MP4 or MOV, what it says of the track and libav's muxer doesn't write (`sample_boxes`)."""

    @property
    def is_cover(self) -> bool:
        """An attached picture: album art, never restored."""
        return self.type == "video" and bool(self.disposition & int(av.stream.Disposition.attached_pic))


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """The video stream that is restored."""

    index: int
    codec: str
    width: int
    height: int
    format: PixelFormat
    color: ColorInfo
    time_base: Fraction
    rate: Fraction
    """A guess, for encoders that want one; never used to make timestamps where the source has them."""
    sample_aspect_ratio: Fraction
    """0 where the source states none."""
    frames_claimed: int
    """What the container says; 0 where it says nothing. Not to be relied on."""
    alpha_in_side_channel: bool = False


@dataclass(frozen=True, slots=True)
class ClipInfo:
    """What a container says of itself."""

    name: str
    format: str
    duration_seconds: float | None
    start_seconds: float | None
    video: VideoInfo
    streams: tuple[StreamInfo, ...]
    metadata: tuple[tuple[str, str], ...]
    chapters: int = 0
    animation: AnimationInfo | None = None
    """Of a file of GIF, PNG or WebP."""
    services: int = 0
    """Of MPEG-TS, channels that hold streams."""

    @property
    def begins(self) -> Fraction:
        """Seconds on the container's clock at which players begin to count; 0 where it begins before 0."""
        told = self.start_seconds or 0.0
        starts = [s.start_time * s.time_base for s in self.streams if s.start_time is not None and s.time_base]
        exact = next((start for start in starts if abs(start - told) < _MICROSECOND), Fraction(told))
        return max(exact, Fraction(0))


def codec_name(stream: Any) -> str:
    """The codec's name, "none" where libav doesn't know it."""
    try:
        context = stream.codec_context
        if context is not None:
            return str(context.codec.canonical_name)
        return str(stream.name or "none")
    except (AttributeError, ValueError, av.FFmpegError):
        return "none"


@functools.cache
def matrix_of(told: int, fmt: PixelFormat) -> int:
    """The matrix that a stream or picture tells; gray PNGs tell that of RGB, which means nothing for them."""
    return UNSPECIFIED if told == MATRIX_RGB and not fmt.is_rgb else told


def pixel_format(name: str) -> PixelFormat:
    """Geometry of a libav pixel format. Raises InputError for hardware or Bayer formats."""
    side = 64  # a multiple of every chroma subsampling there is
    if name == "pal8":  # libav tells nothing of the palette
        return PixelFormat(name, 8, is_rgb=True, planes=1, chroma_shift_x=0, chroma_shift_y=0, has_alpha=True)
    fmt = VideoFormat(name, side, side)
    components = fmt.components
    if not components:
        raise InputError(f"the pixel format {name} can't be read", stage="decode")
    chroma = next((c for c in components if c.is_chroma), None)
    shift_x = shift_y = 0
    if chroma is not None and not fmt.is_rgb:
        shift_x = int(np.log2(side // chroma.width))
        shift_y = int(np.log2(side // chroma.height))
    has_alpha = any(c.is_alpha for c in components)
    return PixelFormat(
        name=name,
        bit_depth=max(c.bits for c in components),
        is_rgb=bool(fmt.is_rgb),
        planes=len(components),
        chroma_shift_x=shift_x,
        chroma_shift_y=shift_y,
        has_alpha=has_alpha,
    )


def _decodable(stream: Any) -> bool:
    """Whether libav has a decoder: PyAV leaves the context out where it hasn't."""
    return stream.codec_context is not None


def choose_video(container: av.container.InputContainer) -> VideoStream:
    """The stream to restore: not a cover; the first one marked default, else the first; of an icon the largest."""
    if len(container.streams) > MAX_STREAMS:
        raise InputError(f"the file claims {len(container.streams)} streams", stage="open")
    candidates: Sequence[VideoStream] = [
        s
        for s in container.streams.video
        if not int(s.disposition) & int(av.stream.Disposition.attached_pic) and _decodable(s)
    ]
    if not candidates:
        undecodable = [s for s in container.streams.video if not _decodable(s)]
        if undecodable:
            raise InputError(
                f"{printable(container.name.removeprefix('file:'))}: no decoder for its video stream", stage="open"
            )
        kinds = sorted({"cover picture" if s.type == "video" else s.type for s in container.streams}) or ["no"]
        raise InputError(
            f"{printable(container.name.removeprefix('file:'))} has no video stream ({', '.join(kinds)} only)",
            stage="open",
        )

    if container.format.name == ICON:
        return max(candidates, key=lambda s: s.codec_context.width * s.codec_context.height)
    marked = [s for s in candidates if int(s.disposition) & int(av.stream.Disposition.default)]
    return (marked or list(candidates))[0]


def _told_duration(stream: Any) -> int | None:
    """A stream's duration in ticks; None where libav doesn't know it, or made it of what isn't true."""
    wrapped = is_misjudged(stream.duration or 0, stream.container.format.name)
    return None if wrapped or stream.frames >= _PLACEHOLDER else stream.duration


def stream_info(stream: Any) -> StreamInfo:
    """A frozen copy of what a libav stream says."""
    return StreamInfo(
        index=stream.index,
        type=stream.type,
        codec=codec_name(stream),
        time_base=stream.time_base,
        start_time=stream.start_time,
        duration=_told_duration(stream),
        disposition=int(stream.disposition),
        metadata=tuple(dict(stream.metadata).items()),
        header=bytes(stream.codec_context.extradata or b"") if codec_name(stream) == "ass" else b"",
    )


def video_info(stream: VideoStream) -> VideoInfo:
    """What the header says of a video stream. Sizes may still change with the first frame."""
    context = stream.codec_context
    name = context.pix_fmt or "yuv420p"
    rate = stream.guessed_rate or stream.average_rate or DEFAULT_RATE
    if rate <= 0 or rate > 1000:
        rate = stream.average_rate or DEFAULT_RATE
    return VideoInfo(
        index=stream.index,
        codec=codec_name(stream),
        width=context.width,
        height=context.height,
        format=pixel_format(name),
        color=ColorInfo(
            matrix=matrix_of(int(context.colorspace), pixel_format(name)),
            range=int(context.color_range),
            primaries=int(context.color_primaries),
            transfer=int(context.color_trc),
        ),
        time_base=stream.time_base or Fraction(1, 90000),
        rate=Fraction(rate),
        sample_aspect_ratio=Fraction(stream.sample_aspect_ratio or 0),
        frames_claimed=stream.frames if stream.frames < _PLACEHOLDER else 0,
        alpha_in_side_channel=any(k.lower() == "alpha_mode" and v == "1" for k, v in stream.metadata.items()),
    )


def _services(container: av.container.InputContainer) -> list[str]:
    """The services (channels, in DVB) of MPEG-TS that hold streams, in libav's own words: PyAV tells them in no other.

    Each is its tags, then its streams, a line each.
    """
    if container.format.name != "mpegts":
        return []
    opened: Any = container  # PyAV's types lack the call
    with traced_log():
        services = opened.dumps_format().split("\n  Program ")[1:]
    return [text for text in services if "\n  Stream #" in text]


def _service_tags(services: Sequence[str], index: int) -> list[tuple[str, str]]:
    """Name and provider of the service that a stream belongs to, as tags of the file.

    Those that libav writes where it is told none are left out.
    """
    mine = next((text for text in services if re.search(rf"^  Stream #0:{index}\b", text, re.M)), "")
    return [tag for tag in _SERVICE_TAG.findall(mine.partition("\n  Stream ")[0]) if tag not in _UNTOLD_SERVICE]


def clip_info(container: av.container.InputContainer) -> ClipInfo:
    """What an open container holds. Raises InputError where there is nothing to restore."""
    video = choose_video(container)
    services = _services(container)
    duration = container.duration
    wrapped = is_misjudged((duration or 0) * CLOCK_HZ // 1_000_000, container.format.name)
    if wrapped or any(s.frames >= _PLACEHOLDER for s in container.streams):
        duration = None
    start: Any = container.start_time
    boxes = _boxes(container)
    return ClipInfo(
        name=container.name,
        format=container.format.name,
        duration_seconds=None if duration is None or duration < 0 else duration / 1e6,
        start_seconds=None if start is None or abs(start) > 1 << 62 else start / 1e6,
        video=video_info(video),
        streams=tuple(replace(stream_info(s), boxes=boxes.get(s.id, ())) for s in container.streams),
        metadata=(*dict(container.metadata).items(), *_service_tags(services, video.index)),
        chapters=len(container.chapters()),
        animation=_animation_info(container),
        services=len(services),
    )


def _boxes(container: av.container.InputContainer) -> dict[int, tuple[bytes, ...]]:
    """Boxes by the number of the track; a pipe can't be gone back to."""
    if "mp4" not in container.format.name or not container.name.startswith("file:"):
        return {}
    path = Path(container.name.removeprefix("file:"))
    return sample_boxes(path) if path.is_file() else {}


def _animation_info(container: av.container.InputContainer) -> AnimationInfo | None:
    """What a file of pictures says beside them; a pipe can't be gone back to."""
    if container.format.name not in ANIMATIONS or not container.name.startswith("file:"):
        return None
    return read_animation_info(Path(container.name.removeprefix("file:")))


_SERVICE_TAG = re.compile(r"^ {6}(service_(?:name|provider)) *: (.+)$", re.M)
_UNTOLD_SERVICE = (("service_name", "Service01"), ("service_provider", "FFmpeg"))

_STILL_MAGIC: tuple[tuple[bytes, str], ...] = (
    (SIGNATURE, "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)
_MOST_BYTES = 1 << 26  # of a picture, behind which another one is looked for
_NEXT_PICTURE = re.compile(rb"\xff\xd9\0*(?=\xff\xd8\xff)")
_FRAME_MARKERS = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended, progressive


def _walk_jpeg(data: bytes, at: int) -> tuple[bytes | None, bool, int | None]:
    """Of the JPEG at `at`: its size as coded, whether it lists more pictures (CIPA DC-007), and where it ends."""
    size, lists, end = None, False, None
    for marker, begin, stop in walk(data, at):
        if marker in _FRAME_MARKERS:
            size = data[begin + 1 : begin + 5]
        elif marker == EOI:
            end = stop
        lists |= data.startswith(b"MPF\0", begin)
    return size, lists, end


def _is_motion_jpeg(data: bytes) -> bool:
    """Another picture of the same size follows the first one. Photos are followed by smaller ones, or list them."""
    if _NEXT_PICTURE.search(data) is None:
        return False  # soon known
    size, lists, end = _walk_jpeg(data, 0)
    if lists or end is None or (following := _NEXT_PICTURE.match(data, end - 2)) is None:
        return False
    return _walk_jpeg(data, following.end())[0] == size


def still_format(path: Path) -> str | None:
    """ "JPEG", "PNG", "WebP", "TIFF", "BMP" or "AVIF" where the file is one picture; None for a clip.

    Animations are clips, and so are JPEGs one behind the other (raw Motion JPEG).
    """
    try:
        if not path.is_file():
            return None  # what is read from a pipe is gone
        with path.open("rb") as file:
            head = file.read(1 << 16)
            if head.startswith(b"\xff\xd8\xff"):
                return None if _is_motion_jpeg(head + file.read(_MOST_BYTES)) else "JPEG"
    except OSError:
        return None
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return None if head[12:16] == b"VP8X" and len(head) > 20 and head[20] & 2 else "WebP"
    if head[4:12] == b"ftypavif":
        from PIL import features

        return "AVIF" if features.check("avif") else None  # libav's picture of it is a clip of one frame
    for magic, name in _STILL_MAGIC:
        if head.startswith(magic):
            return None if name == "PNG" and is_animated_png(path) else name
    return None


_LEFT_ALONE = frozenset({"tty", ICON, "mjpeg", "mjpeg_2000", "qoi_pipe", "bmp_pipe", "tiff_pipe"})
"""Demuxers of text, and of pictures that are no stills here or, as cameras' raw files, more than these seem to be."""
_LEFT_BRANDS = frozenset({"heic", "heix", "mif1"})
"""Of HEIF files that hold pictures (ISO/IEC 23008-12, 10.2), in libav's eyes clips of one frame or of tiles."""


def holds_pictures(path: Path, container_format: str | None = None, options: Mapping[str, str] | None = None) -> bool:
    """Whether a file is a clip or still by what it holds, its name aside: no sound with a cover, no text.

    It is opened, not decoded. With `container_format` everything is a clip that can be read as one; UsageError where
    it can't be for want of options.
    """
    try:
        with open_input(path, container_format=container_format, options=options) as container:
            choose_video(container)
            brand = str(container.metadata.get("major_brand", "")).strip()
            return container_format is not None or (
                container.format.name not in _LEFT_ALONE and brand not in _LEFT_BRANDS
            )
    except (NsVideoError, OSError, ValueError) as error:
        if container_format is not None and isinstance(error, UsageError):
            raise
        return False
