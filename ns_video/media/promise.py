"""What an output is to hold of its input, and what can be found different in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from ns_video.frame import ColorInfo, Frame, PixelFormat
from ns_video.media.copy_plan import CopyPlan
from ns_video.media.file_facts import Chapter, PacketTally
from ns_video.media.first_frame import HdrMetadata, field_order, first_frame_metadata
from ns_video.media.probe import ClipInfo


@dataclass(frozen=True, slots=True)
class Look:
    """How the first picture of a clip is to be shown."""

    color: ColorInfo
    format: PixelFormat
    turn: tuple[int, ...]
    """Of the display matrix what turns and mirrors; not every container keeps what moves."""
    aspect: Fraction
    """Width / height of a sample."""
    shape: Fraction
    """Columns / rows."""
    samples: PixelFormat
    """What its samples hold, at least."""
    hdr: HdrMetadata | None
    fields: int
    """Of interlaced frames their order, as `field_order` tells it; 0 for progressive ones."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What an output is to hold of its input."""

    source: ClipInfo
    look: Look
    times: Sequence[Fraction]
    """Presentation times of the frames."""
    shown: Fraction
    """Seconds for which the last frame is shown; 0 where that isn't known."""
    copies: Sequence[CopyPlan]
    tallies: Mapping[int, PacketTally]
    """Stream → what was copied of it."""
    chapters: Sequence[Chapter]
    shift: Fraction = Fraction(0)
    """Seconds by which all streams may be moved."""
    refused: int = 0
    """Packets that the container would not take."""
    changes: Sequence[int] = ()
    """Of animated WebP, by how much each picture differs from the one before (`FrameEncoder.changes`)."""
    riding: Mapping[str, int] = field(default_factory=dict[str, int])
    """libav's names of what rides on frames, and on how many."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which an output is not what it should be."""

    what: str
    by_damage: bool = False
    """A damaged input explains it: words or data with nonsense in them, which the container would not take."""
    by_wish: bool = False
    """Options that the user gave the encoder explain it: they can tell other things of the picture."""


def look_of(first: Frame, info: ClipInfo) -> Look:
    """The look of a clip by its first frame."""
    matrix, hdr = first_frame_metadata(first.carrier)
    turn = turn_of(matrix) if matrix else (1 << 16, 0, 0, 1 << 16)
    video = info.video
    shape = Fraction(video.width or first.width, video.height or first.height)  # not every head tells them
    aspect, fields = video.sample_aspect_ratio or Fraction(1), field_order(first.carrier)
    return Look(first.color, first.format, turn, aspect, shape, first.format, hdr, fields)


def turn_of(matrix: tuple[int, ...]) -> tuple[int, ...]:
    """Of a display matrix what turns and mirrors: the four numbers of its upper left corner."""
    return (*matrix[0:2], *matrix[3:5])
