"""Which changes of a clip's frame are believed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ns_video.belief import believe, softness

LUMA = 0.8
"""The share of luma's change that is believed where H.264 tells the steps and nothing speaks against it."""


def page() -> np.ndarray:
    """(77, 101) of nearly one value: where it is exactly one, nothing is changed."""
    return (20 + np.indices((77, 101)).sum(0) % 2).astype(np.uint8)


def trust(luma: np.ndarray, step: float) -> np.ndarray:
    """(H, W) of how much of a small change is believed, of a frame (8-bit luma) that is told one quantiser step."""
    seen = torch.from_numpy((luma.astype(np.float32) - 16) / 219).expand(1, 3, *luma.shape)
    side = torch.full((1, 2, luma.shape[0] + 3, luma.shape[1] + 5), math.log2(step) / 7)
    change = 0.1 * step / 219
    return ((believe(seen + change, seen, side, doubt_edges=True) - seen) / change)[0, 0].numpy()


@pytest.mark.parametrize(("step", "least"), [(1.5, 1.0), (6.0, 0.4), (12.0, 0.4), (64.0, 1.0)])
def test_changes_of_hard_edges_are_half_believed_at_fine_quantisers(step: float, least: float) -> None:
    luma = page()
    luma[40:44, 50:90] = 235  # the stroke of a letter
    found = trust(luma, step)
    assert found.shape == luma.shape
    assert found[42, 60] == pytest.approx(LUMA * least, abs=0.01)
    assert found[:24, :36].min() > 0.999 * LUMA  # far away
    assert np.abs(np.diff(found, axis=0)).max() < 0.1  # no new edges


@pytest.mark.parametrize(("step", "louder", "share"), [(3.0, False, 0.0), (3.0, True, 1.0), (16.0, True, 0.0)])
def test_frames_of_vp8_and_vp9_may_change_by_more_where_steps_are_fine(step: float, louder: bool, share: float) -> None:
    luma = torch.from_numpy((page().astype(np.float32) - 16) / 219).expand(1, 3, 77, 101)
    side, change = torch.full((1, 2, 77, 101), math.log2(step) / 7), 0.22 * step / 219
    found = believe(luma + change, luma, side, doubt_edges=True, doubt_luma=False, louder=louder) - luma
    assert float(found[0, 0].mean() / change) == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("height", "least"), [(40, 1.0), (215, 0.4)])
def test_of_other_codecs_harder_edges_are_doubted(height: int, least: float) -> None:
    """And no share of luma."""
    luma = page()
    luma[40:44, 50:90] = 20 + height
    seen = torch.from_numpy((luma.astype(np.float32) - 16) / 219).expand(1, 3, *luma.shape)
    side = torch.full((1, 2, 80, 104), math.log2(6.0) / 7)
    found = (believe(seen + 0.002, seen, side, doubt_edges=True, doubt_luma=False) - seen) / 0.002
    assert found[0, 0, 42, 60].item() == pytest.approx(least, abs=0.01)
    assert found[0, 0, 5, 5].item() == pytest.approx(1.0, abs=0.001)
    if height == 40:
        assert trust(luma, 6.0)[42, 60] < 0.99 * LUMA  # H.264


def test_hard_edges_are_measured_by_what_the_file_tells() -> None:
    luma = page()
    luma[40:44, 50:90] = 235
    seen = torch.from_numpy((luma.astype(np.float32) - 16) / 219).expand(1, 3, *luma.shape)
    raised, own = (torch.full((1, 2, 80, 104), math.log2(step) / 7) for step in (64.0, 6.0))
    believed = {told is own: believe(seen + 0.005, seen, raised, doubt_edges=True, told=told) for told in (None, own)}
    found = {key: ((one - seen) / 0.005)[0, 0, 42, 60].item() for key, one in believed.items()}
    assert found[False] == pytest.approx(LUMA, abs=0.01) and found[True] == pytest.approx(LUMA * 0.4, abs=0.01)


def test_changes_of_what_cameras_film_are_believed() -> None:
    y, x = np.mgrid[:64, :96]
    scene = 128 + 14 * np.sin(x / 9) * np.cos(y / 7) + np.random.default_rng(1).normal(0, 5, (64, 96))
    assert trust(scene.clip(16, 235).astype(np.uint8), 6.0).min() > 0.99 * LUMA
    ramp = np.broadcast_to(np.linspace(16, 235, 96), (64, 96))
    assert trust(ramp.astype(np.uint8), 4.0).min() > 0.999 * LUMA


@pytest.mark.parametrize(("change", "share"), [(0.1, 1.0), (0.1625, 0.5), (0.25, 0.0)])
def test_a_frame_changed_by_more_than_its_quantiser_is_believed_less(change: float, share: float) -> None:
    step, seen = 8.0, 0.5 + 0.001 * torch.rand(1, 3, 32, 40)
    restored = seen + change * step / 219
    side = torch.full((1, 1, 32, 40), math.log2(step) / 7)
    believed = (believe(restored, seen, side, doubt_edges=False) - seen) / (restored - seen)
    assert torch.allclose(believed[:, 0], torch.tensor(share), atol=1e-3)


def test_chroma_is_believed_by_a_share_and_nothing_where_it_is_flat() -> None:
    seen = torch.rand(1, 3, 60, 77)
    seen[:, 1:, :32, :40] = 0.5
    seen[:, 2, 32:, 40:] = 0.7
    seen[:, 0, 32:, :40] = 1.0  # an empty page
    side = torch.full((1, 1, 64, 80), math.log2(40.0) / 7)
    for doubt_edges in (False, True):
        found = (believe(seen + 0.01, seen, side, doubt_edges=doubt_edges) - seen) / 0.01
        luma = LUMA if doubt_edges else 1.0
        assert found[:, 0, :24].sub(luma).abs().max() < 0.01 > found[:, 0, 32:, 48:].sub(luma).abs().max()
        assert found[:, 1:, :24, :32].abs().max() == 0 == found[:, 2, 40:, 48:].abs().max()
        assert found[:, 0, 40:, :32].abs().max() == 0
        assert found[:, 1, 32:].sub(0.7).abs().max() < 0.01 > found[:, 2, :24, 48:].sub(0.7).abs().max()


def test_hard_edges_speak_against_an_earlier_coding() -> None:
    """Plain pages of text were taken for coded before, and smoothed."""
    luma = page().astype(np.float32)
    luma[8:70:6, 6:90] = 235  # lines of letters, far harder than a step of 8
    soft = 60 + 6 * np.sin(np.indices((77, 101)).sum(0) / 3).astype(np.float32)
    step = torch.full((1, 1, 80, 104), math.log2(8.0) / 7)

    def soft_share(picture: np.ndarray) -> float:
        return softness(torch.from_numpy((picture - 16) / 219)[None, None], step)

    assert soft_share(luma) == 0.0 and soft_share(soft) == 1.0
    assert soft_share(page().astype(np.float32)) == 1.0  # nothing speaks against it
    half = np.where(np.indices((77, 101))[1] < 60, soft, luma)
    assert 0.0 < soft_share(half) < 1.0
