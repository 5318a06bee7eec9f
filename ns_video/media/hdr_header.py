"""HDR metadata for codecs whose bitstream can't carry it (FFV1, VP9).

PyAV lets nobody set a stream's side data, but copies it from a template stream. So the template is made: the header of
a Matroska file with the wanted Colour element (RFC 9559, 5.1.4.1.28), read back by libav from memory.
"""

from __future__ import annotations

import io
from typing import Any

import av

from ns_video.media.encode import add_video_stream, describe_picture
from ns_video.media.first_frame import HdrMetadata
from ns_video.media.matroska_header import element, file_of_one_track, floating, unsigned
from ns_video.media.video_plan import HDR_IN_HEADER, VideoPlan

_CODEC_IDS = {"ffv1": "V_FFV1", "libvpx-vp9": "V_VP9"}
_SITING = {1: (1, 2), 2: (2, 2), 3: (1, 1), 4: (2, 1)}
"""libav's AVChromaLocation → ChromaSitingHorz (left 1, half 2) and ChromaSitingVert (top 1, half 2)."""


def needs_container_hdr(plan: VideoPlan) -> bool:
    """Whether the metadata of `plan` would be lost with the encoder alone."""
    return plan.hdr is not None and plan.codec in HDR_IN_HEADER and plan.container.holds_hdr


def _colour(hdr: HdrMetadata, chroma_location: int) -> bytes:
    body = b""
    if siting := _SITING.get(chroma_location):
        body += unsigned(0x55B7, siting[0]) + unsigned(0x55B8, siting[1])
    if hdr.light_level is not None:
        body += unsigned(0x55BC, hdr.light_level[0]) + unsigned(0x55BD, hdr.light_level[1])
    display = b""
    if hdr.primaries:
        points = [value for point in (*hdr.primaries, hdr.white_point) for value in point]
        display += b"".join(floating(0x55D1 + i, value) for i, value in enumerate(points))
    if hdr.luminance != (0, 0):
        display += floating(0x55D9, hdr.luminance[1]) + floating(0x55DA, hdr.luminance[0])
    if display:
        body += element(0x55D0, display)
    return element(0x55B0, body)


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
    video = element(
        0xE0, unsigned(0xB0, plan.width) + unsigned(0xBA, plan.height) + _colour(plan.hdr, plan.color.chroma_location)
    )
    track = element(0x86, _CODEC_IDS[plan.codec].encode())
    if private:
        track += element(0x63A2, private)
    with av.open(io.BytesIO(file_of_one_track(1, track + video))) as made:
        stream = container.add_stream_from_template(made.streams.video[0], opaque=True)
    stream.time_base = plan.time_base
    describe_picture(stream.codec_context, plan)
    if plan.display_matrix:
        stream.set_display_matrix(plan.display_matrix)
    return stream
