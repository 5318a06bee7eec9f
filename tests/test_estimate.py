"""The blind estimate: what a picture's pixels tell of its JPEG past, and when it must keep silent."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ns_video.estimate import JpegEvidence, find_jpeg, reconcile, share_on_steps
from ns_video.frame import JpegTables
from ns_video.jpeg_tables import dct_matrix, ijg_tables
from ns_video.media.degrade import degrade_still, parse_spec
from ns_video.media.pictures import Rgb, decode_picture, encode_jpeg


def photograph(seed: int, side: int = 256) -> Rgb:
    """Something like one: noise of falling spectrum in correlated channels, shapes, sensor noise; no clipping."""
    random = np.random.default_rng(seed)
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    falloff = 1 / np.maximum(np.hypot(fy, fx), 1 / side) ** 1.3
    fields = [np.fft.irfft2(np.fft.rfft2(random.normal(0, 1, (side, side))) * falloff, (side, side)) for _ in range(3)]
    fields = [field / field.std() for field in fields]
    picture = np.stack([fields[0] + 0.3 * fields[1], fields[0] - 0.2 * fields[2], fields[0] + 0.3 * fields[2]], -1)
    y, x = np.mgrid[0:side, 0:side]
    for _ in range(12):
        a, b, c = random.normal(0, 1, 3)
        picture += 0.4 * random.normal(0, 1, 3) * (a * (x - side / 2) + b * (y - side / 2) > 40 * c)[..., None]
    picture = 128 + 30 * picture / picture.std() + random.normal(0, 1.0, picture.shape)
    return np.clip(np.rint(picture), 3, 252).astype(np.uint8)


def drawing(seed: int, side: int = 256) -> Rgb:
    """Flat colours and thin lines, within a range that ringing doesn't clip."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side]
    picture = np.full((side, side, 3), 195.0)
    for _ in range(14):
        a, b, c = random.normal(0, 1, 3)
        distance = (a * (x - side / 2) + b * (y - side / 2) + 40 * c) / np.hypot(a, b)
        picture[distance > 0] = random.uniform(70, 185, 3)
        picture = np.where((np.abs(distance) < 1.5)[..., None], 60.0, picture)
    return picture.astype(np.uint8)


def bars(seed: int, side: int = 192) -> Rgb:
    """One line, drawn every 24 px: a few different blocks, many times."""
    random = np.random.default_rng(seed)
    row = np.full(24, 240, np.uint8)
    left = int(random.integers(2, 8))
    row[left : left + 9], row[left - 1] = random.integers(20, 120), random.integers(120, 230)
    return np.repeat(np.tile(row, (side, side // 24))[..., None], 3, 2)


def dithered(levels: int, side: int = 256) -> Rgb:
    """A ramp by ordered dithering."""
    bayer = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) / 16
    ramp = np.linspace(0.1, 0.9, side)[None, :]
    steps = np.floor(ramp * levels + np.tile(bayer, (side // 4, side // 4)))
    return np.repeat((20 + 200 / levels * steps).astype(np.uint8)[..., None], 3, 2)


def saved(picture: Rgb, spec: str) -> Rgb:
    return degrade_still(picture, parse_spec(spec)).rgb


@pytest.fixture(scope="module", params=["photograph", "drawing"])
def picture(request: pytest.FixtureRequest) -> Rgb:
    return photograph(1) if request.param == "photograph" else drawing(1)


def test_the_grid_of_a_very_wide_picture_is_found() -> None:
    """One row of blocks has more of them than are looked at."""
    strips = [strip for seed in range(3) for strip in np.split(photograph(seed), 4)]
    wide = np.concatenate([strip[::turn] for turn in (1, -1) for strip in strips * 6], 1)[:, :33005]
    found = find_jpeg(saved(wide, "jpeg:q=30")[3:, 5:])
    assert found is not None and (found.phase, found.quality) == ((5, 3), 30)


@pytest.mark.parametrize("quality", [10, 30, 50, 75, 90])
def test_png_of_a_jpeg_tells_its_quality(picture: Rgb, quality: int) -> None:
    found = find_jpeg(saved(picture, f"jpeg:q={quality}"))
    assert found is not None and found.phase == (0, 0)
    wanted = ijg_tables(quality).luma.astype(float).mean()
    assert found.tables.luma.astype(float).mean() == pytest.approx(wanted, rel=0.15)


def test_clean_pictures_are_called_clean() -> None:
    for seed in range(4):
        assert find_jpeg(photograph(seed)) is None
        assert find_jpeg(drawing(seed)) is None
    assert find_jpeg(np.full((64, 64, 3), 99, np.uint8)) is None
    assert find_jpeg(np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)) is None
    assert find_jpeg(np.zeros((20, 500, 3), np.uint8)) is None  # too small to say


def test_gray_samples_work_too() -> None:
    luma = saved(photograph(2), "jpeg:q=30")[..., 1]
    assert find_jpeg(photograph(2)[..., 1]) is None
    gray = np.repeat(photograph(2)[..., 1:2], 3, -1)
    assert (found := find_jpeg(saved(gray, "jpeg:q=30")[..., 0])) is not None and found.quality == 30
    assert luma.ndim == 2


def test_a_cropped_picture_tells_quality_and_place(picture: Rgb) -> None:
    found = find_jpeg(saved(picture, "jpeg:q=10")[3:, 5:])
    assert found is not None and found.phase == (5, 3)  # 8 - 3, 8 - 5
    assert found.tables.luma.astype(float).mean() > 0.7 * ijg_tables(10).luma.astype(float).mean()


def test_a_reencoded_picture_is_not_taken_for_fine() -> None:
    again = saved(saved(photograph(3), "jpeg:q=10"), "jpeg:q=95")
    told = reconcile(JpegEvidence(ijg_tables(95)), find_jpeg(again))
    assert told is not None
    assert told.tables.luma.astype(float).mean() > 0.7 * ijg_tables(10).luma.astype(float).mean()


def test_a_finely_saved_clean_picture_keeps_its_header(picture: Rgb) -> None:
    header = JpegEvidence(ijg_tables(95))
    assert reconcile(header, find_jpeg(saved(picture, "jpeg:q=95"))) is header


def test_a_plain_jpegs_header_is_believed(picture: Rgb) -> None:
    for quality in (10, 50, 90):
        header = JpegEvidence(ijg_tables(quality))
        assert reconcile(header, find_jpeg(saved(picture, f"jpeg:q={quality}"))) is header, quality


def test_a_header_that_lies_is_not_believed() -> None:
    told = reconcile(JpegEvidence(ijg_tables(98)), find_jpeg(saved(photograph(4), "jpeg:q=20")))
    assert told is not None and told.tables.luma.astype(float).mean() > 0.7 * ijg_tables(20).luma.astype(float).mean()


def test_nothing_known_is_nothing_to_restore() -> None:
    assert reconcile(None, None) is None
    header, seen = JpegEvidence(ijg_tables(40)), JpegEvidence(ijg_tables(20, (1, 1)), (5, 3))
    assert reconcile(header, None) is header and reconcile(None, seen) is seen
    both = reconcile(header, seen)
    assert both is not None and np.array_equal(both.tables.luma, seen.tables.luma)
    assert both.tables.subsampling == (2, 2) and both.phase == (5, 3)


def test_tables_of_another_encoder_are_found_by_frequency() -> None:
    flat = JpegTables(np.full((8, 8), 24, np.uint16), np.full((8, 8), 24, np.uint16), (1, 1))
    found = find_jpeg(decode_picture(encode_jpeg(photograph(5), flat)))
    assert found is not None and found.quality is None
    assert np.median(found.tables.luma) == 24


@pytest.mark.parametrize("qp", [2, 4, 6, 8, 12])
def test_a_frame_of_a_video_with_a_dead_zone_is_no_jpeg(qp: int) -> None:
    """H.263 and MPEG put coefficients at odd multiples of half the step: (2 L + 1) QP - 1, QP even (H.263 6.2.1)."""
    picture = photograph(3)
    luma = picture.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    dct = dct_matrix().astype(np.float64)
    blocks = luma.reshape(32, 8, 32, 8).transpose(0, 2, 1, 3)
    coefficients = dct @ blocks @ dct.T
    scale = 255 / 219  # limited range, seen as full range
    level = np.floor(np.abs(coefficients) / (2 * qp * scale))
    coded = np.sign(coefficients) * ((2 * level + 1) * qp - 1) * scale * (level > 0)
    coded[..., 0, 0] = coefficients[..., 0, 0]
    gray = np.clip(np.rint(dct.T @ coded @ dct), 0, 255).transpose(0, 2, 1, 3).reshape(256, 256)
    frame = np.repeat(gray[..., None], 3, -1).astype(np.uint8)
    assert find_jpeg(frame) is None


def test_the_share_on_steps_is_chance_off_the_grid(picture: Rgb) -> None:
    tables = ijg_tables(60)
    saved = decode_picture(encode_jpeg(picture, tables))
    assert share_on_steps(saved, tables.luma, (0, 0)) > 0.9
    assert 0.3 < share_on_steps(saved, tables.luma, (4, 3)) < 0.5
    assert np.isnan(share_on_steps(saved, np.ones((8, 8), np.uint16), (0, 0)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("across", [False, True])
def test_blocks_drawn_many_times_are_no_jpeg(seed: int, across: bool) -> None:
    picture = bars(seed).transpose(1, 0, 2) if across else bars(seed)
    assert find_jpeg(np.ascontiguousarray(picture)) is None


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_dithering_is_no_jpeg(levels: int) -> None:
    assert find_jpeg(dithered(levels)) is None


def test_checks_are_no_jpeg() -> None:
    checks = np.mgrid[0:256, 0:256].sum(0) // 4 % 2 * 150 + 50
    assert find_jpeg(np.repeat(checks.astype(np.uint8)[..., None], 3, 2)) is None


def test_other_encoders_tables_are_found_off_the_grid(picture: Rgb) -> None:
    luma = (8 + 3 * np.add.outer(np.arange(8), np.arange(8))).astype(np.uint16)
    buffer = io.BytesIO()
    tables = [luma.ravel().tolist()] * 2
    Image.fromarray(picture).save(buffer, "JPEG", qtables=tables, subsampling=2)
    decoded = np.asarray(Image.open(buffer))
    found = find_jpeg(np.ascontiguousarray(decoded[3:, 5:]))
    assert found is not None and found.phase == (5, 3) and found.quality is None
    low = np.add.outer(np.arange(8), np.arange(8)) < 4  # where every picture has coefficients
    assert (np.abs(found.tables.luma.astype(int) - luma)[low][1:] <= 1).mean() > 0.7


@pytest.mark.parametrize("quality", [85, 90, 96])
def test_a_qr_codes_modules_are_no_quantiser(quality: int) -> None:
    """Saved as a fine JPEG each block differs from its like by rounding; modules of 4 px make combs of their own."""
    modules = np.random.default_rng(1).random((64, 64)) > 0.5
    picture = np.repeat(np.kron(modules, np.ones((4, 4)))[..., None] * 255, 3, 2).astype(np.uint8)
    header = JpegEvidence(ijg_tables(quality))
    told = reconcile(header, find_jpeg(saved(picture, f"jpeg:q={quality}")))
    assert told is not None and told.tables.luma.mean() == header.tables.luma.mean()
