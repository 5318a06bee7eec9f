"""Animated WebP as a clip: libav decodes no animation in it, Pillow does."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from ns_video.errors import DamageError, InputError
from ns_video.media.animation_header import read_animation_info, webp_chunks
from ns_video.media.decode import MAX_PIXELS, ClipReader, DecodeOptions, check_pixels, open_clip
from ns_video.media.libav import check_input_file, printable
from ns_video.record import Damage

_TICK = Fraction(1, 1000)  # WebP states durations in milliseconds
_MAX_BYTES = 1 << 30
_UNTOLD = 40  # ticks of a frame without a duration
_SHORTEST = 10  # of the ticks that are taken for a frame's


def _durations(path: Path) -> list[int]:
    """Ticks that each frame is shown for (the WebP container's ANMF chunks), as far as the file is whole."""
    with path.open("rb") as file:
        frames = (file.read(16) for kind, _ in webp_chunks(file) if kind == b"ANMF")
        return [int.from_bytes(frame[12:15], "little") for frame in frames if len(frame) == 16]


def seconds_of(path: Path) -> Fraction:
    """How long an animated WebP lasts; 0 where it is a still."""
    return sum(_durations(path)) * _TICK


def _rate(durations: list[int]) -> Fraction:
    """Frames per second, on whose ticks all frames begin where there is such a rate."""
    step = math.gcd(*durations)
    if step < _SHORTEST:
        step = max(Fraction(sum(durations), max(1, len(durations))), Fraction(1)) if any(durations) else _UNTOLD
    return Fraction(1 / (step * _TICK)).limit_denominator(1001)


def open_animation(path: Path, options: DecodeOptions) -> ClipReader | None:
    """A reader of an animated WebP, losslessly rewritten in memory; None for any other file. Raises InputError."""
    if not path.is_file():
        return None  # what is read from a pipe is gone; what can't be opened at all is told by open_clip
    check_input_file(path)
    with path.open("rb") as file:
        head = file.read(32)
    if head[:4] != b"RIFF" or head[8:16] != b"WEBPVP8X" or not head[20] & 2:
        return None
    buffer = io.BytesIO()
    damage: Damage | None = None
    try:
        with Image.open(path) as image, av.open(buffer, "w", format="nut") as container:
            check_pixels(image.width, image.height, options.max_pixels)
            stream = container.add_stream("ffv1", rate=_rate(_durations(path)), width=image.width, height=image.height)
            assert isinstance(stream, VideoStream)
            stream.codec_context.pix_fmt = "bgra"
            stream.time_base = stream.codec_context.time_base = _TICK
            pts = 0
            for index in range(getattr(image, "n_frames", 1)):
                try:
                    image.seek(index)
                    samples = np.asarray(image.convert("RGBA"))
                except Exception as error:  # Pillow's readers raise whatever their parsing runs into
                    if not index:
                        raise
                    damage = Damage(pts * float(_TICK), f"the animation is damaged: {printable(str(error))}")
                    break
                picture = VideoFrame.from_ndarray(samples, format="rgba").reformat(format="bgra")
                picture.pts, picture.time_base = pts, _TICK
                container.mux(stream.encode(picture))
                pts += max(1, int(image.info.get("duration", _UNTOLD)))
                if buffer.tell() > _MAX_BYTES:
                    raise InputError("the animation is too long to be held in memory", stage="decode")
            container.mux(stream.encode(None))
    except InputError:
        raise
    except Exception as error:
        what = f"{printable(path)} is not an animation that can be read: {printable(str(error))}"
        raise InputError(what, stage="open") from error
    if damage is not None and options.strict:
        raise DamageError(damage.what, stage="decode", pts_seconds=damage.pts_seconds)
    buffer.seek(0)
    reader = ClipReader(buffer, options)
    reader.info = replace(reader.info, animation=read_animation_info(path))
    if damage is not None:
        reader.damage.append(damage)
        reader.damage_count += 1
    return reader


def open_clip_or_animation(
    path: str | Path, *, compared: bool = False, max_pixels: int = MAX_PIXELS
) -> tuple[ClipReader, bool]:
    """A reader, and whether it is of an animated WebP, or of the still that is made of one that never changes.

    `compared` and `max_pixels`: as in DecodeOptions.
    """
    options = DecodeOptions(deinterlace="off", max_pixels=max_pixels, compared=compared)
    animation = open_animation(Path(path), options)
    reader = animation or open_clip(path, options)
    return reader, animation is not None or reader.info.format == "webp_pipe"
