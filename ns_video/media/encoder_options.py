"""What the user asked of the output video, and the options that each family of encoders takes for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from ns_video.frame import ColorInfo, PixelFormat
from ns_video.media.encoder_choice import HARDWARE_APIS, hardware_api
from ns_video.media.first_frame import HdrMetadata

# Visually lossless on restored material; the user's --crf replaces it.
DEFAULT_CRF = {
    "libx264": 16,
    "libx264rgb": 16,
    "libx265": 15,
    "libvpx-vp9": 18,
    "libvpx": 8,
    "libsvtav1": 18,
    **dict.fromkeys(("flv", "h263", "h263p", "msmpeg4", "msmpeg4v2"), 2),  # quantisers; at 1, the others', these clip
}
_NO_LIMIT = "1000000000"  # bits per second: libvpx wants some for VP8
BY_QSCALE = frozenset(
    {"mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2", "wmv1", "wmv2", "mjpeg", "flv", "h263", "h263p"}
)
_COARSEST = 31  # quantiser of these
_HIGHEST_CRF = {"libvpx-vp9": 63, "libvpx": 63, "libsvtav1": 63, **dict.fromkeys(BY_QSCALE, _COARSEST)}
_HIGHEST_OTHER_CRF = 51  # of x264, x265 and hardware
_HIGHEST_AV1_CRF = 63
_NVENC_CQ = 19
WHOLE_PICTURES = ("gifflags", "0")  # GIF's encoder writes no parts of pictures
_PARAMETER_LISTS = frozenset({"x264-params", "x265-params", "svtav1-params"})  # the last of two equal keys counts


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What the user asked of the output video."""

    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 0
    speed: str = "medium"
    """x264/x265 preset name."""


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """All that the options of an encoder follow from."""

    codec: str
    source: PixelFormat
    out: PixelFormat
    """What the encoder is given."""
    color: ColorInfo
    hdr: HdrMetadata | None
    wanted: EncodeOptions

    @property
    def crf(self) -> float:
        """The user's, or the encoder's default; 0 where it has none."""
        return self.wanted.crf if self.wanted.crf is not None else DEFAULT_CRF.get(self.codec, 0)


def highest_crf(codec: str) -> int:
    """The coarsest --crf of an encoder."""
    if hardware_api(codec) and codec.startswith("av1"):
        return _HIGHEST_AV1_CRF
    return _HIGHEST_CRF.get(codec, _HIGHEST_OTHER_CRF)


def options_of(choice: EncoderChoice) -> dict[str, str]:
    """The options of an encoder, the user's last."""
    of_codec = _ENCODER_OPTIONS.get(choice.codec) or _ENCODER_OPTIONS.get(hardware_api(choice.codec))
    options = of_codec(choice) if of_codec else {}
    for key, value in choice.wanted.encoder_options.items():
        joined = key in _PARAMETER_LISTS and key in options
        options[key] = f"{options[key]}:{value}" if joined else value
    return options


def _x264_options(choice: EncoderChoice) -> dict[str, str]:
    parameters = {
        # x264's assembly for macroblock-tree lookahead reads past its rows where the width in macroblocks is no
        # multiple of 8: the same input gave up to 15 different files in 25 runs. Its C code costs nothing measurable.
        "cpu-independent": "1",
        **_hdr_parameters(choice.hdr, "mastering-display", "cll"),
    }
    quality = {"crf": f"{choice.crf:g}"} if choice.crf else {"qp": "0"}
    return {"preset": choice.wanted.speed, **quality, "x264-params": _parameter_list(parameters)}


def _x265_options(choice: EncoderChoice) -> dict[str, str]:
    parameters = {
        "log-level": "none",
        **({} if choice.crf else {"lossless": "1"}),
        **_hdr_parameters(choice.hdr, "master-display", "max-cll"),
    }
    if choice.color.transfer == 16 and choice.hdr is not None:  # PQ
        parameters.update({"hdr10": "1", "repeat-headers": "1"})
    quality = {"crf": f"{choice.crf:g}"} if choice.crf else {}
    preset = "fast" if choice.wanted.speed == "medium" else choice.wanted.speed
    return {"preset": preset, **quality, "a53cc": "1", "x265-params": _parameter_list(parameters)}


def _svtav1_options(choice: EncoderChoice) -> dict[str, str]:
    parameters = _hdr_parameters(choice.hdr, "mastering-display", "content-light", decimal=True)
    options = {"preset": "8", "crf": f"{choice.crf:g}"}
    return {**options, "svtav1-params": _parameter_list(parameters)} if parameters else options


def _vp9_options(choice: EncoderChoice) -> dict[str, str]:
    quality = {"crf": f"{choice.crf:g}", "b": "0"} if choice.crf else {"lossless": "1"}
    alpha = {"auto-alt-ref": "0"} if choice.source.has_alpha else {}
    return {"deadline": "good", "cpu-used": "3", "row-mt": "1", **quality, **alpha}


def _vp8_options(choice: EncoderChoice) -> dict[str, str]:
    return {"deadline": "good", "cpu-used": "3", "crf": f"{max(4, choice.crf):g}", "b": _NO_LIMIT}


def _qscale_options(choice: EncoderChoice) -> dict[str, str]:
    quantiser = str(min(max(1, round(choice.crf)), _COARSEST))
    # Bounds, too: no frame tells of its own, as the flag wants. JPEG of limited range, as most sources have it.
    ranges = {"strict": "unofficial"} if choice.codec == "mjpeg" else {}
    return {"qscale": quantiser, "qmin": quantiser, "qmax": quantiser, **ranges}


def _dnxhd_options(choice: EncoderChoice) -> dict[str, str]:
    """DNxHR, which takes pictures of any size; without a profile the encoder takes some sizes and bit rates only."""
    if not {"profile", "b"}.isdisjoint(choice.wanted.encoder_options):
        return {}
    if not choice.out.chroma_shift_x:
        return {"profile": "dnxhr_444"}
    return {"profile": "dnxhr_hqx" if choice.out.bit_depth > 8 else "dnxhr_hq"}


def _nvenc_options(choice: EncoderChoice) -> dict[str, str]:
    crf = choice.wanted.crf
    if crf == 0:
        return {"preset": "p5", "b": "0", "tune": "lossless"}
    return {"preset": "p5", "b": "0", "tune": "hq", "rc": "vbr", "cq": f"{_NVENC_CQ if crf is None else crf:g}"}


def _hardware_options(choice: EncoderChoice) -> dict[str, str]:
    """Of an encoder in hardware, for about the quality that x264 has at a CRF."""
    crf, api = choice.wanted.crf, hardware_api(choice.codec)
    if crf is None:
        return {}
    if api == "qsv":
        return {"global_quality": f"{max(1, round(crf))}"}
    if api == "amf":
        qp = round(crf * 255 / _HIGHEST_AV1_CRF) if choice.codec.startswith("av1") else min(51, round(crf))
        return {"rc": "cqp", "qp_i": str(qp), "qp_p": str(qp)}
    percent = str(max(1, round(100 - crf * 99 / 51)))
    return {"qscale": percent} if api == "videotoolbox" else {"rate_control": "quality", "quality": percent}


def _ffv1_options(choice: EncoderChoice) -> dict[str, str]:
    if choice.out.chroma_shift_y > 1:
        # In two rows of slices libav's encoder (62.28) loses the last row of 4:1:0 where the height is 5 or 6 above a
        # multiple of 8, and only level 1 takes a single slice at any size. It has no checksums.
        return {"level": "1", "g": "1"}
    return {"level": "3", "slicecrc": "1", "g": "1"}


# By encoder, or by the API of an encoder in hardware.
_ENCODER_OPTIONS: dict[str, Callable[[EncoderChoice], dict[str, str]]] = {
    "libx264": _x264_options,
    "libx264rgb": _x264_options,
    "libx265": _x265_options,
    "libsvtav1": _svtav1_options,
    "libvpx-vp9": _vp9_options,
    "libvpx": _vp8_options,
    "libwebp_anim": lambda _: {"lossless": "1"},
    "ffv1": _ffv1_options,
    "gif": lambda choice: dict((WHOLE_PICTURES,)) if choice.source.has_alpha else {},
    "dnxhd": _dnxhd_options,
    **dict.fromkeys(BY_QSCALE, _qscale_options),
    **dict.fromkeys(HARDWARE_APIS, _hardware_options),
    "nvenc": _nvenc_options,
}


def _parameter_list(parameters: Mapping[str, str]) -> str:
    return ":".join(f"{key}={value}" for key, value in parameters.items())


def _hdr_parameters(hdr: HdrMetadata | None, display: str, light: str, *, decimal: bool = False) -> dict[str, str]:
    """Encoder parameters that write the HDR metadata into the bitstream, in SMPTE ST 2086's units or as `decimal`s."""

    def pair(a: Fraction, b: Fraction, unit: int, digits: int) -> str:
        if decimal:
            return f"({float(a):.{digits}f},{float(b):.{digits}f})"
        return f"({round(a * unit)},{round(b * unit)})"

    out: dict[str, str] = {}
    if hdr is not None and hdr.primaries and hdr.luminance != (0, 0):
        red, green, blue, white = (pair(*xy, 50000, 6) for xy in (*hdr.primaries, hdr.white_point))
        low, high = hdr.luminance
        out[display] = f"G{green}B{blue}R{red}WP{white}L{pair(high, low, 10000, 4)}"
    if hdr is not None and hdr.light_level is not None:
        out[light] = ",".join(map(str, hdr.light_level))
    return out
