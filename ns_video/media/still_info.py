"""What rides along with a still, and which format holds what of it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ns_video.errors import printable
from ns_video.media import jpeg_segments, png_chunks
from ns_video.media.icc import fits, space_of
from ns_video.record import Damage

EXIF = b"Exif\0\0"
BAD_EXIF = "its EXIF data is damaged and left out"
_SRGB_CICP = b"\1\x0d\0\1"
_SRGB = {
    b"gAMA": struct.pack(">I", 45455),
    b"cHRM": struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
}
"""The chunks as sRGB has them."""


@dataclass(frozen=True, slots=True)
class StillInfo:
    """What rides along with a still."""

    source_format: str
    is_gray: bool
    """Its samples have no colour; with alpha, too, where the frame's planes are R, G, B and A."""
    exif: bytes
    """Begins with "Exif\\0\\0" where there is any."""
    orientation: int
    """EXIF's, 1 to 8: 1 is upright, from 5 on width and height change places."""
    icc: bytes
    xmp: bytes
    dpi: tuple[float, float] | None
    texts: tuple[tuple[str, str], ...]
    """Keywords and texts of a PNG; a JPEG's comments are such, too."""
    chunks: tuple[png_chunks.Chunk, ...]
    """Of a PNG what another one gets as it is: texts, and what colours mean."""
    segments: tuple[jpeg_segments.Segment, ...]
    """Of a JPEG likewise: IPTC and Photoshop's data, XMP beyond 64 KiB."""
    left_out: tuple[str, ...]
    """What no output gets, in words."""
    notes: tuple[str, ...]
    damage: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """What a format that is written holds."""

    fields: frozenset[str]
    """Of StillInfo."""
    deep: bool = False
    """16 bits per sample."""
    alpha: bool = False
    gray: bool = True
    has_quality: bool = False


_COMMON = frozenset({"exif", "icc", "xmp"})
HOLDS = {
    "PNG": Holding(_COMMON | {"dpi", "texts", "chunks"}, deep=True, alpha=True),
    "TIFF": Holding(_COMMON | {"dpi"}, deep=True, alpha=True),
    "JPEG": Holding(_COMMON | {"dpi", "texts", "segments"}, has_quality=True),
    "WEBP": Holding(_COMMON, alpha=True, gray=False, has_quality=True),
    "BMP": Holding(frozenset({"dpi"})),
}
_LARGEST = {
    "exif": jpeg_segments.SEGMENT_BYTES,
    "xmp": jpeg_segments.SEGMENT_BYTES - len(jpeg_segments.XMP),
    "icc": 255 * jpeg_segments.ICC_PART,
}
"""Bytes of a JPEG's."""
_XMP_ORIENTATION = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>))[1-8](?=["'<])""")
_NAMES: dict[str, Callable[[StillInfo], list[str]]] = {
    "exif": lambda _: ["EXIF"],
    "icc": lambda _: ["ICC profile"],
    "xmp": lambda _: ["XMP"],
    "dpi": lambda _: ["resolution"],
    "texts": lambda info: [f"text {printable(key)}" for key in dict(info.texts)],
    "chunks": lambda info: ["shape of pixels (pHYs)"] * png_chunks.shape_of(info.chunks),
    "segments": lambda info: jpeg_segments.names_of(info.segments),
}
"""What a field holds, in words."""


def fitted(info: StillInfo, kind: str, *, is_gray: bool) -> tuple[StillInfo, list[str]]:
    """What a format (a key of HOLDS) keeps of it beside gray or other samples, and in words what it doesn't."""
    empty = replace(info, exif=b"", icc=b"", xmp=b"", dpi=None, texts=(), chunks=(), segments=())
    lost, notes, left = list[str](), list(info.left_out), dict[str, Any]()
    for field, names in _NAMES.items():
        if not getattr(info, field):
            continue
        if field not in HOLDS[kind].fields:
            left[field] = getattr(empty, field)
            lost += names(info)
        elif kind == "JPEG" and len(getattr(info, field)) > _LARGEST.get(field, 1 << 32):
            left[field] = b""
            notes.append(f"{names(info)[0]} data is left out: JPEG holds {_LARGEST[field] // 1024 + 1} KiB of it")
    if kind == "JPEG":
        comments = [(key, text) for key, text in info.texts if key == png_chunks.COMMENT]
        left["texts"] = tuple(item for item in comments if len(encoded_comment(item[1])) <= jpeg_segments.SEGMENT_BYTES)
        if len(left["texts"]) < len(comments):
            notes.append("a comment is left out: JPEG holds 64 KiB of it")
        lost += [f"text {printable(key)}" for key in dict(info.texts) if key != png_chunks.COMMENT]
    if kind == "TIFF" and info.exif and not is_sound(info.exif):
        left["exif"] = b""
        notes.append(BAD_EXIF)
    if "segments" in left:
        left["xmp"] = jpeg_segments.without_extension(left.get("xmp", info.xmp))
    if info.icc and "icc" not in left and not fits(info.icc, is_gray=is_gray):
        left["icc"] = b""
        notes.append(
            f"its ICC profile is left out: it is for {printable(space_of(info.icc))} samples, these are others"
        )
    kept = replace(info, **left)
    if lost:
        notes.append(f"{kind} holds no {', no '.join(lost)}")
    if kind != "PNG" and (colors := _lost_color(info)):
        notes.append(f"{kind} can't hold what the PNG says of its colours ({colors}): they may look different")
    if info.orientation > 1 and not kept.exif:
        kept = replace(kept, orientation=1, xmp=_XMP_ORIENTATION.sub(rb"\g<1>1", kept.xmp))
        notes.append("the picture is turned as its EXIF says")
    return kept, notes


def encoded_comment(text: str) -> bytes:
    """A text as the bytes of a JPEG's comment."""
    return text.encode("utf-8", "surrogateescape")


def exif_directory(exif: bytes) -> Image.Exif:
    """EXIF data, read; an empty directory where that can't be."""
    directory = Image.Exif()
    try:
        directory.load(exif)
        directory.tobytes()
    except Exception:  # whatever Pillow's parsing runs into
        return Image.Exif()
    return directory


def is_sound(exif: bytes) -> bool:
    """Whether EXIF data can be read."""
    return bool(exif_directory(exif))


def _lost_color(info: StillInfo) -> str:
    """What another format than PNG loses of what the colours mean, in words; "" where that is nothing.

    Of these chunks the first one counts: cICP, iCCP (which other formats hold), sRGB, gAMA with cHRM (PNG
    specification, third edition, 4.3).
    """
    chunks = dict(info.chunks)
    if chunks.get(b"cICP", _SRGB_CICP) != _SRGB_CICP:
        lost = (b"cICP", b"mDCV", b"cLLI")
    elif info.icc or b"cICP" in chunks or b"sRGB" in chunks or all(chunks.get(k, v) == v for k, v in _SRGB.items()):
        return ""
    else:
        lost = tuple(_SRGB)
    return ", ".join(kind.decode() for kind in lost if kind in chunks)
