"""The no-reference score `ns-iqa`: 0 (unusable) to 100 (untouched), higher is better.

A picture is looked at in several views: 256-px crops at native size, cut on the codec's 8-px grid where the picture has
most and middling detail, and the whole picture resized to 256x256, the view of the NS-IQA network. Two small networks
on `picture_statistics` judge them, one the crops, one the whole. What both learned to tell is `score_of_ssim` of the
luma SSIM against the undamaged picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ns_video.quality.picture_statistics import LEAST_SIDE, picture_statistics

CROP = 256
"""Side of a view in px."""
GRID = 8
"""Crops begin at multiples of this: the grid of JPEG, MPEG-2 and H.264 transforms."""
STATISTICS = 136
"""Numbers that `picture_statistics` gives."""


def score_of_ssim(ssim: Tensor) -> Tensor:
    """The scale of the score: 100 * (1 - sqrt(1 - SSIM)). SSIM 0.99 → 90, 0.96 → 80, 0.84 → 60, 0.64 → 40, 0 → 0."""
    return 100.0 * (1.0 - (1.0 - ssim).clamp(0.0, 1.0).sqrt())


class StatisticsHead(nn.Module):
    """Judges `picture_statistics`: (N, 136) → (N, 1) on the scale 0–100. 19,425 learned values."""

    def __init__(self, inputs: int = STATISTICS, width: int = 96) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.layers = nn.Sequential(
            *(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.05)),
            *(nn.Linear(width, 64), nn.ReLU(), nn.Dropout(0.05)),
            nn.Linear(64, 1),
        )

    def forward(self, statistics: Tensor) -> Tensor:
        """`statistics` as `picture_statistics` gives them."""
        center, spread = self.get_buffer("center"), self.get_buffer("spread")
        return 100.0 * self.layers(((statistics - center) / spread).clamp(-5, 5))


def resized_view(rgb: Tensor) -> Tensor:
    """The whole of (1, 3, H, W) on 256x256 px: area mean where it shrinks, bilinear where it grows."""
    height, width = rgb.shape[-2:]
    if height >= CROP and width >= CROP:
        return F.interpolate(rgb, (CROP, CROP), mode="area")
    return F.interpolate(rgb, (CROP, CROP), mode="bilinear", align_corners=False)


def crop_corners(rgb: Tensor, most: int) -> list[tuple[int, int]]:
    """(top, left) of up to `most` crops of (1, 3, H, W): those places of an even lattice, on the 8-px grid, that have
    the most detail, the median, and so on in even steps of rank, so that flat and busy parts both count."""
    height, width = rgb.shape[-2:]
    if height <= CROP and width <= CROP:
        return [(0, 0)]

    def places(size: int) -> list[int]:
        room = max(0, size - CROP)
        count = min(5, 1 + math.ceil(room / (CROP // 2)))
        return sorted({int(room * i / max(1, count - 1)) // GRID * GRID for i in range(count)})

    lattice = [(top, left) for top in places(height) for left in places(width)]
    luma = rgb.mean(1, keepdim=True)
    small = F.avg_pool2d(luma, 4) if min(height, width) >= 16 else luma
    scale = 4 if min(height, width) >= 16 else 1
    edges = (small[..., 1:, 1:] - small[..., :-1, 1:]).abs() + (small[..., 1:, 1:] - small[..., 1:, :-1]).abs()

    def detail(corner: tuple[int, int]) -> float:
        top, left = corner[0] // scale, corner[1] // scale
        part = edges[..., top : top + CROP // scale, left : left + CROP // scale]
        return float(part.mean()) if part.numel() else 0.0

    ranked = sorted(lattice, key=detail, reverse=True)
    if len(ranked) <= most:
        return ranked
    usable = ranked[: max(most, (3 * len(ranked) + 3) // 4)]  # the flattest quarter of a picture tells nothing
    return [usable[round(i * (len(usable) - 1) / max(1, most - 1))] for i in range(most)]


def _large_enough(rgb: Tensor) -> Tensor:
    """(1, 3, H, W), continued by its border where it is too small for `picture_statistics`."""
    height, width = rgb.shape[-2:]
    if min(height, width) >= LEAST_SIDE:
        return rgb
    return F.pad(rgb, (0, max(0, LEAST_SIDE - width), 0, max(0, LEAST_SIDE - height)), mode="replicate")


def native_views(rgb: Tensor, most: int) -> list[Tensor]:
    """Up to `most` crops of (1, 3, H, W) at the places of `crop_corners`, each (1, 3, 64 to 256, 64 to 256)."""
    rgb = _large_enough(rgb)
    return [rgb[..., top : top + CROP, left : left + CROP] for top, left in crop_corners(rgb, most)]


@dataclass(frozen=True, slots=True)
class JudgesConfig:
    """How the views are weighed; set by the training on pictures held out from it."""

    whole_share: float = 0.2
    """Weight of the whole, resized picture beside the mean of the crops, 0–1."""


class NsIqaJudges(nn.Module):
    """Both judges as one module: `crop` for views at native size, `whole` for the resized picture."""

    def __init__(self, config: JudgesConfig | None = None) -> None:
        super().__init__()
        self.config = config or JudgesConfig()
        self.crop = StatisticsHead()
        self.whole = StatisticsHead()

    def forward(self, rgb: Tensor) -> Tensor:
        """(N,) scores, not clamped, of (N, 3, H, W) RGB in [0, 1], taken as crops at native size."""
        return self.crop(picture_statistics(rgb))[:, 0]

    @torch.inference_mode()
    def score(self, rgb: Tensor, *, crops: int = 4) -> float:
        """The score of one picture, 0–100: (1, 3, H, W) RGB float in [0, 1] of any size, on the module's device.

        Deterministic. A picture under 64 px on a side is first continued by its border.
        """
        rgb = _large_enough(rgb)
        score = float(torch.stack([self(view)[0] for view in native_views(rgb, crops)]).mean())
        seen = float(self.whole(picture_statistics(resized_view(rgb))))
        score += (seen - score) * self.config.whole_share
        return min(100.0, max(0.0, score))
