"""HDR metadata for codecs whose bitstream can't carry it (FFV1, VP9).

PyAV lets nobody set a stream's side data, but copies it from a template stream. So the template is made: the header of
a Matroska file with the wanted Colour element (RFC 9559, 5.1.4.1.28), read back by libav from memory.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import av

from ns_video.media.encode import HDR_IN_HEADER, HdrMetadata, VideoPlan, add_video_stream, describe_picture

_CODEC_IDS = {"ffv1": "V_FFV1", "libvpx-vp9": "V_VP9"}
_SITING = {1: (1, 2), 2: (2, 2), 3: (1, 1), 4: (2, 1)}
"""libav's AVChromaLocation → ChromaSitingHorz (left 1, half 2) and ChromaSitingVert (top 1, half 2)."""


def needs_container_hdr(plan: VideoPlan) -> bool:
    """Whether the metadata of `plan` would be lost with the encoder alone."""
    return plan.hdr is not None and plan.codec in HDR_IN_HEADER and plan.container.holds_hdr


def _element(identifier: int, body: bytes) -> bytes:
    name = identifier.to_bytes((identifier.bit_length() + 7) // 8, "big")
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


def _unsigned(identifier: int, value: int) -> bytes:
    return _element(identifier, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _float(identifier: int, value: Any) -> bytes:
    return _element(identifier, struct.pack(">d", float(value)))


def _colour(hdr: HdrMetadata, chroma_location: int) -> bytes:
    body = b""
    if siting := _SITING.get(chroma_location):
        body += _unsigned(0x55B7, siting[0]) + _unsigned(0x55B8, siting[1])
    if hdr.light_level is not None:
        body += _unsigned(0x55BC, hdr.light_level[0]) + _unsigned(0x55BD, hdr.light_level[1])
    display = b""
    if hdr.primaries:
        points = [value for point in (*hdr.primaries, hdr.white_point) for value in point]
        display += b"".join(_float(0x55D1 + i, value) for i, value in enumerate(points))
    if hdr.luminance != (0, 0):
        display += _float(0x55D9, hdr.luminance[1]) + _float(0x55DA, hdr.luminance[0])
    if display:
        body += _element(0x55D0, display)
    return _element(0x55B0, body)


def _encoder_header(plan: VideoPlan) -> bytes:
    """The extradata that the encoder of `plan` writes."""
    with av.open(io.BytesIO(), "w", format="nut") as scratch:
        stream = add_video_stream(scratch, plan)
        scratch.start_encoding()
        return bytes(stream.codec_context.extradata or b"")


def add_video_stream_with_hdr(container: Any, plan: VideoPlan) -> Any:
    """Add a stream for already encoded packets of `plan`, its HDR metadata in the container's header."""
    assert plan.hdr is not None
    private = _encoder_header(plan)
    video = _element(
        0xE0, _unsigned(0xB0, plan.width) + _unsigned(0xBA, plan.height) + _colour(plan.hdr, plan.color.chroma_location)
    )
    track = _unsigned(0xD7, 1) + _unsigned(0x73C5, 1) + _unsigned(0x83, 1)
    track += _element(0x86, _CODEC_IDS[plan.codec].encode())
    if private:
        track += _element(0x63A2, private)
    tracks = _element(0x1654AE6B, _element(0xAE, track + video))
    head = _element(0x4282, b"matroska") + _unsigned(0x4287, 4) + _unsigned(0x4285, 2)
    # libav wants to see one block before it calls the header complete.
    cluster = _element(0x1F43B675, _unsigned(0xE7, 0) + _element(0xA3, b"\x81\0\0\x80\0"))
    segment = _element(0x18538067, _element(0x1549A966, _unsigned(0x2AD7B1, 1_000_000)) + tracks + cluster)
    with av.open(io.BytesIO(_element(0x1A45DFA3, head) + segment)) as made:
        stream = container.add_stream_from_template(made.streams.video[0], opaque=True)
    stream.time_base = plan.time_base
    describe_picture(stream.codec_context, plan)
    if plan.display_matrix:
        stream.set_display_matrix(plan.display_matrix)
    return stream
