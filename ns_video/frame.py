"""Frozen values that walk through the pipeline. Floor 0: numpy and the standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

Motion = npt.NDArray[np.float32]
"""(ceil(H / MOTION_CELL), ceil(W / MOTION_CELL), 2) px, x and y: from a square of a frame to where another has it."""
MOTION_CELL = 4
"""Side in luma px of the squares for which motion is told."""

# Values of ITU-T H.273 / ISO 23091-2, as libav numbers them. 2 is "unspecified" everywhere.
UNSPECIFIED = 2
RANGE_UNSPECIFIED, RANGE_LIMITED, RANGE_FULL = 0, 1, 2
MATRIX_RGB = 0
MATRIX_BT709 = 1
MATRIX_BT601_625, MATRIX_BT601_525 = MATRICES_BT601 = (5, 6)  # the same coefficients
MATRIX_YCGCO = 8
BT601_LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in luma by ITU-R BT.601, JPEG's."""
_KNOWN_MATRICES = frozenset({MATRIX_BT709, 4, MATRIX_BT601_625, MATRIX_BT601_525, 7, MATRIX_YCGCO, 9, 10})
_UNTOLD_MATRICES = frozenset({MATRIX_RGB, UNSPECIFIED, 3})  # which say nothing of Y, Cb and Cr; 3 is reserved
_SD_HEIGHT, _SD_WIDTH = 576, 1024  # at or below both, players read an untagged clip as BT.601


@dataclass(frozen=True, slots=True)
class ColorInfo:
    """How samples are to be read. Numbers are those of ITU-T H.273 (libav's enumerations)."""

    matrix: int = UNSPECIFIED
    """Matrix coefficients: 0 RGB, 1 BT.709, 5/6 BT.601, 9 BT.2020 non-constant luminance."""
    range: int = RANGE_UNSPECIFIED
    """libav's AVColorRange: 0 unspecified, 1 limited ("tv"), 2 full ("pc")."""
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    """Transfer characteristics: 1 BT.709, 16 PQ (SMPTE ST 2084), 18 HLG (ARIB STD-B67)."""
    chroma_location: int = 0
    """libav's AVChromaLocation: 0 unspecified, 1 left, 2 center, 3 topleft."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """Geometry of a planar or packed pixel format, read from libav's descriptor."""

    name: str
    bit_depth: int
    """Significant bits per sample, 1 to 16."""
    is_rgb: bool
    planes: int
    chroma_shift_x: int
    """log2 of the horizontal chroma subsampling (0 for 4:4:4)."""
    chroma_shift_y: int
    has_alpha: bool


def effective_matrix(color: ColorInfo, width: int, height: int) -> int:
    """The matrix number to read an H × W picture with; unspecified goes by size, as players do.

    One that is told but not known here (H.273's 11 and more) is taken for BT.709's at any size.
    """
    if color.matrix in _KNOWN_MATRICES:
        return color.matrix
    if color.matrix not in _UNTOLD_MATRICES:
        return MATRIX_BT709
    return MATRIX_BT601_525 if height <= _SD_HEIGHT and width <= _SD_WIDTH else MATRIX_BT709


def is_full_range(format: PixelFormat, color: ColorInfo) -> bool:
    """Whether samples use the whole integer range. Unspecified: RGB and libav's yuvj formats do, YUV and gray don't."""
    if color.range == RANGE_FULL:
        return True
    if color.range == RANGE_LIMITED:
        return False
    return format.is_rgb or format.name.startswith("yuvj")


UNDAMAGED_STEP = 1.0
"""Quantiser step (8-bit sample units) that loses no more than rounding does."""


@dataclass(frozen=True, slots=True)
class JpegTables:
    """What a JPEG file says of its own damage.

    `luma` and `chroma` are (8, 8) uint16 quantisation steps in natural (row, column) order;
    `subsampling` is (horizontal, vertical), (1, 1) for 4:4:4 and (2, 2) for 4:2:0.
    `chroma` equals `luma` for a gray file. `is_rgb`: the file codes R, G and B instead, all by the steps of `luma`.
    """

    luma: npt.NDArray[np.uint16]
    chroma: npt.NDArray[np.uint16]
    subsampling: tuple[int, int] = (1, 1)
    is_rgb: bool = False


@dataclass(frozen=True, slots=True)
class QuantiserMap:
    """The quantiser step of each block of a decoded frame.

    `step` is (rows, columns) float32: the luma quantiser step in 8-bit sample units (H.264: 0.625 * 2**(QP / 6)); of
    HEVC, AV1, VP8 and VP9 the H.264 step that does as much damage. `block` is the side of a block in luma samples;
    `picture_type` is "I", "P", "B" or "?".
    `source` says who told: a codec's name, or "estimate".
    """

    step: npt.NDArray[np.float32]
    block: int
    picture_type: str = "?"
    source: str = "estimate"

    @property
    def is_lossless(self) -> bool:
        """No step loses more than rounding does."""
        return float(self.step.max(initial=0.0)) <= UNDAMAGED_STEP


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture with all that is needed to write it back.

    `planes` are numpy arrays in the pixel format's plane order, (H, W) each, uint8 for 8-bit formats and native-endian
    uint16 above; samples of a row lie side by side, rows may lie apart (libav pads them); packed RGB arrives as planar.
    `carrier` is the libav frame it came from; it is opaque to everyone but `ns_video.media`, and keeps side data that
    rides on the frame.
    """

    planes: tuple[Plane, ...]
    width: int
    height: int
    format: PixelFormat
    color: ColorInfo
    pts: int | None
    time_base: Fraction
    duration: int | None = None
    picture_type: str = "?"
    rotation: int = 0
    """Degrees, counter-clockwise, by which a clip's display matrix or a still's EXIF asks to turn the picture."""
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel / its height, before the picture is turned."""
    quantiser: QuantiserMap | None = None
    jpeg: JpegTables | None = None
    was_ycbcr: bool = False
    """It was coded as YCbCr, and what read it made RGB of that: a still's quantisers are of luma."""
    carrier: Any = field(default=None, compare=False, repr=False)

    @property
    def turned(self) -> bool:
        """Players show it with width and height in each other's place."""
        return round(self.rotation / 90) % 2 == 1

    @property
    def pts_seconds(self) -> float | None:
        """Presentation time in seconds, None where the stream has none."""
        return None if self.pts is None else float(self.pts * self.time_base)

    @property
    def nbytes(self) -> int:
        """Bytes of all planes: what a queue counts."""
        return sum(plane.nbytes for plane in self.planes)
