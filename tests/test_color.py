"""Colour: identity is exact for every format, matrices are the standards', chroma comes back from where it went."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ns_video import color
from ns_video.frame import RANGE_FULL, RANGE_LIMITED, ColorInfo, PixelFormat, Plane


def pixel_format(
    name: str, depth: int = 8, shift: tuple[int, int] = (0, 0), planes: int = 3, **more: bool
) -> PixelFormat:
    return PixelFormat(name, depth, more.get("rgb", False), planes, shift[0], shift[1], more.get("alpha", False))


FORMATS = [
    pixel_format("yuv420p", 8, (1, 1)),
    pixel_format("yuvj420p", 8, (1, 1)),
    pixel_format("yuv422p10le", 10, (1, 0)),
    pixel_format("yuv444p12le", 12),
    pixel_format("yuv411p", 8, (2, 0)),
    pixel_format("yuv410p", 8, (2, 2)),
    pixel_format("yuv440p", 8, (0, 1)),
    pixel_format("gray", 8, planes=1),
    pixel_format("gray16le", 16, planes=1),
    pixel_format("ya8", 8, planes=2, alpha=True),
    pixel_format("gbrp", 8, rgb=True),
    pixel_format("gbrap16le", 16, planes=4, rgb=True, alpha=True),
    pixel_format("yuva420p", 8, (1, 1), planes=4, alpha=True),
]
BY_NAME = {format.name: format for format in FORMATS}


def plane_shape(format: PixelFormat, index: int, height: int, width: int) -> tuple[int, int]:
    chroma = index in (1, 2) and not format.is_rgb and format.planes >= 3
    if not chroma:
        return height, width
    return -(-height // (1 << format.chroma_shift_y)), -(-width // (1 << format.chroma_shift_x))


def noise(format: PixelFormat, height: int, width: int, seed: int = 0, *, beyond: bool = False) -> tuple[Plane, ...]:
    """Random samples over the whole legal range, or over the whole container with `beyond`."""
    rng = np.random.default_rng(seed)
    kind = np.uint8 if format.bit_depth == 8 else np.uint16
    top = np.iinfo(kind).max if beyond else 2**format.bit_depth - 1
    shapes = [plane_shape(format, index, height, width) for index in range(format.planes)]
    planes: list[Any] = [rng.integers(0, top, shape, endpoint=True).astype(kind) for shape in shapes]
    return tuple(planes)


def flat(format: PixelFormat, values: tuple[int, ...], size: int = 8) -> tuple[Plane, ...]:
    kind = np.uint8 if format.bit_depth == 8 else np.uint16
    planes: list[Any] = [
        np.full(plane_shape(format, index, size, size), value, kind) for index, value in enumerate(values)
    ]
    return tuple(planes)


def equal(result: tuple[torch.Tensor, ...], planes: tuple[Plane, ...]) -> bool:
    return all(np.array_equal(tensor.numpy(), plane) for tensor, plane in zip(result, planes, strict=True))


@settings(max_examples=120, deadline=None)
@given(
    format=st.sampled_from(FORMATS),
    height=st.integers(1, 21),
    width=st.integers(1, 21),
    matrix=st.sampled_from([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 14]),
    range_=st.sampled_from([0, 1, 2]),
    location=st.integers(0, 6),
    domain=st.sampled_from(["rgb", "ycbcr"]),
    beyond=st.booleans(),
)
def test_no_change_is_exact(
    format: PixelFormat,
    height: int,
    width: int,
    matrix: int,
    range_: int,
    location: int,
    domain: color.Domain,
    beyond: bool,
) -> None:
    info = ColorInfo(matrix=matrix, range=range_, chroma_location=location)
    planes = noise(format, height, width, beyond=beyond)
    seen = color.to_tensor(planes, format, info, domain)
    assert seen.shape == (1, 3, height, width) and bool(torch.isfinite(seen).all())
    assert equal(color.recompose(planes, format, info, torch.zeros_like(seen), domain), planes)
    assert equal(color.recompose(planes, format, info, None, domain), planes)


@pytest.mark.parametrize(
    ("matrix", "red"),
    # Y, Cb, Cr of pure red, limited range, 8 bit: the standards' published colour-bar values.
    [(1, (63, 102, 240)), (6, (81, 90, 240)), (9, (74, 97, 240))],
)
def test_pure_red_by_the_standards(matrix: int, red: tuple[int, int, int]) -> None:
    format = BY_NAME["yuv420p"]
    rgb = color.to_tensor(flat(format, red), format, ColorInfo(matrix=matrix, range=RANGE_LIMITED), "rgb")
    assert rgb[0, :, 4, 4].tolist() == pytest.approx([1.0, 0.0, 0.0], abs=0.01)


@pytest.mark.parametrize("depth", [8, 10, 12, 16])
@pytest.mark.parametrize(("range_", "black", "white"), [(RANGE_LIMITED, 16 / 256, 235 / 256), (RANGE_FULL, 0.0, None)])
def test_black_and_white_in_any_depth(depth: int, range_: int, black: float, white: float | None) -> None:
    format = pixel_format(f"yuv444p{depth}", depth)
    whole = 2**depth
    neutral = whole // 2
    info = ColorInfo(range=range_)
    for level, expected in ((round(black * whole), 0.0), (whole - 1 if white is None else round(white * whole), 1.0)):
        for domain in ("rgb", "ycbcr"):
            seen = color.to_tensor(flat(format, (level, neutral, neutral)), format, info, domain)  # type: ignore[arg-type]
            assert seen[0, 0, 0, 0].item() == pytest.approx(expected, abs=1e-5)
            if domain == "ycbcr":
                assert seen[0, 1:, 0, 0].tolist() == pytest.approx([0.5, 0.5], abs=1e-5)


def test_untagged_reads_by_size_and_name() -> None:
    assert color.effective_matrix(ColorInfo(), 640, 480) == 6
    assert color.effective_matrix(ColorInfo(), 1280, 720) == 1
    assert color.effective_matrix(ColorInfo(matrix=9), 640, 480) == 9
    for untold in (0, 2, 3):
        assert color.effective_matrix(ColorInfo(matrix=untold), 640, 480) == 6
    assert color.is_full_range(BY_NAME["yuvj420p"], ColorInfo())
    assert not color.is_full_range(BY_NAME["yuv420p"], ColorInfo())
    assert color.is_full_range(BY_NAME["gbrp"], ColorInfo())
    assert not color.is_full_range(BY_NAME["yuvj420p"], ColorInfo(range=RANGE_LIMITED))


@pytest.mark.parametrize("domain", ["rgb", "ycbcr"])
@pytest.mark.parametrize("format", [BY_NAME["yuva420p"], pixel_format("yuv444p10le", 10)], ids=lambda f: f.name)
@pytest.mark.parametrize(("before", "after"), [(320, 640), (640, 320)])
def test_untagged_colours_stay_where_another_size_is_read_otherwise(
    before: int, after: int, format: PixelFormat, domain: color.Domain
) -> None:
    """BT.601 up to 1024x576, BT.709 above: as players read them."""
    unit = 2 ** (format.bit_depth - 8)
    levels = tuple(value * unit for value in (120, 90, 160, 255))[: format.planes]
    planes, there = flat(format, levels, before), flat(format, levels, after)
    matrix = color.effective_matrix(ColorInfo(), before, before)
    for added in (0.0, 0.02):
        change = torch.full((1, 3, after, after), added) if added else None
        made = color.recompose(planes, format, ColorInfo(), change, domain, size=(after, after))
        seen = color.to_tensor(made, format, ColorInfo(), "rgb")[0, :, 50, 50]
        wanted = color.to_tensor(planes, format, ColorInfo(), domain)[..., 50:51, 50:51] + added
        expected = (wanted if domain == "rgb" else color.ycbcr_to_rgb(wanted, matrix)).flatten()
        assert float((seen - expected).abs().max()) < 1.5 / 219
    assert not equal(made, there)
    for told in (matrix, 13, 14):  # players read these by what is told, at any size
        kept = color.recompose(planes, format, ColorInfo(matrix=told), None, domain, size=(after, after))
        assert equal(kept, there), told


@pytest.mark.parametrize(
    "format",
    [
        pixel_format("gbrap", 8, planes=4, rgb=True, alpha=True),
        pixel_format("yuva444p", 8, planes=4, alpha=True),
        BY_NAME["yuva420p"],
        BY_NAME["ya8"],
    ],
    ids=lambda format: format.name,
)
@pytest.mark.parametrize("size", [16, 24, 80])
def test_colours_that_alpha_hides_do_not_mix_with_those_it_shows(size: int, format: PixelFormat) -> None:
    count = format.planes - 1
    shown, hidden = (200, 60, 120)[:count], (30, 250, 10)[:count]
    planes = flat(format, (*shown, 255), 40)
    for plane, value in zip(planes, (*hidden, 0), strict=True):
        plane[:, plane.shape[1] // 2 :] = value
    info = ColorInfo(chroma_location=2)
    made = [plane.numpy() for plane in color.recompose(planes, format, info, None, "rgb", size=(size, size))]
    alpha = made[-1]
    assert alpha.min() == 0 and alpha.max() == 255
    for plane, level, covered in zip(made[:-1], shown, hidden, strict=True):
        step = size // plane.shape[1]
        visible = alpha.reshape(size // step, step, size // step, step).max((1, 3)) > 0
        assert plane[visible].tolist() == [level] * int(visible.sum())
        assert (plane[:, -1] == covered).all()


def test_rgb_and_ycbcr_are_inverse() -> None:
    rgb = torch.rand(2, 3, 9, 7)
    for matrix in (1, 6, 7, 8, 9):
        assert float((color.ycbcr_to_rgb(color.rgb_to_ycbcr(rgb, matrix), matrix) - rgb).abs().max()) < 1e-5


def test_what_alpha_hides_is_not_sharpened_and_sharpens_nothing() -> None:
    picture, alpha = torch.rand(1, 3, 24, 32), torch.ones(1, 1, 24, 32)
    assert torch.equal(color.sharpening(picture, 1.0, "rgb", alpha), color.sharpening(picture, 1.0, "rgb"))
    alpha[..., 12:16], alpha[..., 16:] = 1 / 65535, 0.0
    bright, dark = picture.clone(), picture.clone()
    bright[..., 16:], dark[..., 16:] = 1.0, 0.0
    added = color.sharpening(bright, 1.0, "rgb", alpha)
    assert torch.equal(added, color.sharpening(dark, 1.0, "rgb", alpha)) and not added[..., 16:].any()
    assert added[..., :16].abs().amax() < 1


@pytest.mark.parametrize("domain", ["rgb", "ycbcr"])
def test_sharpening_raises_an_edge_and_leaves_the_flat(domain: color.Domain) -> None:
    picture = torch.full((1, 3, 16, 16), 0.4)
    picture[..., 8:] = 0.6
    added = color.sharpening(picture, 1.0, domain)
    assert float(added[0, 0, 8, 8]) > 0.01 and float(added[0, 0, 8, 7]) < -0.01
    assert float(added[..., :4].abs().max()) < 1e-6
    if domain == "ycbcr":
        assert float(added[:, 1:].abs().max()) == 0.0


def test_read_only_and_strided_planes_are_read() -> None:
    wide = np.arange(200, dtype=np.uint8).reshape(10, 20)
    view = wide[:, ::2]
    view.flags.writeable = False
    assert np.array_equal(color.as_tensors([view])[0].numpy(), view)


def test_colours_do_not_hang_on_the_precision_of_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA's take TF32, which moves samples of 12 bits and more."""
    monkeypatch.delattr(color.F, "conv2d")
    format = pixel_format("yuv420p12le", 12, (1, 1))
    planes = noise(format, 20, 30)
    change = torch.rand(1, 3, 20, 30)
    for domain in ("rgb", "ycbcr"):
        color.recompose(planes, format, ColorInfo(), change, domain)
        color.sharpening(change, 1.0, domain)


def test_planes_are_resampled_where_they_are() -> None:
    format = BY_NAME["yuv420p"]
    planes = [torch.from_numpy(plane).to("meta") for plane in noise(format, 20, 30)]
    resized = color.recompose(planes, format, ColorInfo(), None, "rgb", size=(40, 60))
    assert [(plane.device.type, plane.shape[0]) for plane in resized] == [("meta", 40), ("meta", 20), ("meta", 20)]


@pytest.mark.parametrize("domain", ["rgb", "ycbcr"])
@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p12le", "gray", "gbrp", "yuvj420p"])
def test_a_wanted_picture_is_reached(name: str, domain: color.Domain) -> None:
    """Change = picture of other planes - picture of these: adding it gives the other planes, within rounding."""
    format = BY_NAME[name]
    info = ColorInfo(matrix=1, chroma_location=1)
    unit = 2 ** (format.bit_depth - 8)
    planes = flat(format, (90 * unit, 120 * unit, 140 * unit)[: format.planes], 12)
    other = flat(format, (97 * unit, 131 * unit, 122 * unit)[: format.planes], 12)
    change = color.to_tensor(other, format, info, domain) - color.to_tensor(planes, format, info, domain)
    result = color.recompose(planes, format, info, change, domain)
    for tensor, plane in zip(result, other, strict=True):
        assert np.abs(tensor.numpy().astype(int) - plane.astype(int)).max() <= (1 if domain == "rgb" else 0)


def test_ycbcr_change_of_one_plane_leaves_the_others() -> None:
    format = BY_NAME["yuv420p"]
    planes = noise(format, 11, 13)
    change = torch.zeros(1, 3, 11, 13)
    change[:, 1] = 10 / 224
    result = color.recompose(planes, format, ColorInfo(), change, "ycbcr")
    assert np.array_equal(result[0].numpy(), planes[0]) and np.array_equal(result[2].numpy(), planes[2])
    assert np.array_equal(result[1].numpy(), np.clip(planes[1].astype(int) + 10, 0, 255))


def test_samples_beyond_legal_survive_unless_changed() -> None:
    format = BY_NAME["yuv422p10le"]
    planes = flat(format, (2000, 512, 512), 4)
    change = torch.zeros(1, 3, 4, 4)
    change[0, 0, 0, 0] = 0.5
    result = color.recompose(planes, format, ColorInfo(), change, "ycbcr")[0].numpy()
    assert result[0, 0] == 1023 and (result[1:] == 2000).all()


@pytest.mark.parametrize("location", [1, 2, 3])
@pytest.mark.parametrize("shift", [(1, 1), (1, 0), (2, 0)])
def test_chroma_ramp_lies_where_its_location_says(location: int, shift: tuple[int, int]) -> None:
    """A ramp over luma positions, sampled where the chroma samples lie, is read back as that ramp."""
    format = pixel_format("ramp", 16, shift)
    info = ColorInfo(range=RANGE_FULL, matrix=1, chroma_location=location)
    fx = 1 << shift[0]
    width = 64
    place = np.arange(width // fx) * fx + ((fx - 1) / 2 if location == 2 else 0.0)
    blue = (32768 + 100 * (place - 32)).round().astype(np.uint16)
    rows = 8 >> shift[1]
    planes: tuple[Any, ...] = (
        np.full((8, width), 30000, np.uint16),
        np.tile(blue, (rows, 1)),
        np.full((rows, width // fx), 32768, np.uint16),
    )
    rgb = color.to_tensor(planes, format, info, "rgb")
    ycbcr = color.rgb_to_ycbcr(rgb)
    ramp = (ycbcr[0, 1, 4] - 0.5) * 65535
    expected = 100.0 * (torch.arange(width) - 32)
    assert float((ramp - expected)[8:-8].abs().max()) < 2.0


@pytest.mark.parametrize("offset", [0.0, -0.25])
@pytest.mark.parametrize("target", [80, 53, 17])
def test_resampling_keeps_a_ramp_in_its_place(offset: float, target: int) -> None:
    source = 40
    ramp = torch.arange(float(source)).view(1, 1, 1, source).expand(1, 1, source, source).contiguous()
    result = color.resample(ramp, (target, target), (0.0, offset))[0, 0, target // 2]
    place = (torch.arange(target) + 0.5 + offset) * source / target - 0.5 - offset
    assert float((result - place)[target // 4 : -target // 4].abs().max()) < 0.02


@pytest.mark.parametrize("format", FORMATS, ids=lambda format: format.name)
def test_a_new_size_keeps_levels(format: PixelFormat) -> None:
    unit = 2 ** (format.bit_depth - 8)
    levels = tuple(value * unit for value in (100, 90, 160, 255))[: format.planes]
    result = color.recompose(flat(format, levels), format, ColorInfo(), None, "rgb", size=(15, 11))
    for index, (tensor, level) in enumerate(zip(result, levels, strict=True)):
        assert tuple(tensor.shape) == plane_shape(format, index, 15, 11)
        assert bool((tensor.to(torch.int32) == level).all())
