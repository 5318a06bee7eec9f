"""One run: its options, its stage and its record, whichever way it walks."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ns_video.errors import DamageError, InputError, NsVideoError, OutputError, UsageError, VerificationError
from ns_video.flow import FlowTimes, Meters, Observer, settle
from ns_video.frame import Frame
from ns_video.journal import WrittenBeside, source_fingerprint
from ns_video.machine import peak_memory
from ns_video.media.decode import Skipped
from ns_video.media.jpeg_headers import CODECS as JPEG_CODECS
from ns_video.media.libav import is_url, printable
from ns_video.pipeline.ends import between_stills, check_beside, check_ends, goes_direct, idle_options
from ns_video.pipeline.options import RestoreOptions
from ns_video.preset import Content, Preset, load_preset
from ns_video.record import NOTHING_RESTORED, PASSED_THROUGH, Damage, ModelInfo, RunRecord, in_time, list_damage
from ns_video.stage import EnhancedFrame, FrameCounts, PassThrough, Stage, counted
from ns_video.version import __version__

__all__ = ["Progress", "Run"]

logger = logging.getLogger("ns_video")

# What networks of each conditioning look for in a frame; without it they leave the frame as it is.
_SOUGHT = {
    "jpeg": "loss by JPEG",
    "quantiser": "loss by a video codec",
    "mosaic": "pixelation",
    "shrunk": "blur by enlargement",
}


@dataclass(frozen=True, slots=True)
class Progress:
    """A run, now. `frames_total` 0: not known. `phase`: "seek" (the way to --start), "restore", "mux" or "verify"."""

    phase: str
    frames: int
    frames_total: int
    seconds: float
    limiting_stage: str = ""
    pts_seconds: float | None = None
    notes: tuple[str, ...] = ()
    """What is to be said now: before the work, what of INPUT the output can't hold."""
    parts: tuple[int, int] = (0, 0)
    """Of the frame at hand, where it is a still: passes through the network that are done, and all; 0: not known."""

    @property
    def fps(self) -> float:
        """Frames per second of wall time so far."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


class Run:
    """One run: what it was asked for, the stage that restores, and the record."""

    def __init__(self, source: str, target: str, options: RestoreOptions, cancel: threading.Event) -> None:
        self.source, self.target, self.options, self.cancel = source, target, options, cancel
        self.began = time.perf_counter()
        self.preset: Preset = load_preset(options.preset)
        self.record = RunRecord(version=__version__, input=source, output=target, preset=self.preset.name)
        self.times, self.meters = FlowTimes(), Meters()
        if target != "-" and is_url(target):
            raise UsageError(f"{printable(target)}: only files and pipes are written")
        self.target_path = Path(target)
        self.is_still = between_stills(source, target, options)
        check_ends(source, target, options, is_still=self.is_still)
        self.is_direct = goes_direct(source, target, options, is_still=self.is_still)
        check_beside(source, target, options)
        self.record.warnings += idle_options(source, target, options, is_still=self.is_still)
        self.enhancer = self.load_enhancer()
        self.fingerprint: dict[str, Any] | None = None
        """Of INPUT, as it was when it was opened; None where it is no file."""
        self.came_back = False
        """A still's samples are as they were, whatever was computed."""
        self.counts: FrameCounts | None = None
        """What was done with each frame of the output, by the resumed run, too; None: as `enhancer` says."""
        self._is_complete = self._is_recorded = False
        self._told = 0
        self.observer: Observer | None = None
        if options.report is not None:
            from ns_video.score import Sampler

            self.observer = Sampler()

    @property
    def wished(self) -> bool:
        """The user set up the encoder, so it may be the user's mistake that it can't be opened."""
        return bool(self.options.encoder_options or self.options.pix_fmt)

    def output_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) of the output. Raises UsageError where that is more than --max-pixels."""
        size = self.enhancer.frame_size(frame)
        self.check_size(*size)
        return size

    def check_size(self, width: int, height: int) -> None:
        """Raises UsageError where an output is of more pixels than --max-pixels."""
        if width * height > self.options.max_pixels:
            raise UsageError(
                f"an output of {width}x{height} px is more than --max-pixels {self.options.max_pixels}",
                remedy="a smaller --size or --scale, or a larger --max-pixels",
            )

    def preset_model(self, of: Content) -> str:
        """The preset's model for what is restored, of the size for the device. Raises DeviceError."""
        on_cpu, on_gpu = self.preset.models(of)
        if on_cpu == on_gpu:
            return on_cpu
        from ns_video.device import pick_devices

        return on_cpu if pick_devices(self.options.device)[0].type == "cpu" else on_gpu

    def load_enhancer(self, of_preset: str | None = None) -> Stage:
        """The stage, its network on its device. torch is imported here, and only where something is to be computed.

        `of_preset`: the preset's model where it isn't the one for stills or clips.
        Notes `conditioning` (side information it wants), `settings` (as text), `device` and `computed_by`, too.
        """
        options, preset = self.options, self.preset
        name = options.model or of_preset or self.preset_model("still" if self.is_still else "clip")
        sharpen = preset.sharpen if options.sharpen is None else options.sharpen
        self.conditioning, self.settings, self.device = "none", "", "cpu"
        self.computed_by = "cpu"
        if name == "identity" and not sharpen and options.scale is None and options.size is None:
            self.record.model, self.record.device, self.record.precision = ModelInfo(name=name), "cpu", "fp32"
            return PassThrough()
        from ns_video.device import kinds_of
        from ns_video.enhance import EnhanceOptions, Enhancer
        from ns_video.weights import load_descriptor

        descriptor = load_descriptor(name)
        settings = EnhanceOptions(
            device=options.device,
            precision=options.precision,
            integers=preset.integers,
            tile=options.tile,
            overlap=options.overlap,
            blend=options.blend,
            strength=preset.strength if options.strength is None else options.strength,
            ensemble=self._views(descriptor.architecture),
            scale=options.scale,
            size=options.size,
            fit=options.fit,
            sharpen=sharpen,
            skip_duplicates=options.skip_identical,
            skip_undamaged=options.skip_undamaged,
            assumed_step=options.assumed_step,
            recheck_tables=self.is_still,
        )
        enhancer = Enhancer(descriptor, settings)
        self.conditioning, self.device = descriptor.conditioning, str(enhancer.device)
        self.computed_by = kinds_of(enhancer.devices)
        self.settings = repr(replace(settings, device="", precision=""))  # what these became is noted beside it
        self.record.model = ModelInfo(name=descriptor.name, sha256=descriptor.sha256)
        self.record.device, self.record.precision = enhancer.stats.device, enhancer.precision
        return enhancer

    def _views(self, architecture: str) -> int:
        """Flipped views that are averaged: other people's networks do as they were made to unless asked."""
        if self.options.ensemble is not None:
            return self.options.ensemble
        return self.preset.ensemble if self.is_still and architecture == "ns_restore" else 1

    def note_source(self) -> None:
        """Note what INPUT is, before it is opened."""
        path = Path(self.source)
        with suppress(OSError):  # whoever opens it will tell
            self.fingerprint = source_fingerprint(path) if path.is_file() else None

    def check_source(self) -> None:
        """Raises InputError where INPUT isn't what was opened: sound is copied from it once the picture is done."""
        if self._source_changed():
            raise InputError(
                f"{printable(self.source)} changed while it was restored",
                stage="decode",
                remedy="run again once it is whole; --resume goes on only with what it was",
            )

    def _source_changed(self) -> bool:
        """Whether INPUT is another file by now, or longer: by size and samples, as what only reads a file may touch
        its time. False where nothing tells: it is no file, or is away now."""
        before = self.fingerprint
        if before is None:
            return False
        try:
            status = Path(self.source).stat()
            if (status.st_size, status.st_mtime_ns) == (before["size"], before["mtime_ns"]):
                return False
            now = source_fingerprint(Path(self.source))
        except OSError:
            return False
        return (now["size"], now["sample"]) != (before["size"], before["sample"])

    def note(self, out: EnhancedFrame) -> None:
        """Record a frame that could not be restored."""
        if out.passed_through:
            self.record.frames_passed_through += 1
            reason = out.reason or "it could not be restored"
            list_damage(self.record.damage, Damage(out.frame.pts_seconds, f"a frame {PASSED_THROUGH}: {reason}"))

    def account(self) -> None:
        """Raises VerificationError where the encoder wasn't given every frame that the decoder gave, once."""
        decoded, encoded = self.record.frames_in, self.record.frames_out
        if decoded != encoded:
            raise VerificationError(f"{decoded} frames were decoded, {encoded} encoded", stage="verify")

    def progress(self, frames: int, total: int, frame: Frame | None) -> Progress:
        """Where the run is, with `frames` of `total` done; `frame`: the last one. Tells each note once."""
        return Progress(
            "restore",
            frames,
            total,
            time.perf_counter() - self.began,
            self.times.limiting(),
            None if frame is None else frame.pts_seconds,
            self._untold(),
        )

    def opened(self, total: int) -> Generator[Progress]:
        """Tell, before the work, what is known of a source that was opened, where that is anything."""
        if self.record.warnings:
            at = time.perf_counter() - self.began
            yield Progress("restore" if self.options.start is None else "seek", 0, total, at, notes=self._untold())

    def _untold(self) -> tuple[str, ...]:
        """Notes of the record that no progress has told as yet."""
        notes = tuple(self.record.warnings[self._told :])
        self._told += len(notes)
        return notes

    def seeking(self, skipped: Skipped, total: int) -> Progress:
        """Where the run is before its first frame, of `total`."""
        return Progress("seek", 0, total, time.perf_counter() - self.began, pts_seconds=skipped.seconds)

    def note_failure(self, failure: NsVideoError) -> None:
        """Complete the record of a run that failed; should it fail, too, that is only logged."""
        record = self.record
        record.exit_code = failure.exit_code
        if isinstance(failure, DamageError) and not any(place.is_of_input for place in record.damage):
            record.damage.append(Damage(failure.pts_seconds, failure.message))
        try:
            self._complete()
            self._write_record()
        except Exception as error:
            if getattr(error, "message", str(error)) != failure.message:  # which was told before
                logger.error("%s", printable(str(error)))  # with -q, too

    @contextmanager
    def recorded(self) -> Generator[None]:
        """Around what gives OUTPUT its name: the record is complete and on disk before, and gets its own name after.

        Raises OutputError where the record can't be written, before OUTPUT is touched: --resume goes on. What came
        through a pipe would be lost then, so there the record is written once OUTPUT is there.
        """
        if self.is_direct:
            yield
            return
        self._complete()
        try:
            written = self._record_beside()
        except OutputError as error:
            error.remedy = None if self.is_still else "run again with --resume and a --record that can be written"
            raise
        try:
            yield
        except BaseException:
            if written is not None:
                written.drop()
            raise
        self._is_recorded = True
        if written is not None:
            self._beside_output("record", written.put_in_place)

    def finish(self) -> RunRecord:
        """Complete the record, write it where it was asked for unless it is there, and the report: OUTPUT is whole."""
        self._complete()
        if not self._is_recorded:
            self._beside_output("record", self._write_record)
        if self.options.report is not None and self.observer is not None:
            report, observer = self.options.report, self.observer
            self._beside_output("report", lambda: self._write_report(report, observer))
        return self.record

    def _complete(self) -> None:
        """All that the record tells once the work is done, or failed."""
        if self._is_complete:
            return
        self._is_complete = True
        record = self.record
        settle(self.times, self.meters)
        record.stages = {"decode": self.times.decode, "enhance": self.times.enhance, "encode": self.times.encode}
        record.limiting_stage = self.times.limiting()
        record.seconds = time.perf_counter() - self.began
        record.fps = record.frames_out / record.seconds if record.seconds > 0 else 0.0
        self._take_stats()
        record.peak_memory_bytes = peak_memory()
        record.damage.sort(key=in_time)
        if record.exit_code == 0 and (record.damage or record.frames_passed_through):
            record.exit_code = 3

    def _beside_output(self, what: str, write: Callable[[], None]) -> None:
        """Write what goes beside OUTPUT, which is there, whole and checked, and stays: should that fail, it is said,
        and the exit code is 1."""
        try:
            write()
        except Exception as error:  # whatever scoring runs into
            said = error if isinstance(error, NsVideoError) else f"{type(error).__name__}: {error}"
            self.record.exit_code = 1
            lost = f"the {what} failed, the output is whole: {printable(str(said))}"
            self.record.warnings.append(lost + " (`ns-video report OUTPUT` makes one of it)" * (what == "report"))
            logger.error(self.record.warnings[-1], exc_info=logger.isEnabledFor(logging.DEBUG))  # with -q, too
            if what != "record":
                self._beside_output("record", self._write_record)

    def _take_stats(self) -> None:
        """What was done with the frames."""
        record, stats = self.record, self.enhancer.stats
        counts = self.counts or stats
        record.frames_identical = counts.duplicates
        record.frames_undamaged = counts.undamaged
        record.frames_guessed = counts.guessed
        record.frames_raised = counts.raised
        if counts.without_side_information:
            record.warnings.append(
                f"{counted(counts.without_side_information)} left as they are: this codec doesn't tell its quantisers"
            )
        if (guesses := counts.guesses()) is not None:
            record.warnings.append(guesses)
        if (note := self._nothing_restored(counts)) is not None:
            record.warnings.append(note)
        if stats.missing_overlap:
            record.warnings.append(
                f"tiles overlap {stats.missing_overlap} px less than this model sees: their seams may show; "
                "without --overlap they don't"
            )
        record.fallbacks = stats.fallbacks()
        if counts.passed_through:
            record.fallbacks["passed_through"] = counts.passed_through
        record.precision = stats.precision
        record.tile = stats.tile or 0

    def _nothing_restored(self, counts: FrameCounts) -> str | None:
        """What is to be said where the network found nothing to do in any frame and nothing else tells so."""
        record, sought = self.record, _SOUGHT.get(self.conditioning)
        left = counts.undamaged + counts.duplicates
        if sought is not None and self.came_back and counts.restored:
            return f"{NOTHING_RESTORED}: no sample was to be changed"
        if sought is None or counts.restored or counts.without_side_information or not left == record.frames_out > 0:
            return None
        if counts.too_small:
            return f"{NOTHING_RESTORED}: so small a picture is left as it is"
        where = "the picture" if self.is_still else f"none of the {left} frames" if left > 1 else "the frame"
        note = f"{NOTHING_RESTORED}: {where} shows {'' if left > 1 else 'no '}{sought}"
        codec = next((s.codec for s in record.streams if s.action == "restored"), None)
        for_codecs = self.conditioning != "quantiser" and codec is not None and codec not in JPEG_CODECS
        return note + ("; --preset video restores what video codecs lose" if for_codecs else "")

    def _write_report(self, report: Path, observer: Observer) -> None:
        from ns_video.report import write_run_report

        is_other = self.options.start is not None or self._source_changed()  # what begins in a cut is its own
        write_run_report(
            self.record,
            observer,  # pyright: ignore[reportArgumentType]
            report,
            source=None if is_other else Path(self.source),
            output=self.target_path,
            device=self.device,
        )

    def _write_record(self) -> None:
        if (written := self._record_beside()) is not None:
            written.put_in_place()

    def _record_beside(self) -> WrittenBeside | None:
        """The record, where one was asked for, without its name as yet. Raises OutputError."""
        if self.options.record is None:
            return None
        text = self.record.dumps() + "\n"
        return WrittenBeside(self.options.record, text.encode("utf-8", "backslashreplace"), stage="record")
