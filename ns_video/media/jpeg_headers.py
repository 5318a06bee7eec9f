"""What each packet of a Motion JPEG stream says of its own damage: the quantisation tables that its headers define."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ns_video.frame import JpegTables

CODECS = frozenset({"mjpeg"})
"""Codecs that are read here."""

_SOI, _SOS, _EOI, _DQT = 0xD8, 0xDA, 0xD9, 0xDB
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_KEPT = 512  # packets whose picture hasn't come yet
# Places of the 64 coefficients in the order of a file (T.81, figure A.6), as (row, column).
_ZIGZAG = sorted(
    ((row, column) for row in range(8) for column in range(8)),
    key=lambda at: (at[0] + at[1], at[0] if (at[0] + at[1]) % 2 else at[1]),
)
_ROWS, _COLUMNS = (np.array(places) for places in zip(*_ZIGZAG, strict=True))


@dataclass(frozen=True, slots=True)
class _Told:
    pts: int | None
    height: int
    tables: JpegTables


def tables_of(components: Sequence[tuple[int, int, int]], tables: Mapping[int, np.ndarray]) -> JpegTables | None:
    """Of a frame header's components: horizontal and vertical sampling, table. Raises KeyError for one not defined.

    None where a step is 0, which T.81 doesn't allow and libjpeg decodes.
    """
    luma, chroma = components[0], components[-1]
    if not all(tables[name].all() for *_, name in (luma, chroma)):
        return None
    if len(components) == 1:  # its sampling says nothing
        return JpegTables(tables[luma[2]], tables[luma[2]])
    sampling = (max(1, luma[0] // max(1, chroma[0])), max(1, luma[1] // max(1, chroma[1])))
    return JpegTables(tables[luma[2]], tables[chroma[2]], sampling)


class JpegHeaders:
    """Remembers the tables of each packet of one stream until its frame is decoded."""

    def __init__(self) -> None:
        self._tables: dict[int, np.ndarray] = {}
        self._told: deque[_Told] = deque(maxlen=_KEPT)

    def see(self, packet: Any) -> None:
        """Read a packet's headers before it is decoded. What can't be parsed tells nothing."""
        if not packet.size:
            return
        try:
            told = self._read(bytes(packet), packet.pts)
        except (struct.error, IndexError, KeyError, ValueError):
            return
        if told is not None:
            self._told.append(told)

    def of(self, pts: int | None, height: int) -> JpegTables | None:
        """The tables of the frame with this time; None where no packet had it, or its picture was of another height,
        as a field's is."""
        while self._told and pts is not None and self._told[0].pts is not None and self._told[0].pts < pts:
            self._told.popleft()
        if not self._told or self._told[0].pts != pts:
            return None
        told = self._told.popleft()
        return told.tables if told.height == height else None

    def _read(self, data: bytes, pts: int | None) -> _Told | None:
        """Tables stay defined for the packets that follow. Raises what a damaged header makes of the parsing."""
        at = data.index(b"\xff\xd8") + 2
        components: list[tuple[int, int, int]] = []  # (horizontal, vertical, table)
        height = 0
        while True:
            while data[at] == 0xFF and data[at + 1] == 0xFF:  # fill bytes
                at += 1
            marker, length = data[at + 1], struct.unpack_from(">H", data, at + 2)[0]
            if data[at] != 0xFF or marker in (_SOI, _EOI) or length < 2:
                return None
            segment = data[at + 4 : at + 2 + length]
            at += 2 + length
            if marker == _DQT:
                self._define(segment)
            elif marker in _HUFFMAN_FRAMES:
                if segment[0] != 8:
                    return None
                height = struct.unpack_from(">H", segment, 1)[0]
                for part in range(segment[5]):
                    _, sampling, table = segment[6 + 3 * part : 9 + 3 * part]
                    components.append((sampling >> 4, sampling & 15, table))
            elif marker == _SOS:
                break
        if len(components) not in (1, 3) or not components[0][0] * components[0][1]:
            return None
        tables = tables_of(components, self._tables)
        return None if tables is None else _Told(pts, height, tables)

    def _define(self, segment: bytes) -> None:
        """The tables of one DQT segment."""
        at = 0
        while at < len(segment):
            wide, name = segment[at] >> 4, segment[at] & 15
            values = np.frombuffer(segment, ">u2" if wide else np.uint8, 64, at + 1)
            table = np.zeros((8, 8), np.uint16)
            table[_ROWS, _COLUMNS] = values
            self._tables[name] = table
            at += 1 + values.nbytes
