"""Samples of pictures as they lie in the file, 8 or 16 bit: Pillow reads, and others what it would shorten."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, PngImagePlugin, TiffImagePlugin

from ns_video.errors import InputError
from ns_video.media.icc import to_srgb
from ns_video.media.libav import printable
from ns_video.media.png_chunks import GRAY, GRAY_ALPHA, HEADER_END

Samples = npt.NDArray[Any]
"""(H, W, C) uint8 or uint16: gray, R G B or R G B A."""

CONVERTED = {"CMYK": "CMYK", "LAB": "CIE L*a*b*"}
"""Pillow's modes of what becomes RGB, and what it is called."""
READING = threading.RLock()
"""Held by whoever reads a picture: Pillow's limits, what it makes of cut files, OpenCV's log level and what becomes of
warnings are those of the whole process."""
_PHOTOMETRIC, _ORIENTATION, _PLANAR, _TILE_WIDTH, _EXTRA_SAMPLES = 262, 274, 284, 322, 338
_PREMULTIPLIED = 1  # TIFF 6.0, section 18: associated alpha


def open_picture(file: Path | io.BytesIO) -> Image.Image:
    """A picture whose header is read, however large: `max_pixels` says what is too large, not Pillow's own limit."""
    with READING, warnings.catch_warnings():
        limit = Image.MAX_IMAGE_PIXELS
        warnings.simplefilter("ignore")
        try:
            Image.MAX_IMAGE_PIXELS = None
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def said(error: Exception) -> str:
    """What an error of somebody else's says."""
    return printable(str(error) or type(error).__name__)


def is_gray(image: Image.Image, path: Path) -> bool:
    """Whether its samples have no colour, transparent or not."""
    if isinstance(image, PngImagePlugin.PngImageFile):  # of which Pillow reads 16 bits of gray with alpha as colours
        return _png_header(path)[25] in (GRAY, GRAY_ALPHA)
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith("I;16")


def check_samples(image: Image.Image, path: Path) -> None:
    """Raises InputError for numbers that are no 8 or 16 bits of a picture."""
    sign: Any = _tag(image, 339, (1,))
    what = ""
    if image.mode == "F":
        what = "floating-point"
    elif 2 in sign:
        what = "signed"
    elif image.mode == "I" or _bits_of(image, path) > 16:
        what = "32-bit"
    elif _planes_apart(image, path) and (image.mode == "CMYK" or _tag(image, _TILE_WIDTH, None)):
        what = "16-bit planar CMYK or tiled"
    if what:
        remedy = "make them 16-bit, unsigned, those of a pixel together"
        raise InputError(f"pictures of {what} samples are not supported", stage="open", remedy=remedy)


def load_samples(image: Image.Image, path: Path, notes: list[str], icc: bytes) -> Samples:
    """Of an opened picture, whose profile helps where they aren't gray or RGB. Raises whatever reading runs into."""
    if (deep := _deep_samples(image, path)) is not None:
        return deep
    bits = _bits_of(image, path)
    if image.mode.startswith("I;16"):
        array = np.asarray(image).astype(np.uint16)
        deep = array << (16 - bits) | array >> (2 * bits - 16) if 8 < bits < 16 else array
        return _with_hole(deep, image.info.get("transparency"), bits)
    if bits == 16:
        notes.append("8 of its 16 bits per sample were read")
    if (name := CONVERTED.get(image.mode)) is not None:
        notes.append(f"{name} was converted to RGB{'; its profile is left out' if icc else ''}")
        if icc and image.mode == "CMYK":
            if (rgb := to_srgb(image, icc)) is not None:
                return np.asarray(rgb)
            notes.append("its profile was unusable")
        return np.asarray(image.convert("RGB"))
    through = image.info.get("transparency")
    if image.mode in ("1", "L"):
        return _with_hole(np.asarray(image.convert("L")), through, bits)
    if image.mode in ("P", "RGB"):
        return np.asarray(image.convert("RGB" if through is None else "RGBA"))
    has_alpha = image.mode in ("LA", "La", "PA", "RGBa", "RGBA")
    return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))


def load_damaged(path: Path, notes: list[str], icc: bytes) -> Samples:
    """What is left of a picture that was cut short. Raises InputError where that is nothing."""
    kept = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with open_picture(path) as image:
            return load_samples(image, path, notes, icc)
    except Exception as worse:
        raise InputError(f"{printable(path)} is damaged: {said(worse)}", stage="decode") from worse
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = kept


def upright(samples: Samples, orientation: int) -> Samples:
    """(H, W, C) samples turned and mirrored as EXIF's orientation asks readers to."""
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    rows, columns = (-1 if orientation in flips else 1 for flips in ((3, 4, 7, 8), (2, 3, 6, 7)))
    return np.ascontiguousarray(samples[::rows, ::columns])


def to_eight_bits(samples: Samples) -> Samples:
    """16 bits rounded to 8; 8 bits as they are."""
    if samples.dtype == np.uint8:
        return samples
    return ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _tag(image: Image.Image, tag: int, default: Any) -> Any:
    """Of a TIFF; the default for what is none."""
    return image.tag_v2.get(tag, default) if isinstance(image, TiffImagePlugin.TiffImageFile) else default


def _png_header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEADER_END)


def _bits_of(image: Image.Image, path: Path) -> int:
    """Bits of a sample of a TIFF or PNG, 8 for what is neither."""
    if isinstance(image, PngImagePlugin.PngImageFile):
        return _png_header(path)[24]
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 8
    return max(_tag(image, 258, (1,)))


def _planes_apart(image: Image.Image, path: Path) -> bool:
    """Whether a TIFF has 16 bits per sample, a plane for each colour. Pillow's and OpenCV's readers scramble those:
    they take one plane's bytes for whole pixels (Pillow 13.0, OpenCV 5.0)."""
    return _bits_of(image, path) == 16 and _tag(image, _PLANAR, 1) == 2 and not is_gray(image, path)


def _with_hole(gray: Samples, through: Any, bits: int) -> Samples:
    """(H, W) gray with the value, of so many bits, that is seen through (tRNS); None: with no alpha."""
    if not isinstance(through, int):
        return gray[..., None]
    least, highest = (1 << bits) - 1, np.iinfo(gray.dtype).max
    alpha = np.where(gray == (through & least) * highest // least, gray.dtype.type(0), gray.dtype.type(highest))
    return np.stack([gray, gray, gray, alpha], -1)


def _deep_samples(image: Image.Image, path: Path) -> Samples | None:
    """uint16 samples of a 16-bit PNG or TIFF; Pillow reduces those to 8 bits when they have colour."""
    if _bits_of(image, path) != 16 or image.mode in ("P", "1", "CMYK"):
        return None
    data = path.read_bytes()
    decoded = _by_libav(data) if _planes_apart(image, path) else _by_opencv(data)
    if decoded is None or decoded.dtype != np.uint16:
        return None
    if decoded.ndim == 2:
        gray = 65535 - decoded if _tag(image, _PHOTOMETRIC, 1) == 0 else decoded  # white is 0
        return _with_hole(gray, image.info.get("transparency"), 16)
    if image.mode == "RGB" and "transparency" not in image.info:
        return decoded[..., :3]  # a fourth one of which a TIFF says nothing is no alpha
    if _PREMULTIPLIED in _tag(image, _EXTRA_SAMPLES, ()):
        return _divided_by_alpha(decoded)
    return decoded


def _by_opencv(data: bytes) -> Samples | None:
    """A picture's samples, gray (H, W), RGB or RGBA; turned, if it is a TIFF."""
    with _quiet_cv2():
        decoded: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None or decoded.ndim == 2:
        return decoded
    return decoded[..., [2, 1, 0, 3][: decoded.shape[2]]]


def _by_libav(data: bytes) -> Samples | None:
    """A TIFF's samples, likewise."""
    frames = av.CodecContext.create("tiff", "r").decode(av.Packet(data))
    decoded = frames[0].to_ndarray() if frames else None  # pyright: ignore[reportAttributeAccessIssue]
    with open_picture(io.BytesIO(data)) as image:  # one that was loaded has forgotten it
        return None if decoded is None else upright(decoded, int(_tag(image, _ORIENTATION, 1)))


def _divided_by_alpha(samples: Samples) -> Samples:
    """16-bit R, G, B, A whose colours were multiplied by alpha, as they were before."""
    alpha = samples[..., 3:].astype(np.uint64)
    colors = (samples[..., :3] * np.uint64(65535) + alpha // 2) // np.maximum(alpha, 1)
    colors = np.where(alpha == 0, samples[..., :3], np.minimum(colors, 65535))
    return np.concatenate([colors.astype(np.uint16), samples[..., 3:]], -1)


@contextmanager
def _quiet_cv2() -> Generator[None]:
    """OpenCV says on stderr what it can't read; Pillow reads it instead."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)
