"""ns-restore's residual blocks in 8-bit integers, for CPUs with VNNI or AMX instructions. Floor 1.

Only what a block adds is computed in integers: the picture stays in fp32, and what flows from block to block in the
precision of the other layers. Activations are unsigned with one scale each, known beforehand (`Ranges`), so that tiles
give what the whole picture gives; weights have a scale for each output channel. Sums of integers are exact: the result
depends neither on threads nor on the order of summing.

Convolutions are those that PyTorch's inductor calls (`torch.ops.onednn`); where a PyTorch lacks them, `int8_network`
raises, and whoever asked takes another precision.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ns_video.networks.ns_restore import NsRestore, ResidualBlock

Ranges = Mapping[str, tuple[float, float]]
"""Name of a block → (largest absolute value of its input, largest value behind its ReLU); larger ones are cut off.
Blocks that aren't named are computed like all other layers."""

MOST_RANGE = 1e6
"""Ranges are below it."""
_SIGNED, _UNSIGNED, _ZERO = 127.0, 255.0, 128
_PACK, _CONVOLVE = "qconv_prepack", "qconv2d_pointwise"
_SAME = ([1, 1], [1, 1], [1, 1], 1)  # stride, padding, dilation, groups


def whole_weights(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(O, I, h, w) → whole numbers from -127 to 127 as floats, and the (O,) scales to multiply them by."""
    scales = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / _SIGNED
    return (weight / scales.view(-1, 1, 1, 1)).round(), scales


def steps_of(input_range: float, inner_range: float) -> tuple[float, float]:
    """What one step of the samples is, of a block's input and behind its ReLU."""
    return max(input_range, 1e-9) / _SIGNED, max(inner_range, 1e-9) / _UNSIGNED


class Int8Conv:
    """A 3x3 convolution of unsigned 8-bit samples (N, C, H, W), channels last."""

    def __init__(self, conv: nn.Conv2d, scale: float, zero: int) -> None:
        """A sample s stands for scale * (s - zero)."""
        whole, scales = whole_weights(conv.weight.detach().float())
        bias = torch.zeros(len(whole)) if conv.bias is None else conv.bias.detach().float()
        packed = _op(_PACK)(whole.to(torch.int8), scales, scale, zero, *_SAME, None)
        self._arguments = (scale, zero, packed, scales, torch.zeros(len(whole), dtype=torch.int32), bias, *_SAME)

    def __call__(self, x: Tensor, scale: float, dtype: torch.dtype, after: str) -> Tensor:
        """The result as `dtype`, in units of `scale`, after "relu" or "none"."""
        return _op(_CONVOLVE)(x, *self._arguments, scale, 0, dtype, after, [], "")


class Int8Block(nn.Module):
    """A ResidualBlock whose convolutions are computed in integers; the sum in the input's floating point."""

    def __init__(self, block: ResidualBlock, input_range: float, inner_range: float) -> None:
        super().__init__()
        self._step, self._inner_step = steps_of(input_range, inner_range)
        self._conv1 = Int8Conv(block.conv1, self._step, _ZERO)
        self._conv2 = Int8Conv(block.conv2, self._inner_step, 0)

    def forward(self, x: Tensor) -> Tensor:
        inner = self._conv1(self._samples(x), self._inner_step, torch.uint8, "relu")
        return self._conv2(inner, 1.0, x.dtype, "none").add_(x)

    def _samples(self, x: Tensor) -> Tensor:
        steps = x.to(torch.float32, copy=True).mul_(1 / self._step).add_(_ZERO + 0.5).clamp_(0, _UNSIGNED)
        return steps.to(torch.int16).to(torch.uint8)  # at once it takes five times as long


def int8_network(network: NsRestore, ranges: Ranges, dtype: torch.dtype) -> NsRestore:
    """A copy of an fp32 network on the CPU: the blocks of `ranges` in 8-bit integers, all else in `dtype`.

    Raises RuntimeError or TypeError where this PyTorch can't.
    """
    made = copy.deepcopy(network).to(dtype)
    for name, (input_range, inner_range) in ranges.items():
        block = network.get_submodule(name)
        assert isinstance(block, ResidualBlock)
        parent, _, index = name.rpartition(".")
        made.get_submodule(parent)[int(index)] = Int8Block(block, input_range, inner_range)  # pyright: ignore[reportIndexIssue]
    return made


def _op(name: str) -> Any:
    found = getattr(torch.ops.onednn, name, None)
    if found is None:
        raise RuntimeError("this PyTorch has no convolutions in int8")
    return found
