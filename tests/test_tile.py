"""Tiles: exact against the whole picture, windows that sum to one, geometry for any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ns_video import tile
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig


def restless(config: NsRestoreConfig) -> NsRestore:
    """A network whose last layer is not zero, so that its result depends on its whole receptive field."""
    torch.manual_seed(7)
    network = NsRestore(config).eval()
    torch.nn.init.normal_(network.tail.weight, std=0.05)
    return network


@settings(max_examples=150, deadline=None)
@given(
    length=st.integers(1, 700),
    side=st.integers(16, 520),
    overlap=st.integers(0, 200),
    multiple_of=st.sampled_from([1, 2, 4, 8, 16, 64]),
    shrink=st.booleans(),
)
def test_tiles_cover_once_and_keep_their_halo(
    length: int, side: int, overlap: int, multiple_of: int, shrink: bool
) -> None:
    height, width = tile.padded_size(length, length + 3 * multiple_of, multiple_of)
    tiles = tile.plan(height, width, tile=side, overlap=overlap, multiple_of=multiple_of, shrink=shrink)
    covered = torch.zeros(height, width, dtype=torch.int32)
    for one in tiles:
        one.core.cut(covered).add_(1)
        outer, core = one.outer, one.core
        assert (outer.height, outer.width) == (tiles[0].outer.height, tiles[0].outer.width)
        assert all(edge % multiple_of == 0 for edge in (outer.top, outer.left, outer.bottom, outer.right))
        if outer.bottom < height:
            assert outer.top % 16 == 0
        for inner, edge, border in (
            (core.top, outer.top, outer.top),
            (core.left, outer.left, outer.left),
            (outer.bottom, core.bottom, height - outer.bottom),
            (outer.right, core.right, width - outer.right),
        ):
            assert border == 0 or inner - edge >= overlap // 2
    assert bool((covered == 1).all())


def test_interior_edges_have_the_full_halo() -> None:
    for one in tile.plan(480, 640, tile=192, overlap=96, multiple_of=4):
        assert one.outer.top == 0 or one.core.top - one.outer.top >= 48
        assert one.outer.left == 0 or one.core.left - one.outer.left >= 48
        assert one.outer.bottom == 480 or one.outer.bottom - one.core.bottom >= 48
        assert one.outer.right == 640 or one.outer.right - one.core.right >= 48


@pytest.mark.parametrize("side", [64, 96, 128, 200, 256, 512])
@pytest.mark.parametrize("size", [(203, 331), (64, 517), (37, 41)])
@pytest.mark.parametrize("scale", [1, 2])
def test_tiled_equals_whole(side: int, size: tuple[int, int], scale: int) -> None:
    network = restless(NsRestoreConfig(channels=8, blocks=(1, 2, 0), scale=scale))
    picture = tile.pad_to_multiple(torch.rand(1, 3, *size), network.multiple_of)
    tiles = tile.plan(
        *picture.shape[-2:], tile=side, overlap=2 * network.receptive_radius, multiple_of=network.multiple_of
    )
    with torch.inference_mode():
        whole = network(picture)
        tiled = tile.run_tiled(
            lambda group: [network(one.outer.cut(picture)) for one in group],
            tiles,
            torch.empty_like(whole),
            scale=scale,
            blend="crop",
        )
    assert float((tiled - whole).abs().max()) <= 1e-5
    if side < min(size):
        assert len(tiles) > 1


def test_a_halo_too_small_is_seen() -> None:
    """The comparison above can fail: half the halo gives another picture."""
    network = restless(NsRestoreConfig(channels=8, blocks=(1, 2, 0)))
    picture = torch.rand(1, 3, 256, 256)
    tiles = tile.plan(256, 256, tile=128, overlap=8, multiple_of=4)
    with torch.inference_mode():
        tiled = tile.run_tiled(
            lambda group: [network(one.outer.cut(picture)) for one in group],
            tiles,
            torch.empty_like(picture),
            scale=1,
            blend="crop",
        )
        assert float((tiled - network(picture)).abs().max()) > 1e-3


@pytest.mark.parametrize("blend", tile.BLENDS)
def test_windows_sum_to_one(blend: tile.Blend) -> None:
    """A network that changes nothing gives the picture back under every window, enlarged too."""
    picture = torch.rand(1, 3, 300, 420)
    tiles = tile.plan(300, 420, tile=128, overlap=48, multiple_of=4, shrink=False)
    assert len(tiles) > 4
    same = tile.run_tiled(
        lambda group: [one.outer.cut(picture) for one in group],
        tiles,
        torch.empty_like(picture),
        scale=1,
        blend=blend,
        batch=3,
    )
    assert float((same - picture).abs().max()) < 1e-6
    twice = picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    double = tile.run_tiled(
        lambda group: [one.outer.cut(twice, 2) for one in group], tiles, torch.empty_like(twice), scale=2, blend=blend
    )
    assert float((double - twice).abs().max()) < 1e-6


def test_windows_by_their_formulas() -> None:
    """Weights at the centre, half-way and in the corner, as REFERENCE gives the formulas."""
    corner, half = math.sqrt(2), 0.5
    expected = {
        "gaussian": (1.0, math.exp(-0.5), math.exp(-(corner**2) / 0.5)),
        "improved-gaussian": (1.0, math.exp(-(half**2) / (2 * 0.49)), 0.1),
        "linear": (1.0, 0.5, 0.1),
        "cosine": (1.0, math.cos(math.pi / 4), 0.1),
        "poisson": (1.0, math.exp(-1.5), 0.1),
    }
    for name, (centre, between, far) in expected.items():
        weights = tile.window(name, 5, 5)  # type: ignore[arg-type]
        assert weights[2, 2].item() == pytest.approx(centre)
        assert weights[2, 3].item() == pytest.approx(between)
        assert weights[0, 0].item() == pytest.approx(far)


def test_padding_reflects_then_repeats() -> None:
    row = torch.tensor([[1.0, 2.0, 3.0]]).view(1, 1, 1, 3)
    padded = tile.pad_to_multiple(row, 8)
    assert padded.shape == (1, 1, 8, 8)
    assert padded[0, 0, 0].tolist() == [1, 2, 3, 2, 1, 1, 1, 1]
    exact = torch.rand(1, 3, 16, 24)
    assert tile.pad_to_multiple(exact, 8) is exact


def test_halo_cost_counts_pixels() -> None:
    whole = tile.plan(256, 256, tile=None, overlap=96, multiple_of=4)
    assert len(whole) == 1 and tile.halo_cost(whole) == 0.0
    halves = tile.plan(256, 128, tile=160, overlap=64, multiple_of=4)
    assert len(halves) == 2
    assert tile.halo_cost(halves) == pytest.approx(2 * 160 / 256 - 1)


def test_windows_that_a_run_made_are_learned_through() -> None:
    picture = torch.rand(1, 3, 104, 104, requires_grad=True)
    tiles = tile.plan(104, 104, tile=52, overlap=16, multiple_of=4)
    assert len(tiles) > 1

    def through(group: Sequence[tile.Tile]) -> list[torch.Tensor]:
        return [one.outer.cut(picture, 1) * 2.0 for one in group]

    with torch.inference_mode():  # of a size that no other test uses: windows are kept
        tile.run_tiled(through, tiles, torch.zeros(1, 3, 104, 104), scale=1, blend="poisson")
    tile.run_tiled(through, tiles, torch.zeros(1, 3, 104, 104), scale=1, blend="poisson").sum().backward()
    assert picture.grad is not None and torch.allclose(picture.grad, torch.full_like(picture, 2.0), atol=1e-5)
