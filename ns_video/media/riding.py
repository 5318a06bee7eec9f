"""What rides on frames beside their samples: captions, dynamic HDR and the like, and which encoders write it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from ns_video.media.encoder_choice import hardware_api

CAPTIONS = "A53_CC"
# libav's names of frames' side data, each with what it is called in a note; "" where its loss is told elsewhere or is
# none: groups of MPEG-2 count times by themselves, grain is in the samples, containers tell of stereo.
_CALLED = {
    CAPTIONS: "closed captions",
    "AFD": "active format descriptions",
    "S12M_TIMECODE": "time codes of single frames",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient viewing environments",
    "GOP_TIMECODE": "",
    "DOVI_METADATA": "",
    "DOVI_RPU_BUFFER": "",
    "STEREO3D": "",
    "FILM_GRAIN_PARAMS": "",
}
RIDING = frozenset(_CALLED)
_CAPTION_ENCODERS = frozenset({"libx264", "libx264rgb", "libx265", "mpeg2video"})
_CAPTION_APIS = frozenset({"nvenc", "qsv", "vaapi", "videotoolbox"})  # by their options' defaults, not tried
CAPTION_CODECS = frozenset({"h264", "hevc", "mpeg2video"})
"""Codecs of these encoders. That nothing else of what has a name above is written was found out by trying libx264,
libx265, libsvtav1, libvpx, libvpx-vp9, ffv1, mpeg2video, mpeg4, mjpeg, png and raw video."""


def riding_on(carrier: Any) -> set[str]:
    """libav's names of what rides on a libav frame."""
    return set() if carrier is None else {data.type.name for data in carrier.side_data} & RIDING


def lost_riders(codec: str, names: Iterable[str]) -> list[str]:
    """What an encoder doesn't write of what rides on frames, in words, each a note."""
    by_hardware = hardware_api(codec) in _CAPTION_APIS and codec.startswith(("h264_", "hevc_"))
    writes = codec in _CAPTION_ENCODERS or by_hardware
    return _notes((name for name in names if not (name == CAPTIONS and writes)), codec)


def unwritten_riders(codec: str, names: Iterable[str], found: Collection[str]) -> list[str]:
    """`lost_riders` of an output by the codec of its frames, on which `found` rides."""
    return _notes((n for n in names if n not in found and not (n == CAPTIONS and codec in CAPTION_CODECS)), codec)


def _notes(names: Iterable[str], codec: str) -> list[str]:
    out: list[str] = []
    for name in sorted(names):
        keepers = "; libx264, libx265 and mpeg2video do" if name == CAPTIONS else ""
        if called := _CALLED.get(name):
            out.append(f"{called}: left out, for {codec} writes none{keepers}")
    return out
