"""ns_quantiser: how coarsely a clip was quantised, from its decoded luma, where the file doesn't tell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QUANTILES = (0.15, 0.35, 0.5)
"""What the outputs are of the quantiser step that may have made such a picture: low ones are cautious guesses."""
MULTIPLE_OF = 8
"""Sides of a window must be multiples of this."""
WINDOW = 192
"""Side in px of a window, as the shipped network was trained."""
_PLACES = ((0.5,), (0.15, 0.85), (0.1, 0.5, 0.9))
"""Where 1, 2 or 3 windows lie along a side, as shares of the room they have."""
_PX_PER_WINDOW = 420
"""Of a side: 640 × 480 is seen in two windows, which cost 5 % of what `video` does."""
_LEAST, _CAUTIOUS, _MEDIAN = 0, 1, 2
"""Indices into QUANTILES."""
_COARSER, _FADE, _FINE = 0.8, 0.6, 4.5
"""Octaves by which a picture must look coarser than its file tells before that is doubted, over which the doubt grows
to certainty, and the told step above which it is never doubted."""
_LEAST_OCTAVES = 1.1
"""Where the least guess is below, a picture counts as not coded: so all clean held-out clips are left."""


@dataclass(frozen=True, slots=True)
class NsQuantiserConfig:
    """What can differ between two NsQuantiser."""

    channels: int = 32
    """Of the first two layers; those after them have 1.5 and 2 times as many."""


class NsQuantiser(nn.Module):
    """forward(luma): (N, P, H, W), P windows of each of N frames, samples 0 to 255 → (N, 3): log2 of the step.

    One value per QUANTILES, in 8-bit sample units; 0 is a step of 1, which loses nothing. What is seen of the picture
    is what a mean of 5 × 5 leaves, on a logarithmic scale: coarse steps leave less, and the transform's grid in it.
    Features are pooled over all windows of a frame (mean and deviation), so their number and size may differ.
    """

    def __init__(self, config: NsQuantiserConfig) -> None:
        super().__init__()
        self.config = config
        one, two, three = config.channels, config.channels * 3 // 2, config.channels * 2
        self.conv1 = nn.Conv2d(4, one, 3, padding=1)
        self.conv2 = nn.Conv2d(one, one, 3, padding=1)
        self.down1 = nn.Conv2d(one, two, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(two, two, 3, padding=1)
        self.down2 = nn.Conv2d(two, three, 3, stride=2, padding=1)
        self.conv4 = nn.Conv2d(three, three, 3, padding=1)
        self.hidden = nn.Linear(2 * three, three)
        self.out = nn.Linear(three, len(QUANTILES))

    def compute_in(self, dtype: torch.dtype) -> NsQuantiser:
        """Convolutions in `dtype`, channels last; what comes before and after them stays in float32."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(dtype=dtype, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return self

    def forward(self, luma: Tensor) -> Tensor:
        frames, windows = luma.shape[:2]
        picture = luma.flatten(0, 1).unsqueeze(1)
        detail = picture - F.avg_pool2d(F.pad(picture, (2, 2, 2, 2), mode="reflect"), 5, 1)
        x = F.pixel_unshuffle(detail.sign() * torch.log1p(detail.abs()), 2)
        x = x.to(self.conv1.weight.dtype, memory_format=torch.channels_last)
        x = F.relu(self.conv1(x))
        x = x + F.relu(self.conv2(x))
        x = F.relu(self.down1(x))
        x = x + F.relu(self.conv3(x))
        x = F.relu(self.down2(x))
        x = x + F.relu(self.conv4(x))
        x = x.float().unflatten(0, (frames, windows))
        pooled = torch.cat((x.mean((1, 3, 4)), x.var((1, 3, 4), correction=0).clamp(min=1e-8).sqrt()), 1)
        return self.out(F.relu(self.hidden(pooled)))


def windows_of(luma: Tensor) -> Tensor:
    """(H, W) → (1, P, h, w): at most nine windows spread over the picture; one where it is small.

    Sides that are no multiples of MULTIPLE_OF lose their last samples; H and W are at least MULTIPLE_OF.
    """
    height, width = (min(WINDOW, side // MULTIPLE_OF * MULTIPLE_OF) for side in luma.shape)
    tops, lefts = (_starts(side, part) for side, part in zip(luma.shape, (height, width), strict=True))
    return torch.stack([luma[top : top + height, left : left + width] for top in tops for left in lefts])[None]


def _guesses(network: nn.Module, luma: Tensor) -> list[float]:
    """One for each of QUANTILES."""
    if min(luma.shape) < 2 * MULTIPLE_OF:
        return [0.0] * len(QUANTILES)
    return network(windows_of(luma) * 219.0 + 16.0)[0].tolist()


def may_be_finer(told: float) -> bool:
    """Whether a file that tells this many octaves may hide a coarser encode before."""
    return told <= _FINE


def coded_before(network: nn.Module, luma: Tensor, told: float) -> tuple[float, float]:
    """(octaves, share): how an (H, W) picture looks, and how far to go from the told octaves to those, 0 to 1.

    A file tells of its last encoder only. Where even the cautious guess is far above what is told, an earlier one was
    coarser, and the median guess says how coarse.
    """
    if not may_be_finer(told):
        return told, 0.0
    guesses = _guesses(network, luma)
    return guesses[_MEDIAN], min(1.0, max(0.0, (guesses[_CAUTIOUS] - told - _COARSER) / _FADE))


def _starts(side: int, part: int) -> list[int]:
    places = _PLACES[min(2, max(0, round(side / _PX_PER_WINDOW) - 1))]
    return [int((side - part) * place) // MULTIPLE_OF * MULTIPLE_OF for place in places]


def guessed_octaves(network: nn.Module, luma: Tensor) -> float:
    """log2 of the quantiser step (8-bit sample units) that an (H, W) picture looks made with; samples 0 black, 1 white.

    0.0, a step that loses nothing, where it looks as if never coded, and for pictures too small to tell. About two of
    three pictures that look so were made with a larger step than this cautious guess.
    """
    guesses = _guesses(network, luma)
    return guesses[_CAUTIOUS] if guesses[_LEAST] >= _LEAST_OCTAVES else 0.0
