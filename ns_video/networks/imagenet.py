"""What networks that began with ImageNet are given: its mean and deviation taken out."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SIDE = 256
"""Pictures are resized to SIDE × SIDE by `small`."""
MEAN = (0.485, 0.456, 0.406)
"""Of RGB in [0, 1]."""
STD = (0.229, 0.224, 0.225)


def normalised(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) RGB in [0, 1] with ImageNet's mean and deviation taken out."""
    return (rgb - rgb.new_tensor(MEAN).view(1, 3, 1, 1)) / rgb.new_tensor(STD).view(1, 3, 1, 1)


def small(rgb: Tensor) -> Tensor:
    """(N, 3, H, W) RGB in [0, 1] of any size → (N, 3, SIDE, SIDE) float32, normalised.

    Resized with antialiasing, as Pillow's bilinear does.
    """
    rgb = rgb.float()
    if rgb.shape[-2:] != (SIDE, SIDE):
        rgb = F.interpolate(rgb, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    return normalised(rgb)
