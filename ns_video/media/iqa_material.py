"""Damaged pictures for the training of the quality score: one function a kind of damage. Owner of cv2 and av here.

Every function takes and gives (H, W, 3) uint8 RGB of the same size. `severity` runs from 0 (barely visible) to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import cv2
import numpy as np
from numpy.random import Generator

from ns_video.media.pictures import Rgb
from ns_video.media.training_clips import Encoding, clip_to_rgb, encode_decode

Damage = Callable[[Rgb, float, Generator], Rgb]

_X264_FRAMES = 5


def _rgb(picture: Any) -> Rgb:
    """What OpenCV gave, as what it is: (H, W, 3) uint8. Its stubs know only numbers."""
    return picture


def jpeg(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """JPEG of quality 97 down to 5; 4:2:0 or 4:4:4."""
    quality = round(97 - 92 * severity**0.7)
    sampling = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420 if rng.random() < 0.7 else cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    data: Any = cv2.imencode(".jpg", np.ascontiguousarray(rgb[..., ::-1]), options)[1]
    decoded: Any = cv2.imdecode(data, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(decoded[..., ::-1])


def _moved(rgb: Rgb, x: float, y: float) -> Rgb:
    matrix = np.array([[1, 0, x], [0, 1, y]], dtype=np.float32)
    return _rgb(
        cv2.warpAffine(rgb, matrix, rgb.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    )


def inter_frame(rgb: Rgb, severity: float, rng: Generator, codec: str = "libx264") -> Rgb:
    """The picture as the last of five frames of a slow pan, coded by x264 at CRF 15–50 (or MPEG-2 at q 2–31)."""
    height, width = rgb.shape[:2]
    even = rgb[: height // 2 * 2, : width // 2 * 2]
    step = rng.uniform(-3, 3, 2)
    if codec == "libx264":
        preset = str(rng.choice(["ultrafast", "veryfast", "fast"]))
        options = {"crf": f"{15 + 35 * severity:.1f}", "preset": preset, "x264-params": "log-level=none"}
    else:
        quantiser = str(round(2 + 29 * severity))
        options = {"qmin": quantiser, "qmax": quantiser, "flags": "+qscale"}
    moved = [_moved(even, step[0] * left, step[1] * left) for left in range(_X264_FRAMES - 1, 0, -1)]
    pictures = [av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24") for picture in (*moved, even)]
    clip = np.stack([np.asarray(picture.to_ndarray(format="yuv420p"), np.uint8) for picture in pictures])
    last = clip_to_rgb(encode_decode(clip, Encoding(codec, options)).pictures, -1)
    result = rgb.copy()
    result[: even.shape[0], : even.shape[1]] = last
    return result


def mpeg2(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """As `inter_frame`, by MPEG-2."""
    return inter_frame(rgb, severity, rng, "mpeg2video")


def gaussian_blur(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """Gaussian blur, sigma 0.4–4.4."""
    return _rgb(cv2.GaussianBlur(rgb, (0, 0), 0.4 + 4.0 * severity**1.5))


def motion_blur(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """A straight smear of 2–22 px in any direction."""
    length = 2 + int(20 * severity)
    kernel: Any = np.zeros((length, length), np.float32)
    kernel[length // 2] = 1
    turn = cv2.getRotationMatrix2D(((length - 1) / 2, (length - 1) / 2), float(rng.uniform(0, 180)), 1)
    kernel = cv2.warpAffine(kernel, turn, (length, length))
    return _rgb(cv2.filter2D(rgb, -1, kernel / max(float(kernel.sum()), 1e-3)))


def defocus(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """A disc of radius 1–8 px."""
    radius = 1 + round(7 * severity**1.3)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)).astype(np.float32)
    return _rgb(cv2.filter2D(rgb, -1, kernel / kernel.sum()))


def noise(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """Gaussian noise, sigma 1.5–50, per channel, gray, or grain (slightly smoothed)."""
    sigma = 1.5 + 48.5 * severity**1.5
    kind = rng.integers(3)
    field = rng.standard_normal((*rgb.shape[:2], 1 if kind == 1 else 3)).astype(np.float32)
    if kind == 2:
        field = cv2.GaussianBlur(field, (0, 0), 0.8)
        field /= float(field.std())
    return np.clip(rgb + sigma * field, 0, 255).round().astype(np.uint8)


def mosaic(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """Blocks of 2–9 px: shrunk bilinear, enlarged nearest."""
    block = 2 + round(7 * severity)
    height, width = rgb.shape[:2]
    small: Any = cv2.resize(rgb, (max(1, width // block), max(1, height // block)), interpolation=cv2.INTER_LINEAR)
    return _rgb(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST))


def enlarged(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """Shrunk by 1.2–5 and enlarged again, with a resampler that may ring."""
    factor = 1.2 + 3.8 * severity
    height, width = rgb.shape[:2]
    small: Any = cv2.resize(rgb, (int(width / factor), int(height / factor)), interpolation=cv2.INTER_AREA)
    how = int(rng.choice([cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4]))
    return _rgb(cv2.resize(small, (width, height), interpolation=how))


def ringing(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """An ideal low-pass in the cosine domain: Gibbs ringing along every edge."""
    height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
    keep = 0.75 - 0.6 * severity
    result = rgb.copy()
    for channel in range(3):
        spectrum = cv2.dct(rgb[:height, :width, channel].astype(np.float32))
        spectrum[int(height * keep) :] = 0
        spectrum[:, int(width * keep) :] = 0
        result[:height, :width, channel] = np.clip(cv2.idct(spectrum), 0, 255).round()
    return result


def over_sharpened(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """Unsharp mask with an amount of 0.4–6."""
    soft = cv2.GaussianBlur(rgb, (0, 0), float(rng.uniform(0.7, 2.0)))
    amount = 0.4 + 5.6 * severity**1.5
    return _rgb(cv2.addWeighted(rgb, 1 + amount, soft, -amount, 0))


def over_denoised(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """A filter far beyond what the noise calls for: bilateral, median, non-local means, edge-preserving."""
    kind = rng.random()
    if kind < 0.5:
        return _rgb(
            cv2.bilateralFilter(rgb, int(rng.choice((5, 7, 9))), 10 + 90 * severity, float(rng.uniform(1.5, 6)))
        )
    if kind < 0.7:
        return _rgb(cv2.medianBlur(rgb, 3 + 2 * round(4 * severity)))
    if kind < 0.85:
        strength = 2 + 14 * severity
        return _rgb(cv2.fastNlMeansDenoisingColored(rgb, None, strength, strength, 5, 11))
    return _rgb(cv2.edgePreservingFilter(rgb, flags=1, sigma_s=3 + 17 * severity, sigma_r=0.05 + 0.3 * severity))


def _after(first: Damage, second: Damage, share: float = 1.0) -> Damage:
    def both(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
        return second(first(rgb, severity * float(rng.uniform(0.3, 1)), rng), severity * share, rng)

    return both


def half_restored(rgb: Rgb, severity: float, rng: Generator) -> Rgb:
    """Between the picture and a damaged one: what a restoration that finds part of the way gives."""
    damaged = DAMAGES[str(rng.choice(["jpeg", "inter_frame", "mosaic", "noise", "enlarged"]))](rgb, severity, rng)
    share = float(rng.uniform(0.2, 0.8))
    return _rgb(cv2.addWeighted(rgb, share, damaged, 1 - share, 0))


DAMAGES: dict[str, Damage] = {
    "jpeg": jpeg,
    "inter_frame": inter_frame,
    "mpeg2": mpeg2,
    "gaussian_blur": gaussian_blur,
    "motion_blur": motion_blur,
    "defocus": defocus,
    "noise": noise,
    "mosaic": mosaic,
    "enlarged": enlarged,
    "ringing": ringing,
    "over_sharpened": over_sharpened,
    "over_denoised": over_denoised,
    "half_restored": half_restored,
    "noise_then_jpeg": _after(noise, jpeg, 0.7),
    "noise_then_inter_frame": _after(noise, inter_frame, 0.8),
    "blur_then_jpeg": _after(gaussian_blur, jpeg),
    "enlarged_then_inter_frame": _after(enlarged, inter_frame),
    "jpeg_then_blur": _after(jpeg, gaussian_blur, 0.6),
    "jpeg_then_denoised": _after(jpeg, over_denoised, 0.5),
    "inter_frame_then_sharpened": _after(inter_frame, over_sharpened, 0.5),
    "noise_then_denoised": _after(noise, over_denoised, 0.8),
    "sharpened_then_jpeg": _after(over_sharpened, jpeg),
}
"""Every kind of damage the score is trained on."""


def shrunk(rgb: Rgb, side: int) -> Rgb:
    """The whole picture on `side` x `side` px (area mean)."""
    return _rgb(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA))
