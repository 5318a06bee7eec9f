"""Files that are written are closed, whatever fails."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from material import Recipe, write_clip

from ns_video import bench
from ns_video.errors import DownstreamClosed, InputError, OutputError, UsageError
from ns_video.frame import Frame
from ns_video.media import mux, segment_file
from ns_video.media.aspect_header import AspectWriter
from ns_video.media.decode import ClipReader, open_clip
from ns_video.media.degraded_clip import _stream_beside
from ns_video.media.encode import FrameEncoder
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.mux import ClipWriter, OutputSettings
from ns_video.media.segment_file import SegmentFile
from ns_video.media.video_plan import VideoPlan, plan_video


@contextmanager
def planned(film: Path) -> Generator[tuple[ClipReader, VideoPlan, Frame]]:
    """What writes a clip as NUT, and its first frame."""
    with open_clip(film) as reader:
        first = next(reader.frames())
        size = (first.width, first.height)
        yield reader, plan_video("nut", reader.info.video, first, size, EncodeOptions(threads=1)), first


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Pixels that are not square: what can't be gone back to gets them into its header on the way."""
    return write_clip(tmp_path / "in.mkv", Recipe(aspect=Fraction(4, 3)))


def descriptors() -> int:
    """Of this process."""
    return len(list(Path("/dev/fd").iterdir()))


def named_pipe(tmp_path: Path) -> tuple[Path, int]:
    """And its reader's descriptor."""
    path = tmp_path / "pipe.nut"
    os.mkfifo(path)
    return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK)


def writer_to(path: Path, reader: ClipReader, plan: VideoPlan) -> ClipWriter:
    """Of the video alone."""
    return ClipWriter(OutputSettings(str(path), path.name), plan, reader.container, reader.info, (), {})


def test_an_encoder_that_is_unknown_leaves_no_pipe_open(film: Path, tmp_path: Path) -> None:
    path, end = named_pipe(tmp_path)
    with planned(film) as (reader, plan, _):
        before = descriptors()
        with pytest.raises(UsageError) as caught:  # it holds the frames of the calls, and all in them
            writer_to(path, reader, replace(plan, codec="nosuch"))
        assert descriptors() == before and caught.value.remedy
    os.close(end)


def test_a_container_that_does_not_open_leaves_no_pipe_open(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(24, "Too many open files")

    path, end = named_pipe(tmp_path)
    with planned(film) as (reader, plan, _), monkeypatch.context() as patch:
        before = descriptors()
        patch.setattr(mux.av, "open", refuse)
        with pytest.raises(OutputError, match="Too many open files"):
            writer_to(path, reader, plan)
        assert descriptors() == before
    os.close(end)


def test_a_trailer_that_can_not_be_written_leaves_no_pipe_open(film: Path, tmp_path: Path) -> None:
    path, end = named_pipe(tmp_path)
    with planned(film) as (reader, plan, first):
        before = descriptors()
        writer = writer_to(path, reader, plan)
        assert descriptors() == before + 1
        encoder = FrameEncoder(writer.video, plan)
        for packet in (*encoder.encode(first), *encoder.flush()):
            writer.write_video(packet)
        os.close(end)
        with pytest.raises(DownstreamClosed):
            writer.close()
        assert descriptors() == before - 1
        writer.abandon()


def test_a_header_that_nobody_takes_leaves_no_pipe_open(tmp_path: Path) -> None:
    path, end = named_pipe(tmp_path)
    file = path.open("wb", buffering=0)
    writer = AspectWriter(file, "nut", Fraction(4, 3))
    writer.write(b"nut/multimedia container\0")
    os.close(end)
    with pytest.raises(BrokenPipeError):
        writer.close()
    assert file.closed


def test_a_segment_whose_encoder_is_unknown_is_let_go(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libav opens the file with the first packet: no descriptor tells."""
    let_go: list[object] = []
    monkeypatch.setattr(segment_file, "abandon", let_go.append)
    with planned(film) as (_, plan, _), pytest.raises(UsageError):
        SegmentFile(tmp_path / "a.nut", replace(plan, codec="nosuch"))
    assert len(let_go) == 1


def test_a_benchmark_that_fails_leaves_no_segment_open(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: FrameEncoder) -> list[Any]:
        raise InputError("no more")

    monkeypatch.setattr(FrameEncoder, "flush", fail)
    with planned(film) as (reader, _, first):
        before = descriptors()
        wanted = EncodeOptions(threads=1, encoder_options={"preset": "ultrafast", "tune": "zerolatency"})
        with pytest.raises(InputError) as caught:
            bench._measure_encode([first], reader.info.video, tmp_path / "a.nut", wanted, 0.1)
        assert descriptors() == before and (tmp_path / "a.nut").stat().st_size and caught.value.message == "no more"


def test_an_encoder_beside_a_container_is_let_go(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    whole = av.open

    def noted(*args: Any, **kwargs: Any) -> Any:
        opened.append(whole(*args, **kwargs))
        return opened[-1]

    with planned(film) as (_, plan, _):
        monkeypatch.setattr(av, "open", noted)
        with _stream_beside(plan) as stream:
            assert len(opened[0].streams) == 1 and stream.codec_context.name == plan.codec
    assert len(opened[0].streams) == 0
