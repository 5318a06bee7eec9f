"""ICC profiles: for which samples one is, and what it makes of them."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

_SPACE, _SIGNATURE = slice(16, 20), slice(36, 40)  # ICC.1:2022, table 15
_NAMES = {"RGB": "RGB", "GRAY": "gray", "CMYK": "CMYK", "Lab": "CIE L*a*b*"}


def space_of(icc: bytes) -> str:
    """The colour space of the samples that a profile is for, as "RGB" or "gray"; "" where it is no sound profile."""
    if icc[_SIGNATURE] != b"acsp":
        return ""
    space = icc[_SPACE].decode("latin-1").strip()
    return _NAMES.get(space, space)


def fits(icc: bytes, *, is_gray: bool) -> bool:
    """Whether a profile is for such samples, gray or RGB; one of which that can't be told is."""
    return space_of(icc) in ("", "gray" if is_gray else "RGB")


def to_srgb(image: Image.Image, icc: bytes) -> Image.Image | None:
    """A picture as sRGB shows what it is under its profile; None where the profile doesn't serve."""
    try:
        return ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError):
        return None


def gray_to_srgb(gray: npt.NDArray[Any], icc: bytes) -> npt.NDArray[Any] | None:
    """(H, W) gray of 8 or 16 bits as (H, W, 3) sRGB of as many, likewise. 16 bits lie between what 256 tones become."""
    tones = to_srgb(Image.fromarray(np.arange(256, dtype=np.uint8)[None]), icc)
    if tones is None:
        return None
    table = np.asarray(tones)[0]
    if gray.dtype == np.uint8:
        return table[gray]
    places, steps = np.arange(256) * 257.0, table.T * 257.0
    return np.stack([np.rint(np.interp(gray, places, step)).astype(np.uint16) for step in steps], -1)
