"""The check of what was written, before it takes OUTPUT's name."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from fractions import Fraction
from pathlib import Path

from ns_video.errors import InputError, OutputError, VerificationError
from ns_video.journal import give_name, sync_file
from ns_video.media.animation import open_animation, seconds_of
from ns_video.media.compare import compare
from ns_video.media.compare_animation import compare_animation, compare_joined
from ns_video.media.compare_beside import compare_beside
from ns_video.media.compare_riding import compare_riding
from ns_video.media.containers import format_for, of_muxer
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.file_facts import read_facts
from ns_video.media.left_out import left_out, left_out_beside
from ns_video.media.libav import printable
from ns_video.media.promise import Difference, Promise, look_of
from ns_video.media.riding import riding_on
from ns_video.pipeline.clip import Restored
from ns_video.pipeline.ends import may_replace
from ns_video.pipeline.place import free_name
from ns_video.pipeline.run import Progress, Run

__all__ = ["NameTakenError", "put_in_place"]


class NameTakenError(OutputError):
    """Something came to OUTPUT's place during the run: what was restored is whole, and has another name."""


def put_in_place(
    run: Run, path: Path, video: Restored, frames: int, promise: Callable[[], Promise]
) -> Generator[Progress]:
    """Check what was written to `path`, write the record and give it OUTPUT's name. Raises NameTakenError."""
    sync_file(path)
    if run.options.verify != "none":
        yield Progress("verify", frames, frames, time.perf_counter() - run.began)
        _self_check(run, path, video, promise())
    with run.recorded():
        try:
            give_name(path, run.target_path, replaces=may_replace(run.target_path, run.options))
        except FileExistsError as error:
            kept = free_name(run.target_path, "restored")
            path.replace(kept)
            raise NameTakenError(
                f"{printable(run.target)} was not there when the run began, and is now",
                stage="verify",
                remedy=f"it is untouched, and what was restored is {printable(kept)}",
            ) from error


def _self_check(run: Run, path: Path, video: Restored, promise: Promise) -> None:
    """Open what was written and compare. A mismatch keeps the file under a telling name and raises."""
    try:
        animated = format_for(run.target, run.options.format) == "webp"
        differences = (_check_animation if animated else _check_clip)(run, path, promise)
    except InputError as error:
        differences = [Difference(f"it can't be read back: {error.message}")]
    run.record.verified = run.options.verify
    damaged, wished = any(place.is_of_input for place in run.record.damage), bool(video.plan.wished)
    explained = [d for d in differences if (d.by_damage and damaged) or (d.by_wish and wished)]
    run.record.warnings += [d.what for d in explained]
    differences = [d for d in differences if d not in explained]
    if differences:
        kept = free_name(run.target_path, "failed-check")
        path.replace(kept)
        raise VerificationError(
            f"the output is not what it should be: {'; '.join(d.what for d in differences[:5])}",
            stage="verify",
            remedy=f"it was kept as {printable(kept)}",
        )


def _check_animation(run: Run, path: Path, promise: Promise) -> list[Difference]:
    expected = promise.times
    animation = open_animation(path, DecodeOptions(max_pixels=run.options.max_pixels))
    made: Sequence[Fraction]
    if animation is None:  # nothing ever changes: its encoder makes a still of it
        facts = read_facts(path)
        made, found = facts.video_times[:1], facts.info
    else:
        with animation as reader:
            found = reader.info
            made = [f.pts * f.time_base for f in reader.frames() if f.pts is not None]
    differences = compare_animation(expected, made, promise.shown, seconds_of(path))
    differences = differences or compare_joined(expected, made, promise.changes)
    differences += compare_beside(promise.source, found, of_muxer("webp"))
    run.record.warnings += left_out_beside(promise.source, found, of_muxer("webp"))
    if not differences and len(made) < len(expected):
        joined = f"{len(expected) - len(made)} frames that change nothing are part of the one before"
        run.record.warnings.append(f"{joined}: animated WebP holds no frame twice")
    return differences


def _check_clip(run: Run, path: Path, promise: Promise) -> list[Difference]:
    expected = promise.times
    found = read_facts(path)
    options = DecodeOptions(deinterlace="off", max_pixels=run.options.max_pixels, compared=True)
    with open_clip(path, options) as reader:
        frames = reader.frames()
        first = next(frames)
        differences = compare(promise, found, look_of(first, found.info))
        made, riding = len(expected), Counter(riding_on(first.carrier))
        if run.options.verify == "full":
            made = 1
            for frame in frames:
                made += 1
                riding.update(riding_on(frame.carrier))
            differences += compare_riding(promise.riding, riding, found.info.video.codec)
        if made not in (len(expected), len(found.video_times)):  # which is told with the times
            differences.append(Difference(f"{len(expected)} frames went in, {made} decode"))
        if run.options.verify == "full" and reader.damage:
            differences.append(Difference(f"it is damaged: {reader.damage[0].what}"))
    run.record.warnings += left_out(promise, found)
    return differences
