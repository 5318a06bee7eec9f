"""What GIF, PNG and WebP say beside their pictures: how often an animation is shown, its profile, EXIF, XMP and texts.

libav's demuxers tell next to nothing of it and its muxers write little: it is read from the file (GIF89a with
Netscape's extension; PNG specification, third edition, 11.3; WebP container specification) and written into the
finished one.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from collections.abc import Collection, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from ns_video.media import png_chunks

MOST_PLAYS = 65535  # that GIF and WebP can hold, and libav writes into a PNG
PROFILE, EXIF, XMP, RESOLUTION, TEXT = "ICC profile", "EXIF", "XMP", "resolution", "text"
_MOST_BYTES, _MOST_PARTS = 16 << 20, 200  # of a part or all before the last, and of a file; more is not taken along
_PNG_XMP = png_chunks.XMP.encode() + b"\0"
_PNG_READ = (b"acTL", b"iCCP", b"eXIf", b"pHYs", *png_chunks.TEXTS)
_CONTROL_BYTES, _DELAY, _UNTOLD_RATE = 26, 20, 100  # of fcTL: its length, the place of its delay, what 0 stands for
_PER_METRE = 1  # unit of pHYs; the other one says how width and height of a pixel relate
_EXIF_PREFIX, _ORIENTATION = b"Exif\0\0", 274
_GIF_PICTURE, _GIF_EXTENSION = b"\x2c", b"\x21"
_GIF_BLOCKS = (_GIF_PICTURE, _GIF_EXTENSION)
_GIF_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_WEBP_PARTS = {b"ICCP": (PROFILE, 0x20), b"EXIF": (EXIF, 0x08), b"XMP ": (XMP, 0x04)}
"""Kinds of chunks, what they are and their flags in VP8X."""
_WEBP_FLAGS, _WEBP_HEADER_END = 20, 30
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a file says beside its pictures."""

    kind: str
    """PROFILE, EXIF, XMP, RESOLUTION or TEXT."""
    data: bytes
    """EXIF without prefix, of RESOLUTION the body of pHYs, of TEXT its chunk: type and body."""

    @property
    def name(self) -> str:
        """For messages: texts with their keywords."""
        keyword = self.data[4:].partition(b"\0")[0].decode("latin-1") if self.kind == TEXT else ""
        return f"{self.kind} {keyword}".strip()

    def is_in(self, parts: Sequence[Part]) -> bool:
        """Whether it is among others; of EXIF any will do, which libav writes anew."""
        return any(self == part or self.kind == part.kind == EXIF for part in parts)


@dataclass(frozen=True, slots=True)
class AnimationInfo:
    """What a GIF, PNG or WebP says beside its pictures."""

    plays: int | None
    """How often it is shown, 0: without end; None for a still."""
    parts: tuple[Part, ...] = ()


def read_animation_info(path: Path) -> AnimationInfo | None:
    """What such a file says, as far as it is whole; None for other files, and what can't be read."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"GIF8":
            return AnimationInfo(_plays_of_gif(file))
        if head[:8] == png_chunks.SIGNATURE:
            return _read_png(file)
        if head[:4] == b"RIFF" and head[8:] == b"WEBP":
            return _read_webp(file)
    return None


def is_animated_png(path: Path) -> bool:
    """Whether a PNG moves: libav's demuxers see it only where that is said in the first 2 KiB."""
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(png_chunks.SIGNATURE)) == png_chunks.SIGNATURE:
            return next((kind for kind, _, _ in png_chunks.walk(file) if kind in (b"acTL", b"IDAT")), b"") == b"acTL"
    return False


def delays_of_png(path: Path) -> list[Fraction]:
    """Seconds that each picture of an animated PNG is shown for: libav's demuxer rounds each to 10 µs."""
    found: list[Fraction] = []
    with suppress(OSError), path.open("rb") as file:
        if file.read(len(png_chunks.SIGNATURE)) == png_chunks.SIGNATURE:
            for kind, at, size in png_chunks.walk(file):
                if kind == b"fcTL" and size == _CONTROL_BYTES:
                    file.seek(at + 8 + _DELAY)
                    if len(delay := file.read(4)) == 4:
                        ticks, rate = struct.unpack(">HH", delay)
                        found.append(Fraction(ticks, rate or _UNTOLD_RATE))
    return found


def _plays_of_gif(file: BinaryIO) -> int:
    """Netscape's extension says how often the pictures are shown again; without it they are shown once."""
    file.seek(10)
    _skip_table(file, file.read(3))
    while (kind := file.read(1)) in _GIF_BLOCKS:
        if kind == _GIF_PICTURE:
            _skip_table(file, file.read(9)[8:])
        file.seek(1, os.SEEK_CUR)  # the code size of LZW, or an extension's label
        blocks = _sub_blocks(file)
        name, again = next(blocks, b""), next(blocks, b"")
        deque(blocks, maxlen=0)
        if name in _GIF_LOOPS and len(again) == 3:
            count = int.from_bytes(again[1:], "little")
            return count + 1 if count else 0
    return 1


def _skip_table(file: BinaryIO, flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        file.seek(3 << (flags[0] & 7) + 1, os.SEEK_CUR)


def _sub_blocks(file: BinaryIO) -> Generator[bytes]:
    while (size := file.read(1)) not in (b"", b"\0"):
        yield file.read(size[0])


def _read_png(file: BinaryIO) -> AnimationInfo:
    plays: int | None = None
    parts: list[Part] = []
    for kind, at, size in png_chunks.walk(file):
        if kind not in _PNG_READ or size > _MOST_BYTES or (kind != b"acTL" and _is_full(parts)):
            continue
        file.seek(at + 8)
        body = file.read(size)
        if kind == b"acTL":
            plays = int.from_bytes(body[4:8], "big")
        elif kind == b"iCCP" and not any(part.kind == PROFILE for part in parts):
            with suppress(zlib.error):
                profile = zlib.decompressobj().decompress(body.partition(b"\0")[2][1:], _MOST_BYTES)
                parts.append(Part(PROFILE, profile))
        elif kind == b"eXIf":
            parts.append(Part(EXIF, body))
        elif kind == b"pHYs" and body[8:] == bytes([_PER_METRE]):
            parts.append(Part(RESOLUTION, body))
        elif kind == b"iTXt" and body.startswith(_PNG_XMP + b"\0"):  # not compressed, as XMP's specification wants it
            parts.append(Part(XMP, body[len(_PNG_XMP) + 2 :].split(b"\0", 2)[-1]))
        elif kind in png_chunks.TEXTS:
            parts.append(Part(TEXT, kind + body))
    return AnimationInfo(plays, tuple(parts))


def _is_full(parts: Sequence[Part]) -> bool:
    return len(parts) >= _MOST_PARTS or sum(len(part.data) for part in parts) > _MOST_BYTES


def _read_webp(file: BinaryIO) -> AnimationInfo:
    plays: int | None = None
    parts: list[Part] = []
    for kind, size in webp_chunks(file):
        if kind == b"ANIM":
            plays = int.from_bytes(file.read(6)[4:], "little")
        elif kind in _WEBP_PARTS and size <= _MOST_BYTES and not _is_full(parts):
            parts.append(Part(_WEBP_PARTS[kind][0], file.read(size).removeprefix(_EXIF_PREFIX)))
    return AnimationInfo(plays, tuple(parts))


def webp_chunks(file: BinaryIO) -> Generator[tuple[bytes, int]]:
    """Type and size of each chunk's body, at which the file then is; the last one may be cut."""
    at = 12
    for _ in range(png_chunks.MOST_CHUNKS):
        file.seek(at)
        if len(head := file.read(8)) < 8:
            return
        size = int.from_bytes(head[4:], "little")
        yield head[:4], size
        at += 8 + size + size % 2


def add_parts(path: Path, parts: Sequence[Part], kinds: Collection[str], *, turned: bool = False) -> None:
    """Write into a finished PNG or animated WebP what it doesn't have of `parts`, if of `kinds`. Raises OSError.

    `turned`: the pictures are as EXIF asked for, which is not to ask for it again.
    """
    found = read_animation_info(path)
    if found is None:
        return
    missing = [part for part in parts if part.kind in kinds and not part.is_in(found.parts)]
    missing = [Part(EXIF, _upright(p.data)) if turned and p.kind == EXIF else p for p in missing]
    if not missing:
        return
    with path.open("r+b") as file:
        if file.read(4) != b"RIFF":
            _add_to_png(file, missing)
        elif found.plays is not None:
            _add_to_webp(file, missing)


def _upright(exif: bytes) -> bytes:
    """EXIF whose orientation, where it tells one, is that of a picture that needs no turn."""
    made, order = bytearray(exif), "<" if exif[:2] == b"II" else ">"
    with suppress(struct.error):
        (at,) = struct.unpack_from(f"{order}I", made, 4)
        (count,) = struct.unpack_from(f"{order}H", made, at)
        for entry in range(at + 2, at + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}H", made, entry)[0] == _ORIENTATION:
                struct.pack_into(f"{order}HHIHH", made, entry, _ORIENTATION, 3, 1, 1, 0)
    return bytes(made)


def _add_to_png(file: BinaryIO, parts: Sequence[Part]) -> None:
    """Chunks after IHDR. What libav says of a pixel's shape is said by a resolution of the same shape instead."""
    chunks: list[png_chunks.Chunk] = []
    for part in parts:
        if part.kind == PROFILE:
            chunks.append(png_chunks.profile(part.data))
        elif part.kind == EXIF:
            chunks.append((b"eXIf", part.data))
        elif part.kind == XMP:
            chunks.append((b"iTXt", _PNG_XMP + bytes(4) + part.data))
        elif part.kind == TEXT:
            chunks.append((part.data[:4], part.data[4:]))
        elif part.kind == RESOLUTION:
            place = next((at for kind, at, size in png_chunks.walk(file) if kind == b"pHYs" and size == 9), None)
            if place is None:
                chunks.append((b"pHYs", part.data))
                continue
            file.seek(place + 8)
            if _shape(file.read(9)) == _shape(part.data):
                file.seek(place)
                file.write(png_chunks.whole((b"pHYs", part.data)))
    _insert(file, png_chunks.HEADER_END, b"".join(map(png_chunks.whole, chunks)))


def _shape(pixels: bytes) -> Fraction:
    across, down = struct.unpack_from(">II", pixels)
    return Fraction(across, down) if across and down else Fraction(1)


def _add_to_webp(file: BinaryIO, parts: Sequence[Part]) -> None:
    """The profile comes before the pictures, EXIF and XMP behind them; the header tells which there are."""
    made = {part.kind: part.data for part in parts}
    before, behind, flags = b"", b"", 0
    for kind, (name, flag) in _WEBP_PARTS.items():
        if (data := made.get(name)) is None:
            continue
        chunk = kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
        before, behind = (before + chunk, behind) if name == PROFILE else (before, behind + chunk)
        flags |= flag
    file.seek(0, os.SEEK_END)
    file.write(behind)
    _insert(file, _WEBP_HEADER_END, before)
    size = file.seek(0, os.SEEK_END) - 8
    file.seek(4)
    file.write(struct.pack("<I", size))
    file.seek(_WEBP_FLAGS)
    flags |= file.read(1)[0]
    file.seek(_WEBP_FLAGS)
    file.write(bytes([flags]))


def _insert(file: BinaryIO, place: int, data: bytes) -> None:
    """Move what lies behind `place` on and write `data` there."""
    end = file.seek(0, os.SEEK_END)
    while data and end > place:
        begin = max(place, end - _BLOCK)
        file.seek(begin)
        block = file.read(end - begin)
        file.seek(begin + len(data))
        file.write(block)
        end = begin
    file.seek(place)
    file.write(data)
