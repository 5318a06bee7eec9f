"""A damaged picture beside its original: what rides along with it stays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ns_video.errors import InputError, OutputError, UsageError, printable
from ns_video.journal import write_whole
from ns_video.media.decode import MAX_PIXELS
from ns_video.media.degrade import Degradation, degrade_still
from ns_video.media.pictures import encode_png, rgb_of
from ns_video.media.still import read_still
from ns_video.media.still_info import fitted
from ns_video.media.still_samples import upright
from ns_video.media.still_writer import still_suffix, with_riders

_HOLDING = frozenset({"PNG", "JPEG"})
"""Formats into which what rides along is put."""


@dataclass(frozen=True, slots=True)
class DegradedFile:
    """What was written."""

    width: int
    height: int
    notes: tuple[str, ...]
    """What it doesn't hold."""


def degrade_file(
    source: Path, output: Path, degradation: Degradation, seed: int = 0, *, max_pixels: int = MAX_PIXELS
) -> DegradedFile:
    """Damages a picture into a PNG or, where the last step is `jpeg`, `webp` or `avif`, such a file as that step made.

    8-bit RGB, not turned; EXIF, profile and the like stay, but for WebP and AVIF.
    Raises InputError, UsageError for another OUTPUT.
    """
    kind = still_suffix(str(output))
    if output.is_dir():
        raise OutputError(f"{printable(output)} is a folder", stage="open", remedy="name a file")
    kind = "AVIF" if output.suffix.lower() == ".avif" else kind
    if kind not in ("PNG", "JPEG", "WEBP", "AVIF"):
        raise UsageError(f"{printable(output)} is neither .png nor .jpg, .webp or .avif")
    frame, info = read_still(source, max_pixels=max_pixels)
    if info.damage:
        raise InputError(f"{printable(source)}: {info.damage[0].what}")
    notes = list(info.notes)
    if frame.format.has_alpha:
        notes.append("the alpha channel is left out")
    if frame.format.bit_depth > 8:
        notes.append("8 of 16 bits per sample are damaged and written")
    rgb = rgb_of(frame)
    if kind in _HOLDING:
        kept, lost = fitted(replace(info, is_gray=False), kind, is_gray=False)
        turned = kept.orientation != info.orientation
    else:
        rides = any((info.exif, info.icc, info.xmp, info.texts, info.chunks, info.segments))
        kept, lost, turned = None, [f"EXIF, profile and the like are left out of {kind}"] * rides, True
    if turned:
        rgb = upright(rgb, info.orientation)
    still = degrade_still(rgb, degradation, seed)
    data = encode_png(still.rgb) if kind == "PNG" else still.encoded if kind == still.kind else None
    if data is None:
        what = f"a {output.suffix} would add damage of its own"
        raise UsageError(what, remedy=f"write .png, or end the SPEC in {kind.lower()}")
    if kept is not None:
        data = with_riders(data, kind, kept)
    write_whole(output, data, stage="encode")
    return DegradedFile(still.rgb.shape[1], still.rgb.shape[0], (*notes, *lost))
