"""How much of a network's change of a clip's frame is to be believed. Floor 1: torch.

A network doesn't know when it sees what it never learned. By the quantiser steps it was told, two things give it away:
it changes a frame by more than the quantiser can have done (dithering, QR codes), or it works at edges far harder than
the step (letters, drawn lines), of which the codec keeps more than the step tells. The limits were chosen on training
clips, of which next to nothing that a camera filmed lies beyond them; `benchmarks/graphics_clips.py` draws others.

Chroma is guessed from luma more boldly than it should be: where colours go with luma as in few pictures (leaves, red
trees) it loses, and what is gray, or of one colour, is tinted. So it is believed by a share. Where a plane has one
value all around nothing is changed: of empty pages and black bars nothing was lost.
Luma is believed by a larger share, where H.264 tells the steps. Hard edges are doubted where any codec but MPEG-1, 2
and 4 tells them: in HEVC, AV1 and VP9 the harder ones alone, which costs what a camera filmed next to nothing.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA_SPAN = 219.0  # 8-bit units from black to white
_LOUD, _TOO_LOUD = 0.125, 0.2
"""Change of a frame / quantiser step, root mean squares of luma: from the first on it is believed less, at the second
not at all."""
_LOUDER = 2.0
_LOUDER_UP_TO, _AS_LOUD_FROM = 2.5, 3.5
"""Of VP8 and VP9 clips, in which networks find more to mend: up to the first octave of steps those limits are twice as
high, from the second on they are as ever. Chosen on training clips and drawn ones, of which dithering loses up to 0.13.
`benchmarks/graphics_clips.py --encoder libvpx-vp9 --model newer-video --crf 16 34` draws those."""
BLOCK = 8
_HARD, _HARDEST = 3.0, 6.0
"""Standard deviation of a block or of one beside it / quantiser step, the block's or the frame's, whichever is coarser:
from the first on the block's change is believed less, from the second on no more than `_LEAST_TRUST` of it."""
OTHER_CODECS = 2.0
"""The H.264 step that stands for another codec's is about half of that: edges are hard from twice those limits on."""
_EMPTY = 3.0
"""8-bit units that an empty block of luma spans at most."""
_MOSTLY_HARD, _MOSTLY_SOFT = 0.5, 0.75
"""Softness of the blocks that aren't empty, in the mean: up to the first a clip isn't taken for coded before, from the
second on it is. Chosen on training material: of clips of a camera that were coded twice nothing is given up."""
_LEAST_TRUST = 0.4
_LUMA_TRUST = 0.8
"""Pictures that pan have finer errors than their steps tell, and sharp ones lost. Chosen on pans over training pictures
(`benchmarks/graphics_clips.py --pictures` draws such), and on held-out clips, which give up little."""
_CHROMA_TRUST = 0.7
"""Chosen on held-out clips (x264 CRF 18 to 42), which keep most of their gain in chroma, and lose in fewer planes."""
_FINE, _COARSE = 2.3, 4.0
"""Quantiser steps: up to the first hard edges are no matter, from the second on they are in full."""


def believe(
    restored: Tensor,
    seen: Tensor,
    side: Tensor,
    *,
    doubt_edges: bool,
    doubt_luma: bool | None = None,
    louder: bool = False,
    told: Tensor | None = None,
) -> Tensor:
    """`restored` as far as it is believed, the rest as `seen`: (1, 3, H, W) YCbCr, luma 0 to 1 from black to white.

    `doubt_edges`: hard ones, too, where a file tells the steps. `doubt_luma`: and a share of all luma, where H.264
    tells them (None: as the edges); else the steps stand for another codec's, and harder edges alone are doubted.
    `louder`: a frame may change by more where steps are fine, as VP8's and VP9's do.
    `side`: (1, S, H', W') planes, no smaller than the frame: first log2(quantiser step in 8-bit units) / 7.
    `told`: the same as the file tells it, where `side` was raised: hard edges are measured by it, for line art
    that was coded finely may pass for coded before.
    """
    height, width = seen.shape[-2:]
    octaves = side[:, :1, :height, :width].float() * 7.0
    doubt_luma = doubt_edges if doubt_luma is None else doubt_luma
    trust = _trust_in_frame(restored, seen, octaves, louder=louder)
    if doubt_edges:
        own = octaves if told is None else told[:, :1, :height, :width].float() * 7.0
        trust = trust * _trust_at_edges(seen, own, 1.0 if doubt_luma else OTHER_CODECS)
    trust = trust.to(restored.dtype)
    luma = torch.lerp(seen[:, :1], restored[:, :1], _LUMA_TRUST * trust if doubt_luma else trust)
    chroma = torch.lerp(seen[:, 1:], restored[:, 1:], _CHROMA_TRUST * trust)
    return torch.where(_flat(seen), seen, torch.cat((luma, chroma), 1))


def _trust_in_frame(restored: Tensor, seen: Tensor, octaves: Tensor, *, louder: bool) -> Tensor:
    """Of the whole frame, 0 to 1."""
    change = (restored[:, 0] - seen[:, 0]).square().mean().sqrt() * LUMA_SPAN
    step = torch.exp2(octaves).square().mean().sqrt()
    if louder:
        fineness = (_AS_LOUD_FROM - torch.log2(step)) / (_AS_LOUD_FROM - _LOUDER_UP_TO)
        step = step * (1.0 + (_LOUDER - 1.0) * fineness.clamp(0.0, 1.0))
    return ((_TOO_LOUD - change / step) / (_TOO_LOUD - _LOUD)).clamp(0.0, 1.0)


def _trust_at_edges(seen: Tensor, octaves: Tensor, likeness: float) -> Tensor:
    """Of each pixel, (1, 1, H, W), `_LEAST_TRUST` to 1; `likeness`: what the limits are multiplied by."""
    height, width = seen.shape[-2:]
    octaves = block_means(octaves)
    fine, coarse = math.log2(_FINE), math.log2(_COARSE)
    matters = ((octaves - fine) / (coarse - fine)).clamp(0.0, 1.0)
    doubt = _hardness(seen, octaves, likeness) * matters
    trust = F.interpolate(1.0 - (1.0 - _LEAST_TRUST) * doubt, scale_factor=BLOCK, mode="bilinear")
    return trust[..., :height, :width]


def _hardness(seen: Tensor, octaves: Tensor, likeness: float) -> Tensor:
    """(1, 1, rows, columns): of each block of luma, 0 where its edges are soft, 1 where they are hardest. `octaves`
    are the blocks'."""
    luma = seen[:, :1].float() * LUMA_SPAN
    mean, square = block_means(luma), block_means(luma.square())
    step = torch.exp2(octaves)
    deviation = (square - mean.square()).clamp_min(0.0).sqrt()
    coarser = torch.maximum(step, step.square().mean().sqrt())
    hardness = F.max_pool2d(deviation / (likeness * coarser), 3, stride=1, padding=1)
    return ((hardness - _HARD) / (_HARDEST - _HARD)).clamp(0.0, 1.0)


def softness(seen: Tensor, told: Tensor) -> float:
    """0 to 1: how far a guess of coarser steps than `told` ones is to be followed, for all of a frame.

    A clip that was coded before more coarsely than its file tells has lost its hard edges then; plain pages of text and
    drawings that look so (coarse steps leave much that is empty) have kept them. `seen`: (1, C, H, W), luma first;
    `told`: (1, S, H', W') planes as the file tells them.
    """
    height, width = seen.shape[-2:]
    soft = 1.0 - _hardness(seen, block_means(told[:, :1, :height, :width].float() * 7.0), 1.0)
    most, least = (F.max_pool2d(plane, BLOCK, ceil_mode=True) for plane in (seen[:, :1], -seen[:, :1]))
    busy = (most + least) * LUMA_SPAN > _EMPTY
    share = float((soft * busy).sum() / busy.sum().clamp_min(1)) if bool(busy.any()) else 1.0
    return min(1.0, max(0.0, (share - _MOSTLY_HARD) / (_MOSTLY_SOFT - _MOSTLY_HARD)))


def _flat(seen: Tensor) -> Tensor:
    """(1, C, H, W) → the same, bool: whether the plane has one value in the pixel's block and in those beside it."""
    height, width = seen.shape[-2:]
    most, least = (F.max_pool2d(planes, BLOCK, ceil_mode=True) for planes in (seen, -seen))
    most, least = (F.max_pool2d(planes, 3, stride=1, padding=1) for planes in (most, least))
    flat = (most + least == 0).repeat_interleave(BLOCK, -2).repeat_interleave(BLOCK, -1)
    return flat[..., :height, :width]


def block_means(planes: Tensor) -> Tensor:
    """(N, C, H, W) → (N, C, ceil(H / 8), ceil(W / 8))."""
    return F.avg_pool2d(planes, BLOCK, ceil_mode=True, count_include_pad=False)
