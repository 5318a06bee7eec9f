"""Planes of libav's frames: numpy views of them, and the planar layout that holds a packed one's samples."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from av.video.frame import VideoFrame

from ns_video.frame import PixelFormat, Plane

# Packed and semi-planar layouts, and the planar one that holds the same samples exactly.
PLANAR: dict[str, str] = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyyvyy411": "yuv411p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
    "p410le": "yuv444p10le",
    "y210le": "yuv422p10le",
    "nv20le": "yuv422p10le",
    "nv42": "yuv444p",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p212le": "yuv422p12le",
    "p216le": "yuv422p16le",
    "p412le": "yuv444p12le",
    "p416le": "yuv444p16le",
    "y212le": "yuv422p12le",
    "y216le": "yuv422p16le",
    "vyu444": "yuv444p",
    "vuyx": "yuv444p",
    "xv30le": "yuv444p10le",
    "v30xle": "yuv444p10le",
    "xv36le": "yuv444p12le",
    "xv48le": "yuv444p16le",
    "ayuv": "yuva444p",
    "vuya": "yuva444p",
    "uyva": "yuva444p",
    "ayuv64le": "yuva444p16le",
    "rgb24": "gbrp",
    "bgr24": "gbrp",
    "rgb0": "gbrp",
    "bgr0": "gbrp",
    "0rgb": "gbrp",
    "0bgr": "gbrp",
    "rgb8": "gbrp",
    "bgr8": "gbrp",
    "rgb565le": "gbrp",
    "rgb555le": "gbrp",
    "bgr565le": "gbrp",
    "bgr555le": "gbrp",
    "rgba": "gbrap",
    "bgra": "gbrap",
    "argb": "gbrap",
    "abgr": "gbrap",
    "pal8": "gbrap",
    "ya8": "gbrap",
    "rgb48le": "gbrp16le",
    "rgba64le": "gbrap16le",
    "x2rgb10le": "gbrp10le",
    "bgr48le": "gbrp16le",
    "bgra64le": "gbrap16le",
    "x2bgr10le": "gbrp10le",
    "ya16le": "gbrap16le",
    "monow": "gray",
    "monob": "gray",
}


def planar_name(name: str) -> str:
    """The planar pixel format that holds the same samples as `name`."""
    name = name[:-2] + "le" if name.endswith("be") else name
    return PLANAR.get(name, name)


@cache
def limited_range(bits: int) -> tuple[Plane, Plane]:
    """(luma, chroma): for each sample of full range the nearest of limited range (ITU-R BT.709), of `bits` each."""
    unit, most = 1 << bits - 8, (1 << bits) - 1
    sample = np.arange(most + 1, dtype=np.float64)
    luma = 16 * unit + sample * (219 * unit / most)
    chroma = 128 * unit + (sample - 128 * unit) * (224 * unit / most)
    if bits == 8:
        return np.rint(luma).astype(np.uint8), np.rint(chroma).astype(np.uint8)
    return np.rint(luma).astype(np.uint16), np.rint(chroma).astype(np.uint16)


def _plane_view(plane: Any, width_bytes: int) -> np.ndarray:
    rows = np.frombuffer(plane, np.uint8)
    return rows[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)[:, :width_bytes]


def plane_views(frame: VideoFrame, fmt: PixelFormat) -> tuple[Plane, ...]:
    """Numpy views, without copying, of a planar libav frame; RGB in R, G, B[, A] order."""
    wide = fmt.bit_depth > 8
    views: list[Any] = []
    for plane in frame.planes[: fmt.planes]:
        view = _plane_view(plane, plane.width * (2 if wide else 1))
        views.append(view.view(np.uint16) if wide else view)
    if fmt.is_rgb and len(views) >= 3:
        views[:3] = [views[2], views[0], views[1]]
    return tuple(views)
