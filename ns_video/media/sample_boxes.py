"""What MP4 and MOV say of a track beside its samples and libav's muxer doesn't write: where a picture is to be seen
around the viewer, with which eye, how much of it, and from where sound comes. Floor 2.

They are copied as they are from the boxes of INPUT into those of a finished OUTPUT, whose index lies at its end: no
sample moves. Sources: ISO/IEC 14496-12 (8.5.2, 12.1.4), Google's Spherical Video RFC (V1, V2) and Spatial Audio RFC.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Mapping
from pathlib import Path
from typing import IO, Any

from ns_video.media.movie_header import boxes_between

PROJECTION, STEREO, APERTURE = "360° projection", "stereo 3D", "clean aperture"
_VIEWS = "second view"
_CALLED = {
    b"sv3d": PROJECTION,
    b"uuid": PROJECTION,
    b"st3d": STEREO,
    b"clap": APERTURE,
    b"SA3D": "spatial sound",
    b"vexu": _VIEWS,
}
_SPHERICAL_V1 = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")  # of the `uuid` box
_LARGEST = 1 << 16  # bytes of such a box
_LARGEST_INDEX = 1 << 28  # bytes of `moov`
_HEADS = {b"vide": {0: (86,), 1: (86,)}, b"soun": {0: (36,), 1: (52, 36), 2: (72,)}}
"""Handler → version → bytes of a sample entry before its boxes; QuickTime's and MP4's version 1 of sound are two."""
_WAY: tuple[bytes, ...] = (b"mdia", b"minf", b"stbl", b"stsd")
_ENABLED = 1  # of the flags of `tkhd`


def named(boxes: Collection[bytes]) -> set[str]:
    """What boxes say, in words."""
    return {_CALLED[box[4:8]] for box in boxes}


def writable(boxes: Collection[bytes], *, same_size: bool) -> tuple[bytes, ...]:
    """Of a track's boxes those that hold for its restored picture: one view is restored, an aperture counts pixels."""
    return tuple(b for b in boxes if _CALLED[b[4:8]] != _VIEWS and (same_size or _CALLED[b[4:8]] != APERTURE))


def told_by_frame(carrier: Any) -> set[str]:
    """The same of a libav frame: what its container or its codec tells."""
    data = [] if carrier is None else [d for d in carrier.side_data if d.type.name in ("SPHERICAL", "STEREO3D")]
    return {
        PROJECTION if d.type.name == "SPHERICAL" else STEREO for d in data if d.type.name == "SPHERICAL" or _mode(d)
    }


def stereo_mode(carrier: Any) -> str:
    """Matroska's name, in libav's words, for how the two views share a libav frame; "" where it has none in WebM."""
    told = next((d for d in carrier.side_data if d.type.name == "STEREO3D"), None) if carrier is not None else None
    modes = {1: ("left_right", "right_left"), 2: ("top_bottom", "bottom_top")}
    return "" if told is None else modes.get(_mode(told), ("", ""))[bytes(told)[4] & 1]


def _mode(data: Any) -> int:
    return int.from_bytes(bytes(data)[:4], "little")  # AVStereo3D: type, flags


def sample_boxes(path: Path) -> dict[int, tuple[bytes, ...]]:
    """Number of each track → its boxes of these kinds, of a file that is none: nothing."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        out: dict[int, tuple[bytes, ...]] = {}
        for kind, begin, stop in boxes_between(file, 0, end):
            if kind != b"moov":
                continue
            for inner, first, last in boxes_between(file, begin, stop):
                if inner == b"trak" and (boxes := tuple(_of_track(file, first, last))):
                    out[_track_number(file, first, last)] = boxes
            break
        return out


def _of_track(file: IO[bytes], begin: int, end: int) -> Generator[bytes]:
    for kind, first, last in boxes_between(file, begin, end):
        if kind == b"uuid" and _read(file, first, first + 16) == _SPHERICAL_V1 and last - first < _LARGEST:
            yield _box(kind, _read(file, first, last))
    handler = _within(file, begin, end, (b"mdia", b"hdlr"))
    kind = b"" if handler is None else _read(file, handler[0] + 8, handler[0] + 12)
    if (table := _within(file, begin, end, _WAY)) is None:
        return
    for _, first, last in boxes_between(file, table[0] + 8, table[1]):
        version = int.from_bytes(_read(file, first + 8, first + 10))
        for head in _HEADS.get(kind, {}).get(version, ()):
            inner = list(boxes_between(file, first - 8 + head, last))
            # They fill the entry, so it has a head of that length.
            if inner and inner[-1][2] + 8 > last and all(kind.isalnum() for kind, _, _ in inner):
                kept = ((kind, a, b) for kind, a, b in inner if kind in _CALLED and kind != b"uuid")
                yield from (_box(kind, _read(file, a, b)) for kind, a, b in kept if b - a < _LARGEST)
                return
        return


def _within(file: IO[bytes], begin: int, end: int, way: tuple[bytes, ...]) -> tuple[int, int] | None:
    place = (begin, end)
    for wanted in way:
        found = next(((a, b) for kind, a, b in boxes_between(file, *place) if kind == wanted), None)
        if found is None:
            return None
        place = found
    return place


def _track_number(file: IO[bytes], begin: int, end: int) -> int:
    place = _within(file, begin, end, (b"tkhd",))
    data = b"" if place is None else _read(file, place[0], min(place[1], place[0] + 24))
    return int.from_bytes(data[20:24] if data[:1] == b"\1" else data[12:16])


def _read(file: IO[bytes], begin: int, end: int) -> bytes:
    file.seek(begin)
    return file.read(end - begin)


def _box(kind: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + kind + body


def complete_movie(path: Path, added: Mapping[int, Collection[bytes]], disabled: Collection[int]) -> bool:
    """Writes boxes into the tracks of a finished file, by their numbers, and lets players not show others unasked.

    False where its index isn't at the end. Raises OSError.
    """
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        last = next((found for found in boxes_between(file, 0, end) if found[2] == end), None)
        if last is None or last[0] != b"moov" or last[2] - last[1] > _LARGEST_INDEX:
            return False
        index = _read(file, last[1], end)
        file.seek(last[1] - 8)
        file.write(_box(b"moov", b"".join(_completed(part, added, disabled) for part in _parts(index))))
    return True


def _parts(data: bytes) -> Generator[bytes]:
    """Boxes one behind the other; what is left at the end is the last one."""
    begin = 0
    while begin < len(data):
        size = int.from_bytes(data[begin : begin + 4])
        stop = begin + size if size >= 8 else len(data)
        yield data[begin:stop]
        begin = stop


def _completed(track: bytes, added: Mapping[int, Collection[bytes]], disabled: Collection[int]) -> bytes:
    if track[4:8] != b"trak":
        return track
    parts = list(_parts(track[8:]))
    header = next(n for n, part in enumerate(parts) if part[4:8] == b"tkhd")
    number = int.from_bytes(parts[header][28:32] if parts[header][8] == 1 else parts[header][20:24])
    if number in disabled:
        flags = int.from_bytes(parts[header][9:12]) & ~_ENABLED
        parts[header] = parts[header][:9] + flags.to_bytes(3, "big") + parts[header][12:]
    boxes = list(added.get(number, ()))
    beside = [box for box in boxes if box[4:8] == b"uuid"]
    inside = b"".join(box for box in boxes if box not in beside)
    parts = [_in_entry(part, _WAY, inside) if inside else part for part in parts]
    return _box(b"trak", b"".join((*parts, *beside)))


def _in_entry(part: bytes, way: tuple[bytes, ...], inside: bytes) -> bytes:
    """A box on the way to the first sample entry, with more at the end of that."""
    kind, *rest = way
    if part[4:8] != kind:
        return part
    if rest:
        return _box(kind, b"".join(_in_entry(inner, tuple(rest), inside) for inner in _parts(part[8:])))
    entry, *others = _parts(part[16:])
    inside = b"".join(box for box in _parts(inside) if box[4:8] not in entry)  # libav's muxer tells it where it copies
    return _box(kind, part[8:16] + _box(entry[4:8], entry[8:] + inside) + b"".join(others))
