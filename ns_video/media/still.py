"""Stills: a clip of one frame, with EXIF, ICC profile, orientation, alpha and 16 bits kept."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ns_video.errors import InputError, first_of
from ns_video.frame import MATRIX_RGB, RANGE_FULL, ColorInfo, Frame, JpegTables, PixelFormat
from ns_video.media import jpeg_segments, png_chunks
from ns_video.media.decode import MAX_PIXELS, check_pixels
from ns_video.media.jpeg_headers import tables_of
from ns_video.media.libav import check_input_file, printable
from ns_video.media.still_info import BAD_EXIF, EXIF, StillInfo
from ns_video.media.still_samples import (
    CONVERTED,
    READING,
    check_samples,
    is_gray,
    load_damaged,
    load_samples,
    open_picture,
    said,
)
from ns_video.media.still_steps import quantiser_of_still
from ns_video.media.still_writer import TIFF_STRUCTURE, TIFF_XMP
from ns_video.record import Damage

_AV1_CONFIGURATION, _AV1_DEEP = b"av1C", 0x40  # third byte of its body: high_bitdepth (AV1 in ISOBMFF, 2.3.3)
_ORIENTATION, _ACROSS, _DOWN = 274, 282, 283
_MOST_DPI = 65535  # what JFIF's two bytes hold


def jpeg_tables_of(image: Image.Image) -> JpegTables | None:
    """The quantisation tables and subsampling of an opened JPEG; None for other formats, and for a step of 0."""
    if not isinstance(image, JpegImagePlugin.JpegImageFile):
        return None
    steps = {name: np.array(table, np.uint16).reshape(8, 8) for name, table in image.quantization.items()}
    tables = tables_of([(across, down, table) for _, across, down, table in image.layer[:3]], steps)
    codes_rgb = _codes_rgb(image) and len({table for *_, table in image.layer}) == 1
    return replace(tables, is_rgb=True) if tables is not None and codes_rgb else tables


def _codes_rgb(image: JpegImagePlugin.JpegImageFile) -> bool:
    """Whether its three components are R, G and B, as libjpeg decides it."""
    if len(image.layer) != 3 or "jfif" in image.info:
        return False
    transform = image.info.get("adobe_transform")
    return transform == 0 if transform is not None else [name for name, *_ in image.layer] == list(b"RGB")


def read_still(path: Path, *, max_pixels: int = MAX_PIXELS) -> tuple[Frame, StillInfo]:
    """Read one picture. Planes are R, G, B[, A] or gray, 8 or 16 bit, not rotated.

    Raises InputError for what is no picture, is damaged beyond use, or claims more than `max_pixels`.
    """
    with READING:
        return _read_still(path, max_pixels)


def _read_still(path: Path, max_pixels: int) -> tuple[Frame, StillInfo]:
    check_input_file(path)
    notes: list[str] = []
    damage: list[Damage] = []
    try:
        image = open_picture(path)
    except Exception as error:  # Pillow's readers raise whatever their parsing runs into
        what = f"{printable(path)} is not a picture that can be read: {said(error)}"
        raise InputError(what, stage="open") from error
    with image:
        check_pixels(image.width, image.height, max_pixels)
        kind = image.format or "?"
        exif, orientation = _exif_of(image, notes)
        icc = bytes(image.info.get("icc_profile") or b"")
        xmp = image.info.get("xmp") or b""
        dpi = _dpi_of(image, notes)
        try:
            tables = jpeg_tables_of(image)
            if getattr(image, "n_frames", 1) > 1:
                notes.append(f"only the first of {getattr(image, 'n_frames', 1)} pictures is read")
            check_samples(image, path)
            image.load()  # says where a file was cut; OpenCV may not
            samples = load_samples(image, path, notes, icc)
        except InputError:
            raise
        except Exception as error:
            tables = None
            samples = load_damaged(path, notes, icc)
            damage.append(Damage(0.0, f"the picture is damaged: {said(error)}"))
        if image.mode in CONVERTED:
            icc = b""
        if kind == "AVIF" and _is_deep_avif(path):
            notes.append("8 of its 10 or 12 bits per sample were read")
        info = StillInfo(
            source_format=kind,
            is_gray=is_gray(image, path),
            exif=exif,
            orientation=orientation,
            icc=icc,
            xmp=bytes(xmp),
            dpi=dpi,
            texts=(),
            chunks=(),
            segments=(),
            left_out=(),
            notes=tuple(notes),
            damage=tuple(damage),
        )
        info = _riders(image, path, info)
    wide = samples.dtype == np.uint16
    planes = tuple(np.ascontiguousarray(samples[..., i]) for i in range(samples.shape[2]))
    name = {1: "gray", 3: "gbrp", 4: "gbrap"}[len(planes)] + ("16le" if wide else "")
    fmt = PixelFormat(name, 16 if wide else 8, len(planes) > 1, len(planes), 0, 0, len(planes) == 4)
    quantiser = None if damage else quantiser_of_still(path, kind)
    color = ColorInfo(matrix=MATRIX_RGB if fmt.is_rgb else 5, range=RANGE_FULL)
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
        quantiser=quantiser,
        jpeg=tables,
        was_ycbcr=quantiser is not None,
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
            for tag in (TIFF_STRUCTURE | {_ORIENTATION, TIFF_XMP}) & set(copy):
                del copy[tag]
            return copy.tobytes() if copy else b"", 1
        exif = image.info.get("exif") or (found.tobytes() if found else b"")  # WebP's comes without the prefix
        orientation = int(found.get(_ORIENTATION) or 1)
        return EXIF + exif.removeprefix(EXIF) if exif else b"", orientation if 1 <= orientation <= 8 else 1
    except Exception:  # a directory that points nowhere
        # A PNG that has none before its samples is read to its end for it: damaged samples tell of themselves.
        if not (isinstance(image, PngImagePlugin.PngImageFile) and image.tile and "exif" not in image.info):
            notes.append(BAD_EXIF)
        return b"", 1


def _dpi_of(image: Image.Image, notes: list[str]) -> tuple[float, float] | None:
    told = image.info.get("dpi")
    has_none = isinstance(image, TiffImagePlugin.TiffImageFile) and not {_ACROSS, _DOWN} & set(image.tag_v2)
    if told is None or has_none:  # Pillow's default
        return None
    with suppress(TypeError, ValueError, OverflowError):  # a TIFF may hold anything there
        across, down = map(float, told)
        if 0 < across <= _MOST_DPI and 0 < down <= _MOST_DPI:  # nan isn't
            return across, down
    notes.append("its resolution can't be true and is left out")
    return None


def _riders(image: Image.Image, path: Path, info: StillInfo) -> StillInfo:
    """What rides along in pieces of the file that Pillow doesn't tell."""
    lost: tuple[str, ...] = ()
    behind = 0
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        found = jpeg_segments.riding(path.read_bytes())
        lost, behind = found.lost, found.behind
        comments = ((png_chunks.COMMENT, comment.decode("utf-8", "surrogateescape")) for comment in found.comments)
        xmp = jpeg_segments.without_what_lies_behind(info.xmp) if behind else info.xmp
        info = replace(info, segments=found.carried, texts=tuple(comments), xmp=xmp)
    elif isinstance(image, PngImagePlugin.PngImageFile):
        chunks, lost, behind = png_chunks.riding(path)
        try:
            told = getattr(image, "text", {}).items()
            texts = tuple((str(key), str(text)) for key, text in told if key != png_chunks.XMP)
        except Exception:  # texts behind damaged samples
            chunks, texts = tuple(chunk for chunk in chunks if chunk[0] not in png_chunks.TEXTS), ()
        info = replace(info, chunks=chunks, texts=texts)
    if behind:
        lost = (*lost, f"{behind:,} bytes behind its end (a video, a gain map or the like)")
    return replace(info, left_out=(f"left out: {first_of(lost)}",) if lost else ())


def _is_deep_avif(path: Path) -> bool:
    with path.open("rb") as file:
        _, found, body = file.read(1 << 16).partition(_AV1_CONFIGURATION)
    return bool(found) and len(body) > 2 and bool(body[2] & _AV1_DEEP)
