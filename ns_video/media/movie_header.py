"""For how long an MP4 or MOV file says that it is shown, which libav doesn't tell (ISO/IEC 14496-12, 8.2.2)."""

from __future__ import annotations

import os
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import IO

_HEAD = 8  # bytes of size and type; a size of 1 is followed by one of eight bytes
_MOST_BOXES = 1 << 20  # that are walked over
_MOVIE_HEADER = 32  # bytes of `mvhd` up to its duration, of the longer version


def movie_seconds(path: Path) -> Fraction | None:
    """Seconds that the movie header tells, None where it tells none (fragments) or isn't found."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        movie = _box(file, b"moov", 0, end)
        header = None if movie is None else _box(file, b"mvhd", *movie)
        if header is None:
            return None
        file.seek(header[0])
        data = file.read(_MOVIE_HEADER)
    at, width = (20, 8) if data[:1] == b"\1" else (12, 4)
    scale = int.from_bytes(data[at : at + 4])
    duration = data[at + 4 : at + 4 + width]
    known = len(duration) == width and scale and any(duration) and set(duration) != {0xFF}
    return Fraction(int.from_bytes(duration), scale) if known else None


def boxes_between(file: IO[bytes], begin: int, end: int) -> Generator[tuple[bytes, int, int]]:
    """Kind of each box between two places, and where what it holds begins and ends."""
    for _ in range(_MOST_BOXES):
        if begin + _HEAD > end:
            return
        file.seek(begin)
        head = file.read(2 * _HEAD)
        size, first = int.from_bytes(head[:4]), begin + _HEAD
        if size == 1:
            size, first = int.from_bytes(head[8:16]), begin + 2 * _HEAD
        stop = end if size == 0 else begin + size
        if stop < first:  # no box is shorter than its head
            return
        yield head[4:8], first, min(stop, end)
        begin = stop


def _box(file: IO[bytes], kind: bytes, begin: int, end: int) -> tuple[int, int] | None:
    """Where what the first box of this kind between two places holds begins and ends."""
    return next(((first, stop) for found, first, stop in boxes_between(file, begin, end) if found == kind), None)
