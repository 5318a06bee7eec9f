"""Pictures for a report: shrunk and packed as WebP. Owner of cv2 here."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from ns_video.errors import OutputError
from ns_video.media.pictures import Rgb

_ABSURD = Fraction(1, 8)  # no medium has such pixels: a header that lies


def square_pixels(rgb: Rgb, aspect: Fraction) -> Rgb:
    """The picture as wide as pixels of that width / height make it; itself for square ones and absurd ratios."""
    if aspect == 1 or not _ABSURD < aspect < 1 / _ABSURD:
        return rgb
    return resized_to(rgb, rgb.shape[0], max(1, round(rgb.shape[1] * aspect)))


def upright(rgb: Rgb, rotation: int) -> Rgb:
    """The picture turned by quarters; `rotation` in degrees, counter-clockwise."""
    return np.ascontiguousarray(np.rot90(rgb, round(rotation / 90) % 4)) if rotation else rgb


def fitted(rgb: Rgb, longest: int) -> Rgb:
    """The picture with its longer side at most `longest` px (area mean); itself where it is no larger."""
    height, width = rgb.shape[:2]
    factor = longest / max(height, width)
    if factor >= 1:
        return rgb
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small: Any = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return small


def resized_to(rgb: Rgb, height: int, width: int) -> Rgb:
    """The picture at exactly this size: area mean where it shrinks, bicubic where it grows."""
    if rgb.shape[:2] == (height, width):
        return rgb
    shrinks = height * width < rgb.shape[0] * rgb.shape[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    made: Any = cv2.resize(rgb, (width, height), interpolation=how)
    return made


def webp(rgb: Rgb, quality: int) -> bytes:
    """A WebP file; quality 1–100, 101 is lossless. Raises OutputError."""
    done, data = cv2.imencode(".webp", np.ascontiguousarray(rgb[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    if not done:
        raise OutputError("a picture of the report can't be packed as WebP", stage="report")
    return data.tobytes()
