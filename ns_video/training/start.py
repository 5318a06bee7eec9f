"""Begins a training with another network's weights. Floor 4."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ns_video.errors import UsageError, first_of, printable
from ns_video.networks.ns_restore import DIFFERENCE_GAIN, NsRestore, ResidualBlock
from ns_video.weights.load import load_weights


def start_from(network: nn.Module, name_or_path: str) -> tuple[int, int]:
    """`grow_from` with the weights of a model; returns (tensors copied, tensors of the network).

    Raises:
        ModelError: the model can't be loaded; UsageError: it has more than the network, or no weights that fit.
    """
    weights, own = load_weights(name_or_path).tensors, network.state_dict()
    lost = sorted(key for key in weights if key not in own)
    fits = any(tensor.ndim > 1 and key in own and own[key].shape == tensor.shape for key, tensor in weights.items())
    if lost or not fits:
        why = f"has more than the network: {first_of(lost, 3)}" if lost else "has no layer of the network's shapes"
        raise UsageError(
            f"network.start: {printable(name_or_path)} {why}",
            remedy="choose its architecture and size, or one that grows from it",
        )
    return grow_from(network, weights), len(own)


def grow_from(network: nn.Module, weights: Mapping[str, Tensor]) -> int:
    """Copies what fits from `weights` (name → tensor) into the network; returns the number of tensors copied.

    A first layer that sees other side planes takes the picture's part and begins to learn theirs from zero. Residual
    blocks that `weights` don't have begin as identity, so that a network of the same width grows from them.
    """
    own = network.state_dict()
    copied = 0
    for key, tensor in own.items():
        there = weights.get(key)
        if there is None:
            continue
        if there.shape == tensor.shape:
            tensor.copy_(there)
            copied += 1
        elif key == "head.weight" and isinstance(network, NsRestore) and there.shape[::2] == tensor.shape[::2]:
            pixels = min(there.shape[1], tensor.shape[1] - network.config.side)
            tensor.zero_()[:, :pixels].copy_(there[:, :pixels])
            copied += 1
    if copied:
        for name, block in network.named_modules():
            if isinstance(block, ResidualBlock) and f"{name}.conv2.weight" not in weights:
                own[f"{name}.conv2.weight"].zero_()
                own[f"{name}.conv2.bias"].zero_()
    network.load_state_dict(own)
    return copied


def see_differences(head: Tensor) -> Tensor:
    """First layer of a network of three pictures (YCbCr, unshuffled by 2) → one that does the same to differences."""
    pixels = 12
    changed = head.clone()
    before, middle, after = (slice(first, first + pixels) for first in (0, pixels, 2 * pixels))
    changed[:, middle] = head[:, before] + head[:, middle] + head[:, after]
    for neighbour in (before, after):
        changed[:, neighbour] = head[:, neighbour] / DIFFERENCE_GAIN
    return changed


def see_further(head: Tensor, frames: int) -> Tensor:
    """First layer of a network of three pictures (YCbCr, unshuffled by 2) → one of more, the outer ones unseen."""
    pixels = 12
    outer = head.new_zeros(head.shape[0], (frames // 2 - 1) * pixels, *head.shape[2:])
    return torch.cat((outer, head[:, : 3 * pixels], outer, head[:, 3 * pixels :]), 1)
