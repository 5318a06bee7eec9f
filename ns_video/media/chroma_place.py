"""Where chroma samples lie: what encoders and containers can tell of it, and what players take for granted."""

from __future__ import annotations

from ns_video.frame import ColorInfo, PixelFormat, is_full_range
from ns_video.media.containers import Container

# libav's AVChromaLocation; players take the first one for granted.
LEFT, CENTRE, TOP_LEFT, TOP = 1, 2, 3, 4
_NAMES = ("", "left", "centred", "top left", "top", "bottom left", "bottom")
# The positions that encoders tell of in their stream, and those of which Matroska tells where the stream doesn't.
_IN_STREAM = {
    **dict.fromkeys(("libx264", "libx265"), tuple(range(1, len(_NAMES)))),
    **dict.fromkeys(("mjpeg", "mpeg1video"), (CENTRE,)),
    "libsvtav1": (LEFT, TOP_LEFT),
}
_IN_MATROSKA = (LEFT, CENTRE, TOP_LEFT, TOP)
_LEFT_TO_MATROSKA = frozenset({"libsvtav1", "libvpx", "libvpx-vp9", "ffv1", "utvideo", "rawvideo"})
_IN_Y4M = (LEFT, CENTRE, TOP_LEFT)  # of 8 bits; libav's other names have no room for it
_STATING = frozenset({"h264", "hevc"})  # decoders of these: what isn't stated is left
_TELLING = frozenset({"av1", "vp8", "vp9", "ffv1", "rawvideo"})  # of these, or of their container


def _supposed(color: ColorInfo, fmt: PixelFormat) -> int:
    """Where samples lie; if nothing says it, those of full range where JPEG's do, others where MPEG-2's do."""
    return color.chroma_location or (CENTRE if is_full_range(fmt, color) else LEFT)


def _shown(color: ColorInfo, fmt: PixelFormat, codec: str, container: Container) -> int:
    """Where players will take samples to lie that an encoder and a muxer were given."""
    wanted, told = _supposed(color, fmt), _IN_STREAM.get(codec, (LEFT,))
    if container.is_matroska and codec in _LEFT_TO_MATROSKA:
        told = _IN_MATROSKA
    elif container.name == "yuv4mpegpipe" and fmt.bit_depth == 8:
        told = _IN_Y4M
    return wanted if wanted in told else told[0]


def moved_notes(color: ColorInfo, fmt: PixelFormat, codec: str, container: Container) -> list[str]:
    """A note where players will take chroma samples to lie elsewhere than `color` says."""
    wanted, shown = color.chroma_location, _shown(color, fmt, codec, container)
    if wanted in (0, shown):
        return []
    where = f"{'raw video' if codec in ('rawvideo', 'wrapped_avframe') else codec} in {container.name}"
    lie = f"where its chroma samples lie ({_NAMES[wanted]})"
    return [f"{where} can't tell {lie}: players will take them for {_NAMES[shown]}"]


def encoder_option(color: ColorInfo, fmt: PixelFormat, codec: str, container: Container) -> dict[str, str]:
    """libav's option for the chroma position, by which it reaches the stream and the header of the container.

    y4m always tells one: libav's muxer would write "centred" for an unknown position.
    """
    location = color.chroma_location
    if container.name == "yuv4mpegpipe" and fmt.chroma_shift_x and fmt.chroma_shift_y:
        location = _shown(color, fmt, codec, container)
    return {"chroma_sample_location": str(location)} if location else {}


def is_moved(was: ColorInfo, now: ColorInfo, fmt: PixelFormat, codec: str) -> bool:
    """Whether chroma samples lie elsewhere in an output (of this format and codec, as it decodes), if that tells it."""
    before, after = _supposed(was, fmt), now.chroma_location
    if codec in _STATING:
        before, after = was.chroma_location or LEFT, after or LEFT
    elif before > TOP_LEFT or codec not in _TELLING:
        return False
    return bool(fmt.chroma_shift_x and fmt.chroma_shift_y) and after not in (0, before)
