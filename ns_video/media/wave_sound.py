"""Sound that Matroska holds by the header it has in WAVE and AVI: codec A_MS/ACM (draft-ietf-cellar-codec).

libav's muxer writes it for WMA, ADPCM and the like, and its demuxer reads it, but PyAV asks for less than libav offers
and refuses it. So such a stream is added as one of a codec whose header is written as it is, and gets its name after.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any

import av

from ns_video.media.libav import muted_log
from ns_video.media.matroska_header import element, file_of_one_track, floating, unsigned, with_codec_id

_STAND_IN = b"A_QUICKTIME/QDM2"
_NAME = b"A_MS/ACM"


def _wave_header(stream: Any) -> bytes:
    """WAVEFORMATEX, as libav writes it into AVI. Raises ValueError where there is none for the codec."""
    file = io.BytesIO()
    with av.open(file, "w", format="avi") as trial:
        trial.add_stream_from_template(stream, opaque=True)
        trial.start_encoding()
    _, _, chunk = file.getvalue().partition(b"strf")
    return chunk[4 : 4 + int.from_bytes(chunk[:4], "little")]


def add_wave_stream(output: Any, stream: Any) -> Any:
    """Add a copy of `stream` to a Matroska file, for `with_wave_names` to complete. Raises ValueError, FFmpegError."""
    context = stream.codec_context
    audio = floating(0xB5, context.sample_rate) + unsigned(0x9F, context.layout.nb_channels)
    track = element(0x86, _STAND_IN) + element(0x63A2, _wave_header(stream)) + element(0xE1, audio)
    with muted_log(), av.open(io.BytesIO(file_of_one_track(2, track))) as template:  # no decoder likes its header
        made = output.add_stream_from_template(template.streams.audio[0], opaque=True)
    made.time_base = stream.time_base
    made.codec_context.layout = context.layout
    return made


def with_wave_names(data: bytes, tracks: Collection[int]) -> bytes | None:
    """The beginning of a Matroska file, those tracks under their right names; None where it isn't whole."""
    return with_codec_id(data, tracks, _NAME)


__all__ = ["add_wave_stream", "with_wave_names"]
