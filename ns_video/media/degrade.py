"""Damage on purpose: the SPEC language on real codecs, for stills, frames and clips.

A SPEC is `name:key=value,...`, several joined with `+` and applied from left to right:

    jpeg:q=10  jpeg:q=30,subsampling=444  mosaic:p=4  blur-down  noise:sigma=25  downscale:x=2
    h264:crf=37  hevc:crf=37  mpeg2:q=12  noise:sigma=5+jpeg:q=30

`jpeg` keeps 4:2:0 at every quality unless told otherwise; `subsampling=ladder` is NS-IC's rule (4:2:0 up to q 30,
4:2:2 up to q 60, 4:4:4 above). `mosaic:q=80` is NS-IC's pixelation ladder, p = (100 - q) // 10 + 1. `describe()` lists
the rest. Everything random comes from the seed: same picture, SPEC and seed, same damage.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.codec.codec import Codec, find_best_pix_fmt_of_list

from ns_video.errors import InputError, OutputError, UsageError
from ns_video.frame import (
    MATRIX_BT601_625,
    RANGE_FULL,
    RANGE_LIMITED,
    ColorInfo,
    JpegTables,
    effective_matrix,
    is_full_range,
)
from ns_video.jpeg_tables import SUBSAMPLINGS, ijg_tables
from ns_video.media.containers import format_for
from ns_video.media.libav import file_url, open_input
from ns_video.media.pictures import Rgb, decode_jpeg, encode_jpeg
from ns_video.media.probe import pixel_format
from ns_video.media.swscale import EXACT, swscale_matrix

Generator = np.random.Generator
Value = float | str
Samples = npt.NDArray[np.float32]

_ANY_SEED_STEP = 1_000_003  # separates the random streams of frames from those of steps; any prime will do


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a SPEC step. A tuple `choices` makes it a word, otherwise it is a number in [low, high]."""

    name: str
    default: Value
    low: float = 0.0
    high: float = 0.0
    choices: tuple[str, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One parsed damage: its name and every parameter's value, defaults filled in."""

    name: str
    values: tuple[tuple[str, Value], ...]

    def number(self, key: str) -> float:
        """A numeric parameter."""
        return float(dict(self.values)[key])

    def word(self, key: str) -> str:
        """A parameter that is one of a few words."""
        return str(dict(self.values)[key])

    @property
    def is_codec(self) -> bool:
        """True where the damage is a video codec's, which needs the frames in order."""
        return self.name in _CODECS

    def __str__(self) -> str:
        keys = ",".join(
            f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.values
        )
        return f"{self.name}:{keys}" if keys else self.name


@dataclass(frozen=True, slots=True)
class Degradation:
    """A whole SPEC, parsed. `str()` gives it back in full."""

    steps: tuple[Step, ...]

    def __str__(self) -> str:
        return "+".join(str(step) for step in self.steps)

    @property
    def scale(self) -> int:
        """By how much the result is smaller than the original (1 without `downscale`)."""
        factor = 1
        for step in self.steps:
            if step.name == "downscale":
                factor *= int(step.number("x"))
        return factor


@dataclass(frozen=True, slots=True)
class DegradedStill:
    """A damaged picture. `jpeg` and `encoded` are the file's tables and bytes where the last step was `jpeg`."""

    rgb: Rgb
    jpeg: JpegTables | None = None
    encoded: bytes | None = None


@dataclass(frozen=True, slots=True)
class ClipOutcome:
    """What `degrade_clip` wrote."""

    frames: int
    codec: str
    payload_bytes: int


# ---------------------------------------------------------------- single pictures


def mosaic(rgb: Rgb, p: int) -> Rgb:
    """Blocks of about p pixels: shrink to (w // p, h // p) bilinear without antialiasing, enlarge nearest (OpenCV)."""
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, (max(1, width // p), max(1, height // p)), interpolation=cv2.INTER_LINEAR)
    return _uint8(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST))


def blur_down(rgb: Rgb, x: int = 3) -> Rgb:
    """The deblurring study's damage: Gaussian 7x7 (sigma 1.4), shrink to 1/x by area, enlarge back bilinear."""
    height, width = rgb.shape[:2]
    soft = cv2.GaussianBlur(rgb, (7, 7), 0)
    small = cv2.resize(soft, None, fx=1 / x, fy=1 / x, interpolation=cv2.INTER_AREA)
    return _uint8(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def _cubic_weights(length: int, factor: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Taps of MATLAB's imresize 'bicubic' with antialiasing: (length // factor, taps) indices and weights."""
    out = length // factor
    support = 4 * factor
    centre = (np.arange(out) + 0.5) * factor - 0.5
    first = np.floor(centre - support / 2).astype(np.int64) + 1
    index = first[:, None] + np.arange(support)[None, :]
    distance = np.abs((index - centre[:, None]) / factor)
    weight = np.where(
        distance <= 1,
        1.5 * distance**3 - 2.5 * distance**2 + 1,
        np.where(distance < 2, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2, 0.0),
    )
    weight /= weight.sum(1, keepdims=True)
    mirrored = np.abs(np.where(index < 0, index + 1, index))  # -1 → 0, -2 → 1: symmetric, as MATLAB does
    mirrored = np.where(mirrored >= length, 2 * length - 1 - mirrored, mirrored)
    return np.clip(mirrored, 0, length - 1), weight


def downscale_bicubic(rgb: Rgb, factor: int) -> Rgb:
    """MATLAB's imresize(rgb, 1/factor): bicubic (a = -0.5), antialiased, symmetric border, rounded to 8 bit.

    Sides that aren't multiples of `factor` are cropped at the right and bottom first, as the benchmarks do.
    """
    height, width = rgb.shape[0] // factor * factor, rgb.shape[1] // factor * factor
    picture = rgb[:height, :width].astype(np.float64)
    rows, row_weights = _cubic_weights(height, factor)
    picture = np.einsum("otwc,ot->owc", picture[rows], row_weights)
    columns, column_weights = _cubic_weights(width, factor)
    picture = np.einsum("hotc,ot->hoc", picture[:, columns], column_weights)
    return _uint8(np.clip(np.round(picture), 0, 255))


def _uint8(values: Any) -> Rgb:
    return np.ascontiguousarray(np.asarray(values).astype(np.uint8, copy=False))


def _rounded(values: Any) -> Rgb:
    return _uint8(np.clip(np.rint(values), 0, 255))


def _jpeg(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    quality = int(step.number("q"))
    name = step.word("subsampling")
    if name == "ladder":
        name = "420" if quality <= 30 else "422" if quality <= 60 else "444"
    tables = ijg_tables(quality, SUBSAMPLINGS[name])
    data = encode_jpeg(rgb, tables)
    return DegradedStill(decode_jpeg(data), tables, data)


def _mosaic(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    quality = int(step.number("q"))
    return DegradedStill(mosaic(rgb, (100 - quality) // 10 + 1 if quality else int(step.number("p"))))


def _blur_down(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    return DegradedStill(blur_down(rgb, int(step.number("x"))))


def _downscale(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    factor, kernel = int(step.number("x")), step.word("kernel")
    if min(rgb.shape[:2]) < factor:
        raise InputError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} can't be shrunk by {factor}")
    if kernel == "bicubic":
        return DegradedStill(downscale_bicubic(rgb, factor))
    height, width = rgb.shape[0] // factor, rgb.shape[1] // factor
    how = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "lanczos": cv2.INTER_LANCZOS4}[kernel]
    return DegradedStill(
        _uint8(cv2.resize(rgb[: height * factor, : width * factor], (width, height), interpolation=how))
    )


def _noise(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    """White Gaussian noise on each of R, G and B."""
    return DegradedStill(_rounded(rgb + random.normal(0, step.number("sigma"), rgb.shape)))


def _iso_noise(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    """A camera's noise: variance grows with light (shot), on a floor (read); partly shared by the channels."""
    gain = step.number("iso") / 1600.0
    light = rgb.astype(np.float32) / 255.0
    sigma = np.sqrt(0.002 * gain * light + 0.0002 * gain * gain) * 255.0
    shared = random.normal(0, 1, (*rgb.shape[:2], 1))
    own = random.normal(0, 1, rgb.shape)
    return DegradedStill(_rounded(rgb + sigma * (0.6 * shared + 0.8 * own)))


def _color_noise(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    """Coarse blotches of chroma: Gaussian noise on Cb and Cr, a little blurred; luma stays."""
    planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    for channel in (1, 2):
        blot = cv2.GaussianBlur(random.normal(0, 1, rgb.shape[:2]).astype(np.float32), (0, 0), 1.5)
        planes[..., channel] += blot * (step.number("sigma") / max(float(blot.std()), 1e-6))
    return DegradedStill(_uint8(cv2.cvtColor(_rounded(planes), cv2.COLOR_YCrCb2RGB)))


def _gaussian_blur(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    return DegradedStill(_uint8(cv2.GaussianBlur(rgb, (0, 0), step.number("sigma"))))


def _convolve(picture: npt.NDArray[Any], kernel: Samples) -> npt.NDArray[Any]:
    return np.asarray(cv2.filter2D(picture, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT_101))


def _disc(radius: float) -> Samples:
    """A disc with an antialiased rim, (n, n)."""
    reach = math.ceil(radius) + 1
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    return np.clip(radius + 0.5 - np.hypot(axis[:, None], axis[None, :]), 0, 1).astype(np.float32)


def _motion_blur(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    length, angle = step.number("length"), math.radians(step.number("angle"))
    reach = math.ceil(length / 2) + 1
    axis = np.arange(-reach, reach + 1, dtype=np.float32)
    along = axis[None, :] * math.cos(angle) - axis[:, None] * math.sin(angle)
    across = axis[None, :] * math.sin(angle) + axis[:, None] * math.cos(angle)
    kernel = np.clip(length / 2 + 0.5 - np.abs(along), 0, 1) * np.clip(1 - np.abs(across), 0, 1)
    return DegradedStill(_uint8(_convolve(rgb, kernel.astype(np.float32))))


def _defocus_blur(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    return DegradedStill(_uint8(_convolve(rgb, _disc(step.number("radius")))))


def _lens_blur(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    """Defocus as a lens makes it: the disc is applied to linear light, so that highlights grow."""
    del random
    light = (rgb.astype(np.float32) / 255.0) ** 2.2
    return DegradedStill(_rounded(255.0 * np.clip(_convolve(light, _disc(step.number("radius"))), 0, 1) ** (1 / 2.2)))


def _color_distortion(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    """Gain and gamma of each channel off by up to `amount` (0.1 = 10 %)."""
    amount = step.number("amount")
    gain = 1 + random.uniform(-amount, amount, 3)
    gamma = 1 + random.uniform(-amount, amount, 3)
    return DegradedStill(_rounded(255.0 * gain * (rgb / 255.0) ** gamma))


def _hue_shift(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    hsv = cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + step.number("degrees")) % 360.0
    return DegradedStill(_rounded(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255.0))


def _mixed(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    """NS-IC's mixtures: some of blur, noise and colour damage by chance, then JPEG; stronger with `level`."""
    level = step.number("level")
    parts: list[str] = []
    if random.random() < 0.5:
        parts.append(f"gaussian-blur:sigma={0.2 + 1.8 * level * random.random():.3f}")
    if random.random() < 0.5:
        parts.append(f"noise:sigma={1 + 24 * level * random.random():.3f}")
    if random.random() < 0.3:
        parts.append(f"color-distortion:amount={0.2 * level * random.random():.3f}")
    parts.append(f"jpeg:q={int(95 - 85 * level * random.random())},subsampling=ladder")
    result = DegradedStill(rgb)
    for part in parse_spec("+".join(parts)).steps:
        result = _PIXEL_STEPS[part.name](result.rgb, part, random)
    return result


_PIXEL_STEPS: dict[str, Callable[[Rgb, Step, Generator], DegradedStill]] = {
    "jpeg": _jpeg,
    "mosaic": _mosaic,
    "blur-down": _blur_down,
    "downscale": _downscale,
    "noise": _noise,
    "iso-noise": _iso_noise,
    "color-noise": _color_noise,
    "gaussian-blur": _gaussian_blur,
    "motion-blur": _motion_blur,
    "defocus-blur": _defocus_blur,
    "lens-blur": _lens_blur,
    "color-distortion": _color_distortion,
    "hue-shift": _hue_shift,
    "mixed": _mixed,
}

_X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")

_PARAMETERS: dict[str, tuple[Parameter, ...]] = {
    "jpeg": (
        Parameter("q", 10.0, 1, 100, whole=True),
        Parameter("subsampling", "420", choices=("420", "422", "444", "ladder")),
    ),
    "mosaic": (Parameter("p", 4.0, 1, 64, whole=True), Parameter("q", 0.0, 0, 100, whole=True)),
    "blur-down": (Parameter("x", 3.0, 2, 8, whole=True),),
    "downscale": (
        Parameter("x", 2.0, 2, 8, whole=True),
        Parameter("kernel", "bicubic", choices=("bicubic", "area", "bilinear", "lanczos")),
    ),
    "noise": (Parameter("sigma", 25.0, 0, 255),),
    "iso-noise": (Parameter("iso", 1600.0, 0, 102400),),
    "color-noise": (Parameter("sigma", 8.0, 0, 128),),
    "gaussian-blur": (Parameter("sigma", 1.5, 0.1, 50),),
    "motion-blur": (Parameter("length", 9.0, 1, 200), Parameter("angle", 0.0, -360, 360)),
    "defocus-blur": (Parameter("radius", 3.0, 0.5, 100),),
    "lens-blur": (Parameter("radius", 3.0, 0.5, 100),),
    "color-distortion": (Parameter("amount", 0.1, 0, 1),),
    "hue-shift": (Parameter("degrees", 10.0, -180, 180),),
    "mixed": (Parameter("level", 0.5, 0, 1),),
    "h264": (
        Parameter("crf", 37.0, 0, 51),
        Parameter("preset", "medium", choices=_X26X_PRESETS),
        Parameter("gop", 250.0, 1, 100000, whole=True),
    ),
    "hevc": (
        Parameter("crf", 37.0, 0, 51),
        Parameter("preset", "medium", choices=_X26X_PRESETS),
        Parameter("gop", 250.0, 1, 100000, whole=True),
    ),
    "mpeg2": (Parameter("q", 12.0, 1, 31), Parameter("gop", 15.0, 1, 600, whole=True)),
}


# ---------------------------------------------------------------- the language


def describe() -> str:
    """Every step with its parameters, defaults and ranges, one a line."""
    lines: list[str] = []
    for name, parameters in _PARAMETERS.items():
        keys = [
            f"{p.name}={p.default} ({'|'.join(p.choices)})"
            if p.choices
            else f"{p.name}={p.default:g} ({p.low:g}..{p.high:g})"
            for p in parameters
        ]
        lines.append(f"{name}: {', '.join(keys)}")
    return "\n".join(lines)


def _parse_value(name: str, parameter: Parameter, text: str) -> Value:
    if parameter.choices:
        if text not in parameter.choices:
            raise UsageError(f"{name}:{parameter.name}={text}: it is one of {', '.join(parameter.choices)}")
        return text
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"{name}:{parameter.name}={text} is not a number") from None
    if not parameter.low <= number <= parameter.high:
        raise UsageError(f"{name}:{parameter.name}={text} is outside {parameter.low:g}..{parameter.high:g}")
    if parameter.whole and number != int(number):
        raise UsageError(f"{name}:{parameter.name}={text} is not a whole number")
    return number


def _parse_step(text: str) -> Step:
    name, _, rest = text.strip().partition(":")
    name = name.strip()
    if name not in _PARAMETERS:
        raise UsageError(f"unknown degradation {name!r}", remedy=f"known are {', '.join(_PARAMETERS)}")
    parameters = {parameter.name: parameter for parameter in _PARAMETERS[name]}
    values: dict[str, Value] = {key: parameter.default for key, parameter in parameters.items()}
    given: set[str] = set()
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or key not in parameters:
            raise UsageError(f"{name} has no parameter {item!r}", remedy=f"it takes {', '.join(parameters)}")
        if key in given:
            raise UsageError(f"{name}:{key} is given twice")
        given.add(key)
        values[key] = _parse_value(name, parameters[key], value)
    return Step(name, tuple(values.items()))


def parse_spec(text: str) -> Degradation:
    """A SPEC, parsed and checked.

    Raises:
        UsageError: it is empty, names an unknown step or parameter, or a value is out of range.
    """
    parts = text.split("+")
    if not text.strip() or any(not part.strip() for part in parts):
        raise UsageError(f"{text!r} is no degradation", remedy="for example jpeg:q=10 or noise:sigma=5+jpeg:q=30")
    return Degradation(tuple(_parse_step(part) for part in parts))


def _generator(seed: int, frame: int, step: int) -> Generator:
    return np.random.default_rng((seed % 2**32, frame, step + _ANY_SEED_STEP))


def degrade_still(rgb: Rgb, degradation: Degradation, seed: int = 0) -> DegradedStill:
    """Damages one picture, (H, W, 3) uint8. A video codec sees it as a clip of one frame."""
    result = DegradedStill(rgb)
    for index, step in enumerate(degradation.steps):
        if step.is_codec:
            (picture,) = _through_codec([result.rgb], step, Fraction(25))
            result = DegradedStill(picture)
        else:
            result = _PIXEL_STEPS[step.name](result.rgb, step, _generator(seed, 0, index))
    return result


def degrade_frames(
    frames: Iterable[Rgb], degradation: Degradation, seed: int = 0, rate: Fraction = Fraction(25)
) -> Iterator[Rgb]:
    """Damages the frames of a clip, (H, W, 3) uint8 of one size each, in order.

    Lazy; a codec step keeps its compressed stream in memory, not the frames.
    """
    current: Iterable[Rgb] = frames
    for index, step in enumerate(degradation.steps):
        current = _through_codec(current, step, rate) if step.is_codec else _each_frame(current, step, seed, index)
    return iter(current)


def _each_frame(frames: Iterable[Rgb], step: Step, seed: int, index: int) -> Iterator[Rgb]:
    for number, frame in enumerate(frames):
        yield _PIXEL_STEPS[step.name](frame, step, _generator(seed, number, index)).rgb


# ---------------------------------------------------------------- codecs


@dataclass(frozen=True, slots=True)
class _Codec:
    """A libav encoder and how a step's parameters become its options."""

    encoder: str
    options: Callable[[Step], dict[str, str]]


def _x26x_options(step: Step) -> dict[str, str]:
    return {"crf": f"{step.number('crf'):g}", "preset": step.word("preset")}


def _x265_options(step: Step) -> dict[str, str]:
    # pools and frame-threads change x265's result: fixed, so that every machine makes the same damage
    return {**_x26x_options(step), "x265-params": "log-level=error:frame-threads=1:pools=none"}


def _mpeg2_options(step: Step) -> dict[str, str]:
    # a fixed quantiser: libav's qscale is qmin == qmax here, in units that global_quality would scale by 118
    quantiser = f"{step.number('q'):g}"
    return {"qmin": quantiser, "qmax": quantiser, "b": "200M", "maxrate": "0", "bf": "2"}


_CODECS: dict[str, _Codec] = {
    "h264": _Codec("libx264", _x26x_options),
    "hevc": _Codec("libx265", _x265_options),
    "mpeg2": _Codec("mpeg2video", _mpeg2_options),
}


def _configure(stream: Any, step: Step, width: int, height: int, pixel_format: str) -> None:
    stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
    stream.codec_context.gop_size = int(step.number("gop"))
    stream.codec_context.thread_count = 1
    stream.options = _CODECS[step.name].options(step)


def _through_codec(frames: Iterable[Rgb], step: Step, rate: Fraction) -> Iterator[Rgb]:
    """Encodes (4:2:0, inter frames) into memory and decodes again. Odd sides are padded by repetition and cut back."""
    buffer = io.BytesIO()
    height = width = 0
    with av.open(buffer, "w", format="matroska") as container:
        stream: Any = None
        for rgb in frames:
            if stream is None:
                height, width = rgb.shape[:2]
                stream = container.add_stream(_CODECS[step.name].encoder, rate=rate)
                _configure(stream, step, width + width % 2, height + height % 2, "yuv420p")
            if rgb.shape[:2] != (height, width):
                raise InputError("the frames of a clip must have one size", stage="degrade")
            padded = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="itu709")))
        if stream is None:
            return
        container.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer, "r") as container:
        for decoded in container.decode(video=0):
            rgb = decoded.reformat(format="rgb24", src_colorspace="itu709").to_ndarray()
            yield _uint8(rgb[:height, :width])


_MPEG2_RATES = tuple(
    Fraction(*rate)
    for rate in ((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60000, 1001), (60, 1))
)
"""frame_rate_code of ISO/IEC 13818-2, table 6-4."""
_LOSSLESS = ("ffv1", {"level": "3"})
_COLOR_TAGS = ("colorspace", "color_range", "color_primaries", "color_trc")


def _encoder(last: Step) -> str:
    return _CODECS[last.name].encoder if last.is_codec else _LOSSLESS[0]


def degrade_clip(
    source: Path, output: Path, degradation: Degradation, seed: int = 0, max_frames: int = 0
) -> ClipOutcome:
    """Damages the first video stream of a clip into a new file (Matroska or whatever the suffix says).

    A SPEC that ends in a codec leaves that codec's bitstream in the file, so that a decoder finds its quantisers; any
    other is stored losslessly (FFV1), with the pixel format and colour tags of the source. Codecs get the decoded
    planes untouched (no RGB between) unless a pixel step comes before: those work in 8-bit RGB, without alpha.
    Timestamps are kept (MPEG-2 knows only constant standard rates: there the nearest is taken, frame by frame).
    `max_frames` 0 means all.

    Raises:
        InputError: the source can't be opened or has no video; OutputError: the output can't be written;
        UsageError: a codec is followed by another step, the output's container can't hold it, or the source is a URL.
    """
    last = degradation.steps[-1]
    if any(step.is_codec for step in degradation.steps[:-1]):
        raise UsageError("in a clip a codec must be the last step", remedy="write it first, then degrade the result")
    temporary = output.with_name(f".{output.stem}.part{output.suffix or '.mkv'}")
    format_for(temporary.name)
    try:
        with open_input(source) as reader:
            if not reader.streams.video:
                raise InputError(f"{source} has no video")
            outcome = _write_clip(reader, temporary, degradation, last, seed, max_frames)
        temporary.replace(output)
    except av.FFmpegError as error:
        temporary.unlink(missing_ok=True)
        where = OutputError if isinstance(error, (PermissionError, IsADirectoryError)) else InputError
        raise where(f"{source} can't be degraded into {output}: {error}", stage="degrade") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return outcome


def _write_clip(
    reader: Any, output: Path, degradation: Degradation, last: Step, seed: int, max_frames: int
) -> ClipOutcome:
    video = reader.streams.video[0]
    pixel_steps = degradation.steps[:-1] if last.is_codec else degradation.steps
    count = payload = 0
    rate = Fraction(video.average_rate or 25)
    if last.name == "mpeg2":
        rate = min(_MPEG2_RATES, key=lambda known: abs(known - rate))
    with av.open(file_url(output), "w") as writer:
        stream: Any = None
        for frame in reader.decode(video):
            if pixel_steps:
                frame = _degrade_video_frame(frame, pixel_steps, last, seed, count)
            elif frame.format.name != "yuv420p" and last.name == "mpeg2":
                frame = _reformatted(frame, "yuv420p")
            if last.name == "mpeg2":
                frame.pts, frame.time_base = count, 1 / rate
            if stream is None:
                try:
                    stream = writer.add_stream(_encoder(last), rate=rate)
                except ValueError as error:
                    raise UsageError(f"{error}", remedy="give OUTPUT the suffix .mkv") from error
                stream.codec_context.time_base = frame.time_base
                if last.is_codec:
                    _configure(stream, last, frame.width, frame.height, frame.format.name)
                else:
                    stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, frame.format.name
                    stream.options = dict(_LOSSLESS[1])
                for tag in _COLOR_TAGS:
                    setattr(stream.codec_context, tag, getattr(frame, tag))
            frame.pict_type = 0  # the source's choice of frame types must not bind this encoder
            for packet in stream.encode(frame):
                payload += packet.size
                writer.mux(packet)
            count += 1
            if max_frames and count >= max_frames:
                break
        if stream is None:
            raise InputError("no frame could be decoded", stage="degrade")
        for packet in stream.encode(None):
            payload += packet.size
            writer.mux(packet)
    return ClipOutcome(count, stream.codec_context.name, payload)


def _reformatted(frame: Any, pixel_format: str) -> Any:
    changed = frame.reformat(format=pixel_format)
    changed.pts, changed.time_base = frame.pts, frame.time_base
    return changed


def _target_format(last: Step, name: str) -> str:
    """The pixel format for frames after pixel steps: their own, or the nearest that the encoder takes.

    4:2:0 for MPEG-2, and never with alpha: no step knows of it.
    """
    if last.name == "mpeg2":
        return "yuv420p"
    formats = Codec(_encoder(last), "w").video_formats or []
    opaque = [known for known in formats if not any(c.is_alpha for c in known.components)]
    best, _ = find_best_pix_fmt_of_list(opaque, name)
    return name if best is None else best.name


def _degrade_video_frame(frame: Any, steps: tuple[Step, ...], last: Step, seed: int, number: int) -> Any:
    """Pixel steps on a decoded frame, by way of 8-bit RGB and back to its own format, matrix, range and tags.

    For a codec odd sides lose a row or column where its pixel format halves them.
    """
    color = ColorInfo(matrix=int(frame.colorspace), range=int(frame.color_range))
    source, target = (pixel_format(name) for name in (frame.format.name, _target_format(last, frame.format.name)))
    matrix = MATRIX_BT601_625 if source.is_rgb else swscale_matrix(effective_matrix(color, frame.width, frame.height))
    span = RANGE_FULL if is_full_range(source, color) else RANGE_LIMITED
    plain = frame.reformat(
        format="rgb24",
        interpolation=EXACT,
        src_colorspace=matrix,
        src_color_range=span,
        dst_color_range=RANGE_FULL,
    )
    rgb: Rgb = _uint8(plain.to_ndarray())
    for index, step in enumerate(steps):
        rgb = _PIXEL_STEPS[step.name](rgb, step, _generator(seed, number, index)).rgb
    if last.is_codec:
        height, width = (
            side >> shift << shift for side, shift in zip(rgb.shape, (target.chroma_shift_y, target.chroma_shift_x))
        )
        rgb = rgb[:height, :width]
    turned = source.is_rgb and not target.is_rgb
    made_span = RANGE_LIMITED if turned or last.name == "mpeg2" else span  # MPEG-2 tells no range
    damaged = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(
        format=target.name,
        interpolation=EXACT,
        src_color_range=RANGE_FULL,
        dst_colorspace=matrix,
        dst_color_range=made_span,
    )
    for tag in _COLOR_TAGS:
        setattr(damaged, tag, getattr(frame, tag))
    if turned:
        damaged.colorspace = MATRIX_BT601_625
    if made_span != span:
        damaged.color_range = made_span
    damaged.pts, damaged.time_base = frame.pts, frame.time_base
    return damaged
