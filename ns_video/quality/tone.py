"""HDR pictures for an SDR page: PQ and HLG to sRGB, for looking at, not for measuring."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ns_video.frame import ColorInfo

PQ, HLG = 16, 18
"""Transfer characteristics of ITU-T H.273."""
_BT2020 = 9
SDR_WHITE = 203.0
"""cd/m² of diffuse white in HDR programmes: ITU-R BT.2408."""
_PEAK = 1000.0  # cd/m²: where the shoulder ends; HLG's nominal display

_TO_BT709 = np.array(
    ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)), np.float32
)  # linear BT.2020 → BT.709: ITU-R BT.2087
_LUMINANCE = np.array((0.2627, 0.6780, 0.0593), np.float32)

Picture = npt.NDArray[np.float32]


def is_hdr(color: ColorInfo) -> bool:
    """Whether samples are coded by PQ or HLG."""
    return color.transfer in (PQ, HLG)


def _pq(coded: Picture) -> Picture:
    """SMPTE ST 2084's EOTF: [0, 1] → cd/m²."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = np.power(coded, 1 / m2)
    return (10000.0 * np.power(np.maximum(root - c1, 0) / (c2 - c3 * root), 1 / m1)).astype(np.float32)


def _hlg(coded: Picture) -> Picture:
    """ITU-R BT.2100's HLG: [0, 1] → cd/m² on a display of 1,000 cd/m², system gamma 1.2 on luminance."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(coded <= 0.5, coded * coded / 3.0, (np.exp((coded - c) / a) + b) / 12.0)
    luminance = scene @ _LUMINANCE
    return (_PEAK * np.power(np.maximum(luminance, 1e-6), 0.2)[..., None] * scene).astype(np.float32)


def to_sdr(rgb: npt.NDArray[np.float32], color: ColorInfo) -> npt.NDArray[np.float32]:
    """(H, W, 3) coded RGB in [0, 1] of a PQ or HLG clip → sRGB in [0, 1].

    Up to diffuse white (203 cd/m²) tones are kept as far as a shoulder allows that leads to 1,000 cd/m² (Reinhard et
    al. 2002, extended, on the largest of the three); what is brighter or outside BT.709 is clipped.
    """
    coded = np.clip(rgb, 0.0, 1.0).astype(np.float32)
    light = (_pq(coded) if color.transfer == PQ else _hlg(coded)) / SDR_WHITE
    if color.primaries == _BT2020:
        light = np.maximum(light @ _TO_BT709.T, 0.0)
    peak = light.max(-1, keepdims=True)
    white = _PEAK / SDR_WHITE
    light = light * (1.0 + peak / (white * white)) / (1.0 + peak)
    light = np.clip(light, 0.0, 1.0)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.power(light, 1 / 2.4) - 0.055).astype(np.float32)
