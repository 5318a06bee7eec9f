"""What a JPEG's coefficients say about the picture it was made of: each lies within half a step. Floor 1: torch.

They say, too, when a network doesn't know what it sees. In photographs and drawings it leaves nearly all coefficients
that aren't zero within half a step of the file's, and changes the picture by less than the JPEG did. In dithering,
pixel art or QR codes, which it never learned, it doesn't, and makes them worse.

A restored picture is moved to the nearest one whose coefficients lie in those intervals, or in narrower ones around
their middles: the quantisation constraint set (Zakhor, IEEE Transactions on Circuits and Systems for Video Technology
2(1), 1992) and the narrow one (Park and Kim, IEEE Transactions on Image Processing 8(10), 1999). Where a network
expects another kind of picture, the file has the last word.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ns_video.frame import JpegTables
from ns_video.jpeg_tables import JFIF_YCBCR, dct_matrix
from ns_video.upload import upload

WIDTH = 0.33
"""Half the width of an interval in steps. 0.5 is certain; narrower ones hold most coefficients and less of a network's
errors: `benchmarks/still_choices.py` compares them on held-out training pictures."""

_STRAYING, _STRAYED = 0.18, 0.28
"""Share of a picture's luma coefficients other than zero that the network moves by more than half a step: from the
first on its change is believed less, at the second not at all. Chosen on training pictures, nearly all of which stay
below the first; `benchmarks/graphics.py` shows what is above."""
_LOUD, _TOO_LOUD = 0.45, 0.65
"""Power of the network's change / expected power of the JPEG's error, likewise. The best estimate of a picture changes
it by less than the error."""
_QUIET = 0.05
"""The same share below which no coefficient strays far enough to matter: smooth pictures have few that aren't zero."""
_FEW, _SMOOTH = 0.001, 12.0
"""Share of luma coefficients that aren't zero below which a picture is no more than flat blocks; and the mean
difference of neighbouring blocks, 8-bit steps, up to which they are a smooth picture and not drawn on the grid."""


class JpegMatrices(NamedTuple):
    """(8, 8) DCT, (3, 3) RGB to YCbCr (or to itself) and back, float32."""

    dct: Tensor
    to_coded: Tensor
    to_rgb: Tensor


@cache
@torch.inference_mode(False)  # kept for trainings too
def jpeg_matrices(device: torch.device) -> JpegMatrices:
    """On a device, once: each copy to a GPU takes the host's time."""
    to_ycbcr = torch.from_numpy(JFIF_YCBCR)
    matrices = (torch.from_numpy(dct_matrix()), to_ycbcr, torch.linalg.inv(to_ycbcr))
    return JpegMatrices(*(matrix.to(device) for matrix in matrices))


@cache
@torch.inference_mode(False)
def rgb_matrices(device: torch.device) -> JpegMatrices:
    """Those of a file that codes R, G and B."""
    same = torch.eye(3, device=device)
    return JpegMatrices(torch.from_numpy(dct_matrix()).to(device), same, same)


def _matrices_of(tables: JpegTables, device: torch.device) -> JpegMatrices:
    return rgb_matrices(device) if tables.is_rgb else jpeg_matrices(device)


def _coefficients(plane: Tensor, dct: Tensor) -> Tensor:
    """(8 m, 8 n) → (m, n, 8, 8) orthonormal DCT coefficients."""
    height, width = plane.shape
    return dct @ plane.reshape(height // 8, 8, width // 8, 8).transpose(1, 2) @ dct.T


def _plane(coefficients: Tensor, dct: Tensor) -> Tensor:
    rows, columns = coefficients.shape[:2]
    return (dct.T @ coefficients @ dct).transpose(1, 2).reshape(rows * 8, columns * 8)


def hold(
    restored: Tensor,
    decoded: Tensor,
    tables: JpegTables,
    phase: tuple[int, int] = (0, 0),
    width: float = WIDTH,
    foreign: npt.NDArray[np.bool_] | None = None,
) -> Tensor:
    """`project`, of a change that is believed no more than `belief` says; (1, 3, H, W) RGB in [0, 1], not clamped.

    `foreign` are (rows, columns) of whole blocks that never were a part of the JPEG: there, `decoded` stays.
    """
    inner = _whole_blocks(decoded, phase)
    if inner is None:
        return restored
    if foreign is not None and foreign.all():
        return decoded.to(restored.dtype, copy=True)  # which the caller may write to
    dct, to_coded, _ = _matrices_of(tables, restored.device)
    witness = to_coded[1 if tables.is_rgb else 0]  # luma, or green, which is most of it
    step = upload(torch.from_numpy(tables.luma.astype(np.float32)), restored.device)
    was, now = (_coefficients(_weighted(picture[0][inner], witness) - 128, dct) for picture in (decoded, restored))
    moved = project(restored, decoded, tables, phase, width)
    if foreign is None:
        return torch.lerp(decoded.to(restored.dtype), moved, belief(was, now, step, leap(was)))
    # By places, not by a mask: of how many a mask has, a GPU would have to tell the host.
    own = upload(torch.from_numpy(~foreign), restored.device)
    places = upload(torch.from_numpy(np.flatnonzero(~foreign)), restored.device)
    believed = belief(was.flatten(0, 1)[places], now.flatten(0, 1)[places], step, leap(was, own))
    return torch.lerp(decoded.to(restored.dtype), moved, believed * _over_picture(own, decoded, phase).float())


def _over_picture(blocks: Tensor, picture: Tensor, phase: tuple[int, int]) -> Tensor:
    """(rows, columns) of whole blocks → (H, W); what the border cuts is as the blocks beside it."""
    (top, left), (height, width) = phase, picture.shape[-2:]
    rows = ((torch.arange(height, device=blocks.device) - top) // 8).clamp(0, blocks.shape[0] - 1)
    columns = ((torch.arange(width, device=blocks.device) - left) // 8).clamp(0, blocks.shape[1] - 1)
    return blocks[rows][:, columns]


def _whole_blocks(picture: Tensor, phase: tuple[int, int]) -> tuple[slice, slice, slice] | None:
    """Where a (1, C, H, W) picture's whole blocks lie; None where there are none."""
    top, left = phase
    height, width = (picture.shape[-2] - top) // 8 * 8, (picture.shape[-1] - left) // 8 * 8
    if height <= 0 or width <= 0:
        return None
    return slice(None), slice(top, top + height), slice(left, left + width)


def _weighted(rgb: Tensor, weights: Tensor) -> Tensor:
    """(3, H, W) in [0, 1] → (H, W), a plane in 8-bit steps."""
    return (rgb * (weights.view(3, 1, 1) * 255.0)).sum(0)


def project(
    restored: Tensor, decoded: Tensor, tables: JpegTables, phase: tuple[int, int] = (0, 0), width: float = WIDTH
) -> Tensor:
    """(1, 3, H, W) RGB in [0, 1], moved to where the JPEG that `decoded` shows leaves room; not clamped.

    `phase` is the (row, column) of the first whole block. Luma is held, and chroma where it wasn't subsampled, or R, G
    and B where the file codes those; blocks that the border cuts are left. A coefficient may always keep the value that
    it has in `decoded`.
    """
    inner = _whole_blocks(restored, phase)
    if inner is None:
        return restored
    device = restored.device
    dct, to_coded, to_rgb = _matrices_of(tables, device)
    planes = 3 if tables.subsampling == (1, 1) else 1
    change = torch.zeros_like(restored[0][inner])
    for index in range(planes):
        table = tables.luma if index == 0 else tables.chroma
        step = upload(torch.from_numpy(table.astype(np.float32)), device)
        offset = 128.0 if index == 0 or tables.is_rgb else 0.0
        was, now = (
            _coefficients(_weighted(picture[0][inner], to_coded[index]) - offset, dct)
            for picture in (decoded, restored)
        )
        middle = torch.round(was / step) * step
        held = now.maximum((middle - width * step).minimum(was)).minimum((middle + width * step).maximum(was))
        change[index] = _plane(held - now, dct)
    moved = restored.clone()
    moved[0][inner] += torch.einsum("ij,jhw->ihw", to_rgb, change) / 255.0
    return moved


def leap(was: Tensor, own: Tensor | None = None) -> Tensor:
    """Mean difference of neighbouring blocks, 8-bit steps; of (m, n, 8, 8) coefficients, (m, n) blocks that count."""
    means = was[..., 0, 0] / 8
    down, across = means.diff(dim=0).abs(), means.diff(dim=1).abs()
    if own is None:
        return (down.sum() + across.sum()) / max(1, 2 * means.numel())
    total = (down * (own[1:] & own[:-1])).sum() + (across * (own[:, 1:] & own[:, :-1])).sum()
    return total / (2 * own.sum()).clamp(min=1)


def belief(was: Tensor, now: Tensor, step: Tensor, jump: Tensor) -> Tensor:
    """How much of a network's change is to be believed, 0 to 1, from luma coefficients (..., 8, 8) and (8, 8) steps.

    `was` are the file's, `now` the network's before they are held; `jump` is the `leap` of those of the file.
    """
    blocks = tuple(range(was.ndim - 2))
    level = torch.round(was / step)
    spoken = level != 0
    spoken[..., 0, 0] = False
    count = spoken.sum().clamp(min=1)
    strayed = ((((now - level * step).abs() > 0.5 * step) & spoken).sum() / count).float()
    loudness = (now - was).square().mean(blocks).sum() / _expected_error(level, step).sum()
    parts = (
        torch.maximum((_STRAYED - strayed) / (_STRAYED - _STRAYING), 2.0 - loudness / _QUIET),
        (_TOO_LOUD - loudness) / (_TOO_LOUD - _LOUD),
        torch.maximum(spoken.float().mean() / _FEW, 2.0 - jump / _SMOOTH),
    )
    return torch.stack(parts).clamp(0, 1).amin()


def _expected_error(level: Tensor, step: Tensor) -> Tensor:
    """(8, 8) expected power of the quantiser's error: uniform within a step, but of levels 0 that of a Laplacian.

    Its width is the one that gives as many zeros as there are (Lam and Goodman, IEEE Transactions on Image Processing
    9(10), 2000: the coefficients' distribution).
    """
    outside = (level != 0).float().flatten(0, -3).mean(0).clamp(0.5 * 64 / level.numel(), 0.98)
    uniform, half = step.square() / 12, step / 2
    width = -step / (2 * torch.log(outside))  # of exp(-|x| / width): outside = exp(-half / width)
    within = 2 * width.square() - outside * (half.square() + 2 * width * half + 2 * width.square())
    error = outside * uniform + ((1 - outside) * uniform).minimum(within)
    error[0, 0] = uniform[0, 0]
    return error
