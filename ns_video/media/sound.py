"""What a container that counts its sound has to be told of a copied stream: how many samples each packet holds."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from ns_video.media.containers import of_demuxer
from ns_video.media.probe import codec_name

_SAMPLES_OF_AC3 = 1536  # ATSC A/52; libav's muxers know it by themselves
_FEWEST = 64  # in a tick that is a packet: where bytes are counted, a tick is of a few samples
_OF_ANY_SIZE = frozenset({"aac", "ac3", "dts", "eac3", "flac", "mp1", "mp2", "mp3", "speex", "vorbis"})
"""Sound whose packets differ in size: they are counted, not their bytes."""
_ASKING = _OF_ANY_SIZE | {"adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha"}
"""Sound that libav's muxer gives wrong times where it isn't told."""


def _samples_of(stream: Any) -> int:
    """How many samples each packet of a stream of sound holds; 0 where that isn't known, or they don't count (PCM)."""
    context, codec = stream.codec_context, codec_name(stream)
    if context is None:
        return 0
    tick = (stream.time_base or Fraction(0)) * context.sample_rate
    if _is_counted(stream) and tick.denominator == 1 and tick >= _FEWEST:
        return int(tick)
    if codec == "flac":  # STREAMINFO: the least and the most samples of a block (RFC 9639, 8.2)
        header = context.extradata or b""
        return int.from_bytes(header[:2]) if header[:2] == header[2:4] else 0
    return _SAMPLES_OF_AC3 if codec == "ac3" else context.frame_size


def _is_counted(stream: Any) -> bool:
    return of_demuxer(stream.container.format.name).counts_sound


def is_untimed(stream: Any) -> bool:
    """Whether a container that counts sound can't hold the times of this stream."""
    asking = stream.type == "audio" and codec_name(stream) in _ASKING
    return asking and not _is_counted(stream) and not _samples_of(stream)


def tell_samples(made: Any, stream: Any) -> None:
    """Have a muxer know how many samples the packets of `stream` hold, of which `made` is the copy, as far as known.

    PyAV has no other way to set them, nor to take away the size of a block that AVI gives all sound, for which they are
    counted by their bytes: both are options of a codec, which takes them when it is opened. Raises FFmpegError.
    """
    if stream.type == "audio" and (samples := _samples_of(stream)):
        any_size = {"block_align": "0"} if codec_name(stream) in _OF_ANY_SIZE else {}
        made.codec_context.options = {"frame_size": str(samples), **any_size}
        made.codec_context.open()


__all__ = ["is_untimed", "tell_samples"]
