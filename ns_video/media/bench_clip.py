"""A clip to measure with: made on the spot, so that a benchmark needs no file. Floor 2."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

RATE = 25
_CRF = "28"
_MARGIN = 64


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Writes an H.264 clip (x264, CRF 28, 4:2:0, 25 frames/s) of a texture that drifts under grain."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": _CRF, "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for index in range(frames):
            frame = VideoFrame.from_ndarray(_picture(width, height, index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def picture(width: int, height: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """(3, H, W) RGB in [0, 1]: one frame of the clip's texture."""
    return np.ascontiguousarray(_picture(width, height, seed).transpose(2, 0, 1).astype(np.float32) / 255.0)


def _picture(width: int, height: int, index: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) RGB: a window that wanders over the texture, under grain that changes with every frame."""
    texture, grain = _texture(width + _MARGIN, height + _MARGIN)
    left, top = _swing(3 * index), _swing(2 * index + 7)
    window = texture[top : top + height, left : left + width]
    moved = np.roll(grain, (37 * index, 59 * index), (0, 1))[:height, :width, None]
    return np.clip(window + moved, 0, 255).astype(np.uint8)


def _swing(step: int) -> int:
    """There and back again within the margin."""
    place = step % (2 * _MARGIN)
    return place if place < _MARGIN else 2 * _MARGIN - 1 - place


@lru_cache(maxsize=1)
def _texture(width: int, height: int) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """(H, W, 3) of waves of many lengths, so that every block has something to code, and (H, W) of grain."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rng = np.random.default_rng(1)
    planes: list[npt.NDArray[np.float32]] = []
    for _ in range(3):
        value = np.full((height, width), 0.5, np.float32)
        for length in (7.0, 19.0, 53.0, 171.0):
            a, b, phase = rng.uniform(-1, 1, 3)
            value += 0.1 * np.sign(np.sin((a * x + b * y) * (2 * np.pi / length) + 6 * phase)) * np.cos(y / length)
        planes.append(value)
    texture = (np.clip(np.stack(planes, 2), 0, 1) * 255).astype(np.int16)
    return texture, rng.normal(0, 3, (height, width)).round().astype(np.int16)
