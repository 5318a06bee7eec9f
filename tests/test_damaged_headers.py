"""Headers that are read by hand: whatever bytes lie there, each ends soon and raises nothing."""

from __future__ import annotations

import io
import random
import struct
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_animation_header import write_animation, write_rich
from torture.clips import mutated

from ns_video.media import movie_header, png_chunks
from ns_video.media.animation import seconds_of
from ns_video.media.animation_header import (
    AnimationInfo,
    add_parts,
    delays_of_png,
    is_animated_png,
    read_animation_info,
)
from ns_video.media.decode import open_clip
from ns_video.media.jpeg_headers import JpegHeaders
from ns_video.media.jpeg_segments import APP13, put_in, riding, without_extension, without_what_lies_behind
from ns_video.media.movie_header import boxes_between, movie_seconds
from ns_video.media.png_chunks import riding as riding_in_png
from ns_video.media.promised_end import bytes_missing, promised_end
from ns_video.media.sample_boxes import sample_boxes
from ns_video.media.transport_tables import only_program


def test_a_frame_that_is_cut_behind_an_animation_ends_it(tmp_path: Path) -> None:
    whole = write_animation(tmp_path / "a.webp").read_bytes()
    for cut in (b"ANMF" + bytes(4), b"ANMF" + bytes(12), b"ANMF\xff\xff\xff\xff" + bytes(8), b"ANM"):
        (tmp_path / "cut.webp").write_bytes(whole + cut)
        assert seconds_of(tmp_path / "cut.webp") == Fraction(3, 10)


def test_chunks_and_boxes_of_nothing_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gigabytes of them, each of which takes no time alone."""
    monkeypatch.setattr(png_chunks, "MOST_CHUNKS", 100)
    monkeypatch.setattr(movie_header, "_MOST_BOXES", 100)
    path = tmp_path / "empty"
    for head in (b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\2" + bytes(9), b"\x89PNG\r\n\x1a\n"):
        with path.open("wb") as file:
            file.write(head)
            file.truncate(1 << 36)
        assert read_animation_info(path) == AnimationInfo(None) and not is_animated_png(path)
        assert seconds_of(path) == 0 and delays_of_png(path) == [] and riding_in_png(path)[0] == ()
    path.write_bytes(b"\0\0\0\x08free" * 1000)
    with path.open("rb") as file:
        assert len(list(boxes_between(file, 0, 8000))) == 100


def test_boxes_that_are_shorter_than_their_heads_end_the_walk(tmp_path: Path) -> None:
    def box(kind: bytes, body: bytes, size: int | None = None) -> bytes:
        return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body

    identifier = bytes.fromhex("ffcc8263f8554a938814587a02521fdd")
    for size in range(2, 8):
        (tmp_path / "a.mp4").write_bytes(box(b"moov", box(b"trak", box(b"uuid", identifier, size) + bytes(64))))
        assert sample_boxes(tmp_path / "a.mp4") == {}
    (tmp_path / "a.mp4").write_bytes(box(b"moov", box(b"mvhd", struct.pack(">Q", 3), 1)))
    assert movie_seconds(tmp_path / "a.mp4") is None


def test_an_apng_that_is_cut_in_a_delay_has_those_before(tmp_path: Path) -> None:
    data = write_animation(tmp_path / "a.apng").read_bytes()
    (tmp_path / "cut.apng").write_bytes(data[: data.rindex(b"fcTL") + 4 + 22])
    assert delays_of_png(tmp_path / "cut.apng") == [Fraction(1, 10)] * 2


def test_white_space_in_xmp_takes_no_time() -> None:
    padding, began = b" " * 40_000, time.process_time()
    told = b'<a xmpNote:HasExtendedXMP="1"' + b" " * 9 + b'hdrgm:Version="1.0"/>' + padding
    assert without_extension(told) == b"<a" + b" " * 9 + b'hdrgm:Version="1.0"/>' + padding
    assert without_what_lies_behind(told) == b'<a xmpNote:HasExtendedXMP="1"/>' + padding
    assert time.process_time() - began < 1  # it would take 6 s


def test_a_duration_of_thousands_of_digits_promises_nothing(plain_clip: Path) -> None:
    with open_clip(plain_clip) as reader:
        stream = SimpleNamespace(index=reader.info.video.index, metadata=[("DURATION", "1" * 5000 + ":00:00.0")])
        info: Any = SimpleNamespace(streams=[stream], video=reader.info.video, format="matroska,webm")
    assert promised_end(info) is None


def _animations(folder: Path) -> list[bytes]:
    paths = [write_rich(folder / "a.webp"), write_rich(folder / "a.apng"), write_animation(folder / "a.gif", loop=3)]
    return [path.read_bytes() for path in paths]


def _jpegs(_: Path) -> list[bytes]:
    made, exif = io.BytesIO(), Image.Exif()
    exif[0x112] = 6
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(made, "JPEG", exif=exif.tobytes(), comment=b"words")
    return [put_in(made.getvalue(), [(APP13, b"Photoshop 3.0\0abc"), (0xE5, b"other\0")], (72, 72)) + b"behind"]


def _boxes(_: Path) -> list[bytes]:
    def box(kind: bytes, *parts: bytes) -> bytes:
        return struct.pack(">I4s", sum(map(len, parts)) + 8, kind) + b"".join(parts)

    entry = box(b"mp4v", bytes(78), box(b"st3d", bytes(5)), box(b"clap", bytes(32)))
    table = box(b"stbl", box(b"stsd", bytes(8), entry))
    media = box(b"mdia", box(b"hdlr", bytes(8), b"vide", bytes(12)), box(b"minf", table))
    track = box(b"trak", box(b"tkhd", bytes(12), b"\0\0\0\1", bytes(68)), media, box(b"uuid", bytes(20)))
    return [box(b"ftyp", b"isom") + box(b"moov", box(b"mvhd", bytes(100)), track)]


def _transport(_: Path) -> list[bytes]:
    section = bytes.fromhex("00b00d0001c100000001f0002ab104b2")
    return [(b"G\x40\0\x10\0" + section).ljust(188, b"\xff") + (b"G\0\x21\x10".ljust(188, b"\0")) * 9]


class _Packet:
    pts = 0

    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def __bytes__(self) -> bytes:
        return self._data


def _see(path: Path) -> None:
    JpegHeaders().see(_Packet(path.read_bytes()))


def _add(path: Path) -> None:
    found = read_animation_info(path)
    add_parts(path, found.parts if found else (), {"EXIF", "XMP", "resolution"}, turned=True)


PARSERS: dict[str, tuple[Callable[[Path], list[bytes]], tuple[Callable[[Path], Any], ...]]] = {
    "animations": (_animations, (seconds_of, read_animation_info, is_animated_png, delays_of_png, riding_in_png, _add)),
    "JPEGs": (_jpegs, (lambda path: riding(path.read_bytes()), _see)),
    "MP4": (_boxes, (sample_boxes, movie_seconds)),
    "others": (_transport, (only_program, bytes_missing)),
}


@pytest.mark.parametrize("kind", PARSERS)
def test_headers_of_any_bytes_raise_nothing(kind: str, tmp_path: Path) -> None:
    make, parsers = PARSERS[kind]
    path, rng = tmp_path / "mutated", random.Random(1)
    for data in make(tmp_path):
        for _ in range(200):
            path.write_bytes(mutated(data, rng))
            for parse in parsers:
                parse(path)
