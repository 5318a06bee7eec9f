"""NS-IQA, a quality score without a reference; keys as in NS-IC's NS-IQA.pth (Apache-2.0)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ns_video.networks.imagenet import small


@dataclass(frozen=True, slots=True)
class NsIqaConfig:
    """What can differ between two NsIqa."""

    dropout: float = 0.5
    """Before the last layer, in training only."""


class SeparableConv(nn.Module):
    """A 3×3 convolution per channel, then a 1×1 across channels; no bias."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def _separable(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    return SeparableConv(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)


class NsIqa(nn.Module):
    """forward(x): (N, 3, 256, 256) normalised as ImageNet → (N, 1), about 0 to 100, higher is better."""

    def __init__(self, config: NsIqaConfig) -> None:
        super().__init__()
        self.config = config
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)),
            *_separable(32, 64),
            nn.MaxPool2d(2),
            *_separable(64, 128),
            *_separable(128, 128),
            nn.MaxPool2d(2),
            *_separable(128, 256),
            *_separable(256, 256),
            nn.MaxPool2d(2),
            *_separable(256, 512),
        )
        self.classifier = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(512, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))

    def score(self, rgb: Tensor) -> Tensor:
        """(N, 3, H, W) RGB in [0, 1] of any size → (N,) scores."""
        return self(small(rgb))[:, 0]
