"""The multi-scale discriminator of the adversarial recipes: the same small judge at three sizes of the picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm


@dataclass(frozen=True, slots=True)
class DiscriminatorConfig:
    """Everything that decides the shape of a MultiScaleDiscriminator. The defaults are NS-IC's."""

    planes: int = 3
    scales: int = 3
    """Judges; each sees the picture at half the size of the one before."""
    channels: tuple[int, ...] = (64, 128, 256, 512)
    sigmoid: bool = True
    """Probabilities come out; without it logits, as the relativistic losses want."""
    norm: str = "batch"
    """"batch" in all but the first and last layer, "spectral" in all, or "none"."""

    @property
    def least_side(self) -> int:
        """Of a picture, in pixels."""
        return 24 * 2 ** (self.scales - 1)


SLOPE = 0.2
"""Of every LeakyReLU."""


def _judge(config: DiscriminatorConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    inputs = config.planes
    for index, outputs in enumerate((*config.channels, 1)):
        last = index == len(config.channels)
        conv: nn.Module = nn.Conv2d(inputs, outputs, 4, stride=2 if index < 3 and not last else 1, padding=1)
        layers.append(spectral_norm(conv) if config.norm == "spectral" else conv)
        if not last:
            if index > 0 and config.norm == "batch":
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.LeakyReLU(SLOPE, inplace=True))
        inputs = outputs
    if config.sigmoid:
        layers.append(nn.Sigmoid())
    return nn.Sequential(*layers)


class MultiScaleDiscriminator(nn.Module):
    """forward(x): (N, planes, H, W) in [0, 1] → one (N, 1, h, w) map of verdicts for each scale, finest first.

    H and W must be at least `config.least_side`.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.discriminators = nn.ModuleList(_judge(config) for _ in range(config.scales))

    def forward(self, x: Tensor) -> list[Tensor]:
        verdicts: list[Tensor] = []
        for index, judge in enumerate(self.discriminators):
            verdicts.append(judge(F.avg_pool2d(x, 2**index) if index else x))
        return verdicts
