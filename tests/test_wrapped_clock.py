"""MPEG's clock of 33 bits: where it falls back by minutes, and where it wraps."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ffmpeg
from material import facts

import ns_video
from ns_video.media.verify import verify_files
from ns_video.media.wrapped_clock import CLOCK_HZ, WrappedClock

WRAP = 1 << 33


@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
def test_a_clock_that_falls_back_by_minutes_has_not_wrapped(suffix: str, tmp_path: Path) -> None:
    """libav takes a fall of more than a minute for a wrap: 26.5 hours forward."""
    parts = [tmp_path / f"{n}{suffix}" for n in range(2)]
    for part, begins in zip(parts, (200, 100)):
        inputs = ("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=1", "-f", "lavfi", "-i", "sine=d=1")
        ffmpeg(*inputs, "-c:v", "mpeg2video", "-c:a", "mp2", "-output_ts_offset", str(begins), part)
    both, target = tmp_path / f"both{suffix}", tmp_path / "out.mkv"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    record = ns_video.restore(both, target, model="identity")
    assert record.exit_code == 3 and not any("promises" in place.what for place in record.damage)
    assert any("the clock jumps back by 10" in place.what for place in record.damage)
    found = facts(target)
    times = [time for time, _ in found.streams[0].packets if time is not None]
    assert len(found.times) == 50 and found.times[-1] - found.times[0] < 2.1
    assert times[-1] - times[0] > 1.8 and all(0 < b - a < Fraction(1, 10) for a, b in pairwise(times))
    assert verify_files(both, target) == []


def test_times_are_moved_to_the_nearest_wrap() -> None:
    def moved(container_format: str, *stamps: tuple[int, int]) -> list[int]:
        clock = WrappedClock(container_format)
        packets = [SimpleNamespace(stream_index=index, pts=stamp + 1, dts=stamp) for index, stamp in stamps]
        for packet in packets:
            clock.move(packet)
        assert all(packet.pts == packet.dts + 1 for packet in packets)
        return [packet.dts for packet in packets]

    # Until the clock comes near the file's first time again, and behind that.
    assert moved("mpegts", (0, 18_000_000), (0, WRAP + 9_000_000), (0, 12_600_000)) == [
        18_000_000,
        9_000_000,
        12_600_000,
    ]
    assert moved("mpegts", (0, WRAP - 90), (0, WRAP + 10)) == [WRAP - 90, WRAP + 10]
    assert moved("mpegts", (0, -90), (0, 10)) == [-90, 10]
    assert moved("mpegts", (0, 0), (0, WRAP + 9), (1, WRAP + 5)) == [0, 9, 5]  # a stream that begins behind the fall
    assert moved("mpegts", (0, 0), (1, 7 * WRAP // 8)) == [0, 7 * WRAP // 8]  # of another service
    hour = 3600 * CLOCK_HZ
    sparse = [(0, 0), (1, 0), (0, 7 * hour), (0, 14 * hour), (1, 14 * hour + 9)]
    assert moved("mpegts", *sparse) == [stamp for _, stamp in sparse]  # a stream that was silent for half a wrap
    assert moved("matroska,webm", (0, 0), (0, WRAP)) == [0, WRAP]
