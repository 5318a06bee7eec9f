"""Loss terms: zero for equal pictures, positive and differentiable for others, and each sees what it is for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ns_video.errors import UsageError
from ns_video.training.losses import LOSSES, NETWORK_TERMS, RECIPES, make_terms, ssim_index


@pytest.fixture
def picture() -> Tensor:
    """A (2, 3, 48, 48) picture with edges, texture and colour."""
    torch.manual_seed(3)
    base = torch.rand(2, 3, 6, 6).repeat_interleave(8, 2).repeat_interleave(8, 3)
    return (0.8 * base + 0.1 + 0.05 * torch.rand(2, 3, 48, 48)).clamp(0, 1)


@pytest.mark.parametrize("name", LOSSES)
def test_zero_for_equal_pictures_and_growing_with_damage(name: str, picture: Tensor) -> None:
    term = LOSSES[name]
    assert abs(float(term(picture, picture))) < 1e-5
    torch.manual_seed(0)
    noise = torch.randn_like(picture)
    little, much = picture + 0.02 * noise, picture + 0.15 * noise
    assert 0 < float(term(little, picture)) < float(term(much, picture))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_even_where_pictures_are_equal(name: str, picture: Tensor) -> None:
    for start in (picture, torch.full_like(picture, 0.5), torch.zeros_like(picture)):
        restored = start.clone().requires_grad_()
        LOSSES[name](restored, picture).backward()
        assert restored.grad is not None and bool(torch.isfinite(restored.grad).all())


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_against_the_gradient_lowers_the_loss(name: str, picture: Tensor) -> None:
    torch.manual_seed(1)
    restored = (picture + 0.1 * torch.randn_like(picture)).requires_grad_()
    before = LOSSES[name](restored, picture)
    before.backward()
    assert restored.grad is not None
    step = 1e-3 * restored.grad / restored.grad.abs().max()
    assert LOSSES[name](restored.detach() - step, picture) < before


def test_ssim_is_the_published_formula_on_constant_pictures() -> None:
    a, b = torch.full((1, 1, 16, 16), 0.4), torch.full((1, 1, 16, 16), 0.6)
    expected = (2 * 0.4 * 0.6 + 1e-4) / (0.4**2 + 0.6**2 + 1e-4)  # only the luminance term is below 1
    assert float(ssim_index(a, b)) == pytest.approx(expected, abs=1e-4)


def test_what_terms_are_deaf_to(picture: Tensor) -> None:
    brighter = picture + 0.05
    for name in ("edge", "sobel", "high_frequency", "laplacian", "contrast"):
        assert float(LOSSES[name](brighter, picture)) < 1e-5, name
    assert float(LOSSES["structure"](0.5 * picture + 0.2, picture)) < 0.02 < float(LOSSES["l1"](brighter, picture))
    shuffled = picture.flatten(2)[..., torch.randperm(48 * 48)].view_as(picture)
    assert float(LOSSES["color_histogram"](shuffled, picture)) < 1e-5
    rolled = picture.roll(8, -1)
    assert float(LOSSES["gram"](rolled, picture)) < 0.1 * float(LOSSES["gram"](torch.rand_like(picture), picture))


def test_region_weighs_detail_more_than_flat_places() -> None:
    reference = torch.zeros(1, 3, 64, 64)
    reference[..., 32:] = torch.rand(1, 3, 64, 32)
    flat, busy = reference.clone(), reference.clone()
    flat[..., 10:20, 5:15] += 0.1
    busy[..., 10:20, 45:55] += 0.1
    assert LOSSES["region"](busy, reference) > 1.3 * LOSSES["region"](flat, reference)


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_weighted_sums_of_known_terms(recipe: str, picture: Tensor) -> None:
    terms = make_terms(recipe)
    assert all(name in LOSSES or name in NETWORK_TERMS for name, _ in terms.weights)
    damaged = (picture + 0.1).clamp(0, 1)
    by_hand = sum(weight * float(LOSSES[name](damaged, picture)) for name, weight in terms.pixel)
    assert float(terms(damaged, picture)) == pytest.approx(by_hand, rel=1e-4)


def test_published_weights() -> None:
    assert dict(make_terms("kyouka-v6").weights) == {
        "mse": 3.0, "mse_half": 0.3, "mse_quarter": 0.1, "edge": 0.8, "high_frequency": 1.0, "color": 0.01,
    }  # fmt: skip
    assert dict(make_terms("ritsuka-v7").weights) == {
        "l1": 1.5, "mse": 0.2, "structure": 2.5, "edge": 3.0, "color": 0.1,
    }  # fmt: skip


def test_changed_weights_and_mistakes() -> None:
    assert dict(make_terms("l1", {"ssim": 0.5, "l1": 0.0}).weights) == {"ssim": 0.5}
    for recipe, extra in (("nothing", {}), ("l1", {"nothing": 1.0}), ("l1", {"ssim": -1.0})):
        with pytest.raises(UsageError):
            make_terms(recipe, extra)
