"""What a picture's samples tell of its damage, as a row of numbers: blocks, ringing, blur, noise, mosaics.

Natural-scene statistics after Mittal et al. 2012 (BRISQUE, doi:10.1109/TIP.2012.2214050); block and quantisation
measures on the 8x8 DCT; periodicity of the gradient for grids of any period. Nothing is learned here.
"""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.frame import BT601_LUMA
from ns_video.quality.ssim import gaussian_blurred

LEAST_SIDE = 64
"""Smallest side, in px, on which the numbers mean something."""

_LAGS = (2, 3, 4, 5, 6, 7, 8, 16)
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def _luma_and_chroma(rgb: Tensor) -> tuple[Tensor, Tensor]:
    """BT.601 luma (N, 1, H, W) and colour differences (N, 2, H, W) on the scale 0–255, of samples rounded to 8 bit."""
    levels = (rgb.clamp(0, 1) * 255.0).round()
    red, green, blue = levels[:, 0:1], levels[:, 1:2], levels[:, 2:3]
    luma = BT601_LUMA[0] * red + BT601_LUMA[1] * green + BT601_LUMA[2] * blue
    return luma, torch.cat(((blue - luma) * 0.564, (red - luma) * 0.713), 1)


def _mean(x: Tensor) -> Tensor:
    return x.mean((1, 2, 3))


def _smooth(x: Tensor) -> Tensor:
    return gaussian_blurred(x, 7, 7 / 6)


def _natural_scene(luma: Tensor) -> list[Tensor]:
    """Moments of the locally normalised luma and of products of its neighbours, and of the local deviation."""
    mean = _smooth(luma)
    deviation = (_smooth(luma * luma) - mean * mean).clamp(min=0).sqrt()
    normal = (luma[..., 3:-3, 3:-3] - mean) / (deviation + 1.0)
    square = _mean(normal**2)
    found = [_mean(normal.abs()), square, torch.log1p(_mean(normal**4) / (square**2 + 1e-4)), _mean(normal**3)]
    neighbours = (
        (normal[..., :, 1:], normal[..., :, :-1]),
        (normal[..., 1:, :], normal[..., :-1, :]),
        (normal[..., 1:, 1:], normal[..., :-1, :-1]),
        (normal[..., 1:, :-1], normal[..., :-1, 1:]),
    )
    for first, second in neighbours:
        product = first * second
        found += [_mean(product.clamp(min=0)), _mean((-product).clamp(min=0)), _mean(product.abs().sqrt())]
    found += [_mean(torch.log1p(deviation)), torch.log1p(_mean(deviation))]
    found += [_mean((deviation < limit).float()) for limit in (0.5, 2.0, 6.0)]
    return found


def _differences(luma: Tensor) -> list[Tensor]:
    """How much neighbours differ, at lags 1, 2 and 4, how many not at all, and how straight the steps are."""
    found: list[Tensor] = []
    for x in (luma, luma.transpose(-1, -2)):
        steps = {lag: (x[..., lag:] - x[..., :-lag]).abs() for lag in (1, 2, 4)}
        means = {lag: _mean(step) for lag, step in steps.items()}
        bend = _mean((x[..., 2:] - 2 * x[..., 1:-1] + x[..., :-2]).abs())
        found += [torch.log1p(means[1]), torch.log1p(bend), _mean(torch.log1p(steps[1]))]
        found += [means[1] / (means[2] + 0.1), means[2] / (means[4] + 0.1), bend / (means[1] + 0.1)]
        found += [_mean((steps[1] < limit).float()) for limit in (0.25, 1.5, 3.5)]
        tops = {lag: F.max_pool2d(step[..., : x.shape[-1] - 4], 8) for lag, step in steps.items()}
        weight = tops[4] / (tops[4].sum((1, 2, 3), keepdim=True) + 1e-3)
        found += [(weight * tops[lag] / (tops[4] + 1.0)).sum((1, 2, 3)) for lag in (1, 2)]
    return found


def _periods(luma: Tensor) -> list[Tensor]:
    """Autocorrelation of the profile of bends across columns and rows, and its excess on the 8-px grid."""
    found: list[Tensor] = []
    for x in (luma, luma.transpose(-1, -2)):
        step = torch.log1p((x[..., 1:] - x[..., :-1]).abs())
        inner = step[..., 1:-1] - 0.5 * (step[..., :-2] + step[..., 2:])
        profile = inner.mean((1, 2))  # (N, W - 3); entry i is the step between columns i + 1 and i + 2
        power = (profile**2).mean(1) + 1e-4
        found += [(profile[:, lag:] * profile[:, :-lag]).mean(1) / power for lag in _LAGS]
        found.append(power.log())
        whole = profile[:, : profile.shape[1] // 8 * 8].reshape(profile.shape[0], -1, 8).mean(1)
        found += [whole[:, 6], whole.amax(1)]
    return found


def _dct_basis(device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """(64, 1, 8, 8) orthonormal DCT-II filters, and for each radial band the indices of its coefficients."""
    k, n = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    rows = torch.cos(math.pi * (n + 0.5) * k / 8) * torch.where(k == 0, math.sqrt(1 / 8), 0.5)
    basis = torch.einsum("ai,bj->abij", rows, rows).reshape(64, 1, 8, 8)
    radius = (torch.arange(8)[:, None] + torch.arange(8)[None]).reshape(64)
    edges = (1, 2, 3, 5, 7, 10, 15)
    return basis.to(device), [
        torch.nonzero((radius >= low) & (radius < high))[:, 0].to(device) for low, high in itertools.pairwise(edges)
    ]


def _transform(luma: Tensor) -> list[Tensor]:
    """Size of 8x8 DCT coefficients and share of vanished ones in each band, on the JPEG grid and half a block off."""
    basis, bands = _dct_basis(luma.device)
    found: list[Tensor] = []
    for phase in (0, 4):
        size = F.conv2d(luma[..., phase:, phase:], basis, stride=8).abs()
        for band in bands:
            chosen = size[:, band]
            found += [_mean(torch.log1p(chosen)), _mean((chosen < 1.0).float())]
    return found


def _blocks(luma: Tensor) -> list[Tensor]:
    """Quantiles over 8x8 blocks of noise-like, edge-like and relative energy."""
    kernel = torch.tensor([1.0, -2.0, 1.0], device=luma.device)
    fine = F.conv2d(luma, (kernel[:, None] * kernel[None])[None, None]).abs()
    across = (luma[..., 1:-1, 2:] - luma[..., 1:-1, :-2]).abs() + (luma[..., 2:, 1:-1] - luma[..., :-2, 1:-1]).abs()
    noise, edge = F.avg_pool2d(fine, 8).flatten(1), F.avg_pool2d(across, 8).flatten(1)
    points = torch.tensor(_QUANTILES, device=luma.device)
    found = [torch.log1p(fine.mean((1, 2, 3)))]
    for values in (torch.log1p(noise), torch.log1p(edge), noise / (edge + 1.0)):
        found += list(torch.quantile(values, points, dim=1))
    return found


def _colors(chroma: Tensor, rgb: Tensor) -> list[Tensor]:
    across, down = (chroma[..., 1:] - chroma[..., :-1]).abs(), (chroma[..., 1:, :] - chroma[..., :-1, :]).abs()
    found = [torch.log1p(_mean(chroma.abs())), torch.log1p(_mean(across)), torch.log1p(_mean(down))]
    found += [_mean((across < 0.5).float()), _mean((down < 0.5).float())]
    bend = (chroma[..., 2:] - 2 * chroma[..., 1:-1] + chroma[..., :-2]).abs()
    return [*found, torch.log1p(_mean(bend)), _mean((rgb <= 0.002).float()), _mean((rgb >= 0.998).float())]


def picture_statistics(rgb: Tensor) -> Tensor:
    """(N, K) float32 of finite numbers for (N, 3, H, W) RGB in [0, 1], both sides at least LEAST_SIDE.

    The picture's corner must lie on the codec's 8-px grid for the grid measures to see it; K does not depend on size.
    """
    luma, chroma = _luma_and_chroma(rgb.float())
    half = F.avg_pool2d(luma, 2)
    found = [*_natural_scene(luma), *_natural_scene(half), *_differences(luma), *_periods(luma)]
    found += [*_transform(luma), *_blocks(luma), *_colors(chroma, rgb)]
    found += [_mean(luma) / 255.0, luma.std((1, 2, 3)) / 64.0]
    return torch.stack(found, 1)
