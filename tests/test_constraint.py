"""A JPEG's coefficients have the last word: never farther from the truth, and where blocks lie."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from test_enhance import RGB24, YUV420, fp32, restorer
from test_estimate import drawing, photograph
from torch import Tensor

from ns_video import constraint
from ns_video.constraint import WIDTH, hold, project
from ns_video.enhance import Enhancer, load_enhancer
from ns_video.estimate import JpegEvidence, reconcile
from ns_video.frame import ColorInfo, Frame, JpegTables
from ns_video.jpeg_tables import dct_matrix, ijg_tables
from ns_video.media.pictures import Rgb, decode_picture, encode_jpeg
from ns_video.media.still import read_still
from ns_video.networks.ns_restore import NsRestore

LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)


def tensor(rgb: Rgb) -> Tensor:
    return torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


def saved(rgb: Rgb, tables: JpegTables) -> Rgb:
    return decode_picture(encode_jpeg(rgb, tables))


@pytest.mark.parametrize("make", [photograph, drawing])
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_a_bad_result_comes_nearer_to_the_truth(
    make: Callable[[int], Rgb], subsampling: tuple[int, int], quality: int
) -> None:
    clean = make(3)
    tables = ijg_tables(quality, subsampling)
    decoded = saved(clean, tables)
    noise = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 12 / 255
    bad = tensor(decoded) + noise
    for width in (0.5, WIDTH):
        assert error(project(bad, tensor(decoded), tables, width=width), tensor(clean)) < error(bad, tensor(clean))


def saved_as_rgb(path: Path, rgb: Rgb, quality: int) -> tuple[Tensor, JpegTables]:
    """What a JPEG that codes R, G and B shows, and tells."""
    Image.fromarray(rgb).save(path, quality=quality, keep_rgb=True)
    frame, _ = read_still(path)
    assert frame.jpeg is not None and frame.jpeg.is_rgb and frame.jpeg.subsampling == (1, 1)
    return tensor(np.stack(frame.planes, -1)), frame.jpeg


@pytest.mark.parametrize("quality", [30, 90])
def test_a_jpeg_of_red_green_and_blue_is_held_to_those(quality: int, tmp_path: Path) -> None:
    clean = photograph(3)
    seen, tables = saved_as_rgb(tmp_path / "rgb.jpg", clean, quality)
    noise = torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1)) * 12 / 255
    held = project(seen + noise, seen, tables)
    assert error(held, tensor(clean)) < error(seen + noise, tensor(clean))
    assert float((project(seen, seen, tables) - seen).abs().max()) < 1e-5
    matrix = torch.from_numpy(dct_matrix())
    steps = torch.from_numpy(tables.luma.astype(np.float32))
    for before, after in zip(seen[0] * 255 - 128, held[0] * 255 - 128, strict=True):
        was, now = (
            matrix @ plane.reshape(32, 8, 32, 8).transpose(1, 2) @ matrix.T / steps for plane in (before, after)
        )
        assert float((now - was).abs().max()) < WIDTH + 0.55  # which may lie off the grid itself, where samples clip
        assert float(((now - was.round()).abs() > WIDTH + 0.05).float().mean()) < 0.02


@pytest.mark.parametrize("quality", [50, 75])
def test_a_jpeg_of_red_green_and_blue_gains(quality: int, tmp_path: Path) -> None:
    """What its pixels say of luma and chroma, which it never coded, isn't asked."""
    for make in (photograph, drawing):
        clean = make(3)
        seen, tables = saved_as_rgb(tmp_path / "rgb.jpg", clean, quality)
        gray = JpegEvidence(ijg_tables(10))
        assert reconcile(JpegEvidence(tables), gray) == JpegEvidence(tables)
        restored = load_enhancer("photo", device="cpu", ensemble=1)(seen, tables)
        assert error(restored, tensor(clean)) < error(seen, tensor(clean))


def test_other_files_of_three_components_are_luma_and_chroma(tmp_path: Path) -> None:
    for name, options in {"plain": {}, "444": {"subsampling": 0}}.items():
        Image.fromarray(photograph(3)).save(tmp_path / f"{name}.jpg", quality=80, **options)
        frame, _ = read_still(tmp_path / f"{name}.jpg")
        assert frame.jpeg is not None and not frame.jpeg.is_rgb


def test_what_agrees_with_the_file_is_left() -> None:
    """The decoded picture itself, and the truth with intervals of half a step (rounding moves a few beyond them)."""
    clean = photograph(3)
    tables = ijg_tables(30, (1, 1))
    decoded = tensor(saved(clean, tables))
    assert float((project(decoded, decoded, tables) - decoded).abs().max()) < 1e-5
    truth = tensor(clean)
    moved = project(truth, decoded, tables, width=0.5)
    assert float((moved - truth).abs().mean()) < 0.1 / 255


def test_luma_alone_is_held_where_chroma_is_subsampled() -> None:
    clean = photograph(3)
    tables = ijg_tables(50, (2, 2))
    decoded = tensor(saved(clean, tables))
    tinted = decoded + torch.tensor([0.3, -0.1, 0.0]).view(1, 3, 1, 1)
    moved = project(tinted, decoded, tables)
    opponent = torch.tensor([-0.168736, -0.331264, 0.5]).view(3, 1, 1)
    assert float(((moved - tinted)[0] * opponent).sum(0).abs().max()) < 1e-5
    assert float(((moved - tinted)[0] * LUMA).sum(0).abs().mean()) > 0.01


def test_blocks_lie_where_the_evidence_says() -> None:
    clean = photograph(3)
    tables = ijg_tables(20, (1, 1))
    decoded = saved(clean, tables)[3:, 5:]
    truth = tensor(clean[3:, 5:])
    right = project(truth, tensor(decoded), tables, (5, 3), 0.5)
    wrong = project(truth, tensor(decoded), tables, (0, 0), 0.5)
    assert float((right - truth).abs().mean()) < 0.1 / 255 < 0.5 / 255 < float((wrong - truth).abs().mean())
    bad = tensor(decoded) + 0.1
    right = project(bad, tensor(decoded), tables, (5, 3))
    assert torch.equal(right[..., :5, :], bad[..., :5, :]) and torch.equal(right[..., :3], bad[..., :3])
    assert not torch.equal(right[..., 5:, 3:], bad[..., 5:, 3:])
    strip = bad[..., :6, :]  # no whole block
    assert torch.equal(project(strip, tensor(decoded)[..., :6, :], tables), strip)


@pytest.mark.parametrize("told", ["tables", "evidence", "nothing"])
def test_the_stage_holds_stills_to_their_file(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By both ways in: a network of noise may not lead away from the file."""
    monkeypatch.setattr(constraint, "belief", lambda *_: torch.ones(()))
    tables = ijg_tables(40, (1, 1))
    decoded = saved(photograph(3), tables)
    descriptor = restorer("jpeg", domain="rgb")
    with torch.no_grad():
        network = cast(NsRestore, descriptor.network)
        network.tail.weight.mul_(0.05)  # nothing is to be clamped
    enhancer = Enhancer(descriptor, fp32(ensemble=1))
    side = {"tables": tables, "evidence": JpegEvidence(tables), "nothing": None}[told]
    restored = enhancer(tensor(decoded), side)
    assert float((restored - tensor(decoded)).abs().mean()) > 2 / 255
    away = float((project(restored, tensor(decoded), tables) - restored).abs().mean())
    assert away < (0.6 if told == "nothing" else 0.1) / 255  # the tables that are found are not quite the file's
    planes: Any = tuple(np.ascontiguousarray(decoded[..., channel]) for channel in range(3))
    frame = Frame(planes, 256, 256, RGB24, ColorInfo(), 0, Fraction(1, 25), jpeg=None if told == "nothing" else tables)
    (result,) = enhancer.run([frame])
    rgb = np.stack(result.frame.planes[:3], -1)
    assert np.abs(rgb.astype(float) - np.rint(restored[0].permute(1, 2, 0).numpy() * 255)).max() <= 1


def test_frames_whose_luma_is_another_are_not_held() -> None:
    """Limited range, or BT.709: the file's coefficients are not those of the frame's RGB."""
    random = np.random.default_rng(0)
    planes: Any = (
        random.integers(60, 200, (64, 64)).astype(np.uint8),
        *(random.integers(100, 150, (32, 32)).astype(np.uint8) for _ in range(2)),
    )
    limited = Frame(planes, 64, 64, YUV420, ColorInfo(matrix=6, range=1), 0, Fraction(1, 25), jpeg=ijg_tables(50))
    full = dataclasses.replace(limited, color=ColorInfo(matrix=6, range=2))
    wide = dataclasses.replace(limited, color=ColorInfo(matrix=1, range=2))
    calls: list[JpegEvidence | None] = []
    enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    original = enhancer._restore_frame

    def watch(around: Any, *arguments: Any, **named: Any) -> Any:
        calls.append(around.jpeg)
        return original(around, *arguments, **named)

    enhancer._restore_frame = watch  # pyright: ignore[reportAttributeAccessIssue]
    list(enhancer.run([limited, full, wide]))
    assert calls[0] is None and calls[1] is not None and calls[2] is None


def test_a_network_that_smooths_dithering_is_not_believed() -> None:
    ramp = np.linspace(0, 255, 128)[None].repeat(128, 0)
    noise = np.random.default_rng(4).uniform(0, 255, (128, 128))
    clean = np.repeat(((ramp > noise) * 255).astype(np.uint8)[..., None], 3, 2)
    tables = ijg_tables(75, (2, 2))
    seen = tensor(saved(clean, tables))
    smooth = F.avg_pool2d(F.pad(seen, (1, 1, 1, 1), mode="replicate"), 3, 1)
    assert torch.equal(hold(smooth, seen, tables), seen)
    assert error(project(smooth, seen, tables), tensor(clean)) > error(seen, tensor(clean))


@pytest.mark.parametrize("make", [photograph, drawing])
@pytest.mark.parametrize("quality", [10, 50, 90])
def test_a_true_restoration_is_believed(make: Callable[[int], Rgb], quality: int) -> None:
    """Half of the way to the truth: a quarter of the error's power."""
    tables = ijg_tables(quality, (2, 2))
    clean = make(3)
    seen = tensor(saved(clean, tables))
    better = torch.lerp(seen, tensor(clean), 0.5)
    held = hold(better, seen, tables)
    assert torch.equal(held, project(better, seen, tables))
    assert error(held, tensor(clean)) < error(seen, tensor(clean))


def test_flat_blocks_are_left() -> None:
    blocks = np.random.default_rng(5).integers(0, 255, (16, 16)).astype(np.uint8)
    clean = np.repeat(np.kron(blocks, np.ones((8, 8), np.uint8))[..., None], 3, 2)
    tables = ijg_tables(50, (2, 2))
    seen = tensor(saved(clean, tables))
    assert torch.equal(hold(seen + 0.004 * torch.randn_like(seen), seen, tables), seen)


def test_a_foreign_block_changes_nothing_for_flat_ones() -> None:
    """Cells drawn on the grid, in which a caption stands."""
    blocks = np.random.default_rng(5).integers(90, 150, (16, 16)).astype(np.uint8)
    clean = np.repeat(np.kron(blocks, np.ones((8, 8), np.uint8))[..., None], 3, 2)
    tables = ijg_tables(50, (2, 2))
    seen = tensor(saved(clean, tables))
    changed = seen + 0.004 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(1))
    foreign = np.zeros((16, 16), bool)
    foreign[7, 7] = True
    away = [float((hold(changed, seen, tables, foreign=one) - seen).abs().mean()) for one in (None, foreign)]
    assert away[1] == pytest.approx(away[0], rel=0.05, abs=1e-7)


def test_what_is_wholly_foreign_comes_back_as_a_copy() -> None:
    """The caller subtracts from it in place."""
    seen = tensor(photograph(3))
    held = hold(seen + 0.01, seen, ijg_tables(50), foreign=np.ones((32, 32), bool))
    assert torch.equal(held, seen) and held.data_ptr() != seen.data_ptr()


@pytest.mark.parametrize("options", [{"strength": 0.5}, {"sharpen": 0.5}, {"scale": 0.5}])
def test_both_ways_in_agree_at_black_and_white_edges(options: dict[str, float]) -> None:
    """A network may go beyond white before that is scaled, sharpened or resized."""
    clean = np.kron(np.random.default_rng(2).integers(0, 2, (32, 32)), np.ones((8, 8))).astype(np.uint8) * 255
    tables = ijg_tables(15, (1, 1))
    decoded = saved(np.repeat(clean[..., None], 3, 2), tables)
    descriptor = restorer("jpeg", domain="rgb")
    with torch.no_grad():
        cast(NsRestore, descriptor.network).tail.weight.mul_(0.2)
    enhancer = Enhancer(descriptor, fp32(ensemble=1, **options))
    called = np.rint(enhancer(tensor(decoded), tables)[0].permute(1, 2, 0).numpy() * 255)
    planes: Any = tuple(np.ascontiguousarray(decoded[..., channel]) for channel in range(3))
    frame = Frame(planes, 256, 256, RGB24, ColorInfo(), 0, Fraction(1, 25), jpeg=tables)
    (result,) = enhancer.run([frame])
    assert np.abs(np.stack(result.frame.planes[:3], -1) - called).max() <= 1


@pytest.mark.parametrize("quality", [75, 90])
def test_the_shipped_network_leaves_dithering(quality: int) -> None:
    ramp = np.linspace(0, 255, 128)[None].repeat(128, 0)
    noise = np.random.default_rng(4).uniform(0, 255, (128, 128))
    clean = np.repeat(((ramp > noise) * 255).astype(np.uint8)[..., None], 3, 2)
    tables = ijg_tables(quality, (2, 2))
    seen = tensor(saved(clean, tables))
    restored = load_enhancer("photo", device="cpu", ensemble=1)(seen, tables)
    assert error(restored, tensor(clean)) <= 1.01 * error(seen, tensor(clean))


def test_a_smooth_picture_of_flat_blocks_is_believed() -> None:
    """A ramp at low quality: no coefficient but the means is left, and the steps between blocks are the damage."""
    ramp = np.add.outer(np.linspace(0, 40, 128), np.linspace(60, 120, 128))
    clean = np.repeat(np.rint(ramp).astype(np.uint8)[..., None], 3, 2)
    tables = ijg_tables(5, (2, 2))
    seen = tensor(saved(clean, tables))
    smoother = torch.lerp(seen, tensor(clean), 0.5)
    held = hold(smoother, seen, tables)
    assert torch.equal(held, project(smoother, seen, tables))
    assert error(held, tensor(clean)) < error(seen, tensor(clean))
