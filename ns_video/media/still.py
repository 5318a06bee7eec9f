"""Stills: a clip of one frame, with EXIF, ICC profile, orientation, alpha and 16 bits kept."""

from __future__ import annotations

import io
import itertools
import os
import struct
import zlib
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ns_video.errors import InputError, NsVideoError, OutputError, UsageError
from ns_video.frame import MATRIX_RGB, RANGE_FULL, ColorInfo, Frame, JpegTables, PixelFormat
from ns_video.journal import write_whole
from ns_video.media.decode import MAX_PIXELS
from ns_video.media.jpeg_headers import tables_of
from ns_video.media.libav import check_input_file, printable
from ns_video.media.still_samples import (
    CONVERTED,
    PNG_HEADER_END,
    PNG_SIGNATURE,
    check_samples,
    load_damaged,
    load_samples,
    open_picture,
    said,
    to_eight_bits,
    upright,
)
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
_COMMENT = "Comment"  # the keyword that PNG registers for it
_AV1_CONFIGURATION, _AV1_DEEP = b"av1C", 0x40  # third byte of its body: high_bitdepth (AV1 in ISOBMFF, 2.3.3)
# Tags of a TIFF that say how its samples lie in the file, and its profile: the writer's own.
_TIFF_STRUCTURE = frozenset(
    (*range(254, 260), 262, 266, 273, *range(277, 282), 284, *range(288, 294), 297, 317, *range(320, 326), 330, 332)
) | frozenset((*range(334, 348), *range(512, 522), 529, 530, 531, 532, 34675))
_ORIENTATION, _XMP = 274, 700
_EXIF = b"Exif\0\0"
_BAD_EXIF = "its EXIF data is damaged and left out"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_JPEG_SEGMENT = 65533  # bytes of a marker segment's payload (T.81 B.1.1.4)
_TIFF_STRIP = 1 << 20  # bytes of samples in a strip, about
_PNG_COLOR = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"mDCV": 24, b"cLLI": 8}
"""Chunks that say what samples mean, and their lengths (PNG specification, third edition, 11.3.2)."""
_SRGB_CICP = b"\1\x0d\0\1"
_SRGB = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
"""The chunks as sRGB has them."""
_JPEG_QUALITY = 95  # 4:4:4, visually lossless
_MOST_DPI = 65535  # what JFIF's two bytes hold


@dataclass(frozen=True, slots=True)
class StillInfo:
    """What rides along with a still."""

    source_format: str
    exif: bytes
    """Begins with "Exif\\0\\0" where there is any."""
    orientation: int
    """EXIF's, 1 to 8: 1 is upright, from 5 on width and height change places."""
    icc: bytes
    xmp: bytes
    dpi: tuple[float, float] | None
    texts: tuple[tuple[str, str], ...]
    """Keywords and texts of a PNG; a JPEG's comment is one, too."""
    color_chunks: tuple[tuple[bytes, bytes], ...]
    """Chunks of a PNG that say what its colours mean: kind and body."""
    notes: tuple[str, ...]
    damage: tuple[Damage, ...]


def still_suffix(path: str) -> str | None:
    """Pillow's format name for an output path, None where the suffix is not a still's."""
    return _SUFFIXES.get(Path(path).suffix.lower())


def jpeg_tables_of(image: Image.Image) -> JpegTables | None:
    """The quantisation tables and subsampling of an opened JPEG; None for other formats."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    steps = {name: np.array(table, np.uint16).reshape(8, 8) for name, table in image.quantization.items()}
    return tables_of([(across, down, table) for _, across, down, table in image.layer[:3]], steps)


def read_still(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[Frame, StillInfo]:
    """Read one picture. Planes are R, G, B[, A] or gray, 8 or 16 bit, not rotated.

    Raises InputError for what is no picture, is damaged beyond use, or claims more than `max_pixels`.
    """
    check_input_file(path)
    notes: list[str] = []
    damage: list[Damage] = []
    try:
        image = open_picture(path)
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        what = f"{printable(path)} is not a picture that can be read: {said(error)}"
        raise InputError(what, stage="open") from error
    with image:
        if image.width * image.height > max_pixels:
            raise InputError(
                f"the header claims {image.width}x{image.height} pixels, more than --max-pixels allows",
                stage="open",
                remedy=f"--max-pixels {image.width * image.height}",
            )
        kind = image.format or "?"
        exif, orientation = _exif_of(image, notes)
        icc = image.info.get("icc_profile") or b""
        xmp = image.info.get("xmp") or b""
        dpi = _dpi_of(image, notes)
        try:
            tables = jpeg_tables_of(image)
            if getattr(image, "n_frames", 1) > 1:
                notes.append(f"only the first of {getattr(image, 'n_frames', 1)} pictures is restored")
            check_samples(image, path)
            image.load()  # says where a file was cut; OpenCV may not
            samples = load_samples(image, path, notes, bytes(icc))
        except InputError:
            raise
        except Exception as error:
            tables = None
            samples = load_damaged(path, notes, bytes(icc))
            damage.append(Damage(0.0, f"the picture is damaged: {said(error)}"))
        if image.mode in CONVERTED:
            icc = b""
        texts = _texts_of(image)
        if kind == "AVIF" and _is_deep_avif(path):
            notes.append("8 of its 10 or 12 bits per sample were read")
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
        picture_type="I",
        rotation=(0, 180, 270, 90)[(orientation - 1) // 2],
        jpeg=tables,
    )
    info = StillInfo(
        source_format=kind,
        exif=exif,
        orientation=orientation,
        icc=bytes(icc),
        xmp=bytes(xmp),
        dpi=dpi,
        texts=texts,
        color_chunks=_color_chunks_of(path) if kind == "PNG" else (),
        notes=tuple(notes),
        damage=tuple(damage),
    )
    return frame, info


def _exif_of(image: Image.Image, notes: list[str]) -> tuple[bytes, int]:
    """EXIF data and its orientation."""
    try:
        found = image.getexif()
        if image.format == "TIFF":
            copy = Image.Exif()  # Pillow turns a TIFF by the original while it reads; so does cv2
            found.bigtiff = False  # of which tobytes makes nothing that can be read
            copy.load(found.tobytes())
            for tag in (_TIFF_STRUCTURE | {_ORIENTATION, _XMP}) & set(copy):
                del copy[tag]
            return copy.tobytes() if copy else b"", 1
        exif = image.info.get("exif") or (found.tobytes() if found else b"")  # WebP's comes without the prefix
        orientation = int(found.get(_ORIENTATION) or 1)
        return _EXIF + exif.removeprefix(_EXIF) if exif else b"", orientation if 1 <= orientation <= 8 else 1
    except Exception:  # a directory that points nowhere
        # A PNG that has none before its samples is read to its end for it: damaged samples tell of themselves.
        if not (isinstance(image, PngImagePlugin.PngImageFile) and image.tile and "exif" not in image.info):
            notes.append(_BAD_EXIF)
        return b"", 1


def _dpi_of(image: Image.Image, notes: list[str]) -> tuple[float, float] | None:
    if (told := image.info.get("dpi")) is None:
        return None
    with suppress(TypeError, ValueError, OverflowError):  # a TIFF may hold anything there
        across, down = map(float, told)
        if 0 < across <= _MOST_DPI and 0 < down <= _MOST_DPI:  # nan isn't
            return across, down
    notes.append("its resolution can't be true and is left out")
    return None


def _color_chunks_of(path: Path) -> tuple[tuple[bytes, bytes], ...]:
    """The sound chunks of `_PNG_COLOR` before a PNG's samples."""
    found: dict[bytes, bytes] = {}
    with path.open("rb") as file:
        file.seek(len(PNG_SIGNATURE))
        while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if _PNG_COLOR.get(kind) != length:
                file.seek(length + 4, os.SEEK_CUR)
            elif int.from_bytes((tail := file.read(length + 4))[length:], "big") == zlib.crc32(kind + tail[:length]):
                found.setdefault(kind, tail[:length])
    return tuple(found.items())


def _lost_color(info: StillInfo) -> str:
    """What another format than PNG loses of what the colours mean, in words; "" where that is nothing.

    Of these chunks the first one counts: cICP, iCCP (which other formats hold), sRGB, gAMA with cHRM (PNG
    specification, third edition, 4.3).
    """
    chunks = dict(info.color_chunks)
    if chunks.get(b"cICP", _SRGB_CICP) != _SRGB_CICP:
        lost = (b"cICP", b"mDCV", b"cLLI")
    elif info.icc or b"cICP" in chunks or b"sRGB" in chunks or all(chunks.get(k, v) == v for k, v in _SRGB.items()):
        return ""
    else:
        lost = tuple(_SRGB)
    return ", ".join(kind.decode() for kind in lost if kind in chunks)


def _texts_of(image: Image.Image) -> tuple[tuple[str, str], ...]:
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        comment = bytes(image.info.get("comment") or b"")
        return ((_COMMENT, comment.decode("utf-8", "surrogateescape")),) if comment else ()
    if not isinstance(image, PngImagePlugin.PngImageFile):
        return ()
    try:
        return tuple((str(key), str(text)) for key, text in image.text.items())
    except Exception:  # texts behind damaged samples
        return ()


def _is_deep_avif(path: Path) -> bool:
    with path.open("rb") as file:
        _, found, body = file.read(1 << 16).partition(_AV1_CONFIGURATION)
    return bool(found) and len(body) > 2 and bool(body[2] & _AV1_DEEP)


def write_still(path: Path, frame: Frame, info: StillInfo, *, quality: float | None = None) -> tuple[str, ...]:
    """Write one picture, whole or not at all (a pipe or device: as it is). Returns what the format could not hold.

    `quality` is JPEG's or lossy WebP's, 1 to 100. Raises OutputError, UsageError for an unknown suffix.
    """
    kind = still_suffix(str(path))
    if kind is None:
        raise UsageError(f"{printable(path)}: not a still's suffix", remedy="use .png, .jpg, .webp, .tif or .bmp")
    samples = np.stack(frame.planes, axis=-1)
    notes: list[str] = []
    if samples.dtype == np.uint16 and kind not in ("PNG", "TIFF"):
        notes.append(f"{kind} holds 8 of 16 bits per sample")
        samples = to_eight_bits(samples)
    if samples.shape[2] == 4 and kind in ("JPEG", "BMP"):
        notes.append(f"{kind} can't hold the alpha channel; it is left out")
        samples = samples[..., :3]
    if kind == "BMP":
        samples = upright(samples, info.orientation)
        if info.icc or info.exif:
            turned = "; the picture is turned as its EXIF says" if info.orientation > 1 else ""
            notes.append(f"BMP holds no EXIF and no ICC profile{turned}")
    if kind != "PNG" and (lost := _lost_color(info)):
        notes.append(f"{kind} can't hold what the PNG says of its colours ({lost}): they may look different")
    held = {"PNG": {key for key, _ in info.texts}, "JPEG": {_COMMENT}}.get(kind, set[str]()) | {_PNG_XMP}
    if lost := [key for key, _ in info.texts if key not in held]:
        notes.append(f"{kind} holds no such text: {printable(', '.join(lost))}")
    try:
        data = _encode(samples, kind, info, quality, notes)
        _check(data, samples)
    except (NsVideoError, MemoryError):
        raise
    except Exception as error:  # Pillow's writers raise whatever they run into
        what = f"{printable(path)} can't be written as {kind}: {said(error)}"
        raise OutputError(what, stage="encode", remedy="give OUTPUT another suffix") from error
    write_whole(path, data, stage="encode")
    return tuple(notes)


def _check(data: bytes, samples: npt.NDArray[Any]) -> None:
    """Raises OutputError where a written picture doesn't read back."""
    with open_picture(io.BytesIO(data)) as image:
        # Pillow gives a TIFF's size as it is shown; these are width and height of its samples.
        size = (
            (image.tag_v2[256], image.tag_v2[257]) if isinstance(image, TiffImagePlugin.TiffImageFile) else image.size
        )
        if size != (samples.shape[1], samples.shape[0]):
            raise OutputError(f"the picture reads back as {size[0]}x{size[1]}", stage="verify")
        image.load()


def _encode(samples: npt.NDArray[Any], kind: str, info: StillInfo, quality: float | None, notes: list[str]) -> bytes:
    if kind == "TIFF":
        return _tiff(samples, info, notes)
    if kind == "PNG":
        return _png(samples, info)
    options: dict[str, Any] = {}
    if kind in ("JPEG", "WEBP"):
        held = {"exif": info.exif, "xmp": info.xmp}
        for name, data in held.items():
            if kind == "JPEG" and len(data) > _JPEG_SEGMENT - len(_JPEG_XMP):
                notes.append(f"{name.upper()} data is left out: JPEG holds 64 KiB of it")
            elif data:
                options[name] = data
        if info.icc:
            options["icc_profile"] = info.icc
    if info.dpi and kind in ("JPEG", "BMP"):
        options["dpi"] = info.dpi
    if kind == "JPEG":
        options.update(quality=max(1, round(_JPEG_QUALITY if quality is None else quality)))
        options.update(subsampling=0, optimize=True)
        options["comment"] = dict(info.texts).get(_COMMENT, "").encode("utf-8", "surrogateescape")[:_JPEG_SEGMENT]
    elif kind == "WEBP" and quality is None:
        options.update(lossless=True, quality=75, exact=True)  # exact: colours under alpha 0 stay
    elif kind == "WEBP" and quality is not None:
        options["quality"] = round(quality)
    return _saved(samples, kind, options)


def _saved(samples: npt.NDArray[Any], kind: str, options: dict[str, Any]) -> bytes:
    """8-bit samples as Pillow writes them."""
    buffer = io.BytesIO()
    Image.fromarray(samples[..., 0] if samples.shape[2] == 1 else samples).save(buffer, kind, **options)
    return buffer.getvalue()


def _tiff(samples: npt.NDArray[Any], info: StillInfo, notes: list[str]) -> bytes:
    """EXIF data is a TIFF without a picture; here it gets one, in strips of differenced and deflated rows (TIFF 6.0).

    Pillow's writer compresses no file that has inner directories (a camera's exposure, GPS), cv2's knows no EXIF.
    """
    directory = Image.Exif()
    try:
        directory.load(info.exif)
        directory.tobytes()
    except Exception:  # whatever Pillow's parsing runs into
        directory = Image.Exif()
    if info.exif and not directory:
        notes.append(_BAD_EXIF)
    for tag in _TIFF_STRUCTURE & set(directory):
        del directory[tag]
    height, width, channels = samples.shape
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    ordered = differences.astype(samples.dtype.newbyteorder("<" if directory.endian == "<" else ">"))
    rows = max(1, _TIFF_STRIP // ordered[0].nbytes)
    strips = [zlib.compress(ordered[top : top + rows].tobytes()) for top in range(0, height, rows)]
    tags: dict[int, Any] = {
        256: width,
        257: height,
        258: (samples.itemsize * 8,) * channels,
        259: 8,  # deflate
        262: 1 if channels == 1 else 2,  # gray or RGB
        273: tuple(itertools.accumulate(map(len, strips[:-1]), initial=0)),  # Pillow adds where the directory ends
        277: channels,
        278: rows,
        279: tuple(map(len, strips)),
        284: 1,  # samples of a pixel lie together
        317: 2,  # horizontal differences
        338: 2 if channels == 4 else None,  # alpha that is not multiplied in
        _XMP: info.xmp,
        34675: info.icc,
    }
    if info.dpi:
        tags |= {282: info.dpi[0], 283: info.dpi[1], 296: 2}
    for tag, value in tags.items():
        if value not in (None, b""):
            directory[tag] = value
    return b"".join([directory.tobytes().removeprefix(_EXIF), *strips])


def _png(samples: npt.NDArray[Any], info: StillInfo) -> bytes:
    """A PNG, with what rides along in chunks after IHDR (PNG specification, third edition, 11.3)."""
    if samples.dtype == np.uint16:
        order = [0] if samples.shape[2] == 1 else [2, 1, 0, 3][: samples.shape[2]]
        done, data = cv2.imencode(".png", np.ascontiguousarray(samples[..., order]))
        if not done:
            raise OutputError("16-bit PNG can't be written", stage="encode")
        png = data.tobytes()
    else:
        png = _saved(samples, "PNG", {})
    chunks = list(info.color_chunks)
    if info.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(info.icc)))
    if info.dpi:
        chunks.append((b"pHYs", struct.pack(">IIB", *(round(dots / 0.0254) for dots in info.dpi), 1)))
    if info.exif:
        chunks.append((b"eXIf", info.exif.removeprefix(_EXIF)))
    chunks += [(kind, body) for kind, body, *_ in _png_texts(info).chunks]
    added = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )
    return b"".join([png[:PNG_HEADER_END], *added, png[PNG_HEADER_END:]])


def _png_texts(info: StillInfo) -> PngImagePlugin.PngInfo:
    """The texts of a PNG, and another format's XMP as the iTXt chunk that readers look for."""
    out = PngImagePlugin.PngInfo()
    texts = dict(info.texts)
    if info.xmp:
        texts.setdefault(_PNG_XMP, info.xmp.decode("utf-8", "replace"))
    for key, text in texts.items():
        if key == _PNG_XMP or not text.isascii():
            out.add_itxt(key, text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        else:
            out.add_text(key, text)
    return out
