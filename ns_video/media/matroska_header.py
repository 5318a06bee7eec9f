"""Headers of Matroska files (RFC 9559): made for libav to read, and what libav leaves out put into those it writes.

DisplayWidth and DisplayHeight (5.1.4.1.28.12) are written from a field that PyAV sets for nobody, so the sample aspect
ratio of codecs whose bitstream libav's demuxer doesn't ask (FFV1, VP9) would be lost. The place is taken from the
padding that libav leaves before the header: nothing behind the header moves.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

EBML = b"\x1a\x45\xdf\xa3"
"""How Matroska and WebM files begin."""
_SEGMENT, _SEEK_HEAD, _SEEK, _SEEK_POSITION = 0x18538067, 0x114D9B74, 0x4DBB, 0x53AC
_VOID, _TRACKS, _TRACK, _TRACK_TYPE, _VIDEO = 0xEC, 0x1654AE6B, 0xAE, 0x83, 0xE0
_PIXEL_WIDTH, _PIXEL_HEIGHT, _DISPLAY_WIDTH, _DISPLAY_HEIGHT, _DISPLAY_UNIT, _CRC = (
    0xB0,
    0xBA,
    0x54B0,
    0x54BA,
    0x54B2,
    0xBF,
)
_TRACK_NUMBER, _CODEC_ID = 0xD7, 0x86


@dataclass(frozen=True, slots=True)
class _Element:
    identifier: int
    start: int
    body: int
    end: int


def _children(data: bytes, start: int, end: int) -> list[_Element]:
    """The elements between two offsets; stops where the data does."""
    out: list[_Element] = []
    while start < end:
        if data[start] == 0:
            break
        id_width = 9 - data[start].bit_length()
        identifier = int.from_bytes(data[start : start + id_width], "big")
        place = start + id_width
        if place >= len(data) or data[place] == 0:
            break
        width = 9 - data[place].bit_length()
        size = int.from_bytes(data[place : place + width], "big") & ((1 << 7 * width) - 1)
        body = place + width
        stop = end if size == (1 << 7 * width) - 1 else body + size
        out.append(_Element(identifier, start, body, stop))
        start = stop
    return out


def segment_end(head: bytes) -> int | None:
    """Where the segment of the file that begins with `head` says that it ends; None where it doesn't."""
    segment = next((e for e in _children(head, 0, len(head)) if e.identifier == _SEGMENT), None)
    return None if segment is None or segment.end == len(head) else segment.end  # of an unknown size: as far as we see


def _written(identifier: int, body: bytes) -> bytes:
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    width = next(w for w in range(1, 9) if len(body) < (1 << 7 * w) - 1)
    return name + (len(body) | 1 << 7 * width).to_bytes(width, "big") + body


def element(identifier: int, body: bytes) -> bytes:
    """An element with its size in eight bytes."""
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


def unsigned(identifier: int, value: int) -> bytes:
    """An element that is a number."""
    return element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def floating(identifier: int, value: Any) -> bytes:
    """An element that is a number with a fraction."""
    return element(identifier, struct.pack(">d", float(value)))


def file_of_one_track(kind: int, about: bytes) -> bytes:
    """A file of one track, of video (1) or sound (2), with the elements `about` in its TrackEntry."""
    track = unsigned(_TRACK_NUMBER, 1) + unsigned(0x73C5, 1) + unsigned(_TRACK_TYPE, kind) + about
    head = element(0x4282, b"matroska") + unsigned(0x4287, 4) + unsigned(0x4285, 2)
    # libav wants to see one block before it calls the header complete.
    cluster = element(0x1F43B675, unsigned(0xE7, 0) + element(0xA3, b"\x81\0\0\x80\0"))
    parts = element(0x1549A966, unsigned(0x2AD7B1, 1_000_000)) + element(_TRACKS, element(_TRACK, track)) + cluster
    return element(0x1A45DFA3, head) + element(_SEGMENT, parts)


def _void(length: int) -> bytes:
    """A Void element of exactly `length` ≥ 2 bytes."""
    if length < 9:
        return bytes([_VOID, 0x80 | (length - 2)]) + bytes(length - 2)
    return bytes([_VOID]) + (length - 9 | 1 << 56).to_bytes(8, "big") + bytes(length - 9)


def _number(data: bytes, element: _Element) -> int:
    return int.from_bytes(data[element.body : element.end], "big")


def display_size(width: int, height: int, ratio: Fraction) -> tuple[int, int]:
    """The display size that holds a sample aspect ratio most exactly: one side stays, or both grow."""
    exact = width * ratio
    factor = exact.denominator
    if factor * max(exact.numerator // factor, height) < 1 << 31:
        return exact.numerator, height * factor
    return max(1, round(exact)), height


def _found_tracks(data: bytes) -> tuple[_Element, list[_Element], _Element] | None:
    """The Segment, what lies in it, and its Tracks; None where those are not whole."""
    segment = next((e for e in _children(data, 0, len(data)) if e.identifier == _SEGMENT), None)
    if segment is None:
        return None
    top = _children(data, segment.body, min(len(data), segment.end))
    tracks = next((e for e in top if e.identifier == _TRACKS and e.end <= len(data)), None)
    return None if tracks is None else (segment, top, tracks)


def with_codec_id(data: bytes, numbers: Collection[int], name: bytes) -> bytes | None:
    """The beginning of a file in which tracks have that CodecID, shorter than theirs was; None where it isn't whole."""
    found = _found_tracks(data)
    if found is None:
        return None
    patched = bytearray(data)
    for track in _children(data, found[2].body, found[2].end):
        parts = {part.identifier: part for part in _children(data, track.body, track.end)}
        if _TRACK_NUMBER in parts and _number(data, parts[_TRACK_NUMBER]) in numbers:
            place = parts[_CODEC_ID]
            written = _written(_CODEC_ID, name)
            patched[place.start : place.end] = written + _void(place.end - place.start - len(written))
    return bytes(patched)


def with_sample_aspect_ratio(data: bytes, ratio: Fraction, video_number: int = 0) -> bytes | None:
    """The beginning of a Matroska file with that ratio in its header, as long as it was; None without room."""
    found = _found_tracks(data)
    if found is None:
        return None
    segment, top, tracks = found
    rebuilt = _with_display_size(data, tracks, ratio, video_number)
    if rebuilt is None:
        return data
    growth = len(rebuilt) - (tracks.end - tracks.start)
    void = next((e for e in top if e.identifier == _VOID and e.end <= tracks.start), None)
    if void is None or void.end - void.start - growth < 2:
        return None
    seek_head = next((e for e in top if e.identifier == _SEEK_HEAD), None)
    moved = _void(void.end - void.start - growth) + data[void.end : tracks.start] + rebuilt
    patched = bytearray(data)
    patched[void.start : tracks.end] = moved
    if seek_head is not None and seek_head.end <= void.start:
        for seek in _children(data, seek_head.body, seek_head.end):
            for entry in _children(data, seek.body, seek.end) if seek.identifier == _SEEK else []:
                target = _number(data, entry) + segment.body
                if entry.identifier == _SEEK_POSITION and void.end <= target <= tracks.start:
                    value = target - segment.body - growth
                    patched[entry.body : entry.end] = value.to_bytes(entry.end - entry.body, "big")
    return bytes(patched)


def _with_display_size(data: bytes, tracks: _Element, ratio: Fraction, video_number: int) -> bytes | None:
    """The Tracks element written anew; None where it holds display sizes already."""
    body, seen = b"", 0
    for track in _children(data, tracks.body, tracks.end):
        parts = _children(data, track.body, track.end)
        kind = next((_number(data, e) for e in parts if e.identifier == _TRACK_TYPE), 0)
        if track.identifier != _TRACK or kind != 1:
            body += b"" if track.identifier == _CRC else data[track.start : track.end]
            continue
        if seen == video_number:
            inside = b""
            for part in parts:
                if part.identifier != _VIDEO:
                    inside += data[part.start : part.end]
                    continue
                fields = _children(data, part.body, part.end)
                if any(f.identifier in (_DISPLAY_WIDTH, _DISPLAY_HEIGHT) for f in fields):
                    return None
                width, height = (
                    next(_number(data, f) for f in fields if f.identifier == wanted)
                    for wanted in (_PIXEL_WIDTH, _PIXEL_HEIGHT)
                )
                shown = display_size(width, height, ratio)
                added = _written(_DISPLAY_WIDTH, shown[0].to_bytes(4, "big"))
                added += _written(_DISPLAY_HEIGHT, shown[1].to_bytes(4, "big"))
                # libav says "unknown unit" where it was told no ratio.
                kept = b"".join(data[f.start : f.end] for f in fields if f.identifier not in (_DISPLAY_UNIT, _CRC))
                inside += _written(_VIDEO, kept + added)
            body += _written(_TRACK, inside)
        else:
            body += data[track.start : track.end]
        seen += 1
    return _written(_TRACKS, body)
