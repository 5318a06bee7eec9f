"""Damage on purpose: the SPEC language on real codecs, for stills and frames.

A SPEC is `name:key=value,...`, several joined with `+` and applied from left to right:

    jpeg:q=10  jpeg:q=30,subsampling=444  mosaic:p=4  blur-down  noise:sigma=25  downscale:x=2
    h264:crf=37  hevc:crf=37  mpeg2:q=12  noise:sigma=5+jpeg:q=30  webp:q=30  avif:q=50

`jpeg` keeps 4:2:0 at every quality unless told otherwise; `subsampling=ladder` is NS-IC's rule (4:2:0 up to q 30,
4:2:2 up to q 60, 4:4:4 above). `mosaic:q=80` is NS-IC's pixelation ladder, another name for p = (100 - q) // 10 + 1.
`describe()` lists the rest. Everything random comes from the seed: same picture, SPEC and seed, same damage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from PIL import features

from ns_video.errors import InputError, UsageError
from ns_video.frame import JpegTables, QuantiserMap
from ns_video.jpeg_tables import SUBSAMPLINGS, ijg_tables
from ns_video.media.pictures import Rgb, decode_picture, encode_jpeg, encode_picture
from ns_video.media.still_steps import quantiser_in
from ns_video.media.training_clips import Encoding, encode_decode

Generator = np.random.Generator
Value = float | str
Samples = npt.NDArray[np.float32]

_ANY_SEED_STEP = 1_000_003  # separates the random streams of frames from those of steps; any prime will do


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a SPEC step. A tuple `choices` makes it a word, otherwise it is a number in [low, high]."""

    name: str
    default: Value | None
    """None: it is another way to give the one before."""
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
    """A damaged picture. Where the last step was `jpeg`, `webp` or `avif`, `encoded` are the file's bytes and `kind` is
    Pillow's name of its format; `jpeg` and `quantiser` are what it tells of its damage."""

    rgb: Rgb
    jpeg: JpegTables | None = None
    encoded: bytes | None = None
    kind: str = ""
    quantiser: QuantiserMap | None = None


# ---------------------------------------------------------------- single pictures


def _too_small(rgb: Rgb, what: str) -> InputError:
    return InputError(f"a picture of {rgb.shape[1]}x{rgb.shape[0]} is too small for {what}", stage="degrade")


def mosaic(rgb: Rgb, p: int) -> Rgb:
    """Blocks of about p pixels: shrink to (w // p, h // p) bilinear without antialiasing, enlarge nearest (OpenCV)."""
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, (max(1, width // p), max(1, height // p)), interpolation=cv2.INTER_LINEAR)
    return _uint8(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST))


def blur_down(rgb: Rgb, x: int = 3) -> Rgb:
    """The deblurring study's damage: Gaussian 7x7 (sigma 1.4), shrink to 1/x by area, enlarge back bilinear.

    Raises InputError for a picture of which nothing is left in between.
    """
    height, width = rgb.shape[:2]
    if round(min(height, width) / x) < 1:
        raise _too_small(rgb, f"blur-down:x={x}")
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
    return DegradedStill(decode_picture(data), tables, data, "JPEG")


def _webp(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    return _as_file(rgb, "WEBP", quality=int(step.number("q")), method=4)


def _avif(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    options = {"subsampling": {"420": "4:2:0", "422": "4:2:2", "444": "4:4:4"}[step.word("subsampling")]}
    return _as_file(rgb, "AVIF", quality=int(step.number("q")), speed=6, max_threads=1, **options)


def _as_file(rgb: Rgb, kind: str, **options: Any) -> DegradedStill:
    """Through a lossy file of Pillow's format `kind`. Raises InputError for what it doesn't hold, UsageError for a
    Pillow without it."""
    if not features.check(kind.lower()):
        raise UsageError(f"this Pillow was built without {kind}", remedy="install a newer one (11.3)")
    try:
        data = encode_picture(rgb, kind, **options)
    except (OSError, ValueError) as error:
        raise InputError(
            f"a picture of {rgb.shape[1]}x{rgb.shape[0]} can't be coded as {kind}: {error}", stage="degrade"
        ) from error
    return DegradedStill(decode_picture(data), None, data, kind, quantiser_in(data, kind))


def _mosaic(rgb: Rgb, step: Step, random: Generator) -> DegradedStill:
    del random
    return DegradedStill(mosaic(rgb, int(step.number("p"))))


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
    "webp": _webp,
    "avif": _avif,
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
    "webp": (Parameter("q", 30.0, 0, 100, whole=True),),
    "avif": (
        Parameter("q", 50.0, 0, 100, whole=True),
        Parameter("subsampling", "420", choices=("420", "422", "444")),
    ),
    "mosaic": (Parameter("p", 4.0, 1, 64, whole=True), Parameter("q", None, 0, 100, whole=True)),
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
            else f"{p.name}{'' if p.default is None else f'={p.default:g}'} ({p.low:g}..{p.high:g})"
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
    values: dict[str, Value] = {key: p.default for key, p in parameters.items() if p.default is not None}
    given: set[str] = set()
    for item in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or key not in parameters:
            raise UsageError(f"{name} has no parameter {item!r}", remedy=f"it takes {', '.join(parameters)}")
        if key in given:
            raise UsageError(f"{name}:{key} is given twice")
        given.add(key)
        values[key] = _parse_value(name, parameters[key], value)
    if name == "mosaic" and "q" in given:
        if "p" in given:
            raise UsageError("mosaic:p and mosaic:q are two names of one number", remedy="give one of them")
        values = {"p": (100 - float(values["q"])) // 10 + 1}
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
            (picture,) = _through_codec([result.rgb], step)
            result = DegradedStill(picture)
        else:
            result = _PIXEL_STEPS[step.name](result.rgb, step, _generator(seed, 0, index))
    return result


def degrade_frames(frames: Sequence[Rgb], degradation: Degradation, seed: int = 0) -> list[Rgb]:
    """Damages the frames of a short clip, (H, W, 3) uint8 of one size."""
    damaged = list(frames)
    for index, step in enumerate(degradation.steps):
        if step.is_codec:
            damaged = _through_codec(damaged, step)
        else:
            damage = _PIXEL_STEPS[step.name]
            damaged = [damage(rgb, step, _generator(seed, number, index)).rgb for number, rgb in enumerate(damaged)]
    return damaged


def degrade_picture(rgb: Rgb, steps: Iterable[Step], seed: int, number: int) -> Rgb:
    """Damages frame `number` of a clip, (H, W, 3) uint8, by steps that are no codecs."""
    for index, step in enumerate(steps):
        rgb = _PIXEL_STEPS[step.name](rgb, step, _generator(seed, number, index)).rgb
    return rgb


# ---------------------------------------------------------------- codecs


@dataclass(frozen=True, slots=True)
class _Codec:
    """A libav encoder and how a step's parameters become its options."""

    encoder: str
    options: Callable[[Step], dict[str, str]]
    least: int = 2
    """Side in px of the smallest picture that it takes."""


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
    "hevc": _Codec("libx265", _x265_options, least=16),
    "mpeg2": _Codec("mpeg2video", _mpeg2_options),
}


def coding(step: Step) -> tuple[str, dict[str, str]]:
    """libav's encoder of a codec step, and its options."""
    codec = _CODECS[step.name]
    return codec.encoder, {**codec.options(step), "g": str(int(step.number("gop")))}


def _through_codec(frames: Sequence[Rgb], step: Step) -> list[Rgb]:
    """Encodes (4:2:0, inter frames) and decodes again. Odd sides are padded by repetition and cut back."""
    height, width = frames[0].shape[:2]
    if min(height + height % 2, width + width % 2) < _CODECS[step.name].least:
        raise _too_small(frames[0], step.name)
    clip: list[Rgb] = []
    for rgb in frames:
        padded = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(padded, format="rgb24")
        clip.append(_uint8(frame.reformat(format="yuv420p", dst_colorspace="itu709").to_ndarray()))
    coded = encode_decode(np.stack(clip), Encoding(*coding(step)))
    decoded = (av.VideoFrame.from_ndarray(picture, format="yuv420p") for picture in coded.pictures)
    return [_uint8(f.reformat(format="rgb24", src_colorspace="itu709").to_ndarray()[:height, :width]) for f in decoded]
