"""What the samples of an output hold against those of its input: bits, chroma, alpha, and coarsely what they show."""

from __future__ import annotations

from array import array
from collections.abc import Generator

import cv2
import numpy as np

from ns_video.errors import UsageError
from ns_video.frame import Frame, PixelFormat
from ns_video.media.containers import Container
from ns_video.media.encoder_choice import choose_pix_fmt, video_encoder
from ns_video.media.probe import pixel_format

_IN_HARDWARE = frozenset({"h264", "hevc", "av1", "vp9"})  # codecs of encoders that take less than the others here
_EVERY = 10  # frames of which one is looked at
_SIDE = 16  # samples of a thumbnail
_STRUCTURE = 16.0  # standard deviation, 8-bit steps, above which a thumbnail shows something
_SHARE = 0.1  # of that deviation, below which nothing of it is left
_ALIKE = 0.2  # correlation of thumbnails; every restoration keeps the mean of so many samples: above 0.9


def lost_samples(was: PixelFormat, now: PixelFormat) -> list[str]:
    """What pictures of one pixel format can't hold of those of another, in words."""
    out: list[str] = []
    if now.bit_depth < was.bit_depth:
        out.append(f"the samples had {was.bit_depth} bits, have {now.bit_depth}")
    coloured = min(was.planes, now.planes) > 2 and not (was.is_rgb or now.is_rgb)
    if coloured and (now.chroma_shift_x > was.chroma_shift_x or now.chroma_shift_y > was.chroma_shift_y):
        out.append(f"chroma is coarser: the pixels were {was.name}, are {now.name}")
    if was.has_alpha and not now.has_alpha:
        out.append("the alpha channel is missing")
    return out


def held_samples(codec: str, container: Container, fmt: PixelFormat, size: tuple[int, int]) -> PixelFormat | None:
    """The format in which a run would have written pictures of `fmt` with this codec; None where that isn't sure."""
    if codec in _IN_HARDWARE and not (codec == "vp9" and fmt.has_alpha):
        return None
    try:
        return pixel_format(choose_pix_fmt(video_encoder(codec), container, fmt, size))
    except (UsageError, ValueError):
        return None


class Thumbnails:
    """Luma of some frames of a clip, coarsely: every tenth one, 256 bytes each."""

    def __init__(self) -> None:
        self._count = 0
        self.seconds: array[float] = array("d")
        self._pictures = bytearray()
        self.is_rgb = False

    def take(self, frame: Frame) -> None:
        """Look at the next frame."""
        if self._count % _EVERY == 0 and frame.format.name != "pal8":
            self.is_rgb = frame.format.is_rgb
            small = cv2.resize(frame.planes[0], (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
            most = (1 << frame.format.bit_depth) - 1
            self._pictures += np.clip(small * (255.0 / most), 0, 255).astype(np.uint8).tobytes()
            self.seconds.append(frame.pts_seconds or 0.0)
        self._count += 1

    def pictures(self) -> Generator[np.ndarray]:
        """Each one, (256,) float32."""
        for begin in range(0, len(self._pictures), _SIDE * _SIDE):
            yield np.frombuffer(self._pictures, np.uint8, _SIDE * _SIDE, begin).astype(np.float32)


def compare_thumbnails(was: Thumbnails, now: Thumbnails) -> str | None:
    """In words where pictures show nothing of what they showed: black ones, shuffled ones."""
    if was.is_rgb != now.is_rgb or len(was.seconds) != len(now.seconds):
        return None
    other: list[float] = []
    for seconds, before, after in zip(was.seconds, was.pictures(), now.pictures()):
        spread, left = float(before.std()), float(after.std())
        if spread < _STRUCTURE:
            continue
        if left < _SHARE * spread or float(np.corrcoef(before, after)[0, 1]) < _ALIKE:
            other.append(seconds)
    if not other:
        return None
    return f"the picture at {other[0]:.4f} s shows something else ({len(other)} of {len(was.seconds)} looked at do)"
