"""What an enhance stage gives and counts, and the stage that does nothing. Floor 0: no torch; identity is quick."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Protocol

from ns_video.frame import Frame


@dataclass(frozen=True, slots=True)
class EnhancedFrame:
    """One frame after the stage. `frame` keeps everything of the input but its planes and size, and the shape of its
    pixels where it was stretched."""

    frame: Frame
    passed_through: bool = False
    """It could not be restored and is the input (resampled where the output's size differs)."""
    reason: str | None = None
    """Why it wasn't computed: a failure, "identity", "duplicate", "undamaged", "unknown damage", "too small"; None
    where it was."""
    guessed_step: float | None = None
    """The quantiser step that was guessed from the picture, since the file doesn't tell it; None where it does."""
    repeated: bool = False
    """It equals the frame before, whose result was used again."""
    raised: bool = False
    """It looks coded before, more coarsely than the file tells: its quantisers were raised."""


@dataclass(slots=True)
class FrameCounts:
    """How many frames a stage did what with."""

    frames: int = 0
    restored: int = 0
    passed_through: int = 0
    duplicates: int = 0
    undamaged: int = 0
    without_side_information: int = 0
    """Frames left alone because nothing says how they were damaged; counted among the undamaged too."""
    too_small: int = 0
    """Frames of JPEGs left alone because nearly all of them is border; counted among the undamaged too."""
    guessed: int = 0
    """Frames whose `guessed_step` is one."""
    guessed_steps: float = 0.0
    """Sum of those steps; 1 each where a picture looked as if it was never coded."""
    raised: int = 0

    def count(self, out: EnhancedFrame) -> None:
        """Count one more frame."""
        self.frames += 1
        self.passed_through += out.passed_through
        if out.guessed_step is not None:
            self.guessed += 1
            self.guessed_steps += out.guessed_step
        self.raised += out.raised
        if out.repeated:
            self.duplicates += 1
        elif out.passed_through or out.reason == "identity":
            return
        elif out.reason is None:
            self.restored += 1
        else:
            self.undamaged += 1
            self.without_side_information += out.reason == "unknown damage"
            self.too_small += out.reason == "too small"

    def guesses(self) -> str | None:
        """What is to be said of guessed steps; None where there were none."""
        if not self.guessed:
            return None
        mean = self.guessed_steps / self.guessed
        found = f"a mean step of {mean:.1f}" if mean > 1 else "no damage"
        return (
            f"the clip doesn't tell its quantisers: those of {counted(self.guessed)} guessed from the pictures "
            f"({found}); --assumed-step 0 leaves such frames as they are"
        )


def counted(frames: int) -> str:
    """How many frames there were, as a subject: "1 frame was", "2 frames were"."""
    return "1 frame was" if frames == 1 else f"{frames} frames were"


def sum_counts(parts: Iterable[Mapping[str, float]]) -> FrameCounts:
    """Those of all parts together, each by the names of `FrameCounts`."""
    sums = FrameCounts()
    for part in parts:
        for known in fields(sums):
            kind = type(getattr(sums, known.name))
            setattr(sums, known.name, getattr(sums, known.name) + kind(part.get(known.name, 0)))
    return sums


@dataclass(slots=True)
class EnhanceStats(FrameCounts):
    """What a stage did, all in all."""

    smaller_tiles: int = 0
    """How often the tile was halved for want of memory."""
    fp32_retries: int = 0
    """How many frames were computed again in fp32."""
    passes: int = 0
    """How often the network ran: over a tile, or a few of them at once. It grows while one frame takes long."""
    passes_due: int = 0
    """What `passes` will be once the picture at hand is done."""
    tile: int | None = None
    """Side in use; None: whole frames."""
    missing_overlap: int = 0
    """px by which neighbouring tiles overlap less than makes them exact: where that was asked for."""
    precision: str = "fp32"
    device: str = "cpu"

    def fallbacks(self) -> dict[str, int]:
        """The ladder's steps that happened, by name."""
        steps = {
            "smaller_tiles": self.smaller_tiles,
            "fp32_retries": self.fp32_retries,
            "passed_through": self.passed_through,
        }
        return {name: count for name, count in steps.items() if count}


class Stage(Protocol):
    """What a pipeline asks of an enhance stage."""

    stats: EnhanceStats
    precision: str

    @property
    def does_nothing(self) -> bool:
        """Samples are never touched by a network."""
        ...

    def frame_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) of what comes out for a frame."""
        ...

    @property
    def reach(self) -> int:
        """Frames to each side that a result may depend on."""
        ...

    def end_by(self, cancel: threading.Event) -> None:
        """Once `cancel` is set, `run` gives the picture at hand up as soon as may be, and raises Interrupted."""
        ...

    def run(
        self,
        frames: Iterable[Frame],
        *,
        before: Sequence[Frame] = (),
        start_index: int = 0,
        restart_every: int | None = None,
    ) -> Generator[EnhancedFrame]:
        """One out per one in, in order."""
        ...


@dataclass(slots=True)
class PassThrough:
    """The stage of `--model identity`: every frame as it is."""

    stats: EnhanceStats = field(default_factory=EnhanceStats)
    precision: str = "fp32"

    @property
    def does_nothing(self) -> bool:
        """Always."""
        return True

    def frame_size(self, frame: Frame) -> tuple[int, int]:
        """The input's."""
        return frame.width, frame.height

    @property
    def reach(self) -> int:
        """No neighbour."""
        return 0

    def end_by(self, cancel: threading.Event) -> None:
        """There is nothing to wait for."""
        del cancel

    def run(
        self,
        frames: Iterable[Frame],
        *,
        before: Sequence[Frame] = (),
        start_index: int = 0,
        restart_every: int | None = None,
    ) -> Generator[EnhancedFrame]:
        """The same frames."""
        del before, start_index, restart_every
        for frame in frames:
            self.stats.frames += 1
            yield EnhancedFrame(frame, reason="identity")
