"""What lossy WebP and AVIF stills tell of their quantisers: they are a frame of VP8 and of AV1."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np

from ns_video.frame import UNDAMAGED_STEP, QuantiserMap
from ns_video.media.coded_headers import HeaderQuantisers

_CODECS = {"WEBP": "vp8", "AVIF": "av1"}
_OF_STILLS = {"vp8": 1.6, "av1": 0.5}
"""A step of these stills does as much damage as an H.264 step of this many times its size: their encoders shape it for
the eye. Chosen on training pictures; docs/models.md has what the test pictures gain."""
_RIFF_HEAD, _CHUNK_HEAD = 12, 8
_BLOCK = 1 << 16  # px: no still of these is larger
_SIDES = (6, 10)  # bytes of a VP8 key frame that tell width and height (RFC 6386, 9.1)


def quantiser_of_still(path: Path, kind: str) -> QuantiserMap | None:
    """`quantiser_in` for a file of Pillow's format `kind`; None for other formats than WebP and AVIF."""
    return quantiser_in(path.read_bytes(), kind) if kind in _CODECS else None


def quantiser_in(data: bytes, kind: str) -> QuantiserMap | None:
    """The step of a whole WebP or AVIF file, one for all of it: the H.264 step that does as much damage, of several
    AV1 items of one size (tiles) the mean. None for lossless WebP and for what tells none."""
    codec = _CODECS[kind]
    file = _as_clip(_vp8_frame(data)) if codec == "vp8" else data
    try:
        steps = _steps(file, codec)
    except (av.FFmpegError, ValueError):  # also what is cut: then it tells none
        return None
    if not steps:
        return None
    step = float(np.mean(steps))
    if round(step, 3) > UNDAMAGED_STEP:
        step *= _OF_STILLS[codec]
    return QuantiserMap(np.full((1, 1), step, np.float32), _BLOCK, "I", f"{kind} headers")


def _steps(file: bytes, codec: str) -> list[float]:
    """The codec's, of the largest items of AV1 or VP8 in a file; none of those coded as RGB."""
    if not file:
        return []
    with av.open(io.BytesIO(file), "r") as container:
        streams = list(container.streams.video)
        coloured = [s for s in streams if not (s.codec_context.pix_fmt or "").startswith("gray")]  # no alpha plane
        streams = [s for s in coloured or streams if not (s.codec_context.pix_fmt or "").startswith("gbr")]
        largest = max((s.width * s.height for s in streams), default=0)
        readers = {s.index: HeaderQuantisers(s, codec) for s in streams if s.width * s.height == largest}
        steps: list[float] = []
        for packet in container.demux(streams):
            reader = readers.pop(packet.stream_index, None) if packet.size else None
            if reader is None:
                continue
            packet.pts = packet.pts or 0
            reader.see(packet)
            if (step := reader.step_of(packet.pts)) is not None:
                steps.append(step)
    return steps


def _vp8_frame(data: bytes) -> bytes:
    """The VP8 key frame of a lossy WebP still; nothing of others."""
    place = _RIFF_HEAD
    while place + _CHUNK_HEAD <= len(data):
        name, size = struct.unpack_from("<4sI", data, place)
        if name == b"VP8 ":
            return data[place + _CHUNK_HEAD : place + _CHUNK_HEAD + size]
        place += _CHUNK_HEAD + size + size % 2
    return b""


def _as_clip(frame: bytes) -> bytes:
    """A key frame of VP8 as an IVF file."""
    if len(frame) < _SIDES[1]:
        return b""
    width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", frame, _SIDES[0]))
    head = struct.pack("<4sHH4sHHIIII", b"DKIF", 0, 32, b"VP80", width, height, 25, 1, 1, 0)
    return head + struct.pack("<IQ", len(frame), 0) + frame
