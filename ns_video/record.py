"""The run record: what a run did, as a value and as the JSON of the contract. Floor 0."""

from __future__ import annotations

import dataclasses
import json
import math
from bisect import insort
from dataclasses import dataclass, field
from typing import Any

PASSED_THROUGH = "passed through unrestored"
"""Says of a place that no damage of the input was there."""
NOTHING_RESTORED = "nothing was restored"
"""Begins the note of a run that left every frame as it was."""
DAMAGE_KEPT = 500
"""Places of damage that are listed one by one, and frames that were passed through; the rest is only counted."""


@dataclass(slots=True)
class Damage:
    """One place where the input was damaged or a frame was passed through. `pts_seconds` None: unknown place."""

    pts_seconds: float | None
    what: str

    @property
    def is_of_input(self) -> bool:
        """The input was damaged there, not the run at a loss."""
        return PASSED_THROUGH not in self.what


@dataclass(slots=True)
class StreamAction:
    """What became of one input stream: "restored", "copied", "attached", "converted: ..." or "dropped: ..."."""

    index: int
    type: str
    codec: str
    action: str


@dataclass(slots=True)
class StageTimes:
    """Seconds of wall time a stage worked, and waited for its neighbours."""

    busy_seconds: float = 0.0
    waiting_seconds: float = 0.0


@dataclass(slots=True)
class ModelInfo:
    """Which weights ran."""

    name: str = "identity"
    sha256: str = ""


@dataclass(slots=True)
class RunRecord:
    """The record of one run: `ns-video restore --record`, and what `ns_video.restore` returns."""

    version: str = ""
    input: str = ""
    output: str = ""
    """Both as they were given: undecodable bytes as lone surrogates (os.fsencode), nothing is escaped."""
    preset: str = ""
    model: ModelInfo = field(default_factory=ModelInfo)
    device: str = ""
    precision: str = ""
    tile: int = 0
    """Tile side in input pixels; 0 for the whole frame."""
    kind: str = "clip"
    """"clip" or "still"."""
    frames_in: int = 0
    frames_out: int = 0
    frames_passed_through: int = 0
    frames_identical: int = 0
    """Frames equal to the one before, whose result was used again."""
    frames_undamaged: int = 0
    """Frames left alone: by their quantisers or pixels nothing was lost, nothing tells what was, or they are too small
    to tell."""
    frames_guessed: int = 0
    """Frames whose quantiser was guessed from the picture; those that looked undamaged are counted above too."""
    frames_raised: int = 0
    """Frames that look coded before, more coarsely than the file tells of its last encoder."""
    fallbacks: dict[str, int] = field(default_factory=dict)
    """Smaller tiles, fp32 retries and the like, counted by name."""
    damage: list[Damage] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    streams: list[StreamAction] = field(default_factory=list)
    seconds: float = 0.0
    fps: float = 0.0
    stages: dict[str, StageTimes] = field(default_factory=dict)
    limiting_stage: str = ""
    peak_memory_bytes: int = 0
    segments_resumed: int = 0
    verified: str = ""
    """What the self-check covered: "structure", "full" or "" where there was nothing to read back (a pipe)."""
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values."""
        return dataclasses.asdict(self)

    def dumps(self) -> str:
        """The record as indented JSON text."""
        return json.dumps(self.to_json(), indent=2, ensure_ascii=False)


def in_time(place: Damage) -> float:
    """By what places of damage are sorted: those of an unknown time come last."""
    return math.inf if place.pts_seconds is None else place.pts_seconds


def list_damage(places: list[Damage], place: Damage) -> bool:
    """Put a place among `places`, in the order of time; False where DAMAGE_KEPT of its kind are there already.

    Whoever found it counts it, listed or not.
    """
    if sum(other.is_of_input == place.is_of_input for other in places) >= DAMAGE_KEPT:
        return False
    insort(places, place, key=in_time)
    return True
