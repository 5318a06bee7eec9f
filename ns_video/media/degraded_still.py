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
    """Damages a picture into a PNG or, where the last step is `jpeg`, a JPEG of exactly those tables.

    8-bit RGB, not turned; EXIF, profile and the like stay. Raises InputError, UsageError for another OUTPUT.
    """
    kind = still_suffix(str(output))
    if output.is_dir():
        raise OutputError(f"{printable(output)} is a folder", stage="open", remedy="name a file")
    if kind not in ("PNG", "JPEG"):
        raise UsageError(f"{printable(output)} is neither .png nor .jpg")
    frame, info = read_still(source, max_pixels=max_pixels)
    if info.damage:
        raise InputError(f"{printable(source)}: {info.damage[0].what}")
    notes = list(info.notes)
    if frame.format.has_alpha:
        notes.append("the alpha channel is left out")
    if frame.format.bit_depth > 8:
        notes.append("8 of 16 bits per sample are damaged and written")
    kept, lost = fitted(replace(info, is_gray=False), kind, is_gray=False)
    rgb = rgb_of(frame)
    if kept.orientation != info.orientation:
        rgb = upright(rgb, info.orientation)
    still = degrade_still(rgb, degradation, seed)
    data = still.encoded if kind == "JPEG" else encode_png(still.rgb)
    if data is None:
        raise UsageError("a .jpg would add damage of its own", remedy="write .png, or end the SPEC in jpeg")
    write_whole(output, with_riders(data, kind, kept), stage="encode")
    return DegradedFile(still.rgb.shape[1], still.rgb.shape[0], (*notes, *lost))
