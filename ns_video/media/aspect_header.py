"""The sample aspect ratio in the headers of what libav streams: NUT, y4m, Matroska. Floor 2.

In Matroska the names of sound that is held as in WAVE files (`wave_sound`), too.

libav's muxers write it from a field of the stream that PyAV sets for nobody. Files of NUT and Matroska get it when they
are closed, in place; what can't be gone back to passes through an `AspectWriter`, which holds the header back until it
is whole.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

from ns_video.media.matroska_header import with_sample_aspect_ratio
from ns_video.media.wave_sound import with_wave_names

_MOST_HELD = 4 << 20
"""Bytes: no header is longer."""
_NUT_ID = b"nut/multimedia container\0"
_NUT_MAIN, _NUT_STREAM = bytes.fromhex("4e4d7a561f5f04ad"), bytes.fromhex("4e5311405bf2f9db")
_NUT_LARGEST = 127
"""Of a number that takes one byte, as the zeros do that libav writes."""


class AspectWriter:
    """A file for libav to write to, without a way back: `complete` is given the beginning until it is long enough."""

    def __init__(self, file: BinaryIO, container_format: str, ratio: Fraction, waves: Collection[int] = ()) -> None:
        """`waves`: numbers of the tracks that get their names here; it may grow until the first byte is written."""
        self._file = file
        self._complete = partial(_completed, container_format=container_format, ratio=ratio, waves=waves)
        self._held: bytearray | None = bytearray()

    def write(self, data: bytes) -> int:
        """All of `data`, or OSError."""
        if self._held is None:
            return self._pass_on(data)
        self._held += data
        completed = self._complete(bytes(self._held))
        if completed is not None or len(self._held) > _MOST_HELD:
            self._pass_on(completed or bytes(self._held))
            self._held = None
        return len(data)

    def _pass_on(self, data: bytes) -> int:
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]
        return len(data)

    def close(self) -> None:
        """What is held, and the file."""
        held, self._held = self._held, None
        with self._file:
            if held:
                self._pass_on(bytes(held))


def complete_file(path: Path, container_format: str, ratio: Fraction, waves: Collection[int] = ()) -> bool:
    """Writes both into the header of a finished file, in place. False where it has no room. Raises OSError."""
    with path.open("r+b") as file:
        data = file.read(_MOST_HELD)
        completed = _completed(data, container_format, ratio, waves)
        if completed is None or len(completed) != len(data):
            return False
        file.seek(0)
        file.write(completed)
    return True


def _completed(data: bytes, container_format: str, ratio: Fraction, waves: Collection[int]) -> bytes | None:
    """A header with the ratio, where there is one, and the names of those tracks; None where it isn't whole."""
    if not waves:
        return _COMPLETIONS[container_format](data, ratio)
    named = with_wave_names(data, waves)
    if named is None or ratio in (0, 1):
        return named
    return _COMPLETIONS[container_format](named, ratio) or named


def _y4m(data: bytes, ratio: Fraction) -> bytes | None:
    head, newline, rest = data.partition(b"\n")
    if not newline:
        return None
    said = b" A%d:%d" % (ratio.numerator, ratio.denominator)
    words = [said[1:] if word.startswith(b"A") else word for word in head.split(b" ")]
    return b" ".join(words) + newline + rest


def _nut(data: bytes, ratio: Fraction) -> bytes | None:
    """NUT 2009, "stream header": the first one of class video. Ratios of larger numbers are rounded to 127ths."""
    if ratio > _NUT_LARGEST or ratio < Fraction(1, _NUT_LARGEST):
        return data
    place = data.find(_NUT_MAIN, 0, len(_NUT_ID) + len(_NUT_MAIN))
    while place >= 0 and place + 8 < len(data):
        code = data[place : place + 8]
        if code not in (_NUT_MAIN, _NUT_STREAM):
            return data
        try:
            length, body = _nut_number(data, place + 8)
            if length > 4096:  # then the packet's own head has a checksum
                body += 4
            end = body + length
            if end > len(data):
                return None
            found = _nut_aspect_place(data, body) if code == _NUT_STREAM else None
        except IndexError:
            return None
        if found is not None:
            patched = bytearray(data)
            patched[found : found + 2] = bytes(_small(ratio))
            patched[end - 4 : end] = _crc(bytes(patched[body : end - 4])).to_bytes(4, "big")
            return bytes(patched)
        place = end
    return None


def _small(ratio: Fraction) -> tuple[int, int]:
    """Numerator and denominator up to _NUT_LARGEST."""
    if ratio > 1:
        inverse = (1 / ratio).limit_denominator(_NUT_LARGEST)
        return inverse.denominator, inverse.numerator
    near = ratio.limit_denominator(_NUT_LARGEST)
    return near.numerator, near.denominator


def _nut_aspect_place(data: bytes, place: int) -> int | None:
    """Where a stream header has the two zeros of an unknown ratio; None for other streams and known ratios."""
    _, place = _nut_number(data, place)  # stream_id
    kind, place = _nut_number(data, place)
    if kind != 0:
        return None
    length, place = _nut_number(data, place)  # fourcc
    place += length
    for _ in range(5):  # time_base_id, msb_pts_shift, max_pts_distance, decode_delay, stream_flags
        _, place = _nut_number(data, place)
    length, place = _nut_number(data, place)  # codec_specific_data
    place += length
    for _ in range(2):  # width, height
        _, place = _nut_number(data, place)
    return place if data[place : place + 2] == b"\0\0" else None


def _nut_number(data: bytes, place: int) -> tuple[int, int]:
    """NUT's "v": seven bits a byte, the highest first. Raises IndexError at the end."""
    value = 0
    while True:
        byte = data[place]
        place += 1
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            return value, place


@cache
def _crc_table() -> tuple[int, ...]:
    table: list[int] = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


def _crc(data: bytes) -> int:
    """CRC-32 with the highest bit first and no inversion, as NUT's."""
    table, value = _crc_table(), 0
    for byte in data:
        value = (value << 8 & 0xFFFFFFFF) ^ table[value >> 24 ^ byte]
    return value


_COMPLETIONS: dict[str, Callable[[bytes, Fraction], bytes | None]] = {
    "nut": _nut,
    "yuv4mpegpipe": _y4m,
    "matroska": partial(with_sample_aspect_ratio, video_number=0),
    "webm": partial(with_sample_aspect_ratio, video_number=0),
}
COMPLETED = frozenset(_COMPLETIONS)
"""Containers whose headers are completed here."""
