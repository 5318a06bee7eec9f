"""Pictures of one look: what a stream changes on its way is converted back to the first one's, or told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from ns_video.errors import TooLargeError
from ns_video.frame import (
    RANGE_FULL,
    RANGE_LIMITED,
    RANGE_UNSPECIFIED,
    UNSPECIFIED,
    ColorInfo,
    effective_matrix,
    is_full_range,
)
from ns_video.media.color_names import color_name
from ns_video.media.planes import planar_name
from ns_video.media.probe import pixel_format
from ns_video.media.swscale import swscale_matrix

_CHANGES_TOLD = 20  # one by one
_MIXED = "; what is written says of all what it says of the first"
_CONVERTIBLE = frozenset({1, 4, 5, 6, 7, 9, 10})  # matrices that libswscale knows
_SAME_TRANSFER: dict[int, int] = dict.fromkeys((6, 14, 15), 1)  # one function under four numbers of H.273
_TO_OTHER_MATRIX = (
    Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)
"""BICUBIC alone gives luma that is 1.2 to 1.7 steps too dark, BILINEAR another picture where samples have 10 bits."""


@dataclass(frozen=True, slots=True)
class _Look:
    width: int
    height: int
    name: str
    """Of the planar pixel format."""
    color: ColorInfo

    @property
    def range(self) -> int:
        return RANGE_FULL if is_full_range(pixel_format(self.name), self.color) else RANGE_LIMITED

    def conversion_to(self, first: _Look) -> dict[str, int]:
        """What libswscale has to be told for samples to mean the same as the first picture's; {} where they do.

        A matrix counts where both tell one.
        """
        ours, theirs = (pixel_format(look.name) for look in (self, first))
        of = first if ours.is_rgb else self
        matrix = wanted = swscale_matrix(effective_matrix(of.color, of.width, of.height))
        have_one = not (ours.is_rgb or theirs.is_rgb) and min(ours.planes, theirs.planes) > 2
        if have_one and {self.color.matrix, first.color.matrix} <= _CONVERTIBLE:
            wanted = swscale_matrix(first.color.matrix)
        if matrix == wanted and self.range == first.range and ours.is_rgb == theirs.is_rgb:
            return {}
        return {
            "src_colorspace": matrix,
            "dst_colorspace": wanted,
            "src_color_range": self.range,
            "dst_color_range": first.range,
        }

    def matrix_differs(self, first: _Look) -> bool:
        told = self.color.matrix, first.color.matrix
        return UNSPECIFIED not in told and swscale_matrix(told[0]) != swscale_matrix(told[1])


class SteadyPicture:
    """Gives each picture of a stream the size, pixel format, matrix and range of the first one.

    `warnings` is told what was converted, and what couldn't be. `take(picture, color, seconds)`, then `close()`.
    """

    def __init__(self, time_base: Fraction, max_pixels: int, warnings: list[str]) -> None:
        self._time_base = time_base
        self._max_pixels = max_pixels
        self._warnings = warnings
        self._first: _Look | None = None
        self._first_tags = (UNSPECIFIED, RANGE_UNSPECIFIED)
        self._last: _Look | None = None
        self._conversion: dict[str, int] = {}
        self._aspect: Fraction | None = None
        self._interlaced: bool | None = None
        self._is_mixed = False
        self._changes = 0

    def take(self, picture: VideoFrame, color: ColorInfo, seconds: float) -> tuple[VideoFrame, ColorInfo]:
        """The picture, and how its samples are to be read; `color` is what it tells of them itself.

        Raises TooLargeError.
        """
        look = _Look(picture.width, picture.height, planar_name(picture.format.name), color)
        self._see_fields(bool(picture.interlaced_frame), seconds)
        first = self._first
        if first is None:
            first = self._first = self._last = look
            self._first_tags = (int(picture.colorspace), int(picture.color_range))
        elif look != self._last:
            self._change(look, first, seconds)
        is_as_first = (look.width, look.height, picture.format.name) == (first.width, first.height, first.name)
        if is_as_first and not self._conversion:
            return picture, color
        same = picture.reformat(
            width=first.width,
            height=first.height,
            format=first.name,
            interpolation=int(_TO_OTHER_MATRIX if self._conversion else Interpolation.BICUBIC),
            **self._conversion,
        )
        same.pts, same.time_base, same.opaque = picture.pts, self._time_base, None
        if not self._conversion:
            return same, color
        same.colorspace, same.color_range = self._first_tags
        return same, replace(color, matrix=first.color.matrix, range=first.color.range)

    def see_aspect(self, aspect: Fraction | None, seconds: float | None) -> None:
        """The sample aspect ratio that the decoder tells with a key frame; None or 0 for none."""
        if not aspect or aspect == self._aspect:
            return
        if self._aspect:
            place = "" if seconds is None else f"at {seconds:.3f} s "
            self._tell(f"{place}the sample aspect ratio changes from {self._aspect} to {aspect}{_MIXED}")
        self._aspect = aspect

    def close(self) -> None:
        """Count the changes, where there were more than are told one by one."""
        if self._changes > _CHANGES_TOLD:
            self._warnings.append(f"{self._changes} changes of the picture's size, format, shape or colours in all")

    def _change(self, look: _Look, first: _Look, seconds: float) -> None:
        if look.width * look.height > self._max_pixels:
            raise TooLargeError(
                f"a frame of {look.width}x{look.height} pixels is more than --max-pixels allows",
                stage="decode",
                remedy=f"--max-pixels {look.width * look.height}",
            )
        before, self._last = self._last or first, look
        done, self._conversion = self._conversion, look.conversion_to(first)
        geometries = [(of.width, of.height, of.name) for of in (look, before, first)]
        if geometries[0] not in geometries[1:] or self._conversion not in (done, {}):
            self._tell(f"at {seconds:.3f} s the picture changes from {_compared(first, look)}; it was converted back")
        changed = [name for name in ("matrix", "primaries", "transfer") if self._is_mixed_in(name, look, before, first)]
        if changed:
            was, now = (", ".join(_tag_named(of, name) for name in changed) for of in (first, look))
            self._tell(f"at {seconds:.3f} s the colours change from {was} to {now}{_MIXED}")

    def _is_mixed_in(self, name: str, look: _Look, before: _Look, first: _Look) -> bool:
        """Whether a picture begins to tell something else than the first one, and wasn't converted."""
        if name == "matrix" and (self._conversion or not look.matrix_differs(first)):
            return False
        now, last, wanted = (_tag(of, name) for of in (look, before, first))
        return UNSPECIFIED not in (now, wanted) and now not in (last, wanted)

    def _see_fields(self, interlaced: bool, seconds: float) -> None:
        if self._interlaced is None:
            self._interlaced = interlaced
        elif self._interlaced != interlaced and not self._is_mixed:
            self._is_mixed = True
            kinds = "interlaced to progressive" if self._interlaced else "progressive to interlaced"
            self._warnings.append(f"at {seconds:.3f} s the frames change from {kinds}{_MIXED}")

    def _tell(self, change: str) -> None:
        self._changes += 1
        if self._changes <= _CHANGES_TOLD:
            self._warnings.append(change)


def _tag(look: _Look, name: str) -> int:
    value = int(getattr(look.color, name))
    return _SAME_TRANSFER.get(value, value) if name == "transfer" else value


def _tag_named(look: _Look, name: str) -> str:
    return f"{name} {color_name(name, getattr(look.color, name))}"


def _compared(first: _Look, look: _Look) -> str:
    """Sizes and pixel formats of both, and what else differs between them."""
    conversion = look.conversion_to(first)
    shown: list[str] = []
    for of in (first, look):
        text = f"{of.width}x{of.height} {of.name}"
        if conversion and conversion["src_colorspace"] != conversion["dst_colorspace"]:
            text += f", {_tag_named(of, 'matrix')}"
        if first.range != look.range:
            text += f", {'full' if of.range == RANGE_FULL else 'limited'} range"
        shown.append(text)
    return " to ".join(shown)
