"""The sample aspect ratio survives where PyAV tells libav's muxers none: NUT, y4m, Matroska; files and pipes."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ns_video.media.aspect_header import AspectWriter, complete_file


def anamorphic(path: Path, ratio: Fraction) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = ratio
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((72, 64), 60 + index, np.uint8), format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def aspect_told(path: Path) -> str:
    command = ["ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "json"]
    shown = subprocess.run(
        [*command, "-show_entries", "stream=sample_aspect_ratio", str(path)], capture_output=True, check=True
    )
    return json.loads(shown.stdout)["streams"][0].get("sample_aspect_ratio", "")


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="no ffprobe: another reader of the headers is wanted")
@pytest.mark.parametrize("ratio", [Fraction(2), Fraction(64, 45), Fraction(8, 9)])
@pytest.mark.parametrize(
    ("container_format", "codec"), [("nut", "rawvideo"), ("nut", "ffv1"), ("y4m", ""), ("matroska", "ffv1")]
)
@pytest.mark.parametrize("piped", [True, False])
def test_the_ratio_survives(tmp_path: Path, container_format: str, codec: str, ratio: Fraction, piped: bool) -> None:
    anamorphic(tmp_path / "in.mp4", ratio)
    target = tmp_path / f"out.{'mkv' if container_format == 'matroska' else container_format}"
    command = [sys.executable, "-m", "ns_video", "restore", "--model", "identity", "--format", container_format]
    command += ["--codec", codec] if codec else []
    command += [str(tmp_path / "in.mp4"), "-" if piped else str(target)]
    done = subprocess.run(command, capture_output=True, check=True)
    if piped:
        target.write_bytes(done.stdout)
    assert aspect_told(target) == f"{ratio.numerator}:{ratio.denominator}"
    check = subprocess.run(
        ["ffmpeg", "-v", "error", "-xerror", "-i", str(target), "-f", "null", "-"], capture_output=True
    )
    assert check.returncode == 0 and not check.stderr
    with av.open(str(target)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_ratios_of_large_numbers_are_rounded_in_nut(tmp_path: Path) -> None:
    anamorphic(tmp_path / "in.mp4", Fraction(853, 640))
    from ns_video import restore

    restore(str(tmp_path / "in.mp4"), str(tmp_path / "out.nut"), model="identity", codec="ffv1")
    with av.open(str(tmp_path / "out.nut")) as container:
        told = container.streams.video[0].sample_aspect_ratio
        assert told is not None and abs(told - Fraction(853, 640)) < Fraction(1, 1000)


class Slow(io.RawIOBase):
    """Takes a few bytes at a time, as a pipe may."""

    def __init__(self) -> None:
        self.taken = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        part = bytes(data)[:7]  # pyright: ignore[reportArgumentType]
        self.taken += part
        return len(part)


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_headers_in_pieces(size: int) -> None:
    head = b"YUV4MPEG2 W64 H48 F25:1 Ip A0:0 C420jpeg\nFRAME\n" + bytes(range(256)) * 20
    file = Slow()
    writer = AspectWriter(file, "yuv4mpegpipe", Fraction(4, 3))  # pyright: ignore[reportArgumentType]
    for start in range(0, len(head), size):
        assert writer.write(head[start : start + size]) == len(head[start : start + size])
    assert bytes(file.taken) == head.replace(b"A0:0", b"A4:3")


def test_what_is_no_header_passes(tmp_path: Path) -> None:
    for container_format in ("nut", "yuv4mpegpipe", "matroska"):
        file = Slow()
        writer = AspectWriter(file, container_format, Fraction(4, 3))  # pyright: ignore[reportArgumentType]
        writer.write(b"neither a header nor a line")
        writer.close()
        assert bytes(file.taken) == b"neither a header nor a line"
    (tmp_path / "short").write_bytes(b"\x1a\x45")
    assert not complete_file(tmp_path / "short", "matroska", Fraction(2))
