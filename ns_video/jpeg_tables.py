"""What JPEG is made of: Annex K's quantisation tables (ITU-T T.81), the Independent JPEG Group's quality scale, the DCT
of a block, JFIF's YCbCr. Floor 0."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from ns_video.frame import BT601_LUMA, JpegTables

SUBSAMPLINGS: dict[str, tuple[int, int]] = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}
"""Name → (horizontal, vertical) chroma subsampling."""

ANNEX_K_LUMA: npt.NDArray[np.int64] = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    dtype=np.int64,
)
ANNEX_K_CHROMA: npt.NDArray[np.int64] = np.full((8, 8), 99, dtype=np.int64)
ANNEX_K_CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]

JFIF_YCBCR: npt.NDArray[np.float32] = np.array(
    [BT601_LUMA, [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32
)
"""Rows: Y, Cb and Cr (around 0) of full-range R, G, B (ITU-T T.871)."""


@cache
def dct_matrix() -> npt.NDArray[np.float32]:
    """(8, 8): D @ block @ D.T are a block's orthonormal DCT-II coefficients."""
    k, n = np.arange(8)[:, None], np.arange(8)[None, :]
    matrix = np.cos(np.pi * (2 * n + 1) * k / 16) / 2
    matrix[0] /= np.sqrt(2)
    return matrix.astype(np.float32)


def ijg_percent(quality: int) -> int:
    """libjpeg's jpeg_quality_scaling: the percentage by which quality 1..100 scales Annex K's tables."""
    return 5000 // quality if quality < 50 else 200 - 2 * quality


def scaled_table(table: npt.NDArray[np.int64], percent: float) -> npt.NDArray[np.uint16]:
    """(8, 8) table scaled as libjpeg does for a baseline file: rounded, kept in 1..255."""
    return np.clip((table * percent + 50) // 100, 1, 255).astype(np.uint16)


def ijg_tables(quality: int, subsampling: tuple[int, int] = (2, 2)) -> JpegTables:
    """The tables that libjpeg (Pillow, OpenCV, most cameras' tools) writes at `quality` 1..100."""
    percent = ijg_percent(quality)
    return JpegTables(scaled_table(ANNEX_K_LUMA, percent), scaled_table(ANNEX_K_CHROMA, percent), subsampling)
