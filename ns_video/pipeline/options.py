"""Options of a run and what is refused among them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ns_video.declared import check_types
from ns_video.errors import UsageError
from ns_video.machine import check_device_name
from ns_video.media.decode import MAX_PIXELS
from ns_video.preset import BLENDS, DEINTERLACE, ENSEMBLES

__all__ = ["OF_CLIPS", "RestoreOptions", "path_text"]
_UNSET = "a shell's variable may not be set"
_HIGHEST_CRF = 63  # of any encoder
_RANGES = (
    ("strength", 0.0, 1.0),
    ("sharpen", 0.0, 1.0),
    ("crf", 0, _HIGHEST_CRF),
    ("still_quality", 1, 100),
    ("tile", 16, 1 << 20),
    ("overlap", 0, 1 << 20),
    ("max_pixels", 1, 1 << 62),
    ("threads", 0, 256),
    ("start", 0, 1e12),
    ("end", 0, 1e12),
)
"""Options that are numbers: name, least and most."""
_CHOICES = {
    "ensemble": ENSEMBLES,
    "blend": BLENDS,
    "fit": ("contain", "stretch"),
    "deinterlace": DEINTERLACE,
    "verify": ("structure", "full", "none"),
    "precision": ("auto", "fp32", "fp16", "bf16", "int8"),
}
OF_CLIPS = ("codec", "crf", "pix_fmt", "encoder_options", "input_options", "start", "end")
"""Options that say nothing of a still."""
_TABLES = ("encoder_options", "input_options")
"""Options that are names with values, which libav takes as text."""
_FILES = ("report", "record")
"""Options that are paths."""
_NAMES = ("model", "codec", "pix_fmt", "format")
"""Options that are names, or None."""


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Options of `restore`; meanings are those of the command line, and so are names: but what may be given there
    several times is one table or tuple (`encoder_options`, `input_options`, `allow_protocols`), and --every-frame is
    False for `skip_identical` and `skip_undamaged`."""

    preset: str = "auto"
    model: str | None = None
    strength: float | None = None
    ensemble: int | None = None
    """Flipped views that are averaged, 1, 2 or 4; None: as the preset says for stills, 1 for clips."""
    scale: float | None = None
    size: tuple[int, int] | None = None
    fit: str = "contain"
    sharpen: float | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    overlap: int | None = None
    blend: str = "auto"
    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    still_quality: float | None = None
    """Of a still as JPEG or lossy WebP, 1 to 100; None: 95 as JPEG, lossless as WebP."""
    format: str | None = None
    input_format: str | None = None
    input_options: Mapping[str, str] = field(default_factory=dict)
    start: float | None = None
    end: float | None = None
    """Seconds from where the source begins, as players count, whatever its clock says then."""
    deinterlace: str | None = None
    """"auto", as None, does as the preset says, and leaves what the model `identity` isn't to change."""
    resume: bool = False
    overwrite: bool = False
    report: Path | None = None
    record: Path | None = None
    strict: bool = False
    allow_protocols: tuple[str, ...] = ()
    max_pixels: int = MAX_PIXELS
    verify: str = "structure"
    """"structure" reads the output's packets back, "full" decodes it too, "none" trusts."""
    skip_identical: bool = True
    skip_undamaged: bool = True
    assumed_step: float | None = None
    """Quantiser step of clips that don't tell theirs, see EnhanceOptions."""
    threads: int = 0
    """Threads of each libav codec; 0 divides the machine."""

    def __post_init__(self) -> None:
        if isinstance(self.model, os.PathLike):
            object.__setattr__(self, "model", path_text(self.model))
        for name in _FILES:
            object.__setattr__(self, name, _file(name, getattr(self, name)))
        for name in _TABLES:
            object.__setattr__(self, name, _texts(getattr(self, name)))
        object.__setattr__(self, "device", str(self.device))  # torch.device, too
        if isinstance(self.allow_protocols, set | frozenset):
            object.__setattr__(self, "allow_protocols", tuple(sorted(self.allow_protocols)))
        check_types(self)
        for name in _NAMES:
            if getattr(self, name) == "":
                raise UsageError(f"{name.replace('_', ' ')} is empty", remedy=_UNSET)
        if "" in self.allow_protocols:
            raise UsageError("a protocol's name is empty", remedy=_UNSET)
        for device in self.device.split(","):
            check_device_name(device.strip())
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # nan isn't
                raise UsageError(f"{name.replace('_', ' ')} {value!r} is not between {low:,} and {high:,}")
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"there is no {name} {value!r}", remedy=f"use {', '.join(map(str, known))}")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError(f"nothing lies between start {self.start:g} and end {self.end:g}")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"size {self.size!r} is no width and height", remedy="give two whole numbers from 1")


def path_text(path: Any) -> str:
    """A path as text. Raises UsageError for what is none."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise UsageError(f"a path is wanted, not a {type(path).__name__}") from None
    if not text or "\0" in text:
        raise UsageError(f"{text!r} is no path", remedy=None if text else _UNSET)
    return text


def _file(name: str, path: Any) -> Any:
    """A path of a file, from text too. Raises UsageError for one that names none."""
    if not isinstance(path, str | bytes | os.PathLike):
        return path
    if path == "":
        raise UsageError(f"{name} '' names no file")
    made = Path(path_text(path))
    if not made.name:
        raise UsageError(f"{name} {str(made)!r} names no file")
    if str(made) == "-":
        raise UsageError(
            f"the {name} is written into a file, not a pipe", remedy="name a file; --json prints the record"
        )
    return made


def _texts(table: Any) -> Any:
    """A table with its numbers as text: 5 becomes "5"."""
    if not isinstance(table, Mapping):
        return table
    items = cast("Mapping[Any, Any]", table).items()
    return {key: str(value) if type(value) in (int, float) else value for key, value in items}
