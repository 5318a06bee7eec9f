"""Chunks of PNGs (specification, third edition, 11): what rides along in them, and how it is put in."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from ns_video.errors import printable

Chunk = tuple[bytes, bytes]
"""Kind and body."""

SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEADER_END = len(SIGNATURE) + 25  # of IHDR; the 25th byte of the file is the bit depth, the 26th the kind of colour
XMP = "XML:com.adobe.xmp"
COMMENT = "Comment"
COLOR = {b"cICP": 4, b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"mDCV": 24, b"cLLI": 8}
"""Chunks that say what samples mean, and their lengths."""
TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_READ = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf"})
_SHAPE, _SHAPE_BYTES = b"pHYs", 9
_LARGEST = 1 << 26  # body of a text
MOST_CHUNKS = 1 << 20  # that are walked over in a file: more than the pictures of any animation
GRAY, GRAY_ALPHA = 0, 4  # kinds of colour (table 12)
_RGB, _RGB_ALPHA = 2, 6


def walk(file: BinaryIO) -> Generator[tuple[bytes, int, int]]:
    """Each chunk's kind, place, and the size of its body, at which the file then is; the last one is IEND, if any."""
    at = len(SIGNATURE)
    for _ in range(MOST_CHUNKS):
        file.seek(at)
        if len(head := file.read(8)) < 8:
            return
        kind, size = head[4:], int.from_bytes(head[:4])
        yield kind, at, size
        if kind == b"IEND":
            return
        at += size + 12


def riding(path: Path) -> tuple[tuple[Chunk, ...], tuple[str, ...], int]:
    """Of a PNG: the sound chunks that another one gets as they are, the names of those that are left out, and the
    bytes behind its end.

    Carried are colours, texts (XMP is told apart), and pixels' shape in no unit.
    """
    carried: list[Chunk] = []
    lost: list[str] = []
    seen_samples, behind = False, 0
    with path.open("rb") as file:
        for kind, at, length in walk(file):
            seen_samples |= kind == b"IDAT"
            is_short = length == (_SHAPE_BYTES if kind == _SHAPE else COLOR.get(kind)) and not seen_samples
            if is_short or (kind in TEXTS and length <= _LARGEST):
                body, check = file.read(length), file.read(4)
                if int.from_bytes(check) == zlib.crc32(kind + body) and _is_carried(kind, body, carried):
                    carried.append((kind, body))
            elif kind not in _READ and kind not in COLOR and kind != _SHAPE:
                lost.append(printable(kind.decode("ascii", "replace")))
            if kind == b"IEND":
                behind = max(0, os.fstat(file.fileno()).st_size - (at + length + 12))
    return tuple(carried), tuple(dict.fromkeys(lost)), behind


def _is_carried(kind: bytes, body: bytes, carried: list[Chunk]) -> bool:
    if kind in TEXTS:
        return body.partition(b"\0")[0] != XMP.encode()
    return (kind != _SHAPE or body[-1] == 0) and all(kind != known for known, _ in carried)


def shape_of(chunks: Iterable[Chunk]) -> bool:
    """Whether some say that pixels are no squares."""
    return any(kind == _SHAPE and body[:4] != body[4:8] for kind, body in chunks)


def resolution(dpi: tuple[float, float]) -> Chunk:
    """Dots per inch."""
    return _SHAPE, struct.pack(">IIB", *(round(dots / 0.0254) for dots in dpi), 1)


def profile(icc: bytes) -> Chunk:
    """An ICC profile."""
    return b"iCCP", b"ICC profile\0\0" + zlib.compress(icc)


def tells_profile(data: bytes) -> bool:
    """Whether a PNG, or its beginning, tells an ICC profile."""
    return b"iCCP" in data.partition(b"IDAT")[0]


def text(key: str, words: str) -> Chunk:
    """A text, compressed by nobody: Latin letters as tEXt, others, and XMP, as iTXt, which is UTF-8."""
    if key != XMP and words.isascii():
        return b"tEXt", key.encode("latin-1") + b"\0" + words.encode("ascii")
    return b"iTXt", key.encode("latin-1") + bytes(5) + words.encode("utf-8", "surrogateescape").decode(
        "utf-8", "replace"
    ).encode("utf-8")


def put_in(png: bytes, chunks: Iterable[Chunk]) -> bytes:
    """A PNG with more chunks, behind its header."""
    return b"".join([png[:HEADER_END], *map(whole, chunks), png[HEADER_END:]])


def deep_png(samples: npt.NDArray[np.uint16]) -> bytes:
    """(H, W, C) as a PNG of 16 bits: gray, gray and alpha, RGB or RGBA; in rows of differences to the pixel before."""
    height, width, channels = samples.shape
    step = 2 * channels
    rows = samples.astype(">u2").view(np.uint8).reshape(height, width * step)
    filtered = np.ones((height, 1 + width * step), np.uint8)  # the first byte, 1: Sub
    filtered[:, 1:] = rows
    filtered[:, 1 + step :] -= rows[:, :-step]
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, 9, zlib.Z_RLE)  # quick; Sub leaves runs
    kind = {1: GRAY, 2: GRAY_ALPHA, 3: _RGB, 4: _RGB_ALPHA}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    body = packer.compress(filtered.tobytes()) + packer.flush()
    parts: list[Chunk] = [(b"IHDR", header)]
    parts += [(b"IDAT", body[at : at + _LARGEST]) for at in range(0, len(body), _LARGEST)]
    return b"".join([SIGNATURE, *map(whole, [*parts, (b"IEND", b"")])])


def whole(chunk: Chunk) -> bytes:
    """A chunk as it lies in a file: length, kind, body, checksum."""
    kind, body = chunk
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
