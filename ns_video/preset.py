"""Presets: pipelines/*.toml parsed once into a frozen value. An unknown key is an error."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ns_video.errors import UsageError
from ns_video.resources import pipelines_dir

ENSEMBLES = (1, 2, 4)
"""Flipped views of a picture that can be averaged: as it is; and flipped across; and down, and both."""
STILL_VIEWS = 4
"""Of a still, by networks of our own."""
DEINTERLACE = ("auto", "on", "off")
Content = Literal["clip", "still", "drawn still", "coded still", "jpeg clip", "newer clip"]
BLENDS = ("auto", "crop", "gaussian", "improved-gaussian", "linear", "cosine", "poisson")
"""Windows of tiles; what they are says `ns_video.tile`, which needs torch."""


@dataclass(frozen=True, slots=True)
class Preset:
    """What a preset decides. Options given by the user come before it."""

    name: str
    title: str
    clip_model: str
    """The model for clips."""
    still_model: str
    """The model for stills."""
    drawn_still_model: str = ""
    """The model for stills that look drawn (`ns_video.recommend`); that for stills where there is none."""
    coded_still_model: str = ""
    """The model for stills that a video codec coded (lossy WebP, AVIF); that for stills where there is none."""
    jpeg_clip_model: str = ""
    """The model for clips whose frames are JPEGs (Motion JPEG); that for clips where there is none."""
    newer_clip_model: str = ""
    """The model for clips of codecs newer than H.264 (HEVC, AV1, VP9, and VP8); that for clips where there is none."""
    gpu_clip_model: str = ""
    """Instead of `clip_model` where the device is no CPU; the same where there is none. Likewise the next five."""
    gpu_still_model: str = ""
    gpu_drawn_still_model: str = ""
    gpu_coded_still_model: str = ""
    gpu_jpeg_clip_model: str = ""
    gpu_newer_clip_model: str = ""
    speed: str = "medium"
    """x264/x265 preset name for encoders that have one."""
    strength: float = 1.0
    sharpen: float = 0.0
    deinterlace: str = "auto"
    ensemble: int = STILL_VIEWS
    """Flipped views of a still that are averaged, 1, 2 or 4."""
    integers: bool = False
    """Where the precision is "auto": int8 before all others, if CPU and model can."""

    def models(self, of: Content) -> tuple[str, str]:
        """(the model on a CPU, the model on a GPU) for what is restored."""
        on_cpu, on_gpu = {
            "clip": (self.clip_model, self.gpu_clip_model),
            "still": (self.still_model, self.gpu_still_model),
            "drawn still": (self.drawn_still_model, self.gpu_drawn_still_model),
            "coded still": (self.coded_still_model, self.gpu_coded_still_model),
            "jpeg clip": (self.jpeg_clip_model, self.gpu_jpeg_clip_model),
            "newer clip": (self.newer_clip_model, self.gpu_newer_clip_model),
        }[of]
        if of not in ("clip", "still"):
            others = self.models("clip" if of.endswith("clip") else "still")
            return on_cpu or others[0], on_gpu or on_cpu or others[1]
        return on_cpu, on_gpu or on_cpu


def preset_names() -> list[str]:
    """The names of all presets, sorted."""
    return sorted(path.stem for path in pipelines_dir().glob("*.toml"))


def load_preset(name: str) -> Preset:
    """Read a preset by name. Raises UsageError for an unknown name, key or type, and for a file that can't be read."""
    path = pipelines_dir() / f"{name}.toml"
    if "\0" in name or Path(name).name != name or not path.is_file():
        raise UsageError(f"there is no preset {name!r}", remedy=f"choose from {', '.join(preset_names())}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"preset {name!r} can't be read: {error}") from error
    return parse_preset(name, text)


def parse_preset(name: str, text: str) -> Preset:
    """A preset from its TOML text. Raises UsageError."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"preset {name!r} is not valid TOML: {error}") from error
    kinds = {f.name: f.type for f in dataclasses.fields(Preset)}
    for key, value in data.items():
        if key not in kinds or key == "name":
            raise UsageError(f"preset {name!r}: unknown key {key!r}")
        wanted = {"float": float, "int": int, "bool": bool}.get(str(kinds[key]), str)
        fits = isinstance(value, (int, float) if wanted is float else wanted)
        if not fits or isinstance(value, bool) != (wanted is bool):
            raise UsageError(f"preset {name!r}: {key} must be {'an' if wanted is int else 'a'} {wanted.__name__}")
        if key == "ensemble" and value not in ENSEMBLES:
            raise UsageError(f"preset {name!r}: ensemble is 1, 2 or 4")
        if isinstance(value, int | float) and wanted is float and not 0.0 <= value <= 1.0:
            raise UsageError(f"preset {name!r}: {key} is not between 0 and 1")
        if key == "deinterlace" and value not in DEINTERLACE:
            raise UsageError(f"preset {name!r}: deinterlace is one of {', '.join(DEINTERLACE)}")
    missing = {"title", "clip_model", "still_model"} - data.keys()
    if missing:
        raise UsageError(f"preset {name!r}: {', '.join(sorted(missing))} missing")
    return Preset(name=name, **data)
