"""Segments: closed pieces of encoded video, each a file of one stream, and their times put in order."""

from __future__ import annotations

import functools
import io
from array import array
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, suppress
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import av
from av.packet import Packet

from ns_video.errors import NsVideoError, UsageError
from ns_video.frame import Frame
from ns_video.machine import codec_threads
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.encode import add_video_stream
from ns_video.media.encoder_choice import RAW_IN_MOV
from ns_video.media.libav import abandon, file_url, muted_log, open_input, translate_output
from ns_video.media.video_plan import VideoPlan

_SEGMENT_FORMATS = {".nut": "nut", ".mkv": "matroska", ".mov": "mov"}
_SEGMENT_OPTIONS = {".mov": {"use_editlist": "0"}}  # which would hide frames from before 0


def decode_times(segments: Sequence[Sequence[int]]) -> Generator[int]:
    """Decode times for packets whose presentation times, in decode order, are given (ticks, distinct).

    Each segment ends before the next one begins. dts[i] is the presentation time `depth` places earlier in presentation
    order, where depth is the smallest reorder depth that keeps every dts ≤ its pts; before the first one, times run on
    backwards by the smallest gap.
    """
    depth = max((_depth(segment) for segment in segments), default=0)
    gap = min((b - a for a, b in pairwise(_in_order(segments))), default=1)
    first = next(_in_order(segments), 0)
    early = (first - back * max(1, gap) for back in range(depth, 0, -1))
    yield from islice(chain(early, _in_order(segments)), sum(len(segment) for segment in segments))


def _in_order(segments: Sequence[Sequence[int]]) -> Generator[int]:
    for segment in segments:
        yield from sorted(segment)


def _depth(presentation: Sequence[int]) -> int:
    rank = {pts: place for place, pts in enumerate(sorted(presentation))}
    return max((place - rank[pts] for place, pts in enumerate(presentation)), default=0)


def segment_suffix(plan: VideoPlan) -> str:
    """Of the files in which segments are kept: NUT; Matroska, which holds alpha beside the picture too; MOV for what
    NUT has no name for (ProRes, DNxHD)."""
    if plan.alpha_beside:
        return ".mkv"
    return ".mov" if _refusal("nut", plan.codec) else ".nut"


class SegmentFile:
    """One closed piece of encoded video: a file of one stream, whose packets keep their bytes; its format by its suffix
    (`segment_suffix`)."""

    def __init__(self, path: Path, plan: VideoPlan) -> None:
        self.path = path
        try:
            self._container = av.open(
                file_url(path),
                "w",
                format=_SEGMENT_FORMATS[path.suffix],
                container_options=_SEGMENT_OPTIONS.get(path.suffix, {}),
            )
        except (av.FFmpegError, OSError) as error:
            raise translate_output(error, str(path), "encode", resumes=True) from error
        with ExitStack() as failed:
            failed.callback(self.abandon)
            self.stream = add_video_stream(self._container, plan)
            failed.pop_all()
        self.presentation: array[int] = array("q")
        """Times of the packets in decode order, in ticks of the plan's time base."""
        self.durations: array[int] = array("q")
        """Ticks that each of them is shown for, 0 where that isn't known."""

    def write(self, packets: Iterable[Any]) -> None:
        """Mux packets of this segment's encoder."""
        try:
            for packet in packets:
                self.presentation.append(int(packet.pts))
                self.durations.append(int(packet.duration or 0))
                self._container.mux_one(packet)
        except (av.FFmpegError, OSError) as error:
            raise translate_output(error, str(self.path), "encode", resumes=True) from error

    def close(self) -> None:
        """Write the trailer; what is not whole raises OutputError."""
        try:
            self._container.close()
        except (av.FFmpegError, OSError) as error:
            self.abandon()  # still open, where packets that waited for the header could not be written
            raise translate_output(error, str(self.path), "encode", resumes=True) from error

    def abandon(self) -> None:
        """Close without caring for the file."""
        abandon(self._container)


def segment_packets(path: Path) -> Generator[Packet]:
    """The packets of a segment in decode order."""
    with open_input(path, container_format=_SEGMENT_FORMATS[path.suffix]) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.size:
                yield packet


def segment_frames(path: Path, *, max_pixels: int) -> Generator[Frame]:
    """What a segment shows, in presentation order and without alpha beside it, as far as libav decodes it."""
    options = DecodeOptions(
        container_format=_SEGMENT_FORMATS[path.suffix],
        deinterlace="off",
        threads=codec_threads(),
        max_pixels=max_pixels,
    )
    with suppress(NsVideoError), open_clip(path, options) as reader:
        yield from reader.frames()


def require_codec(plan: VideoPlan) -> None:
    """A codec that the output or a segment can't hold is refused before work begins. Raises UsageError."""
    for container_format in (plan.container_format, _SEGMENT_FORMATS[segment_suffix(plan)]):
        if refusal := _refusal(container_format, plan.codec):
            raise UsageError(
                f"{container_format} can't hold {plan.codec}: {refusal}", remedy="choose another --codec or container"
            )
    if plan.codec == "rawvideo" and (refusal := _raw_refusal(plan)):
        raise UsageError(
            f"{plan.container_format} can't hold raw video as {plan.pix_fmt}: {refusal}",
            remedy="choose another --pix-fmt or --codec, or write .nut",
        )


def _raw_refusal(plan: VideoPlan) -> str:
    """Why a container doesn't hold raw video of this pixel format, or its reader doesn't know it again; "" if it does.

    Found out by writing a picture of it into memory and opening that.
    """
    unknown = "readers would not know it"
    if plan.container.is_mov and plan.pix_fmt not in RAW_IN_MOV:
        return unknown
    written = io.BytesIO()
    try:
        with muted_log():
            trial = av.open(written, "w", format=plan.container_format)
            try:
                stream = trial.add_stream("rawvideo", rate=25, width=16, height=16, pix_fmt=plan.pix_fmt)
                trial.mux([*stream.encode(av.VideoFrame(16, 16, plan.pix_fmt)), *stream.encode(None)])
            finally:
                abandon(trial)
            written.seek(0)
            with av.open(written) as made:
                found = made.streams.video[0].codec_context.pix_fmt
    except (ValueError, OSError, av.FFmpegError) as error:
        return getattr(error, "strerror", None) or str(error)
    return "" if found is not None and found.replace("yuvj", "yuv") == plan.pix_fmt.replace("yuvj", "yuv") else unknown


@functools.cache
def _refusal(container_format: str, codec: str) -> str:
    """What libav says where a container can't hold what an encoder makes; "" where it can."""
    try:
        trial = av.open(io.BytesIO(), "w", format=container_format)
        try:
            trial.add_stream(codec, rate=25, width=16, height=16)
        finally:
            abandon(trial)
    except (ValueError, av.FFmpegError) as error:
        return str(error)
    return ""
