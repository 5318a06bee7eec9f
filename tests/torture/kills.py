"""Kill a run with SIGKILL, resume it, and compare what came out with the run that was left alone."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torture.clips import RECIPES, Content, content_of, make_clip
from torture.workshop import Workshop

SEGMENT_FRAMES = 8
PLACES = ("segment", "segment close", "journal", "mux", "mux close", "sync", "verify")
"""Where a killed run can be made to wait for its end, so that every place is hit and not only the long ones."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A clip, and what an undisturbed run makes of it."""

    source: Path
    content: Content
    seconds: float


@dataclass(frozen=True, slots=True)
class Round:
    """One kill, or several, and the resumption."""

    where: str
    kills: int
    segments_kept: int
    """What the resumed run took over."""
    same: bool
    problems: tuple[str, ...]


def tunings(delay: float = 0.003) -> dict[str, Any]:
    """Short segments, and frames slow enough to be killed between."""
    return {"segment_frames": SEGMENT_FRAMES, "frame_delay": delay}


def reference_run(shop: Workshop, folder: Path, suffix: str = ".mkv", frames: int = 160) -> Reference:
    """A clip of uneven frame times with sound and subtitles, and the content of its undisturbed restoration."""
    source = make_clip(folder / "source.mkv", RECIPES["h264.mkv"], frames, variable=True)
    output = folder / f"reference{suffix}"
    began = time.monotonic()
    outcome = shop.restore(source, output, tunings=tunings())
    assert outcome.code == 0, outcome.stderr
    content = content_of(output)
    assert len(content.frames) == frames
    assert sum(len(packets) for _, packets in content.packets) > 30
    return Reference(source, content, time.monotonic() - began)


def kill_and_resume(
    shop: Workshop, reference: Reference, output: Path, rng: random.Random, *, place: str | None = None, times: int = 1
) -> Round:
    """Kill `times` runs in a row, at a random instant or at a place, then resume to the end and compare."""
    problems: list[str] = []
    record = output.with_suffix(".json")
    for turn in range(times):
        setting: dict[str, Any] = tunings()
        if place is not None:
            at = {"segment": 40, "segment close": 5, "journal": 4, "mux": 60}.get(place, 1)
            setting["pause"] = {"place": place, "at": max(1, at // (turn + 1)), "seconds": 20}
        run = shop.start("restore", "--model", "identity", reference.source, output, "--resume", tunings=setting)
        if place is None:
            time.sleep(rng.uniform(0.0, reference.seconds * 1.05))
        else:
            _wait_for_rest(run.pid)
        run.kill()
        outcome = run.wait()
        if outcome.hung:
            problems.append("a killed run did not end")
        if output.exists() and content_of(output) != reference.content:
            problems.append("OUTPUT is there and not whole")
    if output.exists() and not _work_left(output):
        return Round(place or "anywhere", times, 0, content_of(output) == reference.content, tuple(problems))
    outcome = shop.restore(reference.source, output, "--resume", "--record", record, tunings=tunings(0.0))
    if outcome.code != 0:
        return Round(place or "anywhere", times, 0, False, (*problems, f"code {outcome.code}: {outcome.stderr[-300:]}"))
    row: Mapping[str, Any] = json.loads(record.read_text())
    left = [p.name for p in output.parent.iterdir() if p.name.startswith(".ns-video")]
    if left:
        problems.append(f"left behind: {left}")
    same = content_of(output) == reference.content
    return Round(place or "anywhere", times, int(row["segments_resumed"]), same, tuple(problems))


def _work_left(output: Path) -> bool:
    return any(p.name.startswith(".ns-video") and (p / "journal.jsonl").exists() for p in output.parent.iterdir())


def _wait_for_rest(pid: int, seconds: float = 15.0) -> None:
    """Until the main thread of a process sleeps in its injected pause: no processor time used for a while."""
    until = time.monotonic() + seconds
    last, since = -1, time.monotonic()
    while time.monotonic() < until:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return
        if fields[0] == "Z":
            return
        used = int(fields[11]) + int(fields[12])
        if used != last:
            last, since = used, time.monotonic()
        elif time.monotonic() - since > 0.5 and used > 0:
            return
        time.sleep(0.05)
