"""Tiles through a network: they don't show, and memory that ends makes them fewer, then smaller."""

from __future__ import annotations

import pytest
import torch
from test_enhance import clip, describe, foreign, fp32, restorer
from torch import Tensor

from ns_video import tile
from ns_video.enhance import Enhancer, tiled_network
from ns_video.enhance import enhancer as enhancer_module
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig


@pytest.mark.parametrize("side", [64, 128, 256, 512])
@pytest.mark.parametrize("scale", [1, 2])
def test_the_tile_size_does_not_show(side: int, scale: int) -> None:
    """The whole stage, odd picture size, fp32: tiles against the whole picture."""
    descriptor = restorer(scale=scale, domain="rgb")
    picture = torch.rand(1, 3, 157, 283)
    whole = Enhancer(descriptor, fp32(tile=4096))(picture)
    tiled = Enhancer(descriptor, fp32(tile=side))
    assert whole.shape == (1, 3, 157 * scale, 283 * scale)
    assert float((tiled(picture) - whole).abs().max()) <= 1e-5
    assert (tiled.stats.tile is not None) == (side < 283)


def test_out_of_memory_takes_smaller_tiles() -> None:
    limit = 70 * 70
    calls: list[int] = []

    def greedy(x: Tensor) -> Tensor:
        calls.append(x.shape[-1])
        if x.shape[-1] * x.shape[-2] > limit:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return x * 0.5

    frames = clip(2, 100, 200)
    enhancer = Enhancer(foreign(greedy), fp32())
    results = list(enhancer.run(frames))
    assert enhancer.stats.smaller_tiles >= 1 and enhancer.stats.passed_through == 0
    assert enhancer.stats.tile is not None and enhancer.stats.tile <= 100
    assert max(calls[-3:]) <= 100 and all(result.reason is None for result in results)
    assert results[0].frame.planes[0].mean() < frames[0].planes[0].mean() - 20


@pytest.mark.parametrize(
    ("side", "limit", "smaller_tiles"), [(64, 3 * 64 * 64, 0), (64, 64 * 64, 0), (128, 64 * 64, 1)]
)
def test_out_of_memory_takes_fewer_tiles_at_once_before_smaller_ones(side: int, limit: int, smaller_tiles: int) -> None:
    passes: list[int] = []

    def greedy(x: Tensor) -> Tensor:
        passes.append(len(x))
        if len(x) * x.shape[-1] * x.shape[-2] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x * 0.5

    frames = clip(2, 256, 320)
    enhancer = Enhancer(foreign(greedy), fp32(tile=side))
    enhancer._tiled._batch_pixels = 1 << 21  # as on a GPU
    results = list(enhancer.run(frames))
    assert passes[0] == (20 if side == 64 else 6)
    assert [result.reason for result in results] == [None, None]
    assert enhancer.stats.smaller_tiles == smaller_tiles and enhancer.stats.passed_through == 0


def test_enhancers_of_one_descriptor_keep_to_their_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = restorer()
    here = Enhancer(descriptor, fp32())
    picture = torch.rand(1, 3, 48, 48)
    before = here(picture)
    monkeypatch.setattr(enhancer_module, "pick_devices", lambda _: (torch.device("meta"),))
    there = Enhancer(descriptor, fp32())
    assert {parameter.device.type for parameter in there._tiled._module("fp32").parameters()} == {"meta"}
    assert torch.equal(here(picture), before)


def test_tiles_that_overlap_too_little_are_told() -> None:
    descriptor = restorer()
    assert descriptor.halo > 8
    for options, missing in (({}, 0), ({"overlap": 16}, 2 * descriptor.halo - 16)):
        enhancer = Enhancer(descriptor, fp32(tile=64, **options))
        enhancer(torch.rand(1, 3, 160, 200))
        assert enhancer.stats.tile == 64 and enhancer.stats.missing_overlap == missing
    whole = Enhancer(descriptor, fp32(overlap=16))
    whole(torch.rand(1, 3, 64, 64))
    assert whole.stats.missing_overlap == 0


def test_each_tile_of_each_view_is_progress() -> None:
    enhancer = Enhancer(restorer(), fp32(tile=64, ensemble=2))
    enhancer(torch.rand(1, 3, 64, 160))
    assert enhancer.stats.passes == 2 * len(enhancer.tiles(64, 160)) > 2


def test_windowed_networks_run_blended() -> None:
    """A network without a finite reach gets overlapping tiles; where it changes nothing, nothing shows."""
    descriptor = foreign(lambda x: x, exact_tiles=False)
    rgb = torch.rand(1, 3, 300, 500)
    for blend in ("auto", *tile.BLENDS):
        enhancer = Enhancer(descriptor, fp32(blend=blend))
        assert float((enhancer(rgb) - rgb).abs().max()) < 1e-5
        assert enhancer.stats.tile == 256


def test_the_automatic_tile_costs_little_at_1080p() -> None:
    """Halo cost of the automatic tile over the whole frame, for the reach of the shipped sizes."""
    for blocks in ((0, 2, 0), (1, 4, 1), (2, 6, 2)):
        network = NsRestore(NsRestoreConfig(channels=8, blocks=blocks))
        descriptor = describe(network, halo=network.receptive_radius)
        enhancer = Enhancer(descriptor, fp32())
        assert tile.halo_cost(enhancer.tiles(1080, 1920)) <= 0.12


@pytest.mark.parametrize(("precision", "tiles"), [("bf16", 1), ("fp32", 2)])
def test_activations_of_16_bits_take_half(precision: str, tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiled_network, "available_memory", lambda device: 64 << 30)
    network = NsRestore(NsRestoreConfig(frames=3, side=6, channels=32, blocks=(0, 0, 0), gated=True))
    enhancer = Enhancer(describe(network, frames=3, conditioning="quantiser", halo=network.receptive_radius), fp32())
    assert len(enhancer._tiled.tiles(2160, 3840, precision)) == tiles
