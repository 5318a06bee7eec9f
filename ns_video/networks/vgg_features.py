"""VGG-19's features for the perceptual loss. torchvision's architecture and weights file; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import vgg19

from ns_video.errors import ModelError
from ns_video.networks.imagenet import normalised

LAYERS: tuple[tuple[int, float], ...] = ((2, 0.1), (7, 0.1), (16, 1.0), (25, 1.0), (34, 1.0))
"""Convolutions 1_2, 2_2, 3_4, 4_4 and 5_4 before their ReLU, and their weights (Real-ESRGAN's)."""


class VggFeatures(nn.Module):
    """forward(x): (N, 3, H, W) RGB in [0, 1], sides at least 32 → the feature maps of LAYERS. Frozen."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(vgg19(weights=None).features.children())[: LAYERS[-1][0] + 1]
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # features before the ReLU are read after it ran
        self.layers = nn.Sequential(*layers).eval().requires_grad_(False)

    def forward(self, x: Tensor) -> list[Tensor]:
        wanted = {index for index, _ in LAYERS}
        found: list[Tensor] = []
        x = normalised(x)
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in wanted:
                found.append(x)
        return found


def load_vgg(path: Path) -> VggFeatures:
    """The features with the weights of torchvision's own file (vgg19-*.pth), read without running its pickle.

    Raises:
        ModelError: the file can't be read or isn't VGG-19.
    """
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise ModelError(f"{path} can't be read as VGG-19's weights: {error}") from error
    network = VggFeatures()
    kept = {
        f"layers.{name.removeprefix('features.')}": tensor
        for name, tensor in tensors.items()
        if name.startswith("features.") and int(name.split(".")[1]) <= LAYERS[-1][0]
    }
    try:
        network.load_state_dict(kept)
    except RuntimeError as error:
        raise ModelError(f"{path} is not VGG-19: {str(error).splitlines()[0]}") from error
    return network
