"""Stills: a clip of one frame, with EXIF, ICC profile, orientation, alpha and 16 bits kept."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import warnings
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, JpegImagePlugin, PngImagePlugin

from ns_video.errors import InputError, OutputError, UsageError
from ns_video.frame import MATRIX_RGB, RANGE_FULL, ColorInfo, Frame, JpegTables, PixelFormat
from ns_video.media.decode import MAX_PIXELS
from ns_video.media.libav import check_input_file, printable
from ns_video.record import Damage

_SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
_PNG_XMP = "XML:com.adobe.xmp"
# Tags of a TIFF that say how its samples lie in the file, and its profile: the writer's own.
_TIFF_STRUCTURE = frozenset(
    (*range(254, 260), 262, 266, 273, *range(277, 282), 284, *range(288, 294), 297, 317, *range(320, 326), 330, 332)
) | frozenset((*range(334, 348), *range(512, 522), 529, 530, 531, 532, 34675))
_ORIENTATION = 274
_JPEG_QUALITY = 95  # 4:4:4, visually lossless

# Annex F of T.81 numbers coefficients in zigzag order; Pillow hands tables in natural order since 8.3.


@dataclass(frozen=True, slots=True)
class StillInfo:
    """What rides along with a still."""

    source_format: str
    exif: bytes
    icc: bytes
    xmp: bytes
    dpi: tuple[float, float] | None
    texts: tuple[tuple[str, str], ...]
    """Keywords and texts of a PNG."""
    notes: tuple[str, ...]
    damage: tuple[Damage, ...]


def still_suffix(path: str) -> str | None:
    """Pillow's format name for an output path, None where the suffix is not a still's."""
    return _SUFFIXES.get(Path(path).suffix.lower())


def jpeg_tables_of(image: Image.Image) -> JpegTables | None:
    """The quantisation tables and subsampling of an opened JPEG; None for other formats."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    tables: dict[int, list[int]] = getattr(image, "quantization", {})
    if not tables:
        return None
    first = np.array(tables[min(tables)], np.uint16).reshape(8, 8)
    second = np.array(tables[max(tables)], np.uint16).reshape(8, 8)
    sampling = {0: (1, 1), 1: (2, 1), 2: (2, 2)}.get(int(JpegImagePlugin.get_sampling(image)), (1, 1))
    return JpegTables(luma=first, chroma=second, subsampling=sampling if image.mode != "L" else (1, 1))


def _gray_or_rgb(mode: str) -> str:
    """The working mode for a Pillow mode."""
    if mode in ("1", "L"):
        return "L"
    if mode in ("LA", "La", "PA", "RGBa", "RGBA"):
        return "RGBA"
    return "RGB"


def read_still(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[Frame, StillInfo]:
    """Read one picture. Planes are R, G, B[, A] or gray, 8 or 16 bit, not rotated.

    Raises InputError for what is no picture, is damaged beyond use, or claims more than `max_pixels`.
    """
    check_input_file(path)
    notes: list[str] = []
    damage: list[Damage] = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(path)
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        what = f"{printable(path)} is not a picture that can be read: {_said(error)}"
        raise InputError(what, stage="open") from error
    with image:
        if image.width * image.height > max_pixels:
            raise InputError(
                f"the header claims {image.width}x{image.height} pixels, more than --max-pixels allows",
                stage="open",
                remedy=f"--max-pixels {image.width * image.height}",
            )
        kind = image.format or "?"
        exif = _exif_of(image, notes)
        icc = image.info.get("icc_profile") or b""
        xmp = image.info.get("xmp") or b""
        dpi = image.info.get("dpi")
        try:
            tables = jpeg_tables_of(image)
            if getattr(image, "n_frames", 1) > 1:
                notes.append(f"only the first of {getattr(image, 'n_frames', 1)} pictures is restored")
            samples = _deep_samples(path, image, kind)
            if samples is not None:
                image.load()  # says where a file was cut; OpenCV fills in without a word
            else:
                samples = _load(image, notes, bytes(icc))
        except InputError:
            raise
        except Exception as error:
            tables = None
            samples = _load_damaged(image, error, path, damage)
        if image.mode == "CMYK":
            icc = b""
        texts = _texts_of(image)
    wide = samples.dtype == np.uint16
    planes = tuple(np.ascontiguousarray(samples[..., i]) for i in range(samples.shape[2]))
    gray = len(planes) == 1
    name = {1: "gray", 3: "gbrp", 4: "gbrap"}[len(planes)] + ("16le" if wide else "")
    fmt = PixelFormat(name, 16 if wide else 8, not gray, len(planes), 0, 0, len(planes) == 4)
    color = ColorInfo(matrix=5 if gray else MATRIX_RGB, range=RANGE_FULL)
    frame = Frame(
        planes=planes,
        width=samples.shape[1],
        height=samples.shape[0],
        format=fmt,
        color=color,
        pts=0,
        time_base=Fraction(1),
        key_frame=True,
        picture_type="I",
        jpeg=tables,
        damaged=bool(damage),
    )
    info = StillInfo(kind, bytes(exif), bytes(icc), bytes(xmp), dpi, texts, tuple(notes), tuple(damage))
    return frame, info


def _exif_of(image: Image.Image, notes: list[str]) -> bytes:
    try:
        if image.format == "TIFF":
            found = Image.Exif()  # a copy: Pillow turns a TIFF by the original while it reads; so does cv2
            found.load(image.getexif().tobytes())
            for tag in (_TIFF_STRUCTURE | {_ORIENTATION}) & set(found):
                del found[tag]
            return found.tobytes() if found else b""
        return image.info.get("exif") or (image.getexif().tobytes() if image.getexif() else b"")
    except Exception:  # a directory that points nowhere; a PNG is read to its end for it
        notes.append("its EXIF data is damaged and left out")
        return b""


def _texts_of(image: Image.Image) -> tuple[tuple[str, str], ...]:
    if not isinstance(image, PngImagePlugin.PngImageFile):
        return ()
    try:
        return tuple((str(key), str(text)) for key, text in image.text.items())
    except Exception:  # texts behind damaged samples
        return ()


def _said(error: Exception) -> str:
    return printable(str(error) or type(error).__name__)


def _deep_samples(path: Path, image: Image.Image, kind: str) -> npt.NDArray[Any] | None:
    """(H, W, C) uint16 of a 16-bit PNG or TIFF; Pillow reduces those to 8 bits when they have colour."""
    if kind not in ("PNG", "TIFF") or image.mode in ("P", "1"):
        return None
    if kind == "PNG":
        with path.open("rb") as file:
            head = file.read(26)
        if len(head) < 26 or head[24] != 16:
            return None
    else:
        bits: Any = image.tag_v2.get(258, (8,)) if hasattr(image, "tag_v2") else (8,)  # pyright: ignore[reportAttributeAccessIssue]
        if max(bits) != 16:
            return None
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    decoded: Any = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if decoded is None or decoded.dtype != np.uint16:
        return None
    if decoded.ndim == 2:
        return decoded[..., None]
    order = [2, 1, 0] + ([3] if decoded.shape[2] == 4 else [])
    return decoded[..., order]


def _load(image: Image.Image, notes: list[str], icc: bytes) -> npt.NDArray[Any]:
    if image.mode.startswith("I;16") or image.mode == "I":
        array = np.asarray(image)
        return np.clip(array, 0, 65535).astype(np.uint16)[..., None]
    if image.mode == "F":
        raise InputError("floating-point pictures are not supported", stage="open")
    if image.mode == "CMYK":
        notes.append("CMYK was converted to RGB; its profile is left out")
        if icc:
            try:
                rgb = ImageCms.profileToProfile(
                    image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB"), outputMode="RGB"
                )
                if rgb is not None:
                    return np.asarray(rgb)
            except ImageCms.PyCMSError:
                notes.append("its profile was unusable")
        return np.asarray(image.convert("RGB"))
    if image.mode == "P":
        return np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
    if image.mode in ("RGB", "L") and "transparency" in image.info:
        return np.asarray(image.convert("RGBA"))
    array = np.asarray(image.convert(_gray_or_rgb(image.mode)))
    return array if array.ndim == 3 else array[..., None]


def _load_damaged(image: Image.Image, error: Exception, path: Path, damage: list[Damage]) -> npt.NDArray[Any]:
    """What is left of a picture that was cut short."""
    from PIL import ImageFile

    kept = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as again:
                array = np.asarray(again.convert(_gray_or_rgb(again.mode)))
    except Exception as worse:
        raise InputError(f"{printable(path)} is damaged: {_said(worse)}", stage="decode") from worse
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = kept
    del image
    damage.append(Damage(0.0, f"the picture is damaged: {_said(error)}"))
    return array if array.ndim == 3 else array[..., None]


def write_still(path: Path, frame: Frame, info: StillInfo, *, quality: float | None = None) -> tuple[str, ...]:
    """Write one picture, whole or not at all. Returns what the format could not hold, in words.

    `quality` is JPEG's or lossy WebP's, 1 to 100. Raises OutputError, UsageError for an unknown suffix.
    """
    kind = still_suffix(str(path))
    if kind is None:
        raise UsageError(f"{printable(path)}: not a still's suffix", remedy="use .png, .jpg, .webp, .tif or .bmp")
    samples = np.stack(frame.planes, axis=-1)
    notes: list[str] = []
    if samples.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        notes.append(f"{kind} holds 8 of 16 bits per sample")
        samples = ((samples.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if samples.shape[2] == 4 and kind in ("JPEG", "BMP"):
        notes.append(f"{kind} can't hold the alpha channel; it is left out")
        samples = samples[..., :3]
    data = (
        _encode_deep(samples, kind, info, notes)
        if samples.dtype == np.uint16
        else _encode(samples, kind, info, quality)
    )
    if kind == "BMP" and (info.icc or info.exif):
        notes.append("BMP holds no EXIF and no ICC profile")
    try:
        handle, name = tempfile.mkstemp(prefix=".ns-video-", suffix=path.suffix, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            mode = 0o666 & ~_umask()
            Path(name).chmod(mode)
            _check(Path(name), samples)
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{printable(path)}: {error.strerror or error}", stage="encode") from error
    return tuple(notes)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _check(path: Path, samples: npt.NDArray[Any]) -> None:
    with Image.open(path) as image:
        if image.size != (samples.shape[1], samples.shape[0]):
            raise OutputError(f"{printable(path)} reads back as {image.size}", stage="verify")
        image.load()


def _encode(samples: npt.NDArray[Any], kind: str, info: StillInfo, quality: float | None) -> bytes:
    image = Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples)
    options: dict[str, Any] = {}
    if info.exif and kind != "BMP":
        options["exif"] = info.exif
    if info.icc and kind != "BMP":
        options["icc_profile"] = info.icc
    if info.dpi and kind in ("JPEG", "PNG", "TIFF", "BMP"):
        options["dpi"] = info.dpi
    if info.xmp and kind in ("JPEG", "WEBP"):
        options["xmp"] = info.xmp
    if kind == "JPEG":
        options.update(quality=round(quality or _JPEG_QUALITY), subsampling=0, optimize=True)
    elif kind == "WEBP":
        options.update({"lossless": True, "quality": 75} if quality is None else {"quality": round(quality)})
    elif kind == "TIFF":
        options["compression"] = "tiff_lzw"
    elif kind == "PNG":
        options["pnginfo"] = _png_texts(info)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _png_texts(info: StillInfo) -> PngImagePlugin.PngInfo:
    """The texts of a PNG, and another format's XMP as the iTXt chunk that readers look for."""
    out = PngImagePlugin.PngInfo()
    texts = dict(info.texts)
    if info.xmp:
        texts.setdefault(_PNG_XMP, info.xmp.decode("utf-8", "replace"))
    for key, text in texts.items():
        if key == _PNG_XMP or not text.isascii():
            out.add_itxt(key, text)
        else:
            out.add_text(key, text)
    return out


def _encode_deep(samples: npt.NDArray[Any], kind: str, info: StillInfo, notes: list[str]) -> bytes:
    channels = samples.shape[2]
    array = samples[..., 0] if channels == 1 else samples[..., [2, 1, 0, 3][:channels]]
    done, data = cv2.imencode(".png" if kind == "PNG" else ".tiff", np.ascontiguousarray(array))
    if not done:
        raise OutputError(f"16-bit {kind} can't be written", stage="encode")
    raw = data.tobytes()
    if kind == "PNG":
        return _with_png_chunks(raw, info)
    if info.icc or info.exif:
        notes.append("EXIF and ICC profile are left out of a 16-bit TIFF; PNG keeps them")
    return raw


def _with_png_chunks(png: bytes, info: StillInfo) -> bytes:
    """The same PNG with iCCP and eXIf chunks after IHDR (PNG specification, third edition, 11.3)."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header_end = 8 + 25
    added = b""
    if info.icc:
        added += chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(info.icc))
    if info.exif:
        added += chunk(b"eXIf", info.exif.removeprefix(b"Exif\0\0"))
    added += b"".join(chunk(kind, body) for kind, body, *_ in _png_texts(info).chunks)
    return png[:header_end] + added + png[header_end:]
