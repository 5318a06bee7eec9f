"""ns_content: whether a picture looks drawn, as far as that matters: by how much the network of line art restores it
better than that of photographs.

256-px crops at native size, cut on the codec's 8-px grid, are judged by one small network on `picture_statistics`, and
the crops' mean is the picture's. It learned the difference that both networks made to damaged training pictures.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ns_video.quality.ns_iqa import STATISTICS, native_views
from ns_video.quality.picture_statistics import picture_statistics

CROPS = 8
"""Views of a picture, at most."""


class NsContent(nn.Module):
    """forward(statistics): (N, 136) as `picture_statistics` gives them → (N,) dB, above 0 where it looks drawn."""

    def __init__(self, inputs: int = STATISTICS, width: int = 32) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))
        self.layers = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 1))

    def forward(self, statistics: Tensor) -> Tensor:
        center, spread = self.get_buffer("center"), self.get_buffer("spread")
        return self.layers(((statistics - center) / spread).clamp(-4, 4))[:, 0]

    @torch.inference_mode()
    def advantage(self, rgb: Tensor, *, crops: int = CROPS) -> float:
        """dB that line art's network is expected to gain more on (1, 3, H, W) RGB in [0, 1] of any size than that of
        photographs. Deterministic."""
        views = native_views(rgb, crops)
        return float(torch.stack([self(picture_statistics(view))[0] for view in views]).mean())
