"""How far a network looks, measured: a NaN goes wherever its pixel is looked at, whatever the weights are.

An algorithm that mixes neighbouring results (Winograd) carries it some pixels further; the error is on the safe side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (64, 160, 320)
"""Of the strips that are tried, in pixels: radii up to about 150."""
HEIGHT = 16
"""Of the strips, in pixels."""
MAX_WORK = 3e10
"""Parameters * pixels of one trial, about its multiplications: a second or two of one core."""


def _spread(network: nn.Module, strip: Tensor, begin: int, block: int) -> tuple[int, int]:
    """First and last input column whose output pixels see the columns [begin, begin + block)."""
    probe = strip.clone()
    probe[..., begin : begin + block] = torch.nan
    with torch.no_grad():
        result = network(probe)
    seen = result.isnan().flatten(0, 2).any(0).nonzero()
    if not len(seen):
        return begin, begin + block - 1
    scale = result.shape[-1] // probe.shape[-1]
    return int(seen[0]) // scale, int(seen[-1]) // scale


def _holds(network: nn.Module, radius: int, channels: int, multiple_of: int) -> bool:
    """Whether a tile cut out with `radius` around it gives what the whole strip gives there.

    The tile begins at an odd multiple of `multiple_of`, so that a hidden grid is found.
    """
    block = 4 * multiple_of
    begin = 3 * multiple_of
    height = -(-HEIGHT // multiple_of) * multiple_of
    columns = begin + 2 * radius + block + 2 * multiple_of
    strip = torch.rand(1, channels, height, columns, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole, tile = network(strip), network(strip[..., begin : begin + 2 * radius + block])
    scale = whole.shape[-1] // columns
    from_tile = tile[..., radius * scale : (radius + block) * scale]
    from_whole = whole[..., (begin + radius) * scale : (begin + radius + block) * scale]
    return torch.allclose(from_tile, from_whole, rtol=1e-4, atol=1e-4)


def measure_radius(network: nn.Module, channels: int, multiple_of: int) -> int | None:
    """The receptive radius of `network` in input pixels, a multiple of `multiple_of`.

    None: unbounded, too large, or tiles with it would not be exact for another reason. `network` takes
    (1, channels, H, W) in [0, 1], float32 on the CPU, in eval mode, and looks equally far along both axes. The radius
    holds for tiles that are cut on multiples of `multiple_of`.
    """
    parameters = sum(parameter.numel() for parameter in network.parameters())
    height = -(-HEIGHT // multiple_of) * multiple_of
    for width in WIDTHS:
        if parameters * height * width > MAX_WORK:
            return None
        columns = -(-width // multiple_of) * multiple_of
        strip = torch.linspace(0.1, 0.9, columns).expand(1, channels, height, columns)
        begin = columns // 2 // multiple_of * multiple_of
        first, last = _spread(network, strip, begin, multiple_of)
        if first > 0 and last < columns - 1:
            farthest = max(begin - first, last - (begin + multiple_of - 1))
            radius = -(-farthest // multiple_of) * multiple_of
            return radius if _holds(network, radius, channels, multiple_of) else None
    return None
