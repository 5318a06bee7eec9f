"""SSIM and MS-SSIM of luma, on tensors. Wang et al. 2004 (doi:10.1109/TIP.2003.819861) and 2003 (ACSSC)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_C1, _C2 = 0.01**2, 0.03**2
_WINDOW, _SIGMA = 11, 1.5
_MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def gaussian_blurred(x: Tensor, window: int, sigma: float) -> Tensor:
    """(N, C, H, W) under a separable Gaussian, "valid" borders: (N, C, H - window + 1, W - window + 1).

    Written as shifted sums: on one channel a CPU convolution is six times slower.
    """
    weights = [math.exp(-((i - window // 2) ** 2) / (2 * sigma**2)) for i in range(window)]
    total = sum(weights)
    for dim in (3, 2):
        length = x.shape[dim] - window + 1
        blurred = x.narrow(dim, 0, length) * (weights[0] / total)
        for i in range(1, window):
            blurred.add_(x.narrow(dim, i, length), alpha=weights[i] / total)
        x = blurred
    return x


def ssim_maps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """The SSIM map and its contrast-structure part, (N, 1, H-10, W-10) each, for (N, 1, H, W) luma in [0, 1].

    Gaussian window 11x11, sigma 1.5, "valid" borders, as in the authors' code. Raises ValueError below 11 px.
    """
    if min(first.shape[-2:]) < _WINDOW:
        raise ValueError(f"SSIM needs pictures of at least {_WINDOW} px, not {tuple(first.shape[-2:])}")
    count = first.shape[0]
    moments = gaussian_blurred(
        torch.cat((first, second, first * first, second * second, first * second)), _WINDOW, _SIGMA
    )
    mean1, mean2, square1, square2, product = moments.split(count)
    variance1, variance2 = square1 - mean1 * mean1, square2 - mean2 * mean2
    covariance = product - mean1 * mean2
    contrast = (2 * covariance + _C2) / (variance1 + variance2 + _C2)
    return contrast * (2 * mean1 * mean2 + _C1) / (mean1 * mean1 + mean2 * mean2 + _C1), contrast


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Mean SSIM of each picture, (N,), of (N, 1, H, W) luma in [0, 1]; 1 for equal pictures."""
    return ssim_maps(first, second)[0].mean((1, 2, 3))


def ms_ssim(first: Tensor, second: Tensor) -> Tensor:
    """MS-SSIM of each picture, (N,), of (N, 1, H, W) luma in [0, 1], with the published five weights.

    A picture under 176 px on a side has fewer scales; the weights of those it has are then normalised to 1.
    """
    scales = len(_MS_WEIGHTS)
    while scales > 1 and min(first.shape[-2:]) // 2 ** (scales - 1) < _WINDOW:
        scales -= 1
    weights = [weight / sum(_MS_WEIGHTS[:scales]) for weight in _MS_WEIGHTS[:scales]]
    result = torch.ones(first.shape[0], device=first.device)
    for scale, weight in enumerate(weights):
        whole, contrast = ssim_maps(first, second)
        value = (whole if scale == scales - 1 else contrast).mean((1, 2, 3))
        result = result * value.clamp(min=0.0) ** weight
        if scale < scales - 1:
            first, second = F.avg_pool2d(first, 2), F.avg_pool2d(second, 2)
    return result
