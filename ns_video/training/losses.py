"""Loss terms, each a function of (restored, reference) → scalar, and the recipes that weigh them.

Pictures are (N, C, H, W) float in [0, 1]; every term is 0 for equal pictures and never negative. Terms that need a
network of their own (perceptual, adversarial, artifact detector) live in `ns_video.training.adversarial`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.errors import UsageError
from ns_video.frame import BT601_LUMA

Loss = Callable[[Tensor, Tensor], Tensor]

_CHARBONNIER_EPSILON = 1e-3
_SSIM_SIGMA, _SSIM_WINDOW = 1.5, 11  # Wang et al. 2004
_SSIM_C1, _SSIM_C2 = 0.01**2, 0.03**2
_ROOT_EPSILON = 1e-6  # under square roots, whose slope at 0 is infinite


def l1(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean absolute difference."""
    return F.l1_loss(restored, reference)


def mse(restored: Tensor, reference: Tensor) -> Tensor:
    """Mean squared difference."""
    return F.mse_loss(restored, reference)


def charbonnier(restored: Tensor, reference: Tensor) -> Tensor:
    """A smooth L1, sqrt(d² + ε²) - ε. Charbonnier et al. 1994; Lai et al., LapSRN (2017)."""
    square = (restored - reference).square()
    return (torch.sqrt(square + _CHARBONNIER_EPSILON**2) - _CHARBONNIER_EPSILON).mean()


def mse_half(restored: Tensor, reference: Tensor) -> Tensor:
    """MSE after averaging 2x2."""
    return mse(F.avg_pool2d(restored, 2), F.avg_pool2d(reference, 2))


def mse_quarter(restored: Tensor, reference: Tensor) -> Tensor:
    """MSE after averaging 4x4."""
    return mse(F.avg_pool2d(restored, 4), F.avg_pool2d(reference, 4))


@cache
def _gaussian_taps(sigma: float, size: int) -> tuple[float, ...]:
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    taps = torch.exp(-(axis**2) / (2 * sigma**2))
    return tuple((taps / taps.sum()).tolist())


def _blur(x: Tensor, sigma: float, size: int, padded: bool) -> Tensor:
    """Separable Gaussian on each channel; reflected at the border where `padded`, else only where it fits."""
    taps = torch.tensor(_gaussian_taps(sigma, size), dtype=x.dtype, device=x.device)
    channels = x.shape[1]
    if padded:
        x = F.pad(x, (size // 2,) * 4, mode="reflect")
    x = F.conv2d(x, taps.view(1, 1, 1, -1).expand(channels, 1, 1, size), groups=channels)
    return F.conv2d(x, taps.view(1, 1, -1, 1).expand(channels, 1, size, 1), groups=channels)


def ssim_index(a: Tensor, b: Tensor) -> Tensor:
    """(N,) mean SSIM over channels, 11x11 Gaussian window, no border. Wang et al. 2004. Sides at least 11."""
    a, b = a.float(), b.float()
    stacked = torch.cat((a, b, a * a, b * b, a * b), 1)
    mean_a, mean_b, aa, bb, ab = _blur(stacked, _SSIM_SIGMA, _SSIM_WINDOW, False).chunk(5, 1)
    luminance = (2 * mean_a * mean_b + _SSIM_C1) / (mean_a**2 + mean_b**2 + _SSIM_C1)
    contrast = (2 * (ab - mean_a * mean_b) + _SSIM_C2) / (aa - mean_a**2 + bb - mean_b**2 + _SSIM_C2)
    return (luminance * contrast).mean((1, 2, 3))


def ssim(restored: Tensor, reference: Tensor) -> Tensor:
    """1 - SSIM."""
    return 1 - ssim_index(restored, reference).mean()


def structure(restored: Tensor, reference: Tensor) -> Tensor:
    """1 - SSIM's structure term (local correlation alone): deaf to brightness and contrast."""
    a, b = restored.float(), reference.float()
    stacked = torch.cat((a, b, a * a, b * b, a * b), 1)
    mean_a, mean_b, aa, bb, ab = _blur(stacked, _SSIM_SIGMA, _SSIM_WINDOW, False).chunk(5, 1)
    half = _SSIM_C2 / 2
    deviation = torch.sqrt(((aa - mean_a**2).clamp(min=0) + half) * ((bb - mean_b**2).clamp(min=0) + half))
    return (1 - (ab - mean_a * mean_b + half) / deviation).clamp(min=0).mean()


def _sobel(x: Tensor) -> tuple[Tensor, Tensor]:
    """Horizontal and vertical slopes of luma, (N, 1, H - 2, W - 2) each."""
    gray = luma(x)
    kernel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], dtype=x.dtype, device=x.device) / 8
    return F.conv2d(gray, kernel.view(1, 1, 3, 3)), F.conv2d(gray, kernel.t().reshape(1, 1, 3, 3))


def luma(x: Tensor) -> Tensor:
    """(N, 3, H, W) → (N, 1, H, W), BT.601's weights; the mean of other numbers of channels."""
    if x.shape[1] != 3:
        return x.mean(1, keepdim=True)
    return (x * torch.tensor(BT601_LUMA, dtype=x.dtype, device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)


def edge(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between the Sobel slopes, with their directions."""
    (ax, ay), (bx, by) = _sobel(restored), _sobel(reference)
    return F.l1_loss(ax, bx) + F.l1_loss(ay, by)


def sobel(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between the Sobel magnitudes."""
    (ax, ay), (bx, by) = _sobel(restored), _sobel(reference)
    return F.l1_loss(torch.sqrt(ax**2 + ay**2 + _ROOT_EPSILON**2), torch.sqrt(bx**2 + by**2 + _ROOT_EPSILON**2))


def high_frequency(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between what a Gaussian of sigma 1.5 takes away."""
    return F.l1_loss(restored - _blur(restored, 1.5, 7, True), reference - _blur(reference, 1.5, 7, True))


def laplacian(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between the 3x3 Laplacians."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], dtype=restored.dtype) / 4
    difference = restored - reference
    taps = kernel.to(restored.device).view(1, 1, 3, 3).expand(difference.shape[1], 1, 3, 3)
    return F.conv2d(difference, taps, groups=difference.shape[1]).abs().mean()


def color(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between the average colours of 8x8 blocks."""
    side = min(8, restored.shape[-1], restored.shape[-2])
    return F.l1_loss(F.avg_pool2d(restored, side), F.avg_pool2d(reference, side))


def color_histogram(restored: Tensor, reference: Tensor, bins: int = 32) -> Tensor:
    """L1 between soft (triangular bins) histograms of each channel, summed over bins, 0 to 2."""
    centres = (torch.arange(bins, device=restored.device, dtype=torch.float32) + 0.5) / bins

    def histogram(x: Tensor) -> Tensor:
        values = x.float().clamp(0, 1).flatten(2)
        low, high = 0.5 / bins, 1 - 0.5 / bins
        weight = (1 - (values.clamp(low, high)[..., None] - centres).abs() * bins).clamp(min=0)
        return weight.mean(2)

    return (histogram(restored) - histogram(reference)).abs().sum(-1).mean()


def contrast(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between the standard deviations of 8x8 blocks."""

    def deviation(x: Tensor) -> Tensor:
        side = min(8, x.shape[-1], x.shape[-2])
        variance = F.avg_pool2d(x * x, side) - F.avg_pool2d(x, side) ** 2
        return torch.sqrt(variance.clamp(min=0) + _ROOT_EPSILON)

    return F.l1_loss(deviation(restored), deviation(reference))


def gram(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between Gram matrices of 3x3 neighbourhoods: texture without place (after Gatys et al. 2016, no network)."""

    def matrix(x: Tensor) -> Tensor:
        patches = F.unfold(x - x.mean((2, 3), keepdim=True), 3)
        return patches @ patches.transpose(1, 2) / patches.shape[-1]

    return F.l1_loss(matrix(restored.float()), matrix(reference.float()))


def fft(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 between the spectra (real and imaginary parts), orthonormal."""
    difference = torch.fft.rfft2(restored.float() - reference.float(), norm="ortho")
    return torch.view_as_real(difference).abs().mean()


def region(restored: Tensor, reference: Tensor) -> Tensor:
    """L1 weighed by the detail around: 1 in flat places, up to 2 where the reference is busiest."""
    gray = luma(reference)
    mean, square = _blur(torch.cat((gray, gray * gray), 1), 2.0, 9, True).chunk(2, 1)
    deviation = (square - mean**2).clamp(min=0).sqrt()
    weight = 1 + deviation / (deviation.amax((2, 3), keepdim=True) + 1e-4)
    return ((restored - reference).abs() * weight.detach()).mean()


LOSSES: Mapping[str, Loss] = {
    "l1": l1,
    "mse": mse,
    "charbonnier": charbonnier,
    "mse_half": mse_half,
    "mse_quarter": mse_quarter,
    "ssim": ssim,
    "structure": structure,
    "edge": edge,
    "sobel": sobel,
    "high_frequency": high_frequency,
    "laplacian": laplacian,
    "color": color,
    "color_histogram": color_histogram,
    "contrast": contrast,
    "gram": gram,
    "fft": fft,
    "region": region,
}
"""Terms by the name that a configuration uses."""

NETWORK_TERMS = ("perceptual", "adversarial", "artifact_cross_entropy", "artifact_features")
"""Terms that a network computes; see `ns_video.training.adversarial`."""

RECIPES: Mapping[str, Mapping[str, float]] = {
    "charbonnier": {"charbonnier": 1.0},
    "l1": {"l1": 1.0},
    "mse": {"mse": 1.0},
    "kyouka-v6": {"mse": 3.0, "mse_half": 0.3, "mse_quarter": 0.1, "edge": 0.8, "high_frequency": 1.0, "color": 0.01},
    "kyouka-v7-mq": {
        "mse": 1.0,
        "l1": 1.2,
        "ssim": 1.2,
        "sobel": 1.5,
        "high_frequency": 1.2,
        "contrast": 0.8,
        "gram": 0.3,
        "fft": 0.3,
        "region": 0.4,
        "color": 0.05,
    },
    "kairitsu-v9": {
        "l1": 1.5,
        "mse": 0.05,
        "ssim": 2.0,
        "edge": 1.2,
        "high_frequency": 1.0,
        "color_histogram": 0.1,
        "adversarial": 0.01,
    },
    "ritsuka-v7": {"l1": 1.5, "mse": 0.2, "structure": 2.5, "edge": 3.0, "color": 0.1},
    "hat-pixel": {"charbonnier": 1.0},
    "hat-full": {
        "charbonnier": 1.0,
        "perceptual": 0.75,
        "adversarial": 0.15,
        "laplacian": 0.35,
        "artifact_cross_entropy": 0.1,
        "artifact_features": 1.0,
    },
}
"""NS-IC's recipes (its adversarial weight isn't published; ours is 0.01) and the two phases of the HAT plan
(middles of its ranges)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """A weighted sum of terms, by name."""

    weights: tuple[tuple[str, float], ...]

    @property
    def pixel(self) -> tuple[tuple[str, float], ...]:
        """Those of LOSSES."""
        return tuple((name, weight) for name, weight in self.weights if name in LOSSES)

    def weight(self, name: str) -> float:
        """The weight of a term, 0 where it isn't used."""
        return dict(self.weights).get(name, 0.0)

    def __call__(self, restored: Tensor, reference: Tensor) -> Tensor:
        """The weighted sum of the pixel terms."""
        total = restored.new_zeros(())
        for name, weight in self.pixel:
            total = total + weight * LOSSES[name](restored, reference)
        return total


def make_terms(recipe: str, extra: Mapping[str, float] | None = None) -> Terms:
    """A recipe by name, with weights changed or added by `extra` (0 takes a term out).

    Raises:
        UsageError: unknown recipe or term, or a weight that is negative or not finite.
    """
    if recipe not in RECIPES:
        raise UsageError(f"unknown loss recipe {recipe!r}", remedy=f"known are {', '.join(RECIPES)}")
    weights = {**RECIPES[recipe], **(extra or {})}
    for name, weight in weights.items():
        if name not in LOSSES and name not in NETWORK_TERMS:
            raise UsageError(f"unknown loss term {name!r}", remedy=f"known are {', '.join((*LOSSES, *NETWORK_TERMS))}")
        if not 0 <= weight < math.inf:
            raise UsageError(f"the weight of loss term {name!r} is {weight:g}, and must be at least 0")
    return Terms(tuple((name, float(weight)) for name, weight in weights.items() if weight))
