"""The choice of an encoder and of the pixel format it is given, so that nothing is lost needlessly."""

from __future__ import annotations

import av

from ns_video.errors import InputError, UsageError
from ns_video.frame import PixelFormat
from ns_video.media.containers import Container
from ns_video.media.probe import pixel_format
from ns_video.media.versions import hardware_encoder_works

VP9_ALPHA = "yuva420p"  # encoders list more formats with alpha than they encode; that of VP9 lies beside the picture
# What libav's y4m reader knows, most of it beyond the tool's own formats; 4:1:0, 4:4:0 and RGB have no name there.
_Y4M = (
    *(f"yuv{chroma}p{depth}" for chroma in (420, 422, 444) for depth in ("", "9le", "10le", "12le", "14le", "16le")),
    *("gray", "gray9le", "gray10le", "gray12le", "gray16le", "yuv411p", "yuva444p"),
)
# What libav's MOV demuxer knows again of raw video ("QuickTime File Format", pixel formats).
RAW_IN_MOV = ("uyvy422", "yuyv422", "rgb24", "argb", "bgra", "rgba", "rgb48be", "gray16be")
# NUT has no tag for these, and readers would take them for another format.
_RAW_INSTEAD = {"yuvj411p": "yuv411p", "yuv440p10le": "yuv444p10le", "yuv440p12le": "yuv444p12le"}

# Encoders by the names of their codecs.
_ENCODER_NAMES = {"h264": "libx264", "hevc": "libx265", "h265": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
# Encoders in hardware, and who does their work where the hardware isn't there.
HARDWARE_APIS = ("nvenc", "qsv", "amf", "videotoolbox", "mf")
_SOFTWARE = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "vp9": "libvpx-vp9", "mpeg2": "mpeg2video"}
_ON_DEVICES = frozenset({"cuda", "qsv", "vaapi", "d3d11", "d3d12", "dxva2_vld", "videotoolbox_vld", "amf", "vulkan"})


def video_encoder(codec: str) -> str:
    """The name of the encoder that is called so, or whose codec is. Raises UsageError where there is none."""
    codec = _ENCODER_NAMES.get(codec, codec)
    try:
        encoder = av.Codec(codec, "w")
    except ValueError:
        raise UsageError(f"there is no encoder {codec!r}", remedy="`ns-video doctor` lists them") from None
    if encoder.type != "video":
        raise UsageError(f"{codec!r} does not encode video")
    return codec


def hardware_api(codec: str) -> str:
    """Through which an encoder in hardware is driven; "" for any other encoder."""
    api = codec.rpartition("_")[2]
    return api if api in HARDWARE_APIS else ""


def stand_in_of(codec: str, pix_fmt: str, size: tuple[int, int]) -> tuple[str, str] | None:
    """(encoder, note) of the software that encodes where the hardware can't; None where it can, or isn't asked for."""
    software = _SOFTWARE.get(codec.rpartition("_")[0]) if hardware_api(codec) else None
    if software is None or hardware_encoder_works(codec, pix_fmt, size):
        return None
    takes_others = hardware_encoder_works(codec)
    refused = f"take {size[0]}x{size[1]} pictures as {pix_fmt} here" if takes_others else "work on this machine"
    return software, f"{codec} does not {refused}: {software} encodes instead"


def format_to_write(pix_fmt: str) -> PixelFormat:
    """The pixel format of that name. Raises UsageError where there is none."""
    try:
        return pixel_format(pix_fmt)
    except (ValueError, InputError):
        raise UsageError(
            f"there is no pixel format {pix_fmt!r} to write", remedy="yuv420p, yuv422p10le, gbrp and the like"
        ) from None


def _offered(codec: str) -> list[str]:
    """Names of the pixel formats in memory that an encoder says it takes; none where it says nothing."""
    return [f.name for f in (av.Codec(codec, "w").video_formats or []) if f.name not in _ON_DEVICES]


def check_offered(codec: str, pix_fmt: str) -> None:
    """Raises UsageError for a pixel format that the encoder doesn't take."""
    offered = _offered(codec)
    if offered and format_to_write(pix_fmt).name not in offered:
        raise UsageError(f"{codec} doesn't take {pix_fmt}", remedy=f"it takes {', '.join(offered)}")


def default_codec(container: Container, fmt: PixelFormat, width: int, height: int) -> str:
    """The encoder for pictures of `fmt` where the user names none: one that the container and its segments hold."""
    if container.encoder:
        too_deep = container.encoder == "libvpx-vp9" and fmt.bit_depth > 8 and not fmt.has_alpha
        return "libsvtav1" if too_deep else container.encoder  # libvpx, as it is built here, would write 8 bits
    offered = container.encoders
    if fmt.has_alpha and {"ffv1", "libvpx-vp9"} <= offered:  # in AVI, FFV1 is chosen for its depth only
        return "libvpx-vp9" if fmt.name == VP9_ALPHA and container.holds_alpha_beside else "ffv1"
    if fmt.has_alpha and "png" in offered:
        return "png"  # ProRes would hold it too, not without loss
    if fmt.bit_depth > 12 and "ffv1" in offered:
        return "ffv1"
    if (fmt.bit_depth > 8 or fmt.is_rgb) and "libx265" in offered:
        return "libx265" if min(width, height) >= 16 else "ffv1" if "ffv1" in offered else "libx264"
    if _is_cut_short(fmt, (width, height)) and "libvpx-vp9" in offered:
        return "libvpx-vp9"
    return "libx264"


def _is_cut_short(fmt: PixelFormat, size: tuple[int, int]) -> bool:
    """Whether chroma samples at an edge stand for fewer pixels than the others; libx264 and libx265 refuse that."""
    return bool(size[0] % (1 << fmt.chroma_shift_x) or size[1] % (1 << fmt.chroma_shift_y))


def choose_pix_fmt(codec: str, container: Container, fmt: PixelFormat, size: tuple[int, int]) -> str:
    """The pixel format, of those that the encoder takes, that keeps most of `fmt`. `size`: (width, height)."""
    offered = _offered(codec)
    if codec in ("libx265", "libvpx-vp9"):
        kept = VP9_ALPHA if codec == "libvpx-vp9" and container.holds_alpha_beside else ""
        offered = [name for name in offered if name == kept or not pixel_format(name).has_alpha]
    if codec in ("apng", "png"):
        offered = [name for name in offered if pixel_format(name).planes > 2]  # its gray is of full range, untold
    if codec in ("libx264", "libx265"):
        offered = [name for name in offered if not _is_cut_short(pixel_format(name), size)]
    if codec == "libvpx-vp9" and container.is_mov:
        offered = [name for name in offered if name != "yuv440p"]  # the header of VP9 (vpcC) has no number for it
    if codec == "wrapped_avframe":
        offered = [name for name in _Y4M if pixel_format(name).bit_depth >= fmt.bit_depth]
    if codec == "rawvideo" and container.is_mov:
        offered = list(RAW_IN_MOV)
    elif codec == "rawvideo":
        return _RAW_INSTEAD.get(fmt.name, fmt.name)
    if codec == "libwebp_anim":
        return "bgra"  # WebP's lossless pictures are RGB: libwebp would take any YUV for BT.601
    if not offered or fmt.name in offered:
        return fmt.name
    if fmt.name.startswith("yuvj") and "yuv" + fmt.name[4:] in offered:
        return "yuv" + fmt.name[4:]
    same = {"gbrap": "bgra", "gbrp": "bgr0"}.get(fmt.name)
    if same in offered and codec == "ffv1":
        return str(same)
    if codec == "gif":
        return "pal8"

    def cost(name: str) -> tuple[int, ...]:
        other = pixel_format(name)
        return (
            int(other.planes <= 2 < fmt.planes),  # gray, with alpha or without
            int(fmt.has_alpha and not other.has_alpha),
            int(other.is_rgb != fmt.is_rgb),
            max(0, fmt.bit_depth - other.bit_depth),
            max(0, other.chroma_shift_x - fmt.chroma_shift_x) + max(0, other.chroma_shift_y - fmt.chroma_shift_y),
            int(fmt.planes <= 2 < other.planes),
            abs(other.bit_depth - fmt.bit_depth),
            abs(other.chroma_shift_x - fmt.chroma_shift_x) + abs(other.chroma_shift_y - fmt.chroma_shift_y),
            int(other.has_alpha and not fmt.has_alpha),
        )

    return min(offered, key=cost)
