"""What rides on a clip's first frame, as libav decodes it: display matrix, HDR metadata, order of the fields."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.filter import Graph
from av.video.frame import VideoFrame

TOP_FIELD_FIRST, BOTTOM_FIELD_FIRST = 2, 3  # libav's AVFieldOrder: AV_FIELD_TT, AV_FIELD_BB


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """SMPTE ST 2086 mastering display and CTA-861.3 light level, as rational numbers and integers."""

    primaries: tuple[tuple[Fraction, Fraction], ...]
    """(x, y) of red, green and blue; empty where unknown."""
    white_point: tuple[Fraction, Fraction]
    luminance: tuple[Fraction, Fraction]
    """(minimum, maximum) in cd/m²."""
    light_level: tuple[int, int] | None
    """(MaxCLL, MaxFALL) in cd/m²."""


def first_frame_metadata(carrier: VideoFrame) -> tuple[tuple[int, ...], HdrMetadata | None]:
    """(display matrix or (), HDR metadata or None) that ride on a libav frame."""
    matrix: tuple[int, ...] = ()
    mastering: bytes | None = None
    level: tuple[int, int] | None = None
    side_data: list[Any] = list(carrier.side_data)
    for data in side_data:
        name = data.type.name
        if name == "DISPLAYMATRIX":
            matrix = struct.unpack("<9i", bytes(data)[:36])
        elif name == "MASTERING_DISPLAY_METADATA":
            mastering = bytes(data)
        elif name == "CONTENT_LIGHT_LEVEL":
            values = struct.unpack("<2I", bytes(data)[:8])
            level = (values[0], values[1])
    if mastering is None and level is None:
        return matrix, None
    points: tuple[tuple[Fraction, Fraction], ...] = ()
    white = luminance = (Fraction(0), Fraction(0))
    if mastering is not None:
        numbers = struct.unpack("<22i", mastering[:88])  # AVMasteringDisplayMetadata: 10 rationals, 2 flags
        rationals = [Fraction(n, d) if d else Fraction(0) for n, d in zip(numbers[0:20:2], numbers[1:20:2])]
        if numbers[20]:
            points = ((rationals[0], rationals[1]), (rationals[2], rationals[3]), (rationals[4], rationals[5]))
            white = (rationals[6], rationals[7])
        if numbers[21]:
            luminance = (rationals[8], rationals[9])
    return matrix, HdrMetadata(points, white, luminance, level)


def field_order(carrier: VideoFrame | None) -> int:
    """TOP_FIELD_FIRST or BOTTOM_FIELD_FIRST of an interlaced libav frame, else 0. A filter tells: PyAV doesn't."""
    if carrier is None or not carrier.interlaced_frame:
        return 0
    graph = Graph()
    source = graph.add_buffer(
        width=carrier.width, height=carrier.height, format=carrier.format, time_base=Fraction(1, 25)
    )
    chosen = graph.add("select", r"eq(interlace_type\,TOPFIRST)")
    graph.link_nodes(source, chosen, graph.add("buffersink")).configure()
    graph.vpush(carrier)
    graph.vpush(None)
    try:
        graph.vpull()
    except EOFError:
        return BOTTOM_FIELD_FIRST
    return TOP_FIELD_FIRST
