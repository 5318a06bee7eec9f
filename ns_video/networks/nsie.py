"""NS-IC's enhancer: strided encoder, dense residual blocks, global self-attention, bilinear decoder, sigmoid.

Keys and order are those of NS-IC's files (Apache-2.0, "Nagato-Sakura-Image-Charm"), so their weights load unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

SLOPE = 0.2
"""Of every LeakyReLU."""
RESIDUAL = 0.2
"""Factor on a block's change."""


@dataclass(frozen=True, slots=True)
class NsieConfig:
    """Everything that decides the shape of an Nsie. The defaults are the released models'."""

    features: int = 64
    """Channels at full size; four times that at a quarter."""
    blocks: int = 16
    growth: int = 32
    """Channels that each dense layer adds."""


class DenseBlock(nn.Module):
    """Three densely connected convolutions and a fourth back to `channels`, (N, C, H, W) → the same."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()

        def layer(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(inputs, growth, 3, padding=1), nn.LeakyReLU(SLOPE, inplace=True))

        self.dense1 = layer(channels)
        self.dense2 = layer(channels + growth)
        self.dense3 = layer(channels + 2 * growth)
        self.final_conv = nn.Conv2d(channels + 3 * growth, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat((x, self.dense1(x)), 1)
        h = torch.cat((h, self.dense2(h)), 1)
        h = torch.cat((h, self.dense3(h)), 1)
        return F.leaky_relu(x + RESIDUAL * self.final_conv(h), SLOPE)


class GlobalAttention(nn.Module):
    """Every position looks at every other one, (N, C, H, W) → the same. Logits are not scaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        layers = (self.query, self.key, self.value)
        query, key, value = (
            layer(x).flatten(2).transpose(1, 2).unsqueeze(1) for layer in layers
        )  # one head: (N, 1, …)
        attended = F.scaled_dot_product_attention(query, key, value, scale=1.0).squeeze(1)
        return self.gamma * attended.transpose(1, 2).reshape(x.shape) + x


class Nsie(nn.Module):
    """forward(x): (N, 3, H, W) in [0, 1] → the same shape in (0, 1); H and W multiples of 4.

    There is no path from input to output beside the layers, and the attention sees the whole picture: the result of a
    tile depends on the tile.
    """

    multiple_of = 4
    """Sides of the input must be multiples of this many pixels."""

    def __init__(self, config: NsieConfig) -> None:
        super().__init__()
        self.config = config
        f = config.features
        self.conv_first = nn.Conv2d(3, f, 3, padding=1)
        self.encoder = nn.Sequential(
            *self._layer(nn.Conv2d(f, 2 * f, 4, stride=2, padding=1)),
            *self._layer(nn.Conv2d(2 * f, 4 * f, 4, stride=2, padding=1)),
        )
        self.rrdb_blocks = nn.ModuleList(DenseBlock(4 * f, config.growth) for _ in range(config.blocks))
        self.attention = GlobalAttention(4 * f)
        self.upsample = nn.Sequential(
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            *self._layer(nn.Conv2d(4 * f, 4 * f, 3, padding=1)),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
            *self._layer(nn.Conv2d(4 * f, 4 * f, 3, padding=1)),
        )
        self.final_conv = nn.Sequential(
            *self._layer(nn.Conv2d(4 * f, 2 * f, 3, padding=1)),
            *self._layer(nn.Conv2d(2 * f, f, 3, padding=1)),
            nn.Conv2d(f, 3, 3, padding=1),
            nn.Sigmoid(),
        )

    @staticmethod
    def _layer(conv: nn.Conv2d) -> tuple[nn.Module, ...]:
        return conv, nn.BatchNorm2d(conv.out_channels), nn.LeakyReLU(SLOPE, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(self.conv_first(x))
        for block in self.rrdb_blocks:
            h = block(h)
        return self.final_conv(self.upsample(self.attention(h)))


def fold_batchnorm(network: Nsie) -> Nsie:
    """`network`, in eval mode, with every BatchNorm folded into the convolution before it; changed in place.

    The result is the same up to rounding, for inference only: its keys are no longer NS-IC's.
    """
    network.eval()
    for part in (network.encoder, network.upsample, network.final_conv):
        for index in range(1, len(part)):
            conv, norm = part[index - 1], part[index]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[index - 1] = fuse_conv_bn_eval(conv, norm)
                part[index] = nn.Identity()
    return network
