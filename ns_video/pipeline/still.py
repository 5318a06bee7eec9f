"""The way of a still: one picture in, one out."""

from __future__ import annotations

import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np

from ns_video.errors import DamageError, Interrupted
from ns_video.frame import Frame
from ns_video.journal import write_whole
from ns_video.media.still import read_still
from ns_video.media.still_writer import encode_still, still_kind
from ns_video.pipeline.run import Progress, Run
from ns_video.stage import EnhancedFrame

__all__ = ["restore_still"]
_LOSSY = frozenset({"JPEG", "WEBP"})
_TURN_SECONDS = 0.5  # between two updates


def restore_still(run: Run) -> Generator[Progress]:
    """One picture in, one out."""
    run.record.kind = "still"
    began = time.perf_counter()
    run.note_source()
    frame, info = read_still(Path(run.source), max_pixels=run.options.max_pixels)
    run.times.decode.busy_seconds = time.perf_counter() - began
    if info.damage and run.options.strict:
        raise DamageError(info.damage[0].what, stage="decode", remedy="leave out --strict to go on past damage")
    run.record.damage += info.damage
    began = time.perf_counter()
    _suit(run, frame)
    run.output_size(frame)
    out = yield from _enhanced(run, frame)
    if run.observer is not None:
        run.observer.observe(frame, out.frame)
    run.times.enhance.busy_seconds = time.perf_counter() - began
    run.note(out)
    if run.cancel.is_set():
        raise Interrupted("interrupted before the picture was written")
    began = time.perf_counter()
    kind = still_kind(run.target, run.options.format)
    run.came_back = _same_samples(frame, out.frame)
    stays = run.came_back and not info.damage and run.options.still_quality is None
    if stays and kind == info.source_format and kind in _LOSSY:
        data = Path(run.source).read_bytes()  # coded again it would lose what no network gave back
        run.check_source()
    else:
        run.record.warnings += info.notes
        data, lost = encode_still(run.target_path, out.frame, info, kind=kind, quality=run.options.still_quality)
        run.record.warnings += lost
    run.times.encode.busy_seconds = time.perf_counter() - began
    run.record.frames_in = run.record.frames_out = 1
    run.record.verified = "structure"
    with run.recorded():
        write_whole(run.target_path, data, stage="encode", replaces=run.options.overwrite)
    yield Progress("restore", 1, 1, time.perf_counter() - run.began)


def _enhanced(run: Run, frame: Frame) -> Generator[Progress, None, EnhancedFrame]:
    """The frame restored, in a thread of its own, and meanwhile how far it is."""
    run.enhancer.end_by(run.cancel)
    before = run.enhancer.stats.passes
    with ThreadPoolExecutor(1, thread_name_prefix="still") as pool:
        outcome = pool.submit(lambda: next(iter(run.enhancer.run([frame]))))
        while not wait([outcome], _TURN_SECONDS).done:
            stats = run.enhancer.stats
            parts = stats.passes - before, max(0, stats.passes_due - before)
            yield Progress("restore", 0, 1, time.perf_counter() - run.began, parts=parts)
        return outcome.result()


def _same_samples(one: Frame, other: Frame) -> bool:
    """Whether two frames hold the same samples."""
    return len(one.planes) == len(other.planes) and all(map(np.array_equal, one.planes, other.planes))


def _suit(run: Run, frame: Frame) -> None:
    """Take the preset's model for stills of video codecs, or for drawings where the picture looks drawn, and say what
    no preset finds by itself."""
    is_coded = frame.quantiser is not None and not frame.quantiser.is_lossless
    if run.options.model:
        if run.conditioning == "jpeg" and is_coded:
            run.record.warnings.append("a video codec coded the picture: --model newer-video restores what that lost")
        return
    if is_coded and (coded := run.preset_model("coded still")) != run.record.model.name:
        run.enhancer = run.load_enhancer(coded)
        return
    from ns_video.recommend import blocks_of, looks_drawn  # and torch with it

    drawn = run.preset_model("drawn still")
    if drawn != run.record.model.name and looks_drawn(frame) > 0:
        run.enhancer = run.load_enhancer(drawn)
    if run.conditioning != "mosaic" and (side := blocks_of(frame)) is not None:
        run.record.warnings.append(
            f"the picture is made of blocks of {side} px; unless it was drawn so, --preset mosaic restores it"
        )
