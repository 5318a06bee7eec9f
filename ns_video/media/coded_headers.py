"""What libav's decoders or PyAV keep to themselves, read from coded headers: the quantisers of HEVC, AV1, VP8
and (with alpha) VP9 packets, the chroma position of H.264 and HEVC streams; and that of other frames.

libav's `trace_headers` filter parses a packet's headers and prints every field to its log; the lines are caught there.
So are those of `showinfo`, which prints what a frame says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.bitstream import BitStreamFilterContext
from av.filter import Graph

from ns_video.frame import QuantiserMap
from ns_video.media.libav import traced_log

CODECS = frozenset({"hevc", "av1", "vp8"})
"""Codecs that are read here whatever decodes them."""

LIKENESS = {"hevc": 0.4, "av1": 0.35, "vp8": 0.8, "vp9": 0.45}
"""A step of these codecs does as much damage as an H.264 step of this many times its size: larger transforms, better
filters. Chosen on held-out training clips; docs/models.md has what the test clips gain."""
NEWER_CODECS = frozenset(LIKENESS)
"""Codecs whose blocks, transforms and filters aren't H.264's."""

_FIELD = re.compile(r"\b(init_qp_minus26|slice_qp_delta|base_q_idx|base_qindex)\b.*=\s*(-?\d+)\s*$")
_SEGMENT_FIELD = re.compile(
    r"\b(segmentation_enable|segment_feature_mode|segment_qp|segment_probs)\b(?:\[(\d)\])?.*=\s*(-?\d+)\s*$"
)
_CHROMA_CODECS = frozenset({"h264", "hevc"})
_CHROMA_FIELD = re.compile(r"\bchroma_sample_loc_type_top_field\b.*=\s*([0-5])\s*$")
_CHROMA_OF_FRAME = re.compile(r"\bcl:(\w+)")
_CHROMA_PLACES = ("unspecified", "left", "center", "topleft", "top", "bottomleft", "bottom")
_KEPT = 512  # frames whose picture hasn't come yet
# Places of the codecs' tables (ac_qlookup of libvpx and libaom), interpolated.
_VP9_INDEX, _VP9_STEP = (0, 1, 95, 128, 160, 192, 224, 255), (4, 8, 102, 168, 270, 448, 880, 1828)
_VP8_INDEX, _VP8_STEP = (0, 54, 83, 102, 117, 127), (4, 58, 116, 173, 229, 284)


def vp9_steps(index: float | npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Quantiser index of VP9 or AV1, 0 to 255 → step in 8-bit sample units."""
    return np.asarray(np.interp(index, _VP9_INDEX, _VP9_STEP), np.float64) / 8


def chroma_location(stream: Any, codec: str) -> int | None:
    """Chroma position that the parameter sets in a stream's header state, libav's AVChromaLocation; 0 where none do.

    None for codecs that are not read here. (libav's frames of H.264 and HEVC say "left" where nothing was stated.)
    """
    if codec not in _CHROMA_CODECS:
        return None
    with traced_log() as lines:
        try:
            BitStreamFilterContext("trace_headers", stream)
        except (av.FFmpegError, ValueError, RuntimeError):
            return 0
        found = [match for _, _, text in lines if (match := _CHROMA_FIELD.search(text))]
    return int(found[-1][1]) + 1 if found else 0


def frame_chroma_location(frame: Any) -> int:
    """Chroma position that a frame got from its decoder or container, libav's AVChromaLocation; 0 where from none."""
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 25)
    )
    graph.link_nodes(source, graph.add("showinfo", "checksum=0"), graph.add("buffersink")).configure()
    with traced_log() as lines:
        graph.vpush(frame)
        graph.vpull()
        found = [match for _, _, text in lines if (match := _CHROMA_OF_FRAME.search(text))]
    return _CHROMA_PLACES.index(found[0][1]) if found else 0


@dataclass(slots=True)
class _Segments:
    """VP8's four kinds of macroblocks, each with a quantiser index of its own (RFC 6386, 9.3)."""

    is_on: bool = False
    is_absolute: bool = False
    """Their indices stand for themselves; else they are added to the frame's."""
    indices: list[int] = field(default_factory=lambda: [0] * 4)
    odds: list[int] = field(default_factory=lambda: [255] * 3)
    """Of 256: that a macroblock is of the first two; of these two the first; of the other two the third."""

    def see(self, name: str, place: int, value: int) -> None:
        """Take a field of the frame's header."""
        if name == "segmentation_enable":
            self.is_on = value == 1
        elif name == "segment_feature_mode":
            self.is_absolute = value == 1
        elif name == "segment_qp":
            self.indices[place] = value
        else:
            self.odds[place] = value

    def step(self, index: int) -> float:
        """The frame's step, 8-bit sample units: the mean of its macroblocks', as often as its header says each is."""
        if not self.is_on:
            return _vp8_step(index)
        first, one, three = (odds / 256 for odds in self.odds)
        shares = (first * one, first * (1 - one), (1 - first) * three, (1 - first) * (1 - three))
        steps = [_vp8_step(i if self.is_absolute else index + i) for i in self.indices]
        return float(np.dot(shares, steps))


def _vp8_step(index: float) -> float:
    return float(np.interp(index, _VP8_INDEX, _VP8_STEP)) / 4


class HeaderQuantisers:
    """Remembers the step of each packet of one stream until its frame is decoded."""

    def __init__(self, stream: Any, codec: str) -> None:
        self._codec = codec
        self._initial = 26
        self._last: float | None = None
        self._steps: dict[int, float] = {}
        self._segments = _Segments()
        self._filter: Any = None
        with traced_log() as lines:
            try:
                self._filter = BitStreamFilterContext("trace_headers", stream)
            except (av.FFmpegError, ValueError, RuntimeError):
                return
            self._read(lines)  # parameter sets in the container's header

    def see(self, packet: Any) -> None:
        """Read a packet's headers before it is decoded. What can't be parsed tells nothing."""
        if self._filter is None or packet.pts is None or not packet.size:
            return
        copy = av.Packet(bytes(packet))  # a filter takes the packet it is given
        with traced_log() as lines:
            try:
                self._filter.filter(copy)
            except (av.FFmpegError, ValueError):
                self._filter.flush()
            found = self._read(lines)
        step = self._last if found is None else found
        if step is None:
            return
        self._last = step
        self._steps[packet.pts] = step
        while len(self._steps) > _KEPT:
            del self._steps[next(iter(self._steps))]

    def step_of(self, pts: int | None) -> float | None:
        """The codec's step of the frame with this time, 8-bit sample units; told once."""
        return None if pts is None else self._steps.pop(pts, None)

    def of(self, pts: int | None, width: int, height: int) -> QuantiserMap | None:
        """The map of the frame with this time: one step for all of it."""
        step = self.step_of(pts)
        if step is None:
            return None
        likeness = np.full((1, 1), step * LIKENESS[self._codec], np.float32)
        return QuantiserMap(likeness, max(width, height), "?", f"{self._codec} headers")

    def _read(self, lines: Iterable[tuple[int, str, str]]) -> float | None:
        """The step that a packet's fields say, 8-bit sample units; of several slices the mean, of several frames the
        last."""
        steps: list[float] = []
        for _, _, text in lines:
            match = _FIELD.search(text)
            if match is None:
                if (segment := _SEGMENT_FIELD.search(text)) is not None:
                    self._segments.see(segment[1], int(segment[2] or 0), int(segment[3]))
                continue
            name, value = match[1], int(match[2])
            if name == "init_qp_minus26":
                self._initial = 26 + value
            elif name == "slice_qp_delta":
                steps.append(2.0 ** ((self._initial + value - 4) / 6))
            elif name == "base_q_idx":
                steps = [float(vp9_steps(value))]
            else:
                steps = [self._segments.step(value)]
        return float(np.mean(steps)) if steps else None
