"""Channels of residual blocks that never act: how many there are, and how they begin anew. Floor 4.

A channel behind a ReLU that is shut at every pixel gets no gradient and stays shut. Muon's updates have full size from
the first step on, also where the gradient is little more than noise, and what is noise is shut out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ns_video.networks.ns_restore import ResidualBlock

REVIVING_BATCHES = 40
"""Batches that a channel is listened to before it begins anew."""
_SILENT = 1e-4
"""Share of pixels. A channel that acts at fewer has next to no gradient."""


def residual_blocks(network: nn.Module) -> dict[str, ResidualBlock]:
    """Name → block."""
    return {name: module for name, module in network.named_modules() if isinstance(module, ResidualBlock)}


@dataclass(slots=True)
class Firing:
    """Within `with Firing(network) as firing:` each forward pass is counted."""

    network: nn.Module
    _open: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Block → pixels at which each of its channels acted."""
    _seen: dict[str, int] = field(default_factory=dict[str, int])
    """Block → pixels seen."""
    _hooks: list[Any] = field(default_factory=list[Any])

    def __enter__(self) -> Firing:
        for name, block in residual_blocks(self.network).items():
            self._hooks.append(block.conv1.register_forward_hook(self._counter(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _counter(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def count(_: nn.Module, __: Any, before_relu: Tensor) -> None:
            acting = (before_relu.detach() > 0).sum((0, 2, 3))
            self._open[name] = self._open[name] + acting if name in self._open else acting
            self._seen[name] = self._seen.get(name, 0) + before_relu.numel() // before_relu.shape[1]

        return count

    def silent(self) -> dict[str, Tensor]:
        """Block → (channels,) bool: those that acted at less than one of 10,000 pixels."""
        return {name: count < _SILENT * self._seen[name] for name, count in self._open.items()}

    def tally(self) -> tuple[int, int]:
        """(silent channels, all channels) of the residual blocks; (0, 0) for a network without."""
        silent = list(self.silent().values())
        return sum(int(one.sum()) for one in silent), sum(len(one) for one in silent)


def revive(network: nn.Module, silent: dict[str, Tensor]) -> int:
    """Silent channels begin anew: fresh kernels before the ReLU, zeros behind it. Returns their number.

    The network's result stays the same but for what those channels said at the few pixels where they acted.
    """
    blocks, count = residual_blocks(network), 0
    with torch.no_grad():
        for name, dead in silent.items():
            first, second = blocks[name].conv1, blocks[name].conv2
            fresh = nn.Conv2d(first.in_channels, first.out_channels, 3)
            assert first.bias is not None and fresh.bias is not None
            first.weight[dead] = fresh.weight.to(first.weight)[dead]
            first.bias[dead] = fresh.bias.to(first.bias)[dead]
            second.weight[:, dead] = 0
            count += int(dead.sum())
    return count


def revive_silent(network: nn.Module, forwards: Iterable[Callable[[], object]]) -> int:
    """`revive` of the channels that none of the forward passes wakes; returns their number."""
    with torch.inference_mode(), Firing(network) as firing:
        for forward in forwards:
            forward()
    return revive(network, firing.silent())
