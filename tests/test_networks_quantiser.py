"""ns_quantiser: windows, pooling, what it says of pictures that are too small."""

from __future__ import annotations

import pytest
import torch

from ns_video.networks.ns_quantiser import (
    MULTIPLE_OF,
    QUANTILES,
    WINDOW,
    NsQuantiser,
    NsQuantiserConfig,
    guessed_octaves,
    windows_of,
)


@pytest.fixture(scope="module")
def network() -> NsQuantiser:
    torch.manual_seed(0)
    return NsQuantiser(NsQuantiserConfig()).eval()


def test_parameters(network: NsQuantiser) -> None:
    assert sum(p.numel() for p in network.parameters()) == 118_179


@pytest.mark.parametrize(
    ("height", "width", "count"),
    [(64, 48, 1), (192, 192, 1), (480, 384, 1), (700, 192, 2), (480, 640, 2), (1080, 1920, 9), (17, 2000, 3)],
)
def test_windows_lie_inside_and_on_the_grid(height: int, width: int, count: int) -> None:
    numbered = torch.arange(height * width, dtype=torch.float64).view(height, width)
    windows = windows_of(numbered)
    side = [min(WINDOW, length // MULTIPLE_OF * MULTIPLE_OF) for length in (height, width)]
    assert windows.shape == (1, count, *side)
    corners = windows[0, :, 0, 0].long()
    assert not (corners // width % MULTIPLE_OF).any() and not (corners % width % MULTIPLE_OF).any()
    assert len(set(corners.tolist())) == count


def test_pooled_over_windows_whatever_their_order(network: NsQuantiser) -> None:
    luma = torch.rand(2, 3, 64, 64) * 255
    said = network(luma)
    assert said.shape == (2, len(QUANTILES))
    torch.testing.assert_close(said, network(luma.flip(1)))
    torch.testing.assert_close(said[1:], network(luma[1:]))


def test_brightness_tells_nothing(network: NsQuantiser) -> None:
    luma = torch.rand(1, 1, 64, 64) * 100
    torch.testing.assert_close(network(luma), network(luma + 50), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1), (15, 400), (400, 15)])
def test_too_small_to_tell(network: NsQuantiser, shape: tuple[int, int]) -> None:
    assert guessed_octaves(network, torch.rand(shape)) == 0.0


def test_below_one_octave_nothing_is_guessed(network: NsQuantiser) -> None:
    luma = torch.rand(64, 64)
    with torch.no_grad():
        network.out.bias.fill_(0.0)
        network.out.weight.zero_()
        assert guessed_octaves(network, luma) == 0.0
        network.out.bias.fill_(3.0)
        assert guessed_octaves(network, luma) == pytest.approx(3.0)
