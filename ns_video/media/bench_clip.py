"""A clip to measure with: made on the spot, so that a benchmark needs no file. Floor 2."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

RATE = 25
_CRF = "28"


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """Writes an H.264 clip (x264, CRF 28, 4:2:0, 25 frames/s) of a texture that drifts, turns and carries grain."""
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
    """(H, W, 3) RGB. Waves of many lengths give every block something to code; grain keeps the encoder honest."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    turn = 0.002 * index
    u = x * np.cos(turn) - y * np.sin(turn) + 1.7 * index
    v = x * np.sin(turn) + y * np.cos(turn) + 0.6 * index
    rng = np.random.default_rng(1)
    planes: list[npt.NDArray[np.float32]] = []
    for _ in range(3):
        value = np.full((height, width), 0.5, np.float32)
        for length in (7.0, 19.0, 53.0, 171.0):
            a, b, phase = rng.uniform(-1, 1, 3)
            value += 0.1 * np.sign(np.sin((a * u + b * v) * (2 * np.pi / length) + 6 * phase)) * np.cos(v / length)
        planes.append(value)
    grain = np.random.default_rng(index).normal(0, 0.012, (height, width, 1)).astype(np.float32)
    return (np.clip(np.stack(planes, 2) + grain, 0, 1) * 255).astype(np.uint8)
