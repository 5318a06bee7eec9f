"""Planes ↔ the picture a network sees, on the device. Floor 1: torch and numpy.

Only the network's *change* travels back: a sample whose change rounds to zero leaves as it came, so that identity
is exact by construction, out-of-range samples survive and chroma never goes soft from a round trip. Every map
between planes and picture is linear; so is the way back.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from functools import cache, lru_cache
from itertools import chain, islice
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ns_video.frame import MATRIX_YCGCO, ColorInfo, PixelFormat, Plane, effective_matrix, is_full_range
from ns_video.upload import upload

Domain = Literal["rgb", "ycbcr"]

# Luma weights (Kr, Kb) by ITU-T H.273 matrix number.
_LUMA_WEIGHTS: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),  # BT.709
    4: (0.30, 0.11),  # FCC 73.682
    5: (0.299, 0.114),  # BT.470 BG = BT.601
    6: (0.299, 0.114),  # SMPTE 170M = BT.601
    7: (0.212, 0.087),  # SMPTE 240M
    9: (0.2627, 0.0593),  # BT.2020 non-constant luminance
    10: (0.2627, 0.0593),  # BT.2020 constant luminance, taken as non-constant: only for what a network sees
}
_BT709 = 1
_BINOMIAL = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
_FAINTEST = 1e-6  # less than the centre of that filter makes of the least alpha of 16 bits
_CENTRE_LOCATIONS = frozenset({2, 4, 6})  # libav's AVChromaLocation: center, top, bottom: horizontally centred
_TOP_LOCATIONS = frozenset({3, 4})  # topleft, top: vertically on the even luma rows
_BOTTOM_LOCATIONS = frozenset({5, 6})


def rgb_to_ycbcr_matrix(matrix: int) -> Tensor:
    """(3, 3) float64 on the CPU: RGB in [0, 1] → Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    if matrix == MATRIX_YCGCO:
        rows = [[0.25, 0.5, 0.25], [-0.25, 0.5, -0.25], [0.5, 0.0, -0.5]]
        return torch.tensor(rows, dtype=torch.float64)
    kr, kb = _LUMA_WEIGHTS[matrix]
    luma = [kr, 1.0 - kr - kb, kb]
    blue = [-0.5 * luma[0] / (1 - kb), -0.5 * luma[1] / (1 - kb), 0.5]
    red = [0.5, -0.5 * luma[1] / (1 - kr), -0.5 * luma[2] / (1 - kr)]
    return torch.tensor([luma, blue, red], dtype=torch.float64)


def rgb_to_ycbcr(rgb: Tensor, matrix: int = _BT709) -> Tensor:
    """(N, 3, H, W) RGB in [0, 1] → YCbCr with all channels in [0, 1] and neutral chroma at 0.5."""
    return _mix(rgb, rgb_to_ycbcr_matrix(matrix)).add_(_chroma_offset(rgb))


def ycbcr_to_rgb(ycbcr: Tensor, matrix: int = _BT709) -> Tensor:
    """The inverse of `rgb_to_ycbcr`; not clamped."""
    return _mix(ycbcr - _chroma_offset(ycbcr), torch.linalg.inv(rgb_to_ycbcr_matrix(matrix)))


def as_tensors(planes: Sequence[Plane], device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
    """Integer planes on the device, (H, W) each, uint8 or uint16; shares memory with numpy on the CPU."""
    moved: list[Tensor] = []
    for plane in planes:
        array = plane if plane.flags.c_contiguous and plane.flags.writeable else np.array(plane, order="C")
        moved.append(upload(torch.from_numpy(array), device))
    return tuple(moved)


def to_tensor(
    planes: Sequence[Plane] | Sequence[Tensor],
    format: PixelFormat,
    color: ColorInfo,
    domain: Domain,
    device: torch.device | str = "cpu",
) -> Tensor:
    """What a network sees: (1, 3, H, W) float32 on `device`.

    "rgb": R, G, B in [0, 1], clamped; chroma is enlarged linearly from where its location puts it. "ycbcr": Y, Cb, Cr
    with black..white luma at 0..1 and neutral chroma at 0.5, not clamped; chroma is repeated, so that its mean over a
    block is the plane exactly. Alpha is not looked at. Gray gives R = G = B, or neutral chroma.
    """
    tensors = _on_device(planes, device)
    height, width = tensors[0].shape
    if format.is_rgb:
        rgb = torch.stack([_normalise(plane, _luma_scale(format, color)) for plane in tensors[:3]])[None]
        return rgb.clamp_(0, 1) if domain == "rgb" else rgb_to_ycbcr(rgb)
    luma = _normalise(tensors[0], _luma_scale(format, color))
    if _is_gray(format):
        if domain == "rgb":
            return luma.clamp_(0, 1).expand(3, -1, -1)[None].contiguous()
        return torch.stack((luma, torch.full_like(luma, 0.5), torch.full_like(luma, 0.5)))[None]
    picture = torch.empty(1, 3, height, width, device=luma.device)
    picture[0, 0] = luma
    scale, offset = _chroma_scale(format, color)
    for index in (1, 2):
        small = tensors[index].to(torch.float32).sub_(offset).mul_(1.0 / scale)
        if domain == "ycbcr":
            _repeat_into(picture[0, index], small.add_(0.5), format)
        else:
            picture[0, index] = _enlarge_chroma(small[None, None], format, color)[0, 0, :height, :width]
    if domain == "ycbcr":
        return picture
    matrix = rgb_to_ycbcr_matrix(effective_matrix(color, width, height))
    return _mix(picture, torch.linalg.inv(matrix)).clamp_(0, 1)


def green_as_luma(planes: Sequence[Tensor], format: PixelFormat, color: ColorInfo) -> Tensor:
    """(1, 3, H, W) YCbCr whose luma is the green of RGB `planes`, without colour."""
    green = _normalise(planes[1], _luma_scale(format, color))
    return torch.stack((green, torch.full_like(green, 0.5), torch.full_like(green, 0.5)))[None]


def of_green(change: Tensor) -> Tensor:
    """Change (1, 3, H, W) of `green_as_luma` → that of the picture, YCbCr, which leaves red and blue as they are."""
    rgb = torch.zeros_like(change)
    rgb[:, 1] = change[:, 0]
    return _mix(rgb, rgb_to_ycbcr_matrix(_BT709))


def recompose(
    planes: Sequence[Plane] | Sequence[Tensor],
    format: PixelFormat,
    color: ColorInfo,
    change: Tensor | None,
    domain: Domain,
    *,
    size: tuple[int, int] | None = None,
) -> tuple[Tensor, ...]:
    """planes + round(down(change)), as integer tensors of the planes' dtype on the change's device, else on their own.

    `change` is (1, 3, H, W) float32 in `domain` at the output size: strength * (restored - seen); None is no change.
    `size` is the output's (H, W) where it differs from the input's: then the planes are resampled (antialiased
    bicubic) before the change is added, colours by how much alpha shows of them; where no matrix is told and players
    read the new size with another one, the samples become those of that one. Results are clipped to
    [0, 2**bit_depth - 1]; a sample whose change rounds to zero is left as it is. Alpha is only ever resampled.
    """
    tensors = _on_device(planes, None if change is None else change.device)
    height, width = tensors[0].shape
    resized = size is not None and size != (height, width)
    if change is None and not resized:
        return tensors
    colour_planes = 3 if format.is_rgb else 1 if _is_gray(format) else 3
    deltas: list[Tensor | None] = [None] * len(tensors)
    if change is not None:
        found = _plane_changes(change, format, color, domain, (height, width))
        deltas[:colour_planes] = found
    highest = float(2**format.bit_depth - 1)
    if size is None or not resized:
        return tuple(
            plane if delta is None else _add(plane, delta, highest)
            for plane, delta in zip(tensors, deltas, strict=True)
        )
    values: Iterable[Tensor] = (
        value if delta is None else value.add_(delta)
        for value, delta in zip(_resampled(tensors, format, color, size), deltas, strict=True)
    )
    if colour_planes == 3 and not format.is_rgb:
        before, after = effective_matrix(color, width, height), effective_matrix(color, size[1], size[0])
        if before != after:
            values = chain(_under_matrix(list(islice(values, 3)), format, color, (before, after)), values)
    return tuple(
        value.round_().clamp_(0.0, highest).to(plane.dtype) for value, plane in zip(values, tensors, strict=True)
    )


def resample(picture: Tensor, size: tuple[int, int], phase: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """(N, C, H, W) float → (N, C, *size), antialiased bicubic (a = -0.5).

    `phase` (vertical, horizontal) is where a sample lies beside the centre of its cell, in samples: -0.25 for chroma
    that is co-sited with the left one of two luma samples.
    """
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    if phase == (0.0, 0.0):
        return F.interpolate(picture, size=size, mode="bicubic", align_corners=False, antialias=True)
    return _resample_axis(_resample_axis(picture, size[0], phase[0], 2), size[1], phase[1], 3)


def alpha_of(planes: Sequence[Tensor], format: PixelFormat) -> Tensor | None:
    """(1, 1, H, W) float32 in [0, 1]: how much of each pixel is shown; None without alpha."""
    return planes[-1].to(torch.float32)[None, None] / float(2**format.bit_depth - 1) if format.has_alpha else None


def resample_shown(
    samples: Tensor,
    shown: Tensor,
    size: tuple[int, int],
    phase: tuple[float, float] = (0.0, 0.0),
    least: float = 0.5 / 65535,
) -> Tensor:
    """`resample` of colours by how much alpha, (1, 1, H, W) in [0, 1], shows of them; where that comes below `least`,
    as if all were shown."""
    weight = resample(shown, size, phase)
    seen = resample(samples * shown, size, phase).div_(weight.clamp_min(least))
    return torch.where(weight >= least, seen, resample(samples, size, phase))


def sharpening(picture: Tensor, amount: float, domain: Domain, shown: Tensor | None = None) -> Tensor:
    """What unsharp masking of the luma adds, (N, 3, H, W) in `domain`; radius 2 px, `amount` in [0, 1].

    `shown` is alpha, (1, 1, H, W) in [0, 1]: what it hides stays, and counts for nothing beside it.
    """
    if domain == "ycbcr":
        luma = picture[:, :1]
    else:
        kr, kb = _LUMA_WEIGHTS[_BT709]
        luma = picture[:, 0:1] * kr + picture[:, 1:2] * (1 - kr - kb) + picture[:, 2:3] * kb
    soft = _softened(luma if shown is None else luma * shown)
    if shown is not None:
        soft = torch.where(shown > 0, soft / _softened(shown).clamp_min(_FAINTEST), luma)
    added = (luma - soft) * amount
    if domain == "rgb":
        return added.expand(-1, 3, -1, -1)
    return torch.cat((added, torch.zeros_like(added), torch.zeros_like(added)), 1)


def _softened(plane: Tensor) -> Tensor:
    """(N, 1, H, W), with a binomial of radius 2 px."""
    soft = F.pad(plane, (2, 2, 2, 2), mode="replicate")
    for axis in (3, 2):
        soft = _filter(soft, _BINOMIAL, axis)
    return soft


def _on_device(planes: Sequence[Plane] | Sequence[Tensor], device: torch.device | str | None) -> tuple[Tensor, ...]:
    """The planes as tensors on a device; None: where they are."""
    tensors = [plane for plane in planes if isinstance(plane, Tensor)]
    if len(tensors) == len(planes):
        return tuple(tensors if device is None else (tensor.to(device) for tensor in tensors))
    return as_tensors([plane for plane in planes if not isinstance(plane, Tensor)], device or "cpu")


def _is_gray(format: PixelFormat) -> bool:
    return not format.is_rgb and format.planes - int(format.has_alpha) == 1


def _luma_scale(format: PixelFormat, color: ColorInfo) -> tuple[float, float]:
    """(samples from black to white, sample of black)."""
    if is_full_range(format, color):
        return float(2**format.bit_depth - 1), 0.0
    unit = 2.0 ** (format.bit_depth - 8)
    return 219.0 * unit, 16.0 * unit


def _chroma_scale(format: PixelFormat, color: ColorInfo) -> tuple[float, float]:
    """(samples from the lowest to the highest chroma, sample of neutral)."""
    neutral = 2.0 ** (format.bit_depth - 1)
    if is_full_range(format, color):
        return float(2**format.bit_depth - 1), neutral
    return 224.0 * 2.0 ** (format.bit_depth - 8), neutral


def _normalise(plane: Tensor, scale: tuple[float, float]) -> Tensor:
    return plane.to(torch.float32).sub_(scale[1]).mul_(1.0 / scale[0])


def _chroma_offset(like: Tensor) -> Tensor:
    return _offset_on(like.dtype, like.device)


@cache
@torch.inference_mode(False)  # kept for trainings too
def _offset_on(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor([0.0, 0.5, 0.5], dtype=dtype, device=device).view(1, 3, 1, 1)


def _mix(picture: Tensor, matrix: Tensor) -> Tensor:
    """(N, 3, H, W) times a (3, 3) matrix over the channels, in fp32 whatever the matrix-product settings are."""
    rows = matrix.tolist()
    out = torch.empty_like(picture)
    for index, (first, second, third) in enumerate(rows):
        torch.mul(picture[:, 0], first, out=out[:, index])
        out[:, index].add_(picture[:, 1], alpha=second).add_(picture[:, 2], alpha=third)
    return out


def _chroma_size(height: int, width: int, format: PixelFormat) -> tuple[int, int]:
    return _ceil_shift(height, format.chroma_shift_y), _ceil_shift(width, format.chroma_shift_x)


def _ceil_shift(length: int, shift: int) -> int:
    return -(-length // (1 << shift))


def _repeat_into(target: Tensor, small: Tensor, format: PixelFormat) -> None:
    """Writes `small` (h, w) into `target` (H, W), each sample repeated over its block."""
    fy, fx = 1 << format.chroma_shift_y, 1 << format.chroma_shift_x
    for dy in range(fy):
        rows = target[dy::fy]
        for dx in range(fx):
            cells = rows[:, dx::fx]
            cells.copy_(small[: cells.shape[0], : cells.shape[1]])


def _cosited(format: PixelFormat, color: ColorInfo) -> tuple[bool, bool]:
    """(vertically, horizontally): whether chroma lies on the first luma sample of its block."""
    location = color.chroma_location
    if location == 0:  # unspecified: MPEG-2's left for video; JPEG's centre for full range
        return False, not is_full_range(format, color)
    return location in _TOP_LOCATIONS, location not in _CENTRE_LOCATIONS


def _chroma_phase(format: PixelFormat, color: ColorInfo) -> tuple[float, float]:
    """(vertical, horizontal) displacement of a chroma sample from its block's centre, in chroma samples."""
    vertical, horizontal = _cosited(format, color)
    fy, fx = 1 << format.chroma_shift_y, 1 << format.chroma_shift_x
    down = (
        -(fy - 1) / (2 * fy) if vertical else (fy - 1) / (2 * fy) if color.chroma_location in _BOTTOM_LOCATIONS else 0.0
    )
    return down, -(fx - 1) / (2 * fx) if horizontal else 0.0


def _enlarge_chroma(small: Tensor, format: PixelFormat, color: ColorInfo) -> Tensor:
    """(1, C, h, w) → (1, C, h << shift_y, w << shift_x), linear between the places where the samples lie."""
    phase = _chroma_phase(format, color)
    for axis, shift, offset in ((2, format.chroma_shift_y, phase[0]), (3, format.chroma_shift_x, phase[1])):
        factor = 1 << shift
        if factor == 1:
            continue
        length = small.shape[axis]
        before = small.index_select(axis, _clamped(length, -1, small.device))
        after = small.index_select(axis, _clamped(length, 1, small.device))
        pieces: list[Tensor] = []
        for k in range(factor):
            at = (k + 0.5) / factor - 0.5 - offset  # place of luma sample k beside the chroma sample, in chroma samples
            near = after if at >= 0 else before
            pieces.append(torch.lerp(small, near, abs(at)))
        stacked = torch.stack(pieces, axis + 1)
        small = stacked.flatten(axis, axis + 1)
    return small


def _reduce_chroma(change: Tensor, format: PixelFormat, color: ColorInfo, domain: Domain) -> Tensor:
    """(1, C, H, W) → (1, C, h, w): the mean over the block, or a triangle around a co-sited sample."""
    fy, fx = 1 << format.chroma_shift_y, 1 << format.chroma_shift_x
    if fy == 1 and fx == 1:
        return change
    height, width = change.shape[-2:]
    pad_y, pad_x = -height % fy, -width % fx
    if pad_y or pad_x:
        change = F.pad(change, (0, pad_x, 0, pad_y), mode="replicate")
    vertical, horizontal = _cosited(format, color) if domain == "rgb" else (False, False)
    for axis, factor, cosited in ((2, fy, vertical), (3, fx, horizontal)):
        if cosited and factor > 1:
            reach = factor - 1
            padded = F.pad(change, (0, 0, reach, 0) if axis == 2 else (reach, 0, 0, 0), mode="replicate")
            triangle = [(1.0 - abs(k) / factor) / factor for k in range(1 - factor, factor)]
            change = _filter(padded, triangle, axis, factor)
        elif factor > 1:
            parts = [change[:, :, k::factor] if axis == 2 else change[..., k::factor] for k in range(factor)]
            total = parts[0] + parts[1]
            for part in parts[2:]:
                total = total.add_(part)
            change = total.mul_(1.0 / factor)
    return change


def _filter(picture: Tensor, taps: Sequence[float], axis: int, step: int = 1) -> Tensor:
    """(N, C, H, W) filtered along an axis, every `step`-th result; in fp32, where CUDA's convolutions take TF32."""
    results = range(0, picture.shape[axis] - len(taps) + 1, step)
    total: Tensor | None = None
    for place, weight in enumerate(taps):
        shown = slice(place, place + results[-1] + 1, step)
        part = picture[:, :, shown] if axis == 2 else picture[..., shown]
        total = part * weight if total is None else total.add_(part, alpha=weight)
    assert total is not None
    return total


def _plane_changes(
    change: Tensor, format: PixelFormat, color: ColorInfo, domain: Domain, size: tuple[int, int]
) -> list[Tensor]:
    """The change of each colour plane in sample units, (h, w) float32 each, not rounded."""
    luma_scale = _luma_scale(format, color)[0]
    if format.is_rgb:
        if domain == "ycbcr":
            change = _mix(change, torch.linalg.inv(rgb_to_ycbcr_matrix(_BT709)))
        return [change[0, index] * luma_scale for index in range(3)]
    if domain == "rgb":
        change = _mix(change, rgb_to_ycbcr_matrix(effective_matrix(color, size[1], size[0])))
    luma = change[0, 0] * luma_scale
    if _is_gray(format):
        return [luma]
    chroma = _reduce_chroma(change[:, 1:], format, color, domain) * _chroma_scale(format, color)[0]
    return [luma, chroma[0, 0], chroma[0, 1]]


def _add(plane: Tensor, delta: Tensor, highest: float) -> Tensor:
    """Integer plane + round(delta), clipped; a sample whose change is zero stays even outside the clip."""
    rounded = delta.round_()
    value = plane.to(torch.float32)
    total = (value + rounded).clamp_(0.0, highest)
    container = 255.0 if plane.dtype == torch.uint8 else 65535.0
    if highest < container:
        total = torch.where(rounded == 0, value, total)
    return total.to(plane.dtype)


def _resampled(
    planes: Sequence[Tensor], format: PixelFormat, color: ColorInfo, size: tuple[int, int]
) -> Generator[Tensor]:
    """Integer planes at another size of the picture, float32, one after the other; colours that alpha hides don't mix
    with their neighbours. Where the result shows nothing, colours are resampled as if all were shown.
    """
    highest = float(2**format.bit_depth - 1)
    shown = alpha_of(planes, format)
    least = 0.5 / highest  # of alpha that isn't rounded to 0
    for index, plane in enumerate(planes):
        is_chroma = index in (1, 2) and not format.is_rgb and not _is_gray(format)
        there = _chroma_size(*size, format) if is_chroma else size
        phase = _chroma_phase(format, color) if is_chroma else (0.0, 0.0)
        samples = plane.to(torch.float32)[None, None]
        if shown is None or index == len(planes) - 1:
            yield resample(samples, there, phase)[0, 0]
            continue
        share = _reduce_chroma(shown, format, color, "rgb") if is_chroma else shown
        yield resample_shown(samples, share, there, phase, least)[0, 0]


def _under_matrix(
    planes: Sequence[Tensor], format: PixelFormat, color: ColorInfo, matrices: tuple[int, int]
) -> list[Tensor]:
    """Y, Cb, Cr in sample units, float32, that show with the second matrix what `planes` show with the first."""
    before, after = (rgb_to_ycbcr_matrix(matrix) for matrix in matrices)
    turn = (after @ torch.linalg.inv(before)).tolist()  # its first column is 1, 0, 0: gray stays gray
    scale, neutral = _chroma_scale(format, color)
    luma = planes[0]
    chroma = torch.stack((planes[1], planes[2])).sub_(neutral)
    height, width = luma.shape
    blue, red = _enlarge_chroma(chroma[None], format, color)[0, :, :height, :width] * (
        _luma_scale(format, color)[0] / scale
    )
    return [
        luma + blue * turn[0][1] + red * turn[0][2],
        *(chroma[0] * row[1] + chroma[1] * row[2] + neutral for row in turn[1:]),
    ]


def _clamped(length: int, step: int, device: torch.device) -> Tensor:
    return (torch.arange(length, device=device) + step).clamp_(0, length - 1)


def _resample_axis(picture: Tensor, length: int, phase: float, axis: int) -> Tensor:
    """One axis of `resample`: cubic convolution (a = -0.5) widened where it shrinks, weights normalised."""
    source = picture.shape[axis]
    if source == length and phase == 0.0:
        return picture
    index, weight = _cubic_taps(source, length, phase, picture.device)
    shape = [1] * picture.dim()
    shape[axis] = length
    total: Tensor | None = None
    for place, share in zip(index, weight, strict=True):
        part = picture.index_select(axis, place) * share.view(shape)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # kept for trainings too
def _cubic_taps(source: int, length: int, phase: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """(taps, length) indices into `source` samples, and their weights."""
    ratio = source / length
    support = max(1.0, ratio)
    place = (torch.arange(length, dtype=torch.float64) + 0.5 + phase) * ratio - 0.5 - phase
    taps = 2 * math.ceil(2 * support) + 1
    first = (place - 2 * support).ceil().to(torch.int64)
    index = first[:, None] + torch.arange(taps)[None]
    distance = (index - place[:, None]).abs() / support
    near = (1.5 * distance - 2.5) * distance * distance + 1.0
    far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
    weight = torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(far)))
    weight = weight / weight.sum(1, keepdim=True)
    index = index.clamp_(0, source - 1).T.contiguous()
    return index.to(device), weight.T.to(torch.float32).contiguous().to(device)
