"""Pictures of cells: shrunk to what was there, found where they are, left alone where they aren't."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from test_enhance import RGB24, describe, fp32
from test_estimate import drawing, photograph
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ns_video.cells import Kind, _axis, cell_counts, find_pitch, fit, shrink
from ns_video.enhance import Enhancer
from ns_video.errors import ModelError
from ns_video.frame import ColorInfo, Frame
from ns_video.jpeg_tables import ijg_tables
from ns_video.media.degrade import blur_down, mosaic
from ns_video.media.pictures import Rgb, decode_picture, encode_jpeg
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.weights import Descriptor, Metadata, load_descriptor, save_model


def tensor(rgb: Rgb) -> Tensor:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255


def luma(rgb: Rgb) -> Tensor:
    return tensor(rgb)[0].mean(0)


@pytest.mark.parametrize("pitch", [2, 3, 4])
@pytest.mark.parametrize("size", [(96, 144), (97, 131), (101, 94)])
def test_a_mosaic_shrinks_to_its_samples(pitch: int, size: tuple[int, int]) -> None:
    clean = photograph(1)[: size[0], : size[1]]
    small = cv2.resize(clean, (size[1] // pitch, size[0] // pitch), interpolation=cv2.INTER_LINEAR)
    found = shrink(tensor(mosaic(clean, pitch)), "mosaic", pitch)
    assert float((found - tensor(np.asarray(small, np.uint8))).abs().max()) < 1e-5


@pytest.mark.parametrize("size", [(96, 144), (97, 131), (101, 94)])
def test_a_shrunk_picture_shrinks_to_its_samples(size: tuple[int, int]) -> None:
    clean = photograph(1)[: size[0], : size[1]]
    soft = cv2.GaussianBlur(clean, (7, 7), 0)
    small = np.asarray(cv2.resize(soft, None, fx=1 / 3, fy=1 / 3, interpolation=cv2.INTER_AREA), np.uint8)
    found = shrink(tensor(blur_down(clean)), "shrunk", 3)
    assert found.shape[-2:] == small.shape[:2] == cell_counts("shrunk", *size, 3)
    assert float((found - tensor(small)).abs().max()) < 1.5 / 255  # what rounding leaves


@pytest.mark.parametrize("kind", ["mosaic", "shrunk"])
def test_long_lines_shrink_as_short_ones_do(kind: Kind) -> None:
    """Blocks of cells are inverted with their neighbours alone; memory must not grow with the square of the length."""
    length = 9001
    cells = cell_counts(kind, length, length, 3)[1]
    axis = _axis(kind, length, cells, 0.0)
    random = torch.Generator().manual_seed(1)
    samples = torch.rand(4, cells, generator=random)
    assert float((axis.shrink(axis.spread(samples)) - samples).abs().max()) < 1e-5
    tracemalloc.start()
    assert find_pitch(axis.spread(torch.rand(24, cells, generator=random)), kind) is None  # cells across, not down
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("make", [photograph, drawing])
@pytest.mark.parametrize("pitch", [2, 3, 4])
def test_the_pitch_of_a_mosaic_is_found(make: Callable[[int], Rgb], pitch: int) -> None:
    blocks = mosaic(make(2)[:251, :243], pitch)
    assert find_pitch(luma(blocks), "mosaic") == pitch
    for quality in (90, 70) if make is drawing else (90,):
        assert find_pitch(luma(decode_picture(encode_jpeg(blocks, ijg_tables(quality)))), "mosaic") == pitch
    assert find_pitch(luma(blocks), "shrunk") is None


@pytest.mark.parametrize("make", [photograph, drawing])
def test_pictures_without_cells_have_no_pitch(make: Callable[[int], Rgb]) -> None:
    clean = make(2)
    others = {
        "clean": clean,
        "soft": cv2.GaussianBlur(clean, (7, 7), 0),
        "jpeg": decode_picture(encode_jpeg(clean, ijg_tables(20))),
        "enlarged": cv2.resize(clean[:128, :128], (256, 256), interpolation=cv2.INTER_CUBIC),
        "flat": np.full_like(clean, 90),
        "tiny": clean[:6, :6],
    }
    kinds: tuple[Kind, ...] = ("mosaic", "shrunk")
    for name, picture in others.items():
        for kind in kinds:
            assert find_pitch(luma(np.asarray(picture, np.uint8)), kind) is None, (name, kind)
    assert find_pitch(luma(blur_down(clean)), "shrunk") == 3


def test_a_mosaic_is_brought_to_size() -> None:
    picture = torch.rand(1, 3, 12, 9)
    assert fit(picture, "mosaic", 12, 9) is picture
    assert fit(picture, "mosaic", 6, 10).shape == (1, 3, 6, 10)


@pytest.mark.parametrize("width", [255, 256, 257])
def test_a_shrunk_pictures_cells_are_three_pixels_at_every_width(width: int) -> None:
    """A line at a known place comes back there: the picture is cut or its border repeated, never stretched."""
    clean = np.full((96, width, 3), 40, np.uint8)
    for line in range(6, width - 6, 30):
        clean[:, line : line + 3] = 220
    small = shrink(tensor(blur_down(clean)), "shrunk", 3)
    restored = fit(small.repeat_interleave(3, -1).repeat_interleave(3, -2), "shrunk", 96, width)
    assert restored.shape == (1, 3, 96, width)
    for line in range(6, width - 6, 30):
        around = restored[0, 0, 48, line - 4 : line + 7]
        weight = (around - 40 / 255).clamp(min=0)
        assert abs(float((weight * torch.arange(-4, 7)).sum() / weight.sum()) - 1.0) < 0.2, line


def sees_cells(kind: Kind) -> Descriptor:
    """A network that changes the pictures of cells that it sees."""
    torch.manual_seed(5)
    scale = {"mosaic": 4, "shrunk": 3}[kind]
    config = NsRestoreConfig(channels=8, blocks=(1, 1, 0), unshuffle=1, scale=scale, side=int(kind == "mosaic"))
    network = NsRestore(config)
    nn.init.normal_(network.tail.weight, std=0.05)
    return describe(
        network,
        cell_scale=scale,
        halo=network.receptive_radius,
        multiple_of=network.multiple_of,
        conditioning=kind,
        domain="rgb",
    )


def damaged(kind: Kind, side: int = 256) -> Rgb:
    clean = photograph(4, side)[: side - 15, : side - 2]
    return mosaic(clean, 3) if kind == "mosaic" else blur_down(clean)


@pytest.mark.parametrize("kind", ["mosaic", "shrunk"])
def test_only_pictures_of_cells_are_restored(kind: Kind) -> None:
    enhancer = Enhancer(sees_cells(kind), fp32())
    clean, bad = tensor(photograph(4)[:241, :254]), tensor(damaged(kind))
    assert torch.equal(enhancer(clean), clean)
    restored = enhancer(bad)
    assert restored.shape == bad.shape and float((restored - bad).abs().mean()) > 1e-3


@pytest.mark.parametrize("kind", ["mosaic", "shrunk"])
def test_tiles_of_cells_are_exact(kind: Kind) -> None:
    bad = tensor(damaged(kind, 640))
    whole = Enhancer(sees_cells(kind), fp32(tile=4096))(bad)
    tiled = Enhancer(sees_cells(kind), fp32(tile=64))
    assert float((tiled(bad) - whole).abs().max()) <= 1e-5 < float((whole - bad).abs().max())
    assert tiled.stats.tile == 64


def test_frames_without_cells_pass_and_are_counted() -> None:
    def frame(rgb: Rgb, pts: int) -> Frame:
        planes: Any = tuple(np.ascontiguousarray(rgb[..., channel]) for channel in range(3))
        return Frame(planes, rgb.shape[1], rgb.shape[0], RGB24, ColorInfo(), pts, Fraction(1, 25))

    enhancer = Enhancer(sees_cells("mosaic"), fp32())
    first, second = frame(photograph(4)[:241, :254], 0), frame(damaged("mosaic"), 1)
    passed, restored = enhancer.run([first, second])
    assert passed.reason == "undamaged" and all(map(np.array_equal, passed.frame.planes, first.planes))
    assert restored.reason is None and not np.array_equal(restored.frame.planes[0], second.planes[0])
    assert (enhancer.stats.restored, enhancer.stats.undamaged) == (1, 1)


def test_weights_of_a_network_that_sees_cells(tmp_path: Path) -> None:
    path = tmp_path / "blocks.safetensors"
    network = NsRestore(NsRestoreConfig(channels=8, blocks=(0, 1, 0), unshuffle=1, scale=4, side=1))
    save_model(network, path, Metadata("ns_restore", "mosaic"))
    descriptor = load_descriptor(str(path))
    assert (descriptor.scale, descriptor.enlarges, descriptor.conditioning) == (1, 4, "mosaic")
    wrong = NsRestore(NsRestoreConfig(channels=8, blocks=(0, 1, 0), unshuffle=1, scale=2, side=1))
    save_model(wrong, path, Metadata("ns_restore", "mosaic"))
    with pytest.raises(ModelError, match="enlarges 2 times"):
        load_descriptor(str(path))


@pytest.mark.parametrize("pitch", [2, 3, 4])
@pytest.mark.parametrize("crop", [(1, 1), (1, 0), (0, 1)])
def test_a_cropped_mosaic_is_left(pitch: int, crop: tuple[int, int]) -> None:
    cropped = mosaic(photograph(3)[:252, :252], pitch)[crop[0] :, crop[1] :]
    assert find_pitch(luma(cropped), "mosaic") is None


def test_what_was_shrunk_without_a_blur_is_left() -> None:
    """The study's network undoes a blur: where there was none it would sharpen."""
    picture = photograph(3)
    small = cv2.resize(picture[:255, :255], (85, 85), interpolation=cv2.INTER_LINEAR)
    assert find_pitch(luma(cv2.resize(small, (255, 255), interpolation=cv2.INTER_LINEAR)), "shrunk") is None
    assert find_pitch(luma(blur_down(picture[:255, :255])), "shrunk") == 3


@pytest.mark.parametrize("kind", ["mosaic", "shrunk"])
def test_cells_are_summed_in_a_fixed_order(kind: Kind) -> None:
    """On CUDA index_add_ takes another one each time, and rounds otherwise."""
    called: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(str(func))
            return func(*args, **(kwargs or {}))

    with Watch():
        shrink(torch.rand(1, 3, 60, 90), kind, 3)
    assert called and not [name for name in called if "index_add" in name or "scatter" in name or "put" in name]
