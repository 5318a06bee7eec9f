"""What a model gains: degrade, restore, score. Stills here; clips through the same decoder that `restore` uses."""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.enhance import Enhancer
from ns_video.errors import InputError, UsageError
from ns_video.estimate import JpegEvidence, find_jpeg, reconcile
from ns_video.frame import Frame, JpegTables, QuantiserMap
from ns_video.media.carried import carry_quantisers
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.degrade import Degradation, degrade_still
from ns_video.media.degraded_clip import degrade_clip
from ns_video.media.metrics import coded_like, luma_of
from ns_video.media.pictures import Rgb
from ns_video.training.losses import ssim_index

PSNR_CEILING = 100.0
"""dB reported for equal pictures, whose PSNR is infinite."""
_SSIM_WINDOW = 11


@dataclass(frozen=True, slots=True)
class PictureScore:
    """One picture before and after. PSNR in dB on R, G, B together (`psnr`) and on BT.601 Y (`psnr_y`); SSIM of Y, None
    for a picture smaller than its window."""

    name: str
    psnr_before: float
    psnr_after: float
    psnr_y_before: float
    psnr_y_after: float
    ssim_before: float | None
    ssim_after: float | None
    self_psnr: float
    """PSNR of the restored picture to the degraded one: how much was changed at all."""
    seconds: float
    """Wall time of the network."""

    @property
    def gain(self) -> float:
        """dB of RGB PSNR."""
        return self.psnr_after - self.psnr_before


def psnr(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], peak: float = 255) -> float:
    """PSNR in dB of samples from 0 to `peak`, at most PSNR_CEILING."""
    error = float(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64))))
    return PSNR_CEILING if error == 0 else min(PSNR_CEILING, 10 * math.log10(peak**2 / error))


def luma(rgb: Rgb) -> npt.NDArray[np.float64]:
    """Y of BT.601 in 16..235, as MATLAB's rgb2ycbcr: the super-resolution benchmarks' Y, here unrounded."""
    return 16 + (rgb.astype(np.float64) @ np.array([65.481, 128.553, 24.966])) / 255


def _ssim(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64], peak: float = 255) -> float | None:
    if min(a.shape) < _SSIM_WINDOW:
        return None
    one, two = (torch.from_numpy(plane / peak)[None, None] for plane in (a, b))
    return float(ssim_index(one, two))


def to_tensor(rgb: Rgb) -> Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float32 in [0, 1]."""
    return torch.tensor(rgb).permute(2, 0, 1)[None].float() / 255


def to_rgb(picture: Tensor) -> Rgb:
    """(1, 3, H, W) float in [0, 1], clamped and rounded → (H, W, 3) uint8."""
    return np.ascontiguousarray((picture[0].float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


def enlarge(rgb: Rgb, scale: int) -> Rgb:
    """Bicubic enlargement, the "before" of a super-resolution table."""
    return to_rgb(F.interpolate(to_tensor(rgb), scale_factor=scale, mode="bicubic", antialias=True))


Restorer = Callable[[Rgb, JpegTables | QuantiserMap | None], Rgb]
"""The degraded picture and what its file says of it → the restored picture."""


def still_restorer(enhancer: Enhancer, blind: bool = False) -> Restorer:
    """How `restore` treats a still: the file's tables, checked against the pixels where the model reads them.

    `blind` hides what the file says: only what the pixels tell is used, and quantisers they don't.
    What comes of it raises UsageError where the model restores what video codecs lose, and none coded the picture.
    """
    descriptor = enhancer.descriptor

    def restore(rgb: Rgb, told: JpegTables | QuantiserMap | None) -> Rgb:
        tables = told if isinstance(told, JpegTables) else None
        if descriptor.conditioning == "quantiser":
            if not isinstance(told, QuantiserMap):
                what = f"model {descriptor.name} restores clips, and stills that a video codec coded"
                raise UsageError(what, remedy="give --clips, or a SPEC that ends in webp or avif")
            return to_rgb(enhancer(to_tensor(rgb), None if blind else told))
        if descriptor.conditioning != "jpeg":
            return to_rgb(enhancer(to_tensor(rgb)))
        known = reconcile(None if blind or tables is None else JpegEvidence(tables), find_jpeg(rgb))
        return rgb if known is None else to_rgb(enhancer(to_tensor(rgb), known))

    return restore


def score_picture(
    name: str, reference: Rgb, degradation: Degradation | None, restore: Restorer, scale: int, seed: int = 0
) -> PictureScore:
    """Degrades (None: leaves clean), restores and compares one picture.

    With a scale above 1 the reference is cropped to what scale * degraded covers, and a border of `scale` pixels is
    left out, as the super-resolution benchmarks do.

    Raises:
        UsageError: the sizes of result and reference don't fit: the SPEC's downscale is not the model's scale; or
            nothing is left within the border.
    """
    if degradation is None:
        degraded, told = reference, None
    else:
        outcome = degrade_still(reference, degradation, seed)
        degraded, told = outcome.rgb, outcome.jpeg or outcome.quantiser
    began = time.perf_counter()
    restored = restore(degraded, told)
    seconds = time.perf_counter() - began
    height, width = restored.shape[:2]
    if abs(height - reference.shape[0]) >= max(scale, 2) or abs(width - reference.shape[1]) >= max(scale, 2):
        raise UsageError(
            f"{name}: the result is {width}x{height}, the reference {reference.shape[1]}x{reference.shape[0]}",
            remedy="degrade with downscale:x=S where the model enlarges by S",
        )
    before = enlarge(degraded, scale) if scale > 1 else degraded
    inner = slice(scale, -scale) if scale > 1 else slice(None)
    truth, before, after = (p[:height, :width][inner, inner] for p in (reference, before, restored))
    if not truth.size:
        raise UsageError(f"{name}: {width}x{height} has nothing within a border of {scale} px")
    y_truth, y_before, y_after = luma(truth), luma(before), luma(after)
    return PictureScore(
        name=name,
        psnr_before=psnr(before, truth),
        psnr_after=psnr(after, truth),
        psnr_y_before=psnr(y_before, y_truth),
        psnr_y_after=psnr(y_after, y_truth),
        ssim_before=_ssim(y_before, y_truth),
        ssim_after=_ssim(y_after, y_truth),
        self_psnr=psnr(after, before),
        seconds=seconds,
    )


def _known_mean(values: Iterable[float | None]) -> float | None:
    """Of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def mean_score(scores: Iterable[PictureScore]) -> PictureScore:
    """The mean of each figure over the pictures that have it; `name` is "mean", `seconds` the sum.

    Raises:
        UsageError: there are no scores.
    """
    rows = list(scores)
    if not rows:
        raise UsageError("there is nothing to average")

    means: dict[str, Any] = {
        field.name: _known_mean(getattr(row, field.name) for row in rows)
        for field in fields(PictureScore)
        if field.name not in ("name", "seconds")
    }
    return PictureScore(name="mean", seconds=sum(row.seconds for row in rows), **means)


@dataclass(frozen=True, slots=True)
class ClipScore:
    """One clip before and after. PSNR-Y in dB, mean over the frames; `deviation` is its standard deviation. SSIM of Y,
    mean over the frames, None for one smaller than its window. What is coded in another format than the original is
    compared in the original's."""

    name: str
    frames: int
    frames_passed_through: int
    """Those that could not be restored, and are compared as they were."""
    psnr_y_before: float
    psnr_y_after: float
    ssim_before: float | None
    ssim_after: float | None
    deviation_before: float
    deviation_after: float
    worst_frame_gain: float
    """Smallest gain of a frame."""
    bits_per_pixel: float
    seconds: float
    """Wall time of decoding, restoring and comparing."""

    @property
    def gain(self) -> float:
        """dB of PSNR-Y."""
        return self.psnr_y_after - self.psnr_y_before


def _luma_scores(frame: Frame, truth: Frame) -> tuple[float, float | None]:
    """PSNR and SSIM of Y. Raises UsageError for another size."""
    if frame.planes[0].shape != truth.planes[0].shape:
        raise UsageError(
            f"a frame of {frame.width}x{frame.height} can't be compared with {truth.width}x{truth.height}",
            remedy="clips are scored with models of scale 1",
        )
    found, wanted = luma_of(coded_like(frame, truth)), luma_of(truth)
    return psnr(found, wanted, 1), _ssim(found, wanted, 1)


def score_clip(
    path: Path, degradation: Degradation, enhancer: Enhancer, seed: int = 0, max_frames: int = 0
) -> ClipScore:
    """Degrades a clean clip, restores it by the decoder and stage of `restore`, and compares PSNR-Y and SSIM
    with the original.

    `max_frames` 0 means the whole clip.

    Raises:
        InputError, UsageError: as `degrade_clip`; or the sizes don't fit.
    """
    with tempfile.TemporaryDirectory() as folder:
        degraded = Path(folder) / "degraded.mkv"
        outcome = degrade_clip(path, degraded, degradation, seed, max_frames)
        before: list[tuple[float, float | None]] = []
        after: list[tuple[float, float | None]] = []
        pixels = passed = 0
        began = time.perf_counter()
        options = DecodeOptions(quantisers=enhancer.descriptor.conditioning == "quantiser", deinterlace="off")
        with (
            open_clip(degraded, options) as reader,
            open_clip(degraded, DecodeOptions(deinterlace="off")) as seen,
            open_clip(path, DecodeOptions(deinterlace="off")) as original,
        ):
            rows = zip(enhancer.run(carry_quantisers(reader.frames())), seen.frames(), original.frames())
            for restored, plain, truth in itertools.islice(rows, outcome.frames):
                before.append(_luma_scores(plain, truth))
                after.append(_luma_scores(restored.frame, truth))
                passed += restored.passed_through
                pixels += truth.width * truth.height
    if not before:
        raise InputError(f"{path} has no frame to compare")
    psnr_before, psnr_after = ([score[0] for score in scores] for scores in (before, after))
    return ClipScore(
        name=path.stem,
        frames=len(before),
        frames_passed_through=passed,
        psnr_y_before=float(np.mean(psnr_before)),
        psnr_y_after=float(np.mean(psnr_after)),
        ssim_before=_known_mean(score[1] for score in before),
        ssim_after=_known_mean(score[1] for score in after),
        deviation_before=float(np.std(psnr_before)),
        deviation_after=float(np.std(psnr_after)),
        worst_frame_gain=float(np.min(np.subtract(psnr_after, psnr_before))),
        bits_per_pixel=8 * outcome.payload_bytes / pixels,
        seconds=time.perf_counter() - began,
    )


def mean_clip_score(scores: Iterable[ClipScore]) -> ClipScore:
    """The mean of each figure over clips; `name` is "mean", counts of frames and `seconds` are sums.

    Raises:
        UsageError: there are no scores.
    """
    rows = list(scores)
    if not rows:
        raise UsageError("there is nothing to average")

    def mean(name: str) -> float:
        return float(np.mean([getattr(row, name) for row in rows]))

    return ClipScore(
        name="mean",
        frames=sum(row.frames for row in rows),
        frames_passed_through=sum(row.frames_passed_through for row in rows),
        psnr_y_before=mean("psnr_y_before"),
        psnr_y_after=mean("psnr_y_after"),
        ssim_before=_known_mean(row.ssim_before for row in rows),
        ssim_after=_known_mean(row.ssim_after for row in rows),
        deviation_before=mean("deviation_before"),
        deviation_after=mean("deviation_after"),
        worst_frame_gain=min(row.worst_frame_gain for row in rows),
        bits_per_pixel=mean("bits_per_pixel"),
        seconds=sum(row.seconds for row in rows),
    )
