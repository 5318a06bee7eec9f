"""Our own family: global residual, pixel-unshuffle, plain wide convolutions, conditioned on what the file knows."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class NsRestoreConfig:
    """Everything that decides the shape of an NsRestore."""

    planes: int = 3
    """Channels of the picture and of the result: 3 for RGB or YCbCr."""
    frames: int = 1
    """Pictures seen at once, in time order; the middle one is restored. Odd."""
    side: int = 0
    """Planes of side information (see `ns_video.conditioning`)."""
    channels: int = 32
    """Width at the unshuffled resolution; twice that one level below."""
    blocks: tuple[int, int, int] = (1, 4, 1)
    """Residual blocks before, at and after the lower level."""
    unshuffle: int = 2
    """Pixel-unshuffle factor at the entrance, 1 or 2."""
    scale: int = 1
    """Enlargement of the result, 1 to 4."""
    gated: bool = False
    """The residual is multiplied by a gate plane, the last one of `side`: 0 leaves the picture as it is."""
    aligned: bool = False
    """The other pictures come moved onto the middle one (`ns_video.align`), and are seen as what they differ by."""


SIZES: dict[str, tuple[int, tuple[int, int, int]]] = {
    "tiny": (24, (0, 2, 0)),
    "small": (32, (1, 4, 1)),
    "lean": (32, (2, 6, 2)),
    "deep": (32, (3, 6, 3)),
    "deeper": (32, (4, 12, 4)),
    "deepest": (32, (8, 24, 8)),
    "fine": (32, (8, 2, 2)),
    "finer": (32, (12, 4, 4)),
    "medium": (64, (1, 4, 1)),
    "large": (112, (2, 6, 2)),
}
"""Name → (channels, blocks). "fine" has small's weights at the upper level: for pictures that are to be enlarged.
"lean", "deep", "deeper" and "deepest" are small with more blocks, each grows from those before; "finer" is fine with
more."""


DIFFERENCE_GAIN = 32.0
"""How much larger an aligned network's first layer sees differences, which are a hundredth of a picture's range."""


class ResidualBlock(nn.Module):
    """conv-ReLU-conv plus identity, (N, C, H, W) → the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(x), inplace=True))


class NsRestore(nn.Module):
    """Two-level residual network.

    forward(x, side): `x` is (N, frames * planes, H, W) in [0, 1], H and W multiples of `multiple_of`; `side` is
    (N, S, H, W) or (N, S, 1, 1). Returns (N, planes, scale * H, scale * W), not clamped. The last layer starts
    at zero, so an untrained network is the identity (bicubic enlargement where scale > 1).
    """

    def __init__(self, config: NsRestoreConfig) -> None:
        super().__init__()
        self.config = config
        c, r = config.channels, config.unshuffle
        before, low, after = config.blocks
        self.head = nn.Conv2d(config.planes * config.frames * r * r + config.side, c, 3, padding=1)
        self.encoder = nn.Sequential(*(ResidualBlock(c) for _ in range(before)))
        self.down = nn.Conv2d(c, 2 * c, 2, stride=2)
        self.body = nn.Sequential(*(ResidualBlock(2 * c) for _ in range(low)))
        self.up = nn.Conv2d(2 * c, 4 * c, 1)
        self.decoder = nn.Sequential(*(ResidualBlock(c) for _ in range(after)))
        self.tail = nn.Conv2d(c, config.planes * (r * config.scale) ** 2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        assert self.tail.bias is not None
        nn.init.zeros_(self.tail.bias)

    @property
    def multiple_of(self) -> int:
        """Sides of the input must be multiples of this many pixels."""
        return 2 * self.config.unshuffle

    @property
    def receptive_radius(self) -> int:
        """Input pixels that an output pixel can see to each side: an upper bound, a multiple of `multiple_of`."""
        r = self.config.unshuffle
        before, low, after = self.config.blocks
        fine = 2 + 2 * before + 2 * after  # 3x3 convolutions at the upper level
        radius = r * fine + 2 * r * (2 * low) + 2 * r  # the 2x2 convolution down and the shuffle up: one lower pixel
        if self.config.scale > 1:
            radius = max(radius, 4)
        step = self.multiple_of
        return -(-radius // step) * step

    def _small(self, side: Tensor, height: int, width: int) -> Tensor:
        """`side` at the unshuffled size."""
        if side.shape[-1] == 1 and side.shape[-2] == 1:
            return side.expand(-1, -1, height, width)
        return F.avg_pool2d(side, self.config.unshuffle) if self.config.unshuffle > 1 else side

    def _differences(self, x: Tensor) -> Tensor:
        """(N, frames * planes, H, W), all pictures but the middle one as their amplified differences from it."""
        planes = self.config.planes
        pictures = list(x.split(planes, 1))
        middle = pictures[len(pictures) // 2]
        return torch.cat([one if one is middle else (one - middle) * DIFFERENCE_GAIN for one in pictures], 1)

    def _entrance(self, x: Tensor, side: Tensor | None) -> Tensor:
        """What the first layer sees, channels last, in the weights' precision, in one pass (no gradients).

        Weights may be of a lower precision than the picture: only the residual is computed in it. Equal to
        pixel_unshuffle and cat, which take four times as long on a CPU.
        """
        r = self.config.unshuffle
        count, channels, height, width = x.shape
        height, width = height // r, width // r
        extra = 0 if side is None else side.shape[1]
        shape = (count, height, width, channels * r * r + extra)
        target = torch.empty(shape, dtype=self.head.weight.dtype, device=x.device)
        cells = target[..., : channels * r * r].unflatten(3, (channels, r, r))
        for dy in range(r):
            for dx in range(r):
                cells[..., dy, dx] = x[:, :, dy::r, dx::r].permute(0, 2, 3, 1)
        if side is not None:
            target[..., channels * r * r :] = self._small(side, height, width).permute(0, 2, 3, 1)
        return target.permute(0, 3, 1, 2)

    def forward(self, x: Tensor, side: Tensor | None = None) -> Tensor:
        config = self.config
        r, planes = config.unshuffle, config.planes
        middle = (config.frames // 2) * planes
        picture = x[:, middle : middle + planes]
        if config.aligned:
            x = self._differences(x)
        gate: Tensor | None = None
        if config.side:
            if side is None:
                raise ValueError("this network wants side information")
            if config.gated:
                gate = side[:, -1:]
        if torch.is_grad_enabled():
            h = F.pixel_unshuffle(x, r) if r > 1 else x
            if side is not None and config.side:
                h = torch.cat((h, self._small(side, h.shape[-2], h.shape[-1]).to(h.dtype)), 1)
            h = h.to(self.head.weight.dtype)
        else:
            h = self._entrance(x, side if config.side else None)
        h = self.encoder(self.head(h))
        low = self.body(self.down(h))
        h = h + F.pixel_shuffle(self.up(low), 2)
        residual = self.tail(self.decoder(h))
        factor = r * config.scale
        if factor > 1:
            residual = F.pixel_shuffle(residual, factor)
        if gate is not None:
            if config.scale > 1 and gate.shape[-1] > 1:
                gate = F.interpolate(gate, scale_factor=config.scale, mode="nearest")
            residual = residual * gate.to(residual.dtype)
        if config.scale > 1:
            picture = F.interpolate(picture.float(), scale_factor=config.scale, mode="bicubic", align_corners=False)
        return picture + residual.to(picture.dtype)
