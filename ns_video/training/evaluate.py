"""What a model gains: degrade, restore, score. Stills here; clips through the same decoder that `restore` uses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.conditioning import jpeg_planes
from ns_video.errors import UsageError
from ns_video.frame import JpegTables
from ns_video.media.degrade import Degradation, degrade_still
from ns_video.media.pictures import list_pictures, read_rgb
from ns_video.training.losses import ssim_index
from ns_video.weights import Descriptor

Rgb = npt.NDArray[np.uint8]

PSNR_CEILING = 100.0
"""dB reported for equal pictures, whose PSNR is infinite."""


@dataclass(frozen=True, slots=True)
class PictureScore:
    """One picture before and after. PSNR in dB on R, G, B together (`psnr`) and on BT.601 Y (`psnr_y`); SSIM of Y."""

    name: str
    psnr_before: float
    psnr_after: float
    psnr_y_before: float
    psnr_y_after: float
    ssim_before: float
    ssim_after: float
    self_psnr: float
    """PSNR of the restored picture to the degraded one: how much was changed at all."""
    seconds: float
    """Wall time of the network."""

    @property
    def gain(self) -> float:
        """dB of RGB PSNR."""
        return self.psnr_after - self.psnr_before


def psnr(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> float:
    """PSNR in dB for 8-bit samples, at most PSNR_CEILING."""
    error = float(np.mean(np.square(a.astype(np.float64) - b.astype(np.float64))))
    return PSNR_CEILING if error == 0 else min(PSNR_CEILING, 10 * math.log10(255**2 / error))


def luma(rgb: Rgb) -> npt.NDArray[np.float64]:
    """Y of BT.601 in 16..235, as MATLAB's rgb2ycbcr: the super-resolution benchmarks' Y, here unrounded."""
    return 16 + (rgb.astype(np.float64) @ np.array([65.481, 128.553, 24.966])) / 255


def _ssim(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    if min(a.shape) < 11:
        return float("nan")
    one, two = (torch.from_numpy(plane / 255)[None, None] for plane in (a, b))
    return float(ssim_index(one, two))


def to_tensor(rgb: Rgb) -> Tensor:
    """(H, W, 3) uint8 → (1, 3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).permute(2, 0, 1)[None].float() / 255


def to_rgb(picture: Tensor) -> Rgb:
    """(1, 3, H, W) float in [0, 1], clamped and rounded → (H, W, 3) uint8."""
    return np.ascontiguousarray((picture[0].float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy())


@torch.no_grad()
def run_network(descriptor: Descriptor, rgb: Rgb, tables: JpegTables | None, device: str = "cpu") -> Rgb:
    """The network on a whole picture, padded by reflection to the sides it wants. fp32.

    A network conditioned on JPEG tables gets `tables`; None tells it that nothing was lost.

    Raises:
        UsageError: the model wants something else than one RGB picture.
    """
    if descriptor.domain != "rgb" or descriptor.frames != 1 or descriptor.conditioning == "quantiser":
        raise UsageError(f"model {descriptor.name} restores clips, not RGB pictures", remedy="give --clips")
    height, width = rgb.shape[:2]
    step = descriptor.multiple_of
    picture = to_tensor(rgb).to(device)
    down, right = -height % step, -width % step
    if down or right:
        mode = "reflect" if down < height and right < width else "replicate"
        picture = F.pad(picture, (0, right, 0, down), mode=mode)
    network = descriptor.network.to(device)
    if descriptor.conditioning == "jpeg":
        out = network(picture, jpeg_planes(tables).to(device))
    else:
        out = network(picture)
    scale = descriptor.scale
    return to_rgb(out[..., : height * scale, : width * scale])


def enlarge(rgb: Rgb, scale: int) -> Rgb:
    """Bicubic enlargement, the "before" of a super-resolution table."""
    return to_rgb(F.interpolate(to_tensor(rgb), scale_factor=scale, mode="bicubic", antialias=True))


Restorer = Callable[[Rgb, JpegTables | None], Rgb]


def score_picture(
    name: str, reference: Rgb, degradation: Degradation | None, restore: Restorer, scale: int, seed: int = 0
) -> PictureScore:
    """Degrades (None: leaves clean), restores and compares one picture.

    With a scale above 1 the reference is cropped to what scale * degraded covers, and a border of `scale` pixels is
    left out, as the super-resolution benchmarks do.

    Raises:
        UsageError: the sizes of result and reference don't fit: the SPEC's downscale is not the model's scale.
    """
    if degradation is None:
        degraded, tables = reference, None
    else:
        outcome = degrade_still(reference, degradation, seed)
        degraded, tables = outcome.rgb, outcome.jpeg
    began = time.perf_counter()
    restored = restore(degraded, tables)
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


def evaluate_images(
    folder: Path, degradation: Degradation | None, restore: Restorer, scale: int, seed: int = 0
) -> Iterator[PictureScore]:
    """`score_picture` for every picture directly in `folder`, by name.

    Raises:
        InputError: no folder, no picture, or one that can't be read.
    """
    for path in list_pictures(folder):
        yield score_picture(path.stem, read_rgb(path), degradation, restore, scale, seed)


def mean_score(scores: Iterable[PictureScore]) -> PictureScore:
    """The mean of each figure; `name` is "mean", `seconds` the sum.

    Raises:
        UsageError: there are no scores.
    """
    rows = list(scores)
    if not rows:
        raise UsageError("there is nothing to average")
    means = {
        field.name: float(np.mean([getattr(row, field.name) for row in rows]))
        for field in fields(PictureScore)
        if field.name not in ("name", "seconds")
    }
    return PictureScore(name="mean", seconds=sum(row.seconds for row in rows), **means)
