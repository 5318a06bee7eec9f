"""What containers have to be told of sound that is copied: how many samples a packet holds, where it is to be heard."""

from __future__ import annotations

import io
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av

from ns_video.media.containers import Container, of_demuxer
from ns_video.media.libav import head_of, muted_log, open_input
from ns_video.media.probe import codec_name

_SAMPLES_OF_AC3 = 1536  # ATSC A/52; libav's muxers know it by themselves
_VERSION, _LAST_OF_AC3 = 5, 10  # byte of a frame that begins with its version (ETSI TS 102 366, 4.4.2.1 and E.1.3.1.6)
_FEWEST = 64  # in a tick that is a packet: where bytes are counted, a tick is of a few samples
_OF_ANY_SIZE = frozenset({"aac", "ac3", "dts", "eac3", "flac", "mp1", "mp2", "mp3", "speex", "vorbis"})
"""Sound whose packets differ in size: they are counted, not their bytes."""
_ASKING = _OF_ANY_SIZE | {"adpcm_ima_wav", "adpcm_ms", "adpcm_swf", "adpcm_yamaha"}
"""Sound that libav's muxer gives wrong times where it isn't told."""
_ASKED_FOR_PLACES = ("pcm_", "adpcm_", "speex")
_ADTS_BYTES = 7
_LAYOUTS = {1: "mono", 2: "stereo"}


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


def _unplaced(stream: Any) -> int:
    """Number of the channels of which nothing tells where they are to be heard, as those of PCM in Matroska; else 0."""
    if stream.codec_context is None or not codec_name(stream).startswith(_ASKED_FOR_PLACES):
        return 0
    layout = stream.codec_context.layout
    return layout.nb_channels if layout.name.endswith(" channels") else 0


def _is_misnamed(stream: Any, container: Container) -> bool:
    """Whether NUT, which has one name for both, calls E-AC-3 AC-3, as `container` would have to."""
    if stream.container.format.name != "nut" or container.name == "nut" or codec_name(stream) != "ac3":
        return False
    first = _first_packet(stream)
    return len(first) > _VERSION and first[_VERSION] >> 3 > _LAST_OF_AC3


def _first_packet(stream: Any) -> bytes:
    """The first one of a stream, from the beginning of its file or pipe; nothing where none lies there."""
    told = stream.container
    head, first = head_of(told), b""  # a pipe can't be gone back to
    if not head and not told.name.startswith("file:"):
        return b""
    source, container_format = io.BytesIO(head) if head else told.name.removeprefix("file:"), told.format.name
    with (
        suppress(av.FFmpegError, IndexError),  # the head ends anywhere
        muted_log(),
        open_input(source, container_format=container_format) as again,
    ):
        first = next((bytes(p) for p in again.demux(again.streams[stream.index]) if p.size), b"")
    return first


def unwraps(stream: Any, container: Container) -> bool:
    """Whether each packet of a copied stream begins with a header (ADTS) that `container` has no room for."""
    return container.is_mov and bool(_configuration(stream))


def _configuration(stream: Any) -> bytes:
    """The AudioSpecificConfig (ISO 14496-3, 1.6.2.1) of AAC each of whose packets begins with a header instead (ADTS,
    1.A.2.2), as in MPEG-TS; nothing where it isn't that, or its header leaves the channels to the packet."""
    if codec_name(stream) != "aac" or stream.codec_context is None or stream.codec_context.extradata:
        return b""
    first = _first_packet(stream)
    if len(first) < _ADTS_BYTES or int.from_bytes(first[:2]) & 0xFFF6 != 0xFFF0:
        return b""
    kind, rate, channels = (first[2] >> 6) + 1, first[2] >> 2 & 15, (first[2] & 1) << 2 | first[3] >> 6
    return (kind << 11 | rate << 7 | channels << 3).to_bytes(2) if channels else b""


def refusal_of_sound(stream: Any, container: Container) -> str | None:
    """Why a container can't hold a stream of sound, whatever its muxer says; of anything else None."""
    if stream.type != "audio":
        return None
    if _is_misnamed(stream, container):
        return "it is E-AC-3, which NUT doesn't tell; give INPUT as Matroska"
    if container.places_channels and (channels := _unplaced(stream)) > 2:
        return f"nothing tells where its {channels} channels are to be heard"
    asking = container.counts_sound and codec_name(stream) in _ASKING
    if asking and not _is_counted(stream) and not _samples_of(stream):
        return "nothing tells how long its packets last"
    return None


def tell_of_sound(made: Any, stream: Any, container: Container) -> None:
    """Have the muxer of `container` know of `made`, a copy of `stream`, what PyAV's copies of streams lack.

    Samples, and that AVI need not count blocks of the one size that it gives all sound, are options of a codec, which
    takes them when it is opened. Raises FFmpegError.
    """
    if stream.type != "audio":
        return
    if (container.is_mov or container.is_matroska) and (told := _configuration(stream)):
        made.codec_context.extradata = told  # libav adds it to a file that it can go back to, but to no pipe
    if container.places_channels and (channels := _unplaced(stream)):
        made.codec_context.layout = _LAYOUTS[channels]
    if container.counts_sound and (samples := _samples_of(stream)):
        any_size = {"block_align": "0"} if codec_name(stream) in _OF_ANY_SIZE else {}
        made.codec_context.options = {"frame_size": str(samples), **any_size}
        made.codec_context.open()


__all__ = ["refusal_of_sound", "tell_of_sound", "unwraps"]
