"""The way from file to file: segments and a journal, so that a run can go on after a kill; then one mux."""

from __future__ import annotations

import gc
import itertools
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import fields, replace
from typing import Any

from ns_video.errors import InputError, Interrupted
from ns_video.flow import Aside, decoded_ahead, enhanced_ahead
from ns_video.frame import Frame
from ns_video.journal import Journal
from ns_video.media.containers import format_for
from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.decode import Skipped
from ns_video.media.libav import translate_output
from ns_video.media.segment_file import require_codec, segment_frames
from ns_video.media.video_plan import VideoPlan
from ns_video.pipeline.assemble import expected_times, leave_partial, mux
from ns_video.pipeline.check import NameTakenError, put_in_place
from ns_video.pipeline.clip import Clip, Restored, decode_options, open_source
from ns_video.pipeline.place import claim, temporary_of
from ns_video.pipeline.run import Progress, Run
from ns_video.pipeline.segment import Segment
from ns_video.prefetch import close
from ns_video.record import PASSED_THROUGH, Damage
from ns_video.stage import EnhancedFrame, sum_counts
from ns_video.version import __version__

__all__ = ["restore_segmented"]

_SEGMENT_PIXELS = 2e8  # about ten seconds of 480p, three of 1080p: what a kill can cost
_SEGMENT_FRAMES = (32, 240)
_SHOWN_EVERY = 100  # frames of finished segments that are only decoded
_SAME_FRAMES = frozenset({"allow_protocols", "threads", "strict", "max_pixels", "cancel"})
"""DecodeOptions that change no frame: a run may be resumed with others."""


def restore_segmented(run: Run) -> Generator[Progress]:
    """File to file: closed segments and a journal, then one mux."""
    container_format = format_for(run.target, run.options.format)
    journal = claim(run)
    finished = False
    try:
        with open_source(run) as reader:
            clip = Clip(run, reader, container_format)
            yield from run.opened(clip.total())
            items = clip.told(reader.items_and_skipped())
            decoded = decoded_ahead(items, run.times, run.meters, clip.stall_seconds)
            try:
                first = yield from _first(clip, decoded)
                segments = _Segments(clip, journal, first)
                before = yield from segments.walk(first, (item for item in decoded if isinstance(item, Frame)))
                video = Restored.of(segments.plan, first, clip.info).until(before)
                interrupted = run.cancel.is_set()
            finally:
                close(decoded)
                clip.take_damage()
            yield Progress("mux", run.record.frames_out, run.record.frames_out, time.perf_counter() - run.began)
            if interrupted:
                leave_partial(clip, journal, video.plan)
            run.account()
            yield from _finish(clip, journal, video)
        finished = True
    except NameTakenError:
        finished = True
        raise
    except OSError as error:
        raise translate_output(error, run.target, "encode", resumes=True) from error
    finally:
        if finished:
            journal.drop()
        elif not (journal.exists() or journal.own_partial()):  # nothing was done that could be resumed
            journal.remove()
        else:
            journal.release()


def _first(clip: Clip, decoded: Iterable[Frame | CopiedPacket | Skipped]) -> Generator[Progress, None, Frame]:
    for item in decoded:
        if isinstance(item, Frame):
            return item
        if isinstance(item, Skipped):
            yield clip.run.seeking(item, clip.total())
    if clip.run.cancel.is_set():
        raise Interrupted("interrupted before anything was finished")
    raise InputError("no frame lies between --start and --end", stage="decode")


def _finish(clip: Clip, journal: Journal, video: Restored) -> Generator[Progress]:
    """All segments into one file, which is checked."""
    temporary = temporary_of(clip.run, journal)
    try:
        counted = mux(temporary, clip, journal, video.plan)
        times = expected_times(clip, journal, video.plan)
        journal.note_output(temporary)
        yield from put_in_place(clip.run, temporary, video, len(times), lambda: clip.promise(video, times, counted))
    finally:
        temporary.unlink(missing_ok=True)


class _Segments:
    """The segments of a clip: which are done, and the walk that writes the others."""

    def __init__(self, clip: Clip, journal: Journal, first: Frame) -> None:
        """Begin the journal, or go on with it. `first`: of the clip's frames."""
        self._clip, self._run, self._journal = clip, clip.run, journal
        options, plan = clip.run.options, clip.plan(first, clip.run.output_size(first))
        if options.resume and not options.threads and isinstance(count := journal.noted("threads"), int):
            plan = replace(plan, threads=count)  # what an encoder writes depends on it; the machine may have changed
        require_codec(plan)
        low, high = _SEGMENT_FRAMES
        self.plan = plan
        self._length = int(min(high, max(low, _SEGMENT_PIXELS // max(1, plan.width * plan.height))))
        journal.begin(
            _fingerprint(self._run, plan, self._length),
            resume=options.resume,
            replaces=self._run.target_path if options.overwrite else None,
        )
        self._run.record.segments_resumed = len(journal.entries)
        _take_passed(self._run, journal)
        if self._run.observer is not None and (done := sum(e.frames for e in journal.entries.values())):
            told = f"{done} frames were restored before the run was resumed: the report has them as they were encoded"
            self._run.record.warnings.append(told)
        self._total = clip.total()

    def walk(self, first: Frame, decoded: Generator[Frame]) -> Generator[Progress, None, Frame | None]:
        """Walk through the clip once, return its last frame; frames of segments that are done are only decoded, and
        shown to the observer with what the segment holds of them."""
        run, entries, length = self._run, self._journal.entries, self._length
        position = 0  # index of the first frame `ahead`
        ahead = deque([first])  # read, but not walked by
        before = deque[Frame](maxlen=max(1, run.enhancer.reach))
        encoded: Iterator[Frame] = iter(())
        while not run.cancel.is_set():
            if not ahead:
                ahead.extend(itertools.islice(decoded, 1))
            if not ahead:
                break
            if position // length in entries:
                if run.observer is not None:
                    if position % length == 0:
                        encoded = self._encoded(position // length)
                    after = next(encoded, None)
                    run.observer.observe(ahead[0], None if after is None else self._shown(ahead[0], after))
                before.append(ahead.popleft())
                position += 1
                if position % _SHOWN_EVERY == 0:
                    yield run.progress(position, self._total, before[-1])
                continue
            stop = next((n * length for n in sorted(entries) if n * length > position), None)
            stretch = _Stretch(ahead, before, position, stop, decoded)
            stage = enhanced_ahead(
                stretch.frames(),
                run.enhancer,
                run.times,
                run.meters,
                before=tuple(before),
                start_index=position,
                restart_every=length,
                most=None if stop is None else stop - position,
                observer=run.observer,
                stall_seconds=self._clip.stall_seconds,
            )
            with closing(stage) as enhanced:
                yield from self._write(enhanced, position)
            position = stretch.position
        run.record.frames_out = sum(e.frames for e in entries.values())
        run.counts = sum_counts(entry.counts for entry in entries.values())
        return before[-1] if before else None

    def _encoded(self, number: int) -> Iterator[Frame]:
        entry = self._journal.entries[number]
        return segment_frames(self._journal.folder / entry.file, max_pixels=self._run.options.max_pixels)

    def _shown(self, before: Frame, after: Frame) -> Frame | None:
        """`after`, decoded from a segment, which doesn't tell all of its looks, in the format in which the stage gave
        it; None where libav converts nothing into that."""
        from ns_video.media.metrics import coded_like

        plan = self.plan
        told = replace(
            after,
            color=plan.color,
            pixel_aspect=plan.sample_aspect_ratio or before.pixel_aspect,
            rotation=0 if plan.upright else before.rotation,
        )
        with suppress(ValueError, OSError):
            return coded_like(told, before)
        return None

    def _write(self, enhanced: Generator[EnhancedFrame | Aside], position: int) -> Generator[Progress]:
        """Write frames, the first of them at `position`."""
        run, journal, length = self._run, self._journal, self._length
        segment: Segment | None = None
        done = sum(e.frames for e in journal.entries.values())
        try:
            for out in enhanced:
                if isinstance(out, Aside):
                    continue
                began = time.perf_counter()
                if segment is None:
                    wished = run.wished and not journal.entries
                    segment = Segment(journal, self.plan, position // length, wished=wished)
                run.note(out)
                segment.write(self._clip.shifted(out.frame), out)
                position += 1
                done += 1
                if position % length == 0:
                    run.check_source()  # before it is noted: as of what was opened
                    segment.close()
                    segment = None
                    gc.collect()  # PyAV's containers and streams hold each other: an encoder would stay for long
                run.times.encode.busy_seconds += time.perf_counter() - began
                yield run.progress(done, self._total, out.frame)
                if run.cancel.is_set():
                    break
            began = time.perf_counter()
            if segment is not None:
                run.check_source()
                segment.close(complete=not run.cancel.is_set())
                segment = None
            run.times.encode.busy_seconds += time.perf_counter() - began
        finally:
            if segment is not None:
                segment.abandon()


class _Stretch:
    """A run of frames whose segments are missing, with some more behind it to look at."""

    def __init__(
        self, ahead: deque[Frame], before: deque[Frame], position: int, stop: int | None, decoded: Generator[Frame]
    ) -> None:
        """`ahead`: what was read from `decoded` already; `before`: what was walked by, as many as are looked at.
        Both are kept up to date."""
        self.position = position
        self._ahead = ahead
        self._before = before
        self._stop = stop
        self._decoded = decoded

    def frames(self) -> Generator[Frame]:
        """Frames up to that at `stop`, and those to look at from there on, which stay `ahead`."""
        while self._stop is None or self.position < self._stop:
            if not self._ahead:
                self._ahead.extend(itertools.islice(self._decoded, 1))
            if not self._ahead:
                return
            frame = self._ahead.popleft()
            self._before.append(frame)
            self.position += 1
            yield frame  # may be the last that is asked for
        reach = self._before.maxlen or 0
        self._ahead.extend(itertools.islice(self._decoded, max(0, reach - len(self._ahead))))
        yield from list(self._ahead)[:reach]


def _fingerprint(run: Run, plan: VideoPlan, segment_frames: int) -> dict[str, Any]:
    """All that decides the bytes of a segment: --resume goes on only where it is the same."""
    decoding = decode_options(run)
    return {
        "version": __version__,
        "input": run.fingerprint,
        "model": run.record.model.sha256 or run.record.model.name,
        "device": run.computed_by,
        "precision": run.enhancer.precision,
        "enhance options": run.settings,
        "encoding": repr(replace(plan, threads=0)),
        "threads": plan.threads,
        "decoding": {f.name: getattr(decoding, f.name) for f in fields(decoding) if f.name not in _SAME_FRAMES},
        "segment length": segment_frames,
    }


def _take_passed(run: Run, journal: Journal) -> None:
    """What the run that is resumed could not restore is told by this one."""
    passed = sum_counts(entry.counts for entry in journal.entries.values()).passed_through
    if passed:
        run.record.frames_passed_through += passed
        run.record.damage.append(Damage(None, f"{passed} frames {PASSED_THROUGH} before the run was resumed"))
