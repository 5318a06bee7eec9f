"""Channels that never act: they are counted, and begin anew."""

from __future__ import annotations

import torch
from torch import nn

from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.training.firing import Firing, residual_blocks, revive, revive_silent


def silence(network: nn.Module, name: str, channels: list[int]) -> None:
    """Shuts those channels' ReLUs for good."""
    bias = residual_blocks(network)[name].conv1.bias
    assert bias is not None
    with torch.no_grad():
        bias[channels] = -1e4


def family(blocks: tuple[int, int, int] = (1, 1, 0)) -> NsRestore:
    torch.manual_seed(3)
    network = NsRestore(NsRestoreConfig(channels=8, blocks=blocks))
    nn.init.normal_(network.tail.weight, std=0.05)
    for block in residual_blocks(network).values():
        assert block.conv1.bias is not None
        nn.init.constant_(block.conv1.bias, 1.0)  # so that all act
    return network


def test_silent_channels_are_counted() -> None:
    network = family()
    silence(network, "body.0", [2, 5, 11])
    with torch.inference_mode(), Firing(network) as firing:
        network(torch.rand(1, 3, 32, 32))
        network(torch.rand(2, 3, 16, 16))
    silent = firing.silent()
    assert silent["body.0"].nonzero().flatten().tolist() == [2, 5, 11] and not silent["encoder.0"].any()
    assert firing.tally() == (3, 8 + 16)
    network(torch.rand(1, 3, 32, 32))
    assert firing.tally() == (3, 24)  # nothing is counted outside


def test_revived_channels_change_nothing_and_can_learn() -> None:
    network, x = family(), torch.rand(1, 3, 32, 32)
    silence(network, "body.0", [2, 5])
    with torch.inference_mode():
        before = network(x)
    kept = network.body[0].conv1.weight.detach().clone()
    assert revive_silent(network, [lambda: network(x)]) == 2
    with torch.inference_mode():
        torch.testing.assert_close(network(x), before, atol=1e-6, rtol=0)
    changed = (network.body[0].conv1.weight != kept).flatten(1).any(1)
    assert changed.nonzero().flatten().tolist() == [2, 5]
    network(x).square().mean().backward()
    gradient = network.body[0].conv2.weight.grad
    assert gradient is not None and bool((gradient[:, [2, 5]] != 0).any())


def test_what_acts_is_left_alone() -> None:
    network = family()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert revive(network, {name: torch.zeros(len(b.conv1.weight), dtype=torch.bool) for name, b in
                            residual_blocks(network).items()}) == 0  # fmt: skip
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
