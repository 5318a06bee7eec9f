"""Interlaced frames made progressive on the way from the decoder, one out per one in."""

from __future__ import annotations

from fractions import Fraction

import av
from av.filter import Graph
from av.video.frame import VideoFrame


class Deinterlacer:
    """libav's bwdif over the frames of a stream that want it, in their order. `take(frame)`, then `drain()`."""

    def __init__(self, mode: str, time_base: Fraction, warnings: list[str]) -> None:
        """`mode`: see `DecodeOptions.deinterlace`; `warnings` is told when the first frame is deinterlaced."""
        self._mode = mode
        self._time_base = time_base
        self._warnings = warnings
        self._graph: Graph | None = None
        self._geometry: tuple[int, int, str] | None = None

    def take(self, frame: VideoFrame) -> list[VideoFrame]:
        """Frames that are finished by this one, itself where it needs no filter."""
        mode = self._mode
        geometry = (frame.width, frame.height, frame.format.name)
        before = self.drain() if geometry != self._geometry else []
        if self._graph is None:
            if mode == "off" or (mode == "auto" and not frame.interlaced_frame):
                return [*before, frame]
            self._graph = Graph()
            source = self._graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=self._time_base
            )
            bwdif = self._graph.add("bwdif", f"mode=send_frame:deint={'all' if mode == 'on' else 'interlaced'}")
            sink = self._graph.add("buffersink")
            self._graph.link_nodes(source, bwdif, sink).configure()
            self._geometry = geometry
            told = "interlaced frames were deinterlaced (bwdif)"
            if told not in self._warnings:
                self._warnings.append(told)
        frame.time_base = self._time_base
        self._graph.vpush(frame)
        return [*before, *self._pull()]

    def drain(self) -> list[VideoFrame]:
        """What the filter still holds. A filter takes pictures of one geometry: the next frame gets a new one."""
        if self._graph is None:
            return []
        self._graph.vpush(None)
        rest = self._pull()
        self._graph = None
        return rest

    def _pull(self) -> list[VideoFrame]:
        assert self._graph is not None
        out: list[VideoFrame] = []
        while True:
            try:
                frame = self._graph.vpull()
            except (BlockingIOError, EOFError, av.FFmpegError):
                return out
            if frame.time_base:  # the filter halves it
                ratio = frame.time_base / self._time_base
                frame.pts = None if frame.pts is None else round(frame.pts * ratio)
                frame.duration = round(frame.duration * ratio)
            frame.time_base = self._time_base
            out.append(frame)

    def release(self) -> None:
        """Let go of the filter, and of what it holds."""
        self._graph = None
