"""Measures of pictures: their fixed points, their directions, and independent values where there are any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from ns_video.quality.correlation import rank_correlation
from ns_video.quality.difference import difference_map, heat, mse, psnr
from ns_video.quality.edges import compare_edges
from ns_video.quality.hashes import hash_similarity
from ns_video.quality.histograms import color_statistics, histogram_correlation, histograms, hue_saturation_value
from ns_video.quality.ns_iqa import CROP, GRID, NsIqaJudges, crop_corners, score_of_ssim
from ns_video.quality.picture_statistics import picture_statistics
from ns_video.quality.ssim import ms_ssim, ssim
from ns_video.quality.temporal import change_flicker, flicker, mean_change
from ns_video.quality.thumbnail import cell_means

RNG = np.random.default_rng(3)


def soft_noise(height: int, width: int, sigma: float = 3.0) -> np.ndarray:
    """A textured gray field in [0, 1]."""
    field = gaussian_filter(RNG.standard_normal((height, width)), sigma)
    return (0.5 + field / (6 * field.std())).clip(0, 1).astype(np.float32)


def as_luma(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture.astype(np.float32))[None, None]


def test_ssim_is_the_authors_formula() -> None:
    first = soft_noise(40, 48).astype(np.float64)
    second = (first + 0.05 * RNG.standard_normal(first.shape)).clip(0, 1)

    def blurred(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    mean1, mean2 = blurred(first), blurred(second)
    variance1, variance2 = blurred(first**2) - mean1**2, blurred(second**2) - mean2**2
    covariance = blurred(first * second) - mean1 * mean2
    c1, c2 = 1e-4, 9e-4
    expected = ((2 * mean1 * mean2 + c1) * (2 * covariance + c2)) / (
        (mean1**2 + mean2**2 + c1) * (variance1 + variance2 + c2)
    )
    assert float(ssim(as_luma(first), as_luma(second))) == pytest.approx(expected.mean(), abs=2e-4)


def test_ssim_and_ms_ssim_fall_with_damage_and_are_one_for_equals() -> None:
    picture = soft_noise(256, 256)
    assert float(ms_ssim(as_luma(picture), as_luma(picture))) == pytest.approx(1.0, abs=1e-6)
    values = [
        float(ms_ssim(as_luma(picture), as_luma(gaussian_filter(picture, sigma)))) for sigma in (0.5, 1.0, 2.0, 4.0)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.9


def test_ms_ssim_of_a_small_picture_uses_the_scales_it_has() -> None:
    picture = soft_noise(40, 60)
    assert 0.0 < float(ms_ssim(as_luma(picture), as_luma(gaussian_filter(picture, 2)))) < 1.0
    with pytest.raises(ValueError, match="11 px"):
        ssim(as_luma(picture[:10]), as_luma(picture[:10]))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-5, 5), min_size=3, max_size=40), st.integers(0, 2**31))
def test_rank_correlation_is_scipys(values: list[int], seed: int) -> None:
    other = np.random.default_rng(seed).integers(-5, 5, len(values))
    ours = rank_correlation(torch.tensor(values), torch.tensor(other))
    if len(set(values)) > 1 and len(set(other.tolist())) > 1:
        assert ours == pytest.approx(spearmanr(values, other)[0], abs=1e-9)
    else:
        assert ours == 0.0


def test_statistics_are_finite_and_of_one_length_for_any_picture() -> None:
    lengths = set()
    for size in ((64, 64), (256, 256), (100, 201)):
        for rgb in (torch.zeros(1, 3, *size), torch.ones(1, 3, *size), torch.rand(1, 3, *size)):
            found = picture_statistics(rgb)
            assert bool(found.isfinite().all())
            lengths.add(found.shape[1])
    assert len(lengths) == 1


def test_crops_lie_inside_on_the_codec_grid_and_are_few() -> None:
    for height, width in ((300, 300), (1080, 1920), (256, 4000), (40, 40)):
        corners = crop_corners(torch.rand(1, 3, height, width), 4)
        assert 1 <= len(corners) <= 4
        assert len(set(corners)) == len(corners)
        for top, left in corners:
            assert top % GRID == 0 and left % GRID == 0
            assert top + min(CROP, height) <= height and left + min(CROP, width) <= width


def test_the_scale_of_the_score_is_the_documented_one() -> None:
    found = score_of_ssim(torch.tensor([1.0, 0.99, 0.96, 0.84, 0.64, 0.0, -0.5]))
    assert found.tolist() == pytest.approx([100, 90, 80, 60, 40, 0, 0], abs=1e-3)


def test_a_score_is_between_0_and_100_for_any_size() -> None:
    judges = NsIqaJudges().eval()
    for size in ((1, 1), (9, 300), (257, 255)):
        assert 0.0 <= judges.score(torch.rand(1, 3, *size)) <= 100.0


def test_thumbnails_do_not_depend_on_the_bit_depth() -> None:
    plane = RNG.integers(0, 256, (90, 160)).astype(np.uint8)
    deep = plane.astype(np.uint16) * 4
    assert np.allclose(cell_means(plane, 8), cell_means(deep, 10) * (1023 / 1020), atol=1e-3)
    assert cell_means(plane[:1, :1], 8).shape == (1, 1)


def test_cells_reach_to_the_edge_of_a_picture() -> None:
    """120 columns in 16 cells: of whole cells of 7 px eight columns were left out."""
    plane = np.tile(np.arange(120, dtype=np.uint8), (90, 1))
    assert cell_means(plane, 8, (12, 16)).mean() == pytest.approx(59.5, abs=0.5)


def moving_scene(x: float, level: float = 0.0) -> np.ndarray:
    rows, columns = np.mgrid[0:36, 0:64].astype(np.float32)
    return (120 + 60 * np.sin((columns - x) / 9) * np.cos(rows / 7) + level).astype(np.float32)


def test_flicker_sees_pulses_and_neither_pans_nor_fades() -> None:
    pulse = flicker(moving_scene(0), moving_scene(0, 8), moving_scene(0))
    pan = flicker(moving_scene(0), moving_scene(0.8), moving_scene(1.6))
    fade = flicker(moving_scene(0), moving_scene(0, 8), moving_scene(0, 16))
    assert pulse > 5 * max(pan, fade)
    assert fade < 0.2 and flicker(*[moving_scene(0)] * 3) == 0.0


def test_change_flicker_is_that_of_the_restoration_alone() -> None:
    first, second = moving_scene(0), moving_scene(2)
    assert change_flicker(first, first + 5, second, second + 5) == pytest.approx(0.0, abs=1e-5)
    assert change_flicker(first, first + 5, second, second - 5) == pytest.approx(10.0, abs=1e-4)
    assert mean_change(first, first) == 0.0


def picture_of(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.repeat((values * 255).astype(np.uint8)[..., None], 3, 2))


def test_histograms_count_every_pixel_and_hue_is_the_colour() -> None:
    rgb = RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)
    found = histograms(rgb)
    for shares in (found.red, found.green, found.blue, found.value, found.saturation):
        assert sum(shares) == pytest.approx(100, abs=0.1)
    colors = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [9, 9, 9]]], np.uint8)
    hue, saturation, value = hue_saturation_value(colors)
    assert hue[0].tolist() == [0, 120, 240, 60, 0]
    assert saturation[0].tolist() == [1, 1, 1, 1, 0]
    assert value[0].tolist() == [255, 255, 255, 255, 9]
    assert histogram_correlation(found, found) == pytest.approx(1.0)
    assert sum(histograms(picture_of(soft_noise(20, 20))).hue) == 0.0


def test_color_statistics_tell_gray_from_colour() -> None:
    gray = color_statistics(picture_of(soft_noise(32, 32)))
    colored = color_statistics(RNG.integers(0, 256, (32, 32, 3)).astype(np.uint8))
    assert gray.saturation_mean == 0.0 and gray.colorfulness == 0.0
    assert colored.saturation_mean > 30 and colored.colorfulness > 30
    assert gray.mean_rgb[0] == pytest.approx(gray.luma_mean, abs=0.01)


def test_hashes_survive_codec_noise_and_tell_pictures_apart() -> None:
    picture = picture_of(soft_noise(120, 160, 12))
    noisy = np.clip(picture.astype(int) + RNG.integers(-6, 7, picture.shape), 0, 255).astype(np.uint8)
    alike, other = hash_similarity(picture, noisy), hash_similarity(picture, picture[::-1, ::-1])
    for name in ("average", "difference", "perceptual"):
        assert getattr(alike, name) > 85
        assert getattr(alike, name) > getattr(other, name) + 10
        assert getattr(hash_similarity(picture, picture), name) == 100


def test_edges_lost_by_blur_are_found() -> None:
    picture = np.zeros((60, 60, 3), np.uint8)
    picture[:, 30:] = 120
    picture[20:40, 10:20] = 90
    blurred = gaussian_filter(picture.astype(float), (6, 6, 0)).astype(np.uint8)
    assert compare_edges(picture, picture).kept == 100.0
    compared = compare_edges(picture, blurred)
    assert compared.kept < 60 and compared.lost.any()
    assert compare_edges(blurred, picture).gained.any()


def test_difference_is_zero_for_equals_and_hot_where_pixels_differ() -> None:
    picture = picture_of(soft_noise(30, 30))
    changed = picture.copy()
    changed[10, 10] = 255 - changed[10, 10]
    assert mse(picture, picture) == 0.0 and psnr(picture, picture) == float("inf")
    found = difference_map(picture, changed)
    assert found.argmax() == 10 * 30 + 10
    drawn = heat(found)
    assert drawn[10, 10].astype(int).sum() > drawn[0, 0].astype(int).sum()
    assert psnr(picture, changed) == pytest.approx(10 * np.log10(255**2 / mse(picture, changed)))
