"""How a model is to be run."""

from __future__ import annotations

from dataclasses import dataclass

import ns_video.tile as tile
from ns_video.declared import check_types
from ns_video.errors import UsageError
from ns_video.preset import ENSEMBLES


@dataclass(frozen=True, slots=True)
class EnhanceOptions:
    """How to run a model. Sizes in px of the input unless said otherwise."""

    device: str = "auto"
    precision: str = "auto"
    integers: bool = False
    """"auto" takes int8 before all others, where CPU and model can: less work for a hundredth or two of the gain."""
    tile: int | None = None
    """Side of what the network sees at once; None: as memory and speed want."""
    overlap: int | None = None
    """Total overlap of neighbouring tiles; None: what makes tiles exact, or 64 where nothing does."""
    blend: str = "auto"
    """One of tile.BLENDS; "auto" is crop for exact tiles and gaussian otherwise."""
    strength: float = 1.0
    """0: the input, 1: fully restored."""
    scale: float | None = None
    """Final size / input size; None: the network's own."""
    size: tuple[int, int] | None = None
    """Final (width, height)."""
    fit: str = "contain"
    """"contain" keeps the aspect of picture and pixels within `size`, "stretch" takes it as it is."""
    sharpen: float = 0.0
    """Unsharp masking of the luma after the network, 0 to 1."""
    ensemble: int | None = None
    """Flipped views of a picture whose results are averaged, 1, 2 or 4: as many times the work, and a little better.
    None: 4 where an ns_restore is called with pictures, 1 for frames and for other networks."""
    skip_duplicates: bool = True
    """A frame equal to the one before it gets that one's result."""
    skip_undamaged: bool = True
    """Frames whose quantisers say that nothing was lost are left as they are."""

    recheck_tables: bool = False
    """Look for a coarser JPEG in the pixels even where the file tells its tables: a picture saved twice."""

    assumed_step: float | None = None
    """Quantiser step (8-bit sample units) taken where a clip doesn't tell its own; 0: such frames are left as they are;
    None: `ns_quantiser` guesses it from each picture, and raises what a file tells where the picture was coded before,
    more coarsely. An assumption above the truth harms good clips."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", str(self.device))  # torch.device, too
        check_types(self)
        if self.assumed_step is not None and not 0.0 <= self.assumed_step <= 200.0:
            raise UsageError(f"a quantiser step of {self.assumed_step:g} is not between 0 and 200")
        if not 0.0 <= self.strength <= 1.0:
            raise UsageError(f"strength {self.strength:g} is not between 0 and 1")
        if not 0.0 <= self.sharpen <= 1.0:
            raise UsageError(f"sharpen {self.sharpen:g} is not between 0 and 1")
        if self.scale is not None and not 0.0 < self.scale <= 16.0:
            raise UsageError(f"scale {self.scale:g} is not above 0 and up to 16")
        if self.scale is not None and self.size is not None:
            raise UsageError("scale and size exclude each other")
        if self.size is not None and min(self.size) < 1:
            raise UsageError(f"size {self.size[0]}x{self.size[1]} is empty")
        if self.ensemble is not None and self.ensemble not in ENSEMBLES:
            raise UsageError(f"an ensemble of {self.ensemble} makes no sense", remedy="use 1, 2 or 4")
        if self.fit not in ("contain", "stretch"):
            raise UsageError(f"there is no fit {self.fit!r}", remedy="use contain or stretch")
        if self.tile is not None and self.tile < 16:
            raise UsageError(f"a tile of {self.tile} px is too small", remedy="use 64 or more")
        if self.overlap is not None and self.overlap < 0:
            raise UsageError(f"an overlap of {self.overlap} px makes no sense")
        if self.blend != "auto" and self.blend not in tile.BLENDS:
            raise UsageError(f"there is no window {self.blend!r}", remedy=f"use {', '.join(tile.BLENDS)}")
