"""Restore a clip, a still or a pipe: decode → enhance → encode, then the check of what was written. Floor 4."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator
from dataclasses import fields
from pathlib import Path
from typing import Any

from ns_video.errors import InputError, NsVideoError, UsageError
from ns_video.machine import check_address_space, exhaustion_named, short_collections
from ns_video.media.decode import MAX_PIXELS
from ns_video.media.libav import printable
from ns_video.media.probe import still_format
from ns_video.media.promise import Difference
from ns_video.media.verify import verify_files, verify_stills
from ns_video.pipeline.direct import restore_direct
from ns_video.pipeline.options import RestoreOptions, path_text
from ns_video.pipeline.run import Progress, Run
from ns_video.pipeline.segmented import restore_segmented
from ns_video.pipeline.still import restore_still
from ns_video.record import RunRecord, StageTimes

__all__ = ["Progress", "RestoreOptions", "StageTimes", "restore", "restore_steps", "verify"]


def restore(
    input: str | bytes | os.PathLike[str],
    output: str | bytes | os.PathLike[str],
    *,
    preset: str = "auto",
    **options: Any,
) -> RunRecord:
    """Restore INPUT into OUTPUT and return the run record.

    Paths, or "-" for standard input and output. `options` are the fields of RestoreOptions; paths among them may be
    text. Raises NsVideoError, UsageError for another option; a run that ends with damaged input or frames passed
    through returns a record whose `exit_code` is 3, one that lost its report or record beside a whole OUTPUT 1.
    """
    known = {field.name for field in fields(RestoreOptions)}
    if unknown := sorted(options.keys() - known):
        raise UsageError(f"there is no option {unknown[0]!r}", remedy=f"known are {', '.join(sorted(known))}")
    steps = restore_steps(input, output, RestoreOptions(preset=preset, **options))
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def restore_steps(
    input: str | bytes | os.PathLike[str],
    output: str | bytes | os.PathLike[str],
    options: RestoreOptions,
    cancel: threading.Event | None = None,
) -> Generator[Progress, None, RunRecord]:
    """`restore` as a generator of Progress; its return value is the record. `cancel` ends it early and playable."""
    source, target = path_text(input), path_text(output)
    try:
        with exhaustion_named():
            check_address_space()
            run = Run(source, target, options, cancel or threading.Event())
    except OSError as error:  # a folder on the way that may not be entered
        name = printable(os.fsdecode(error.filename)) if error.filename else printable(source)
        raise InputError(f"{name}: {error.strerror or error}", stage="open") from error
    try:
        with exhaustion_named(), short_collections():
            if run.is_still:
                yield from restore_still(run)
            elif run.is_direct:
                yield from restore_direct(run)
            else:
                yield from restore_segmented(run)
    except NsVideoError as error:
        run.note_failure(error)
        raise
    return run.finish()


def verify(
    input: str | bytes | os.PathLike[str],
    output: str | bytes | os.PathLike[str],
    *,
    full: bool = True,
    notes: list[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Difference]:
    """Check a finished OUTPUT against its INPUT; an empty list where frames, times, streams and tags agree.

    `notes` gets what OUTPUT can't hold. `max_pixels`: as of the run that made it.
    """
    source, made = path_text(input), path_text(output)
    if still_format(Path(source)) is not None:
        return verify_stills(Path(source), Path(made), notes=notes, max_pixels=max_pixels)
    return verify_files(source, made, full=full, notes=notes, max_pixels=max_pixels)
