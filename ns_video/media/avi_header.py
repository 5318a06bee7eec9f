"""When each stream of an AVI file begins, which libav's muxer doesn't write: it puts all first packets at 0.

AVISTREAMHEADER.dwStart (Microsoft, "AVI RIFF File Reference"), in ticks of the stream: dwScale / dwRate seconds.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

LATEST_SECONDS = 3600
"""Of a later start libav's demuxer believes that it is none."""
_MOST_HEAD = 1 << 20
_SCALE, _RATE, _START = 28, 32, 36
"""Places of the fields, behind the beginning of a chunk "strh"."""


def write_starts(path: Path, starts: Mapping[int, Fraction]) -> dict[int, Fraction]:
    """Write when streams begin (seconds, by their number) into the header of a finished file, in place.

    What it tells then, by whole ticks. Raises OSError.
    """
    told: dict[int, Fraction] = {}
    with path.open("r+b") as file:
        head = file.read(_MOST_HEAD)
        for number, place in enumerate(_stream_headers(head)):
            if number not in starts:
                continue
            scale, rate = (int.from_bytes(head[at : at + 4], "little") for at in (place + _SCALE, place + _RATE))
            ticks = round(starts[number] * rate / max(1, scale))
            told[number] = Fraction(ticks * scale, max(1, rate))
            _put(file, place + _START, ticks)
    return told


def _put(file: BinaryIO, place: int, number: int) -> None:
    file.seek(place)
    file.write(number.to_bytes(4, "little"))


def _stream_headers(head: bytes) -> Generator[int]:
    """Where the chunks "strh" begin, in the order of the streams."""
    place = 12  # behind RIFF, its size and "AVI "
    while place + 8 <= len(head):
        kind, size = head[place : place + 4], int.from_bytes(head[place + 4 : place + 8], "little")
        if kind == b"LIST" and head[place + 8 : place + 12] in (b"hdrl", b"strl"):
            place += 12
            continue
        if kind == b"LIST" and head[place + 8 : place + 12] == b"movi":
            return
        if kind == b"strh":
            yield place
        place += 8 + size + size % 2


__all__ = ["LATEST_SECONDS", "write_starts"]
