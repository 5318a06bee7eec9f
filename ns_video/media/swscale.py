"""What libswscale needs to be told. Its conversions go by matrix and range, not by names."""

from __future__ import annotations

from av.video.reformatter import Interpolation

from ns_video.frame import MATRIX_BT601_525, MATRIX_BT601_625, MATRIX_YCGCO

EXACT = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
"""Flags with which conversions have no bias: without them RGB of 4:2:0 is 0.5 steps too dark, of 10 bits 1.7."""
_UNDER_OTHER_NUMBERS = {MATRIX_BT601_525: MATRIX_BT601_625, MATRIX_YCGCO: MATRIX_BT601_625, 10: 9}


def swscale_matrix(matrix: int) -> int:
    """The number under which libswscale knows matrix coefficients of H.273; BT.601 for YCgCo, which it doesn't know."""
    return _UNDER_OTHER_NUMBERS.get(matrix, matrix)
