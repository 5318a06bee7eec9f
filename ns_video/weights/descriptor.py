"""What a loaded model tells its callers, so that they never learn a network's quirks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ns_video.cards import Card
from ns_video.networks.int8 import Ranges

PRECISIONS = frozenset({"fp32", "fp16", "bf16"})
JUDGES = frozenset({"ns_iqa", "ns_iqa_statistics", "ns_content", "ns_quantiser", "ns_c"})
"""Architectures whose result is no picture."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A network that is ready to run, and everything needed to run it well."""

    name: str
    """The shipped name, or the file's name without its suffix."""
    architecture: str
    """"identity", "ns_restore", "nsie", "ns_iqa", "ns_iqa_statistics", "ns_content", "ns_quantiser", "ns_c", a
    study's, or spandrel's id."""
    network: nn.Module
    """In eval mode, float32, on the CPU, without gradients. Pictures in [0, 1] in, pictures out (not clamped)."""
    scale: int
    """Sides of the result / sides of the input."""
    halo: int
    """Receptive radius in input pixels, a multiple of `multiple_of`; 0 with `exact_tiles` False: unbounded."""
    exact_tiles: bool
    """Tiles with this halo, cut on multiples of `multiple_of` and cropped, give what the whole picture gives."""
    multiple_of: int
    """Sides of the input must be multiples of this."""
    in_channels: int
    """Of one picture (a network of several frames sees frames * in_channels)."""
    out_channels: int
    domain: str
    """"rgb" or "ycbcr"."""
    conditioning: str
    """"none", "jpeg" or "quantiser": the side information that `network(x, side)` wants; "mosaic" or "shrunk": the
    network sees one pixel per cell (`ns_video.cells`)."""
    frames: int
    """Pictures seen at once, in time order; the middle one is restored."""
    sha256: str
    """Of the weights file; empty for a built-in model."""
    path: Path | None
    card: Card | None
    safe_precisions: frozenset[str]
    """Precisions the network is known to stand, out of PRECISIONS and "int8"; fp32 always."""
    parameters: int
    """Learned values of the architecture, before anything is folded for inference."""
    cell_scale: int = 0
    """Sides of the network's result / sides of the picture of cells it sees; 0 where it sees pixels."""
    aligned: bool = False
    """The pictures beside the middle one are to be moved onto it first (`ns_video.align`)."""
    int8_ranges: Ranges = field(default_factory=dict[str, tuple[float, float]])
    """Of an ns_restore network's blocks that may be computed in 8-bit integers; empty: none."""

    @property
    def enlarges(self) -> int:
        """Sides of the network's own result / sides of what it sees; `scale` is the same for the picture as a whole."""
        return self.cell_scale or self.scale

    @property
    def restores(self) -> bool:
        """Pictures come out, not a score or a class."""
        return self.architecture not in JUDGES
