"""Marker segments of JPEGs (ITU-T T.81, B.1.1): walked over, sorted into what rides along and what is left, put in."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

Segment = tuple[int, bytes]
"""Marker and body."""

SEGMENT_BYTES = 65533  # of a body
XMP = b"http://ns.adobe.com/xap/1.0/\0"
EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
ICC_PART = SEGMENT_BYTES - 14  # of a profile, behind its name, number and count (ICC.1:2022, B.4)
EOI, COM = 0xD9, 0xFE
APP1 = 0xE1
_APP0, _APP2, APP13, APP14 = 0xE0, 0xE2, 0xED, 0xEE
_ICC = b"ICC_PROFILE\0"
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # no stuffed byte and no restart marker
_READ = ((_APP0, b"JFIF\0"), (APP1, b"Exif\0\0"), (APP1, XMP), (_APP2, _ICC), (APP14, b"Adobe"))
"""Segments that a reader of the picture has read, or that say how its samples lie."""
_CARRIED = ((APP13, b""), (APP1, EXTENDED_XMP))
_JFIF_BYTES = 18  # of its segment, marker included, without a thumbnail
_DENSITY = 13  # where its unit and two numbers lie in a file that begins with it
_PADDING = b"\0\xff\r\n "
# What XMP says of a video or gain map behind the picture (developer.android.com, "Motion photo", "Ultra HDR").
_BEHIND = (
    (re.compile(rb"""((?:MotionPhoto|MicroVideo)\s*(?:=\s*["']|>))1(?=["'<])"""), rb"\g<1>0"),
    (re.compile(rb"""(?<!\s)\s+hdrgm:Version\s*=\s*(?:"[^"]*"|'[^']*')"""), b""),
    (re.compile(rb"<(\w+:Directory)\b(?=[^>]*>\s*<rdf:Seq).*?</\1>", re.DOTALL), b""),
)
_HAS_EXTENDED = re.compile(rb"""(?<!\s)\s+xmpNote:HasExtendedXMP\s*=\s*(?:"[^"]*"|'[^']*')""")


@dataclass(frozen=True, slots=True)
class Riding:
    """What rides along with a JPEG besides EXIF, XMP and profile."""

    carried: tuple[Segment, ...] = ()
    """IPTC and Photoshop's data, and XMP that is too long for one segment: another JPEG gets them as they are."""
    comments: tuple[bytes, ...] = ()
    lost: tuple[str, ...] = ()
    """Names of other segments."""
    behind: int = 0
    """Bytes behind the picture's end: a video, a gain map, another picture."""


def walk(data: bytes, at: int = 0) -> Iterator[tuple[int, int, int]]:
    """Of the JPEG at `at`: each segment's marker, and where its body begins and ends; the last one is EOI, if any."""
    at += 2
    while (found := _MARKER.search(data, at)) is not None:
        marker, body = found[1][0], found.end() + 2
        at = found.end() if marker == EOI else found.end() + int.from_bytes(data[found.end() : body])
        yield marker, body, at
        if marker == EOI:
            return


def riding(data: bytes) -> Riding:
    """What a JPEG file holds besides its picture."""
    carried: list[Segment] = []
    comments: list[bytes] = []
    lost: list[str] = []
    behind = 0
    for marker, begin, end in walk(data):
        if marker == EOI:
            behind = len(data) - end if data[end:].strip(_PADDING) else 0
        elif marker == COM:
            comments.append(data[begin:end])
        elif _APP0 <= marker <= 0xEF and not _is_one_of(_READ, marker, data, begin):
            if _is_one_of(_CARRIED, marker, data, begin):
                carried.append((marker, data[begin:end]))
            else:
                name = re.match(rb"[ -~]*", data[begin : min(end, begin + 32)])
                lost.append(f"APP{marker - _APP0} ({name[0].decode() if name else ''})")
    return Riding(tuple(carried), tuple(comments), tuple(dict.fromkeys(lost)), behind)


def names_of(segments: tuple[Segment, ...]) -> list[str]:
    """What carried segments are, in words."""
    return [
        name
        for name, wanted in (("IPTC or Photoshop data (APP13)", APP13), ("extended XMP", APP1))
        if any(marker == wanted for marker, _ in segments)
    ]


def without_what_lies_behind(xmp: bytes) -> bytes:
    """XMP that no longer says that a video or a gain map follows the picture."""
    for pattern, instead in _BEHIND:
        xmp = pattern.sub(instead, xmp)
    return xmp


def without_extension(xmp: bytes) -> bytes:
    """XMP that no longer says that there is more of it."""
    return _HAS_EXTENDED.sub(b"", xmp)


def icc_segments(icc: bytes) -> list[Segment]:
    """A profile's."""
    parts = [icc[at : at + ICC_PART] for at in range(0, len(icc), ICC_PART)]
    return [(_APP2, _ICC + bytes((number, len(parts))) + part) for number, part in enumerate(parts, 1)]


def put_in(data: bytes, segments: list[Segment], dpi: tuple[float, float] | None) -> bytes:
    """A JPEG with more segments, and its dots per inch in its JFIF header."""
    place = 2
    if data[2:4] == b"\xff\xe0":
        place += _JFIF_BYTES
        if dpi is not None:
            dots = (min(65535, max(1, round(number))) for number in dpi)
            data = data[:_DENSITY] + struct.pack(">BHH", 1, *dots) + data[_DENSITY + 5 :]
    added = (struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body for marker, body in segments)
    return b"".join([data[:place], *added, data[place:]])


def _is_one_of(known: tuple[Segment, ...], marker: int, data: bytes, begin: int) -> bool:
    return any(marker == wanted and data.startswith(name, begin) for wanted, name in known)
