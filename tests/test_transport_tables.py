"""The numbers by which receivers know a channel of MPEG-TS stay."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from conftest import ffmpeg

from ns_video.media.transport_tables import Program, only_program
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore

_FILM = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", "-f", "lavfi", "-i", "sine=d=0.4:r=48000")
_NUMBERS = ("-mpegts_service_id", "77", "-mpegts_pmt_start_pid", "1111", "-mpegts_transport_stream_id", "9")


def _pids(path: Path) -> list[int]:
    with av.open(str(path)) as clip:
        return [stream.id for stream in clip.streams]


def _channel(path: Path, *pids: str) -> Path:
    streamids = [word for n, pid in enumerate(pids) for word in ("-streamid", f"{n}:{pid}")]
    ffmpeg(*_FILM, "-c:v", "libx264", "-c:a", "mp2", *_NUMBERS, *streamids, path)
    return path


@pytest.mark.parametrize("suffix", ["ts", "m2ts"])
def test_numbers_of_a_channel_stay(suffix: str, tmp_path: Path) -> None:
    source, target = _channel(tmp_path / "in.ts", "33", "2000"), tmp_path / f"out.{suffix}"
    assert only_program(source) == Program(9, 77, 1111)
    record = restore(source, target, model="identity")
    assert record.warnings == [] and verify_files(source, target) == []
    assert only_program(target) == Program(9, 77, 1111 if suffix == "ts" else 256)  # Blu-ray's table has its own
    assert _pids(target) == _pids(source) == [33, 2000]


def test_numbers_that_the_muxer_needs_are_not_kept(tmp_path: Path) -> None:
    source, target = _channel(tmp_path / "in.ts", "256", "257"), tmp_path / "out.m2ts"
    record = restore(source, target, model="identity")
    assert any("not all those of the input" in text for text in record.warnings)
    assert verify_files(source, target) == [] and len(set(_pids(target))) == 2


def test_numbers_that_would_collide_are_left_to_the_muxer() -> None:
    assert Program(0, 1, 4096).muxer_options([256]) == {"mpegts_service_id": "1", "mpegts_pmt_start_pid": "4096"}
    assert Program(1, 1, 256).muxer_options([256]) == Program(1, 1, 40).muxer_options([17]) == {}


def test_what_is_no_transport_stream_has_no_channel(plain_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.ts").write_bytes((b"G" + b"\x40\0\x30\xff" * 47)[:188] * 20)
    assert only_program(plain_clip) is only_program(tmp_path / "noise.ts") is None


def _as_markers(packet: bytes) -> bytes:
    """A packet with the program's table, its MPEG sound called SCTE-35 (ANSI/SCTE 35, 8.1)."""
    begin = 5
    end = begin + 3 + (int.from_bytes(packet[begin + 1 : begin + 3]) & 0xFFF) - 4
    table = packet[begin : begin + 12] + b"\x05\x04CUEI" + packet[begin + 12 : end]
    table = bytearray(table.replace(b"\x03\xe1\x01", b"\x86\xe1\x01"))
    table[2] += 6
    table[11] += 6
    made = packet[:begin] + table + _crc(bytes(table)).to_bytes(4, "big")
    return made + b"\xff" * (188 - len(made))


def test_tables_of_markers_are_dropped_by_name(tmp_path: Path) -> None:
    source = tmp_path / "in.ts"
    ffmpeg(*_FILM, "-c:v", "libx264", "-c:a", "mp2", source)
    data = source.read_bytes()
    packets = [data[begin : begin + 188] for begin in range(0, len(data), 188)]
    source.write_bytes(b"".join(_as_markers(p) if p[1:3] == b"\x50\0" else p for p in packets))  # PID 4096
    record = restore(source, tmp_path / "out.ts", model="identity")
    assert record.streams[1].codec == "scte_35"
    assert record.streams[1].action.startswith("dropped: mpegts can't hold scte_35 data")
    assert verify_files(source, tmp_path / "out.ts") == []


def _crc(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value
