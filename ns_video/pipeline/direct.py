"""The way from or to a pipe: one walk, in which what is read is written."""

from __future__ import annotations

import time
from array import array
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ns_video.errors import InputError, Interrupted, OutputError, UsageError
from ns_video.flow import Aside, decoded_ahead, enhanced_ahead
from ns_video.frame import Frame
from ns_video.media.containers import format_for
from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.cut import Cut
from ns_video.media.decode import ClipReader, Skipped
from ns_video.media.encode import FrameEncoder
from ns_video.media.file_facts import PacketTally, Times, write_counted
from ns_video.media.hdr_header import needs_container_hdr
from ns_video.media.libav import file_url, printable, translate_output
from ns_video.media.mux import ClipWriter, OutputSettings
from ns_video.media.promise import Promise
from ns_video.pipeline.check import put_in_place
from ns_video.pipeline.clip import Clip, Restored, open_source
from ns_video.pipeline.encoding import REFUSED, packets_of
from ns_video.pipeline.ends import is_special
from ns_video.pipeline.place import claim, free_name, temporary_of
from ns_video.pipeline.run import Progress, Run
from ns_video.stage import EnhancedFrame

__all__ = ["restore_direct"]

_WAITING_BYTES = 256 << 20  # of packets that a pipe gives before the first frame, which tells how to write them


def restore_direct(run: Run) -> Generator[Progress]:
    """From or to a pipe: one walk, nothing kept on disk."""
    container_format = format_for(run.target, run.options.format)
    to_file = run.target != "-" and not is_special(run.target_path)
    journal = claim(run) if to_file else None
    keeps = journal is not None and journal.exists()  # an unfinished run's work, until this one has begun
    temporary = None if journal is None else temporary_of(run, journal)
    sink: _Sink | None = None
    try:
        with open_source(run) as reader:
            if journal is not None:
                journal.clear()
                keeps = False
            clip = Clip(run, reader, container_format)
            yield from run.opened(clip.total())
            sink = _Sink(clip, temporary)
            try:
                yield from _walk(clip, sink, temporary)
            finally:
                clip.take_damage()
            video, promise = sink.made(), sink.promise()
        run.account()
        if temporary is not None:
            yield from put_in_place(run, temporary, video, sink.done, lambda: promise)
    except OSError as error:
        raise translate_output(error, run.target, "encode") from error
    finally:
        if sink is not None:
            sink.abandon()
        if journal is not None and not keeps:
            journal.remove()
        elif journal is not None:
            journal.release()


def _walk(clip: Clip, sink: _Sink, temporary: Path | None) -> Generator[Progress]:
    """Decode, enhance and write until the source ends; the sink is closed then.

    Raises Interrupted where the run is cancelled, once what is done is closed and kept: before the threads are waited
    for, so that nothing that goes wrong with them takes it away.
    """
    run, stall = clip.run, clip.stall_seconds
    stop = run.cancel if stall is None else None
    kept = [c.stream.index for c in clip.copies if c.kept]
    decoded = decoded_ahead(clip.told(_items(clip.reader, kept)), run.times, run.meters, stall, stop)
    stage = enhanced_ahead(
        decoded, run.enhancer, run.times, run.meters, observer=run.observer, stall_seconds=stall, stop=stop
    )
    with closing(stage) as enhanced:
        for item in enhanced:
            began = time.perf_counter()
            if isinstance(item, Aside):
                if isinstance(item.payload, Skipped):
                    yield run.seeking(item.payload, clip.total())
                else:
                    sink.take(item.payload)
                continue
            sink.write(item)
            run.times.encode.busy_seconds += time.perf_counter() - began
            yield run.progress(sink.done, clip.total(), item.frame)
            if run.cancel.is_set():
                break
        sink.close()
        run.record.frames_out = sink.done
        if run.cancel.is_set():
            raise _interrupted(run, temporary)


def _items(reader: ClipReader, kept: list[int]) -> Generator[Frame | Aside]:
    for item in reader.items_and_skipped(kept):
        if isinstance(item, Frame):
            yield item
        else:
            yield Aside(item, item.nbytes if isinstance(item, CopiedPacket) else 0)


def _interrupted(run: Run, temporary: Path | None) -> Interrupted:
    """Tells what is done, which keeps a telling name."""
    if temporary is None:
        return Interrupted("interrupted; what is done was written")
    kept_as = free_name(run.target_path, "partial")
    temporary.replace(kept_as)
    return Interrupted(f"interrupted; what is done is in {printable(kept_as)}")


class _Sink:
    """What a walk is written to: opened by the first frame, which tells how; packets before it wait."""

    def __init__(self, clip: Clip, temporary: Path | None) -> None:
        """`temporary`: where a file is written; None: to the pipe or device that OUTPUT is."""
        self.done = 0
        self._clip, self._run, self._temporary = clip, clip.run, temporary
        self._cut = Cut(clip.copies, clip.start, clip.end)
        self._writer: ClipWriter | None = None
        self._encoder: FrameEncoder | None = None
        self._video: Restored | None = None
        self._waiting: list[CopiedPacket] = []
        self._waiting_bytes = 0
        self._covers: dict[int, bytes] = {}
        self._counted: dict[int, PacketTally] = {}
        self._expected: array[int] = array("q")  # ticks; only of what is checked
        self._begins, self._uneven = Fraction(0), False

    def take(self, packet: CopiedPacket) -> None:
        """Copy a packet, or keep it until there is a writer."""
        copies = self._clip.copies
        if any(c.stream.index == packet.stream_index and c.action == "attached" for c in copies):
            self._covers.setdefault(packet.stream_index, bytes(packet.packet))
            return
        if self._cut.take(packet) is None:
            return
        if self._writer is not None:
            self._copy(self._writer, packet)
            return
        self._waiting.append(packet)
        self._waiting_bytes += packet.nbytes
        if self._waiting_bytes > _WAITING_BYTES:
            raise InputError(
                f"more than {_WAITING_BYTES >> 20} MiB of sound lie before the first frame",
                stage="decode",
                remedy="give INPUT and OUTPUT as files",
            )

    def write(self, out: EnhancedFrame) -> None:
        """Encode a frame."""
        if self._writer is None:
            self._open(out.frame)
        assert self._writer is not None and self._encoder is not None and self._video is not None
        self._run.note(out)
        self.done += 1
        self._video = self._video.until(out.frame)
        self._expect(out.frame, self._writer.tick, self._video)
        wished = self._run.wished and self.done == 1
        for packet in packets_of(self._encoder, self._clip.shifted(out.frame), wished=wished):
            self._writer.write_video(packet)

    def close(self) -> None:
        """Write what the encoder still holds. Raises Interrupted or InputError where there was no frame."""
        if self._writer is None or self._encoder is None:
            if self._run.cancel.is_set():
                raise Interrupted("interrupted before anything was finished")
            raise InputError("no frame lies between --start and --end", stage="decode")
        for packet in packets_of(self._encoder, None):
            self._writer.write_video(packet)
        self._writer.close()
        self._clip.note_written(self._writer)
        if self._begins:
            self._clip.note_start(self._begins)
        if self._uneven:
            known = float(1 / self._writer.tick)
            self._run.record.warnings.append(f"uneven times were rounded: this output knows only 1/{known:.6g} s")
        self._run.record.warnings += self._cut.notes

    def made(self) -> Restored:
        """What a sink that is closed is to show."""
        assert self._video is not None
        return self._video

    def promise(self) -> Promise:
        """What a sink that is closed has to hold."""
        assert self._encoder is not None
        video, changes = self.made(), self._encoder.changes
        times = Times(self._expected, video.plan.time_base, -video.plan.offset)
        promise = self._clip.promise(video, times, self._counted)
        return replace(promise, changes=changes)

    def abandon(self) -> None:
        """Let go of what was not closed."""
        if self._writer is not None:
            self._writer.abandon()

    def _open(self, frame: Frame) -> None:
        clip, run = self._clip, self._run
        run.check_size(frame.width, frame.height)
        plan = clip.plan(frame, (frame.width, frame.height))
        self._video = Restored.of(plan, frame, clip.info)
        if needs_container_hdr(plan):
            run.record.warnings.append(f"{plan.codec} keeps HDR metadata in files only")
            self._video = replace(self._video, look=replace(self._video.look, hdr=None))
        piped = self._temporary is None and run.target == "-"
        target = "pipe:1" if piped else file_url(self._temporary or run.target_path)
        shown = "standard output" if run.target == "-" else run.target
        settings = OutputSettings(target, shown, clip.start, clip.end)
        try:
            self._writer = ClipWriter(settings, plan, clip.reader.container, clip.info, clip.copies, self._covers)
        except OutputError as error:
            if run.wished and getattr(error.__cause__, "errno", None) in REFUSED:
                raise UsageError(error.message, remedy=error.remedy) from error
            raise
        self._encoder = FrameEncoder(self._writer.video, plan)
        for packet in self._waiting:
            self._copy(self._writer, packet)
        self._waiting.clear()

    def _copy(self, writer: ClipWriter, packet: CopiedPacket) -> None:
        write_counted(writer, packet, self._counted)

    def _expect(self, frame: Frame, tick: Fraction, video: Restored) -> None:
        """Note when a frame is to be shown. Raises UsageError where a file of y4m can't show it then."""
        assert frame.pts is not None
        container = video.plan.container
        at = (frame.pts - self._clip.base) * frame.time_base
        if self.done == 1 and container.begins_at_zero:
            self._begins = at
        place, offset = at - self._begins, video.plan.offset
        even = (self.done - 1 if container.gapless else round((place - offset) / tick)) * tick + offset
        self._uneven |= abs(place - even) > Fraction(1, 1000)
        if self._temporary is not None:
            self._expected.append(video.plan.tick_of(place))
            if container.gapless and abs(place - even) > tick:
                raise _uneven(at, tick)


def _uneven(at: Fraction, tick: Fraction) -> UsageError:
    """A y4m file holds one frame after the other; in a pipe the note on what was rounded has to do."""
    return UsageError(
        f"the frame at {float(at):.4f} s does not fit into y4m, which holds only frames at an even "
        f"{float(1 / tick):.6g} per second",
        remedy="write .mkv or .mp4: they keep every frame's time",
    )
