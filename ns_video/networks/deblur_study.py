"""The five small networks of the deblurring study (T91 → Set5/Set14), keys as in its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """What can differ between two networks of the study."""

    network: str = "DeblurCNN"
    """One of STUDY_NETWORKS."""
    dropout: float = 0.2
    """Probability with which a whole channel is dropped in training."""
    residual: bool = True
    """DnCNN only: the layers predict the damage, which is taken from the picture (arXiv 1608.03981)."""


def _block(inputs: int, outputs: int, kernel: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), nn.ReLU(inplace=True), nn.Dropout2d(dropout)
    )


class DeblurCnn(nn.Module):
    """Five plain convolutions 9-5-3-3-3. (N, 3, H, W) in [0, 1] → the same, not clamped."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = _block(3, 128, 9, config.dropout)
        self.conv2 = _block(128, 64, 5, config.dropout)
        self.conv3 = _block(64, 64, 3, config.dropout)
        self.conv4 = _block(64, 32, 3, config.dropout)
        self.output_layer = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output_layer(self.conv4(self.conv3(self.conv2(self.conv1(x)))))


class DeblurCnnRes(nn.Module):
    """DeblurCnn whose layers predict what is added to the input."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        self.block1 = _block(3, 128, 9, config.dropout)
        self.block2 = _block(128, 64, 5, config.dropout)
        self.block3 = _block(64, 64, 3, config.dropout)
        self.block4 = _block(64, 32, 3, config.dropout)
        self.output_conv = nn.Conv2d(32, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.output_conv(self.block4(self.block3(self.block2(self.block1(x)))))


class DeblurSuperResCnn(nn.Module):
    """Five convolutions; the third sees the outputs of the first and the second."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        self.conv1 = nn.Conv2d(3, 128, 9, padding=4)
        self.conv2 = nn.Conv2d(128, 64, 5, padding=2)
        self.conv3 = nn.Conv2d(128 + 64, 32, 3, padding=1)
        self.conv4 = nn.Conv2d(32, 32, 3, padding=1)
        self.conv5 = nn.Conv2d(32, 3, 3, padding=1)
        self.dropout = nn.Dropout2d(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        first = self.dropout(torch.relu(self.conv1(x)))
        second = self.dropout(torch.relu(self.conv2(first)))
        third = self.dropout(torch.relu(self.conv3(torch.cat((first, second), 1))))
        return self.conv5(self.dropout(torch.relu(self.conv4(third))))


class DnCnn(nn.Module):
    """17 convolutions of 64 channels without bias, BatchNorm in the middle ones (arXiv 1608.03981)."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.ReLU(inplace=True)]
        for _ in range(15):
            layers += [nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True)]
        layers.append(nn.Conv2d(64, 3, 3, padding=1, bias=False))
        self.dncnn = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        h = self.dncnn(x)
        return x - h if self.config.residual else h


class _EdsrBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(64, 64, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


class EdsrDeblur(nn.Module):
    """Four residual blocks of 64 channels without normalisation (arXiv 1707.02921)."""

    def __init__(self, config: StudyConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Conv2d(3, 64, 3, padding=1)
        self.body = nn.Sequential(*(_EdsrBlock() for _ in range(4)))
        self.tail = nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.tail(self.body(self.head(x)))


StudyNetwork = DeblurCnn | DeblurCnnRes | DeblurSuperResCnn | DnCnn | EdsrDeblur

STUDY_NETWORKS: dict[str, type[StudyNetwork]] = {
    "DeblurCNN": DeblurCnn,
    "DeblurCNN_RES": DeblurCnnRes,
    "DeblurSuperResCNN": DeblurSuperResCnn,
    "DnCNN": DnCnn,
    "EDSR_Deblur": EdsrDeblur,
}
"""The study's name → class."""

RECEPTIVE_RADIUS: dict[str, int] = {
    "DeblurCNN": 4 + 2 + 1 + 1 + 1,
    "DeblurCNN_RES": 4 + 2 + 1 + 1 + 1,
    "DeblurSuperResCNN": 4 + 2 + 1 + 1 + 1,
    "DnCNN": 17,
    "EDSR_Deblur": 1 + 4 * 2 + 1,
}
"""Input pixels that an output pixel can see to each side."""


def build_study_network(config: StudyConfig) -> StudyNetwork:
    """The network that `config` names. Raises KeyError for a name that is not in STUDY_NETWORKS."""
    return STUDY_NETWORKS[config.network](config)
