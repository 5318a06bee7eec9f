"""Measures what ns-restore's blocks see, so that they can be computed in 8-bit integers. Floor 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ns_video.networks.int8 import MOST_RANGE, steps_of, whole_weights
from ns_video.networks.ns_restore import NsRestore, ResidualBlock
from ns_video.training.firing import residual_blocks

MEASURING_BATCHES = 3
"""Batches that ranges are measured on."""
_QUANTILE = 0.9999
"""Share of samples within a range, also of pictures that are hard edges of pure colours, which drive a network further
than any it was trained on. Wider ranges leave fewer steps for all others."""
_HEADROOM = 1.5
"""Ranges / what the quantile says: there are harder pictures yet."""
_SAMPLES = 1 << 20
"""Of a tensor that the quantile is taken from, evenly spread."""
_MOST_ERROR = (2e-3, 6e-3)
"""Squared error of the network's change as a share of the change itself, by one block in integers: in pictures, and in
pure colours. One that makes more stays in floating point: mostly the first, which sees the whole picture."""


def measure_ranges(network: NsRestore, forwards: Sequence[Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Block → (range of its input, range behind its ReLU), see `ns_video.networks.int8`, over all forward passes, in
    fp32; blocks that integers would harm are left out. Each forward pass is one of the network, and is done twice: with
    its pictures, and with their samples driven to 0 or 1."""
    blocks = residual_blocks(network)
    seen: dict[str, tuple[float, float]] = dict.fromkeys(blocks, (0.0, 0.0))

    def see_input(name: str) -> Callable[[nn.Module, Any], None]:
        def see(_: nn.Module, given: Any) -> None:
            seen[name] = max(seen[name][0], _most(given[0].abs())), seen[name][1]

        return see

    def see_inner(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def see(_: nn.Module, __: Any, before_relu: Tensor) -> None:
            seen[name] = seen[name][0], max(seen[name][1], _most(before_relu.clamp(min=0)))

        return see

    with torch.inference_mode(), ExitStack() as stack:
        for name, block in blocks.items():
            stack.callback(block.register_forward_pre_hook(see_input(name)).remove)
            stack.callback(block.conv1.register_forward_hook(see_inner(name)).remove)
        changes = _changes(network, forwards)
    ranges = {name: (_range(one), _range(two)) for name, (one, two) in seen.items()}
    kept: dict[str, tuple[float, float]] = {}
    for name, within in ranges.items():
        if max(within) >= MOST_RANGE:
            continue
        with torch.inference_mode(), ExitStack() as stack:
            stack.callback(blocks[name].register_forward_hook(_simulated(blocks[name], *within)).remove)
            found = _changes(network, forwards)
        if all(_share(*pair) <= most for *pair, most in zip(found, changes, _MOST_ERROR, strict=True)):
            kept[name] = within
    return kept


def _changes(network: NsRestore, forwards: Sequence[Callable[[], object]]) -> tuple[list[Tensor], list[Tensor]]:
    """What the last layer says in each of them: of their pictures, and of those driven to 0 or 1."""
    said: list[Tensor] = []

    def hear(_: nn.Module, __: Any, change: Tensor) -> None:
        said.append(change)

    def drive(_: nn.Module, given: Any) -> Any:
        return given[0].round().clamp(0.0, 1.0), *given[1:]

    with ExitStack() as stack:
        stack.callback(network.tail.register_forward_hook(hear).remove)
        for forward in forwards:
            forward()
        stack.callback(network.register_forward_pre_hook(drive).remove)
        for forward in forwards:
            forward()
    return said[: len(forwards)], said[len(forwards) :]


def _share(found: Sequence[Tensor], changes: Sequence[Tensor]) -> float:
    """Squared error / square."""
    wrong = sum(float((one - other).square().sum()) for one, other in zip(found, changes, strict=True))
    return wrong / max(1e-30, sum(float(change.square().sum()) for change in changes))


def _most(values: Tensor) -> float:
    """The quantile of a tensor, 0 and more."""
    flat = values.float().flatten()
    flat = flat[:: -(-flat.numel() // _SAMPLES)].cpu()  # not every device finds the k-th value
    return float(flat.kthvalue(max(1, round(_QUANTILE * flat.numel()))).values)


def _range(quantile: float) -> float:
    return float(f"{_HEADROOM * quantile:.6g}")


def _simulated(
    block: ResidualBlock, input_range: float, inner_range: float
) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A hook that replaces the block's result by what integers would give, in fp32, on any device."""
    step, inner_step = steps_of(input_range, inner_range)

    def rounded(weight: Tensor) -> Tensor:
        whole, scales = whole_weights(weight)
        return whole * scales.view(-1, 1, 1, 1)

    first, second = rounded(block.conv1.weight), rounded(block.conv2.weight)

    def replace(_: nn.Module, given: Any, __: Tensor) -> Tensor:
        x = given[0]
        samples = (x / step).round().clamp(-128, 127) * step
        inner = F.relu(F.conv2d(samples, first, block.conv1.bias, padding=1))
        inner = (inner / inner_step).round().clamp(max=255) * inner_step
        return x + F.conv2d(inner, second, block.conv2.bias, padding=1)

    return replace
