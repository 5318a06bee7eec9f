"""What libav can do here: versions, codecs, hardware. Floor 2."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import av.error
import cv2
import PIL
from av.codec.hwaccel import hwdevices_available
from av.video.codeccontext import VideoCodecContext

from ns_video.media.libav import muted_log

_ENCODERS = ("libx264", "libx264rgb", "libx265", "libsvtav1", "libaom-av1", "libvpx-vp9", "ffv1", "prores_ks", "dnxhd")
_HARDWARE_ENCODERS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "hevc_qsv", "h264_videotoolbox")
_DECODERS = ("h264", "hevc", "av1", "libdav1d", "vp9", "vp8", "mpeg2video", "mpeg4", "prores", "mjpeg", "vvc")


@dataclass(frozen=True, slots=True)
class MediaReport:
    """Versions and codecs of the libraries that read and write."""

    versions: dict[str, str]
    encoders: dict[str, bool]
    """Name → built in; of hardware encoders: works on this machine."""
    decoders: dict[str, bool]
    hardware: tuple[str, ...]
    """Hardware interfaces libav was built with."""


def media_report() -> MediaReport:
    """Asks PyAV, OpenCV and Pillow."""
    versions = {"PyAV": av.__version__, "OpenCV": cv2.__version__, "Pillow": PIL.__version__}
    for name, number in sorted(av.library_versions.items()):
        versions[name] = ".".join(str(part) for part in number)
    encoders = {name: _has(name, "w") for name in _ENCODERS}
    encoders |= {name: hardware_encoder_works(name) for name in _HARDWARE_ENCODERS}
    return MediaReport(
        versions=versions,
        encoders=encoders,
        decoders={name: _has(name, "r") for name in _DECODERS},
        hardware=tuple(hwdevices_available()),
    )


@cache
def hardware_encoder_works(name: str, pix_fmt: str = "nv12", size: tuple[int, int] = (256, 256)) -> bool:
    """Whether a hardware encoder opens here for such pictures: being built in says nothing of the machine."""
    if not _has(name, "w"):
        return False
    context = av.CodecContext.create(name, "w")
    if not isinstance(context, VideoCodecContext):
        return False
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
    with muted_log():
        try:
            context.width, context.height, context.pix_fmt = *size, pix_fmt
            context.open()
        except (av.error.FFmpegError, ValueError):
            return False
    return True


def _has(name: str, mode: str) -> bool:
    try:
        av.Codec(name, "w" if mode == "w" else "r")
    except ValueError:
        return False
    return True
