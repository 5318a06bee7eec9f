"""Where OUTPUT is made before it has its name, and what it is called if it doesn't get it."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

from ns_video.errors import UsageError
from ns_video.journal import Journal, taken_meanwhile, work_folder
from ns_video.media.libav import printable
from ns_video.pipeline.ends import may_replace
from ns_video.pipeline.run import Run

__all__ = ["claim", "free_name", "temporary_of"]

_NAME_BYTES = 255  # of a file name, on every file system in use


def claim(run: Run) -> Journal:
    """The private folder beside OUTPUT, locked.

    Raises UsageError where a run is going on, left work undone, or wrote OUTPUT since this one looked.
    """
    journal = Journal(work_folder(run.target_path))
    journal.acquire()
    if run.target_path.exists() and not may_replace(run.target_path, run.options):
        if journal.path.exists():
            journal.release()
        else:
            journal.remove()
        raise taken_meanwhile(run.target)
    if journal.exists() and not (run.options.resume or run.options.overwrite):
        journal.release()
        raise UsageError(
            f"an unfinished run of {printable(run.target)} is there",
            remedy="--resume goes on with it, --overwrite begins anew",
        )
    if journal.unlocked is not None:
        run.record.warnings.append(
            f"OUTPUT's folder can't be locked ({journal.unlocked}): nothing keeps a second run of this OUTPUT away"
        )
    return journal


def temporary_of(run: Run, journal: Journal) -> Path:
    """Where OUTPUT is written before it is renamed: in the private folder, with its suffix."""
    return journal.folder / f"whole{run.target_path.suffix[:16]}"


def free_name(path: Path, word: str) -> Path:
    """`clip.WORD.mp4`, or `clip.WORD2.mp4` and so on where something is there."""
    names = (_beside(path, f"{word}{number if number > 1 else ''}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def _beside(path: Path, word: str) -> Path:
    """`clip.mp4` → `clip.WORD.mp4`, shortened to what a file system takes."""
    end = f".{word}{path.suffix}".encode("utf-8", "surrogateescape")
    stem = path.stem.encode("utf-8", "surrogateescape")[: max(1, _NAME_BYTES - len(end))]
    return path.with_name((stem.decode("utf-8", "ignore") or "output") + end.decode("utf-8", "surrogateescape"))
