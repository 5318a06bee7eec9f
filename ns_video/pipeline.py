"""Restore a clip, a still or a pipe: decode → enhance → encode, then the check of what was written. Floor 4."""

from __future__ import annotations

import errno
import gc
import itertools
import logging
import math
import os
import threading
import time
from array import array
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from ns_video.errors import (
    InputError,
    Interrupted,
    NsVideoError,
    OutputError,
    UsageError,
    VerificationError,
)
from ns_video.flow import Aside, FlowTimes, Meters, Observer, decoded_ahead, enhanced_ahead, settle
from ns_video.frame import Frame
from ns_video.journal import (
    Journal,
    SegmentEntry,
    file_digest,
    source_fingerprint,
    sync_file,
    sync_folder,
    work_folder,
    write_whole,
)
from ns_video.machine import check_device_name, codec_threads, peak_memory, short_collections
from ns_video.media.animation import open_animation
from ns_video.media.carried import Item, carry_quantisers
from ns_video.media.decode import MAX_PIXELS, ClipReader, CopiedPacket, DecodeOptions, open_clip
from ns_video.media.encode import (
    ENCODER_ERRORS,
    EncodeOptions,
    FrameEncoder,
    VideoPlan,
    format_for,
    plan_video,
    refuse_as_file,
)
from ns_video.media.hdr_header import needs_container_hdr
from ns_video.media.jpeg_headers import CODECS as JPEG_CODECS
from ns_video.media.libav import EXTERNAL_ERROR, file_url, is_url, printable, translate_output
from ns_video.media.mux import (
    ClipWriter,
    CopyPlan,
    Cut,
    OutputSettings,
    SegmentFile,
    TimedPacket,
    begins_at_zero,
    copied_packets,
    cut_chapters,
    decode_times,
    merged,
    plan_copies,
    read_covers,
    require_codec,
    segment_packets,
    stream_actions,
)
from ns_video.media.probe import ClipInfo, still_format
from ns_video.media.still import read_still, still_suffix, write_still
from ns_video.media.verify import (
    Difference,
    Look,
    PacketTally,
    Promise,
    Times,
    chapters_of,
    compare,
    compare_animation,
    look_of,
    lost_tags,
    read_facts,
    verify_files,
    verify_stills,
)
from ns_video.places import check_places
from ns_video.preset import DEINTERLACE, ENSEMBLES, Preset, load_preset
from ns_video.record import PASSED_THROUGH, Damage, ModelInfo, RunRecord, StageTimes, in_time
from ns_video.stage import EnhancedFrame, PassThrough, Stage
from ns_video.version import __version__

logger = logging.getLogger("ns_video")

STALL_SECONDS = 1800.0  # no stage of a file-to-file run may be silent for longer; a pipe may wait for its writer
_SEGMENT_PIXELS = 2e8  # about ten seconds of 480p, three of 1080p: what a kill can cost
_SEGMENT_FRAMES = (32, 240)
_WAITING_BYTES = 256 << 20  # of packets that a pipe gives before the first frame, which tells how to write them
_SHOWN_EVERY = 100  # frames of finished segments that are only decoded
_RANGES = (
    ("strength", 0.0, 1.0),
    ("sharpen", 0.0, 1.0),
    ("crf", 0, 100),
    ("tile", 16, 1 << 20),
    ("overlap", 0, 1 << 20),
    ("max_pixels", 1, 1 << 62),
    ("threads", 0, 256),
    ("start", 0, 1e12),
    ("end", 0, 1e12),
)
"""Options that are numbers: name, least and most."""
_CHOICES = {
    "ensemble": ENSEMBLES,
    "fit": ("contain", "stretch"),
    "deinterlace": DEINTERLACE,
    "verify": ("structure", "full", "none"),
    "precision": ("auto", "fp32", "fp16", "bf16"),
}
_TEXTS = ("preset", "model", "blend", "codec", "pix_fmt", "format", "input_format")
"""Options that are text."""
_TABLES = ("encoder_options", "input_options")
"""Options that are names with values, which libav takes as text."""
_REFUSED = (errno.EINVAL, errno.EOPNOTSUPP, EXTERNAL_ERROR)  # what an encoder answers that can't be opened so
_SAME_FRAMES = frozenset({"allow_protocols", "threads", "strict", "max_pixels", "cancel"})
"""DecodeOptions that change no frame: a run may be resumed with others."""
_HIGHEST_CRF = 63  # of any encoder
_NAMED_TAGS = 12
_FINEST_CUT = 10**9  # parts of a second
_NAME_BYTES = 255  # of a file name, on every file system in use


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """Options of `restore`; names and meanings are those of the command line."""

    preset: str = "auto"
    model: str | None = None
    strength: float | None = None
    ensemble: int | None = None
    """Flipped views that are averaged, 1, 2 or 4; None: as the preset says for stills, 1 for clips."""
    scale: float | None = None
    size: tuple[int, int] | None = None
    fit: str = "contain"
    sharpen: float | None = None
    device: str = "auto"
    precision: str = "auto"
    tile: int | None = None
    overlap: int | None = None
    blend: str = "auto"
    codec: str | None = None
    crf: float | None = None
    pix_fmt: str | None = None
    encoder_options: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    input_format: str | None = None
    input_options: Mapping[str, str] = field(default_factory=dict)
    start: float | None = None
    """Seconds on the source's own clock."""
    end: float | None = None
    deinterlace: str | None = None
    resume: bool = False
    overwrite: bool = False
    report: Path | None = None
    record: Path | None = None
    strict: bool = False
    allow_protocols: tuple[str, ...] = ()
    max_pixels: int = MAX_PIXELS
    verify: str = "structure"
    """"structure" reads the output's packets back, "full" decodes it too, "none" trusts."""
    skip_identical: bool = True
    skip_undamaged: bool = True
    assumed_step: float | None = None
    """Quantiser step of clips that don't tell theirs, see EnhanceOptions."""
    threads: int = 0
    """Threads of each libav codec; 0 divides the machine."""

    def __post_init__(self) -> None:
        for name in _TEXTS:
            value = getattr(self, name)
            if name == "model" and isinstance(value, os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
            elif not isinstance(value, str) and (value is not None or name in ("preset", "blend")):
                raise UsageError(f"{name.replace('_', ' ')} {value!r} is no text")
        for name in _TABLES:
            object.__setattr__(self, name, _texts(name, getattr(self, name)))
        if isinstance(self.allow_protocols, str) or not all(isinstance(p, str) for p in self.allow_protocols):
            raise UsageError("allow protocols: names of protocols are wanted, as a tuple")
        for device in str(self.device).split(","):
            check_device_name(device.strip())
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and low <= value <= high):  # nan isn't
                raise UsageError(f"{name.replace('_', ' ')} {value!r} is not between {low:g} and {high:g}")
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value is not None and value not in known:
                raise UsageError(f"there is no {name} {value!r}", remedy=f"use {', '.join(map(str, known))}")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise UsageError(f"nothing lies between start {self.start:g} and end {self.end:g}")
        if self.size is not None and not _is_size(self.size):
            raise UsageError(f"size {self.size!r} is no width and height", remedy="give two whole numbers from 1")


@dataclass(frozen=True, slots=True)
class Progress:
    """A run, now. `frames_total` 0: not known. `phase`: "restore", "mux" or "verify"."""

    phase: str
    frames: int
    frames_total: int
    seconds: float
    limiting_stage: str = ""
    pts_seconds: float | None = None

    @property
    def fps(self) -> float:
        """Frames per second of wall time so far."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0


def restore(
    input: str | bytes | os.PathLike[str],
    output: str | bytes | os.PathLike[str],
    *,
    preset: str = "auto",
    **options: Any,
) -> RunRecord:
    """Restore INPUT into OUTPUT and return the run record.

    Paths, or "-" for standard input and output. `options` are the fields of RestoreOptions; paths among them may be
    text. Raises NsVideoError; a run that ends with damaged input or frames passed through returns a record whose
    `exit_code` is 3.
    """
    for name in ("report", "record"):
        if options.get(name) is not None:
            options[name] = Path(_name(options[name]))
    steps = restore_steps(_name(input), _name(output), RestoreOptions(preset=preset, **options))
    while True:
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def restore_steps(
    input: str, output: str, options: RestoreOptions, cancel: threading.Event | None = None
) -> Generator[Progress, None, RunRecord]:
    """`restore` as a generator of Progress; its return value is the record. `cancel` ends it early and playable."""
    try:
        run = _Run(input, output, options, cancel or threading.Event())
    except OSError as error:  # a folder on the way that may not be entered
        name = printable(os.fsdecode(error.filename)) if error.filename else printable(input)
        raise InputError(f"{name}: {error.strerror or error}", stage="open") from error
    try:
        try:
            with short_collections():
                if run.is_still:
                    yield from run.still()
                elif run.is_direct:
                    yield from run.direct()
                else:
                    yield from run.segmented()
        except MemoryError as error:
            raise NsVideoError("there is not enough memory", remedy="a smaller --tile, or fewer --threads") from error
    except NsVideoError as error:
        run.note_failure(error)
        raise
    return run.finish()


def verify(
    input: str | bytes | os.PathLike[str], output: str | bytes | os.PathLike[str], *, full: bool = True
) -> list[Difference]:
    """Check a finished OUTPUT against its INPUT; an empty list where frames, times, streams and tags agree."""
    if still_format(Path(_name(input))) is not None:
        return verify_stills(Path(_name(input)), Path(_name(output)))
    return verify_files(_name(input), _name(output), full=full)


class _Run:
    """One run: its record, and the three ways to walk."""

    def __init__(self, source: str, target: str, options: RestoreOptions, cancel: threading.Event) -> None:
        self.source, self.target, self.options, self.cancel = source, target, options, cancel
        self.began = time.perf_counter()
        self.preset: Preset = load_preset(options.preset)
        self.record = RunRecord(
            version=__version__, input=printable(source), output=printable(target), preset=self.preset.name
        )
        self.times, self.meters = FlowTimes(), Meters()
        self.shift, self.refused = Fraction(0), 0
        """Seconds by which the writer had to move all streams."""
        self._start, self._end = _seconds(options.start), _seconds(options.end)
        if target != "-" and is_url(target):
            raise UsageError(f"{printable(target)}: only files and pipes are written")
        self.target_path = Path(target)
        kind = None if source == "-" or options.input_format else still_format(Path(source))
        self.is_still = kind is not None and target != "-" and still_suffix(target) is not None
        if kind is not None and not self.is_still:
            raise UsageError(
                f"{printable(source)} is a still ({kind}); {'a pipe' if target == '-' else printable(target)} isn't",
                remedy="give OUTPUT a picture's suffix: .png, .jpg, .webp, .tif or .bmp",
            )
        self._check_quality()
        self._check_ends()
        self.is_direct = (
            source == "-" or target == "-" or self._is_special(self.target_path) or not Path(source).is_file()
        ) or (not self.is_still and self._has_no_segments(target))
        self._check_beside()
        self.enhancer = self._load_enhancer()
        self.observer: Observer | None = None
        if options.report is not None:
            from ns_video.score import Sampler

            self.observer = Sampler()

    # Before anything is decoded.

    @staticmethod
    def _is_special(path: Path) -> bool:
        """A device or named pipe: written as it is, nothing to rename."""
        return path.exists() and not path.is_file() and not path.is_dir()

    def _has_no_segments(self, target: str) -> bool:
        """An animated WebP or PNG or a y4m file: segments (NUT files) can't hold their codecs."""
        return format_for(target, self.options.format) in ("webp", "apng", "yuv4mpegpipe")

    def _check_ends(self) -> None:
        """What can be refused is refused before anything is decoded or loaded."""
        if self.target == "-" or self._is_special(self.target_path):
            return
        path = self.target_path
        if path.is_dir():
            raise OutputError(
                f"{printable(path)} is a folder", stage="open", remedy="name a file, or use `ns-video batch`"
            )
        folder = path.parent
        if not folder.is_dir():
            raise OutputError(f"{printable(folder)}: no such folder", stage="open")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{printable(folder)}: no permission to write there", stage="open")
        if self.source != "-" and path.exists():
            source = Path(self.source)
            if source.exists() and (source.samefile(path)):
                raise UsageError("INPUT and OUTPUT are the same file", remedy="choose another name for OUTPUT")
        unfinished = self.options.resume and Journal(work_folder(path)).path.exists()  # it had leave to replace OUTPUT
        if path.exists() and not self.options.overwrite and not unfinished:
            raise UsageError(f"{printable(path)} exists", remedy="--overwrite replaces it")
        if not self.is_still:
            container_format = format_for(self.target, self.options.format)
            if self.options.verify != "none":
                refuse_as_file(container_format)

    def _check_quality(self) -> None:
        if self.options.crf is not None and self.options.crf > _HIGHEST_CRF and not self.is_still:
            raise UsageError(f"crf {self.options.crf:g} is not between 0 and {_HIGHEST_CRF}")

    @property
    def _wished(self) -> bool:
        """The user set up the encoder, so it may be the user's mistake that it can't be opened."""
        return bool(self.options.encoder_options or self.options.pix_fmt)

    def _output_size(self, frame: Frame) -> tuple[int, int]:
        """(width, height) of the output. Raises UsageError where that is more than --max-pixels."""
        width, height = self.enhancer.frame_size(frame)
        if width * height > self.options.max_pixels:
            raise UsageError(
                f"an output of {width}x{height} px is more than --max-pixels {self.options.max_pixels}",
                remedy="a smaller --size or --scale, or a larger --max-pixels",
            )
        return width, height

    def _check_beside(self) -> None:
        """Report, its JSON and record: in a folder that takes them, each a file of its own."""
        report, record = self.options.report, self.options.record
        made: list[Path] = []
        if report is not None:
            from ns_video.report import json_path

            made = [report, json_path(report)]
        ends = [name for name in (self.source, self.target) if name != "-"]
        check_places(made, ends, record=record, overwrite=self.options.overwrite)

    def _load_enhancer(self, of_preset: str | None = None) -> Stage:
        """The stage, its network on its device. torch is imported here, and only where something is to be computed.

        `of_preset`: the preset's model where it isn't the one for stills or clips.
        """
        options, preset = self.options, self.preset
        name = options.model or of_preset or (preset.still_model if self.is_still else preset.clip_model)
        sharpen = preset.sharpen if options.sharpen is None else options.sharpen
        self._conditioning, self._settings, self._device = "none", "", "cpu"
        if name == "identity" and not sharpen and options.scale is None and options.size is None:
            self.record.model, self.record.device, self.record.precision = ModelInfo(name=name), "cpu", "fp32"
            return PassThrough()
        from ns_video.enhance import EnhanceOptions, Enhancer
        from ns_video.weights import load_descriptor

        descriptor = load_descriptor(name)
        settings = EnhanceOptions(
            device=options.device,
            precision=options.precision,
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
        self._conditioning, self._device = descriptor.conditioning, str(enhancer.device)
        self._settings = repr(replace(settings, device="", precision=""))  # what these became is noted beside it
        self.record.model = ModelInfo(name=descriptor.name, sha256=descriptor.sha256)
        self.record.device, self.record.precision = enhancer.stats.device, enhancer.precision
        return enhancer

    def _views(self, architecture: str) -> int:
        """Flipped views that are averaged: other people's networks do as they were made to unless asked."""
        if self.options.ensemble is not None:
            return self.options.ensemble
        return self.preset.ensemble if self.is_still and architecture == "ns_restore" else 1

    # Stills.

    def still(self) -> Generator[Progress]:
        """One picture in, one out."""
        self.record.kind = "still"
        began = time.perf_counter()
        frame, info = read_still(Path(self.source), max_pixels=self.options.max_pixels)
        self.times.decode.busy_seconds = time.perf_counter() - began
        if info.damage and self.options.strict:
            raise InputError(info.damage[0].what, stage="decode", remedy="leave out --strict to go on past damage")
        self.record.damage += info.damage
        self.record.warnings += info.notes
        self._output_size(frame)
        began = time.perf_counter()
        out = next(iter(self.enhancer.run([frame])))
        if self.observer is not None:
            self.observer.observe(frame, out.frame)
        self.times.enhance.busy_seconds = time.perf_counter() - began
        self._note(out)
        if self.cancel.is_set():
            raise Interrupted("interrupted before the picture was written")
        began = time.perf_counter()
        self.record.warnings += write_still(self.target_path, out.frame, info, quality=self.options.crf)
        self.times.encode.busy_seconds = time.perf_counter() - began
        self.record.frames_in = self.record.frames_out = 1
        self.record.verified = "structure"
        yield Progress("restore", 1, 1, time.perf_counter() - self.began)

    # Clips.

    def _decode_options(self) -> DecodeOptions:
        options = self.options
        deinterlace = options.deinterlace or ("off" if self.enhancer.does_nothing else self.preset.deinterlace)
        return DecodeOptions(
            container_format=options.input_format,
            container_options=options.input_options,
            allow_protocols=options.allow_protocols,
            threads=options.threads or codec_threads(),
            quantisers=self._conditioning == "quantiser",
            jpeg_tables=self._conditioning in ("quantiser", "jpeg"),
            deinterlace=deinterlace,
            start_seconds=options.start,
            end_seconds=options.end,
            strict=options.strict,
            max_pixels=options.max_pixels,
            cancel=self.cancel,
        )

    def _open(self) -> ClipReader:
        source = self.source
        if source != "-" and not is_url(source) and not self.options.input_format:
            animation = open_animation(Path(source), self._decode_options())
            if animation is not None:
                return animation
        return self._suited(open_clip(source, self._decode_options()))

    def _suited(self, reader: ClipReader) -> ClipReader:
        """The reader of a clip, once the preset's model is the one for its codec."""
        model = self.preset.jpeg_clip_model
        if (
            model
            and not self.options.model
            and self.record.model.name != model
            and reader.info.video.codec in JPEG_CODECS
        ):
            try:
                self.enhancer = self._load_enhancer(model)
            except BaseException:
                reader.close()
                raise
        return reader

    def _plan(self, info: ClipInfo, first: Frame, container_format: str) -> VideoPlan:
        options = self.options
        codec = options.codec
        if codec is None and self.target == "-" and container_format == "nut":
            codec = "rawvideo"
        threads = options.threads or codec_threads()
        wanted = EncodeOptions(
            codec=codec,
            crf=options.crf,
            pix_fmt=options.pix_fmt,
            encoder_options=options.encoder_options,
            threads=threads,
            speed=self.preset.speed,
        )
        plan = plan_video(container_format, info.video, first, self._output_size(first), wanted)
        self.record.warnings += plan.notes
        if options.size is not None and options.fit == "stretch" and plan.sample_aspect_ratio:
            plan = replace(plan, sample_aspect_ratio=Fraction(1))  # shown as large as it was asked for
        return plan

    def _total(self, info: ClipInfo) -> int:
        video = info.video
        if self.options.start is None and self.options.end is None and video.frames_claimed:
            return video.frames_claimed
        if info.duration_seconds is None:
            return 0
        end = info.duration_seconds if self.options.end is None else min(info.duration_seconds, self.options.end)
        return max(0, round((end - (self.options.start or 0)) * float(video.rate)))

    def _note(self, out: EnhancedFrame) -> None:
        if out.passed_through:
            self.record.frames_passed_through += 1
            reason = out.reason or "it could not be restored"
            if len(self.record.damage) < 1000:
                self.record.damage.append(Damage(out.frame.pts_seconds, f"a frame {PASSED_THROUGH}: {reason}"))

    def _take_passed(self, journal: Journal) -> None:
        """What the run that is resumed could not restore is told by this one."""
        passed = sum(e.counts.get("passed_through", 0) for e in journal.entries.values())
        if passed:
            self.record.frames_passed_through += passed
            self.record.damage.append(Damage(None, f"{passed} frames {PASSED_THROUGH} before the run was resumed"))

    def _take_damage(self, reader: ClipReader) -> None:
        self.record.damage += reader.damage
        if reader.damage_count > len(reader.damage):
            self.record.warnings.append(f"{reader.damage_count} places of damage in all")
        self.record.warnings += [w for w in reader.warnings if w not in self.record.warnings]
        self.record.frames_in = reader.frames_given

    def _base(self, info: ClipInfo) -> int:
        """Ticks to take from each time of the picture, so that a cut begins at 0.

        From here on the cut begins at that tick for all else, too: sound stays with the picture.
        """
        if self._start is None:
            return 0
        base = math.ceil(self._start / info.video.time_base)
        self._start = base * info.video.time_base
        return base

    def _told(self, items: Iterable[Item]) -> Iterable[Item]:
        """What is decoded, with the quantisers as the network wants them."""
        return carry_quantisers(items) if self._conditioning == "quantiser" else items

    def direct(self) -> Generator[Progress]:
        """From or to a pipe: one walk, nothing kept on disk."""
        container_format = format_for(self.target, self.options.format)
        to_file = self.target != "-" and not self._is_special(self.target_path)
        journal = self._claim() if to_file else None
        keeps = journal is not None and journal.exists()  # an unfinished run's work, until this one has begun
        temporary = None if journal is None else self._temporary(journal)
        shown = "standard output" if self.target == "-" else self.target
        writer: ClipWriter | None = None
        expected: array[int] = array("q")  # ticks; only of what is checked
        video: _Restored | None = None
        begins, done, uneven = Fraction(0), 0, False
        rigid = container_format == "yuv4mpegpipe"  # one frame after the other
        counted: dict[int, PacketTally] = {}
        copies: list[CopyPlan] = []
        try:
            with self._open() as reader:
                if journal is not None:
                    journal.clear()
                    keeps = False
                info = reader.info
                copies = plan_copies(reader.container, info, container_format)
                self.record.streams = stream_actions(info, copies)
                self._warn_dropped(copies)
                kept = [c.stream.index for c in copies if c.kept]
                base = self._base(info)
                cut = Cut(copies, self._start, self._end)
                patient = not Path(self.source).is_file()
                stall, stop = (None, self.cancel) if patient else (STALL_SECONDS, None)
                items = (
                    Aside(item, item.nbytes) if isinstance(item, CopiedPacket) else item for item in reader.items(kept)
                )
                with closing(decoded_ahead(self._told(items), self.times, self.meters, stall, stop)) as decoded:
                    stage = enhanced_ahead(
                        decoded,
                        self.enhancer,
                        self.times,
                        self.meters,
                        observer=self.observer,
                        stall_seconds=stall,
                        stop=stop,
                    )
                    with closing(stage) as enhanced:
                        waiting: list[CopiedPacket] = []
                        waiting_bytes = 0
                        covers: dict[int, bytes] = {}
                        encoder: FrameEncoder | None = None
                        for item in enhanced:
                            began = time.perf_counter()
                            if isinstance(item, Aside):
                                packet: CopiedPacket = item.payload
                                if any(
                                    c.stream.index == packet.stream_index and c.action == "attached" for c in copies
                                ):
                                    covers.setdefault(packet.stream_index, bytes(packet.packet))
                                    continue
                                if cut.take(packet) is None:
                                    continue
                                if writer is None:
                                    waiting.append(packet)
                                    waiting_bytes += packet.nbytes
                                    if waiting_bytes > _WAITING_BYTES:
                                        raise InputError(
                                            f"more than {_WAITING_BYTES >> 20} MiB of sound lie before the first frame",
                                            stage="decode",
                                            remedy="give INPUT and OUTPUT as files",
                                        )
                                else:
                                    self._copy(writer, packet, counted)
                                continue
                            frame = item.frame
                            if writer is None:
                                plan = self._plan(info, frame, container_format)
                                video = _Restored.of(plan, frame, info)
                                if needs_container_hdr(plan):
                                    self.record.warnings.append(f"{plan.codec} keeps HDR metadata in files only")
                                target = (
                                    file_url(temporary)
                                    if temporary is not None
                                    else "pipe:1"
                                    if self.target == "-"
                                    else file_url(self.target_path)
                                )
                                try:
                                    writer = ClipWriter(
                                        OutputSettings(target, shown, self._start, self._end),
                                        plan,
                                        reader.container,
                                        info,
                                        copies,
                                        covers,
                                    )
                                except OutputError as error:
                                    if self._wished and getattr(error.__cause__, "errno", None) in _REFUSED:
                                        raise UsageError(error.message, remedy=error.remedy) from error
                                    raise
                                encoder = FrameEncoder(writer.video, plan)
                                for packet in waiting:
                                    self._copy(writer, packet, counted)
                                waiting.clear()
                            assert encoder is not None and video is not None and frame.pts is not None
                            self._note(item)
                            done, at = done + 1, (frame.pts - base) * frame.time_base
                            video = video.until(frame)
                            if done == 1 and begins_at_zero(container_format):
                                begins = at
                            place = at - begins
                            even = (done - 1 if rigid else round(place / writer.tick)) * writer.tick
                            uneven |= abs(place - even) > Fraction(1, 1000)
                            if to_file:
                                expected.append(video.plan.ticks(place))
                                if rigid and abs(place - even) > writer.tick:
                                    raise _uneven(at, writer.tick)
                            wished = self._wished and done == 1
                            self._encode_into(writer, encoder, _shifted(frame, base), wished=wished)
                            self.times.encode.busy_seconds += time.perf_counter() - began
                            yield self._progress(done, self._total(info), frame)
                            if self.cancel.is_set():
                                break
                        if writer is None or encoder is None or video is None:
                            if self.cancel.is_set():
                                raise Interrupted("interrupted before anything was finished")
                            raise InputError("no frame lies between --start and --end", stage="decode")
                        self._encode_into(writer, encoder, None)
                        writer.close()
                        self._note_shift(writer)
                        if begins:
                            self._note_start(begins)
                        if uneven:
                            self._note_rounding(writer)
                        self.record.warnings += cut.notes
                self._take_damage(reader)
                times = Times(expected, video.plan.time_base)
                promise = self._promise(video, times, reader, copies, counted)
            self.record.frames_out = done
            if self.cancel.is_set():
                if temporary is not None:
                    kept_as = _free(self.target_path, "partial")
                    temporary.replace(kept_as)
                    raise Interrupted(f"interrupted; what is done is in {printable(kept_as)}")
                raise Interrupted("interrupted; what is done was written")
            if temporary is not None:
                sync_file(temporary)
                if self.options.verify != "none":
                    yield Progress("verify", done, done, time.perf_counter() - self.began)
                    self._self_check(temporary, video, promise)
                temporary.replace(self.target_path)
                sync_folder(self.target_path.parent)
        except OSError as error:
            raise translate_output(error, self.target, "encode") from error
        finally:
            if writer is not None:
                writer.abandon()
            if journal is not None and not keeps:
                journal.remove()
            elif journal is not None:
                journal.release()

    def _claim(self) -> Journal:
        """The private folder beside OUTPUT, locked. Raises UsageError where a run is going on, or left work undone."""
        journal = Journal(work_folder(self.target_path))
        journal.acquire()
        if journal.exists() and not (self.options.resume or self.options.overwrite):
            journal.release()
            raise UsageError(
                f"an unfinished run of {printable(self.target)} is there",
                remedy="--resume goes on with it, --overwrite begins anew",
            )
        return journal

    def _copy(self, writer: ClipWriter, packet: CopiedPacket, counted: dict[int, PacketTally]) -> None:
        payload = bytes(packet.packet)
        if writer.write_copy(packet):
            counted.setdefault(packet.stream_index, PacketTally()).add(payload)

    def _encode_into(
        self, writer: ClipWriter, encoder: FrameEncoder, frame: Frame | None, *, wished: bool = False
    ) -> None:
        try:
            packets = encoder.flush() if frame is None else encoder.encode(frame)
        except ENCODER_ERRORS as error:
            raise _encoder_failure(error, frame, wished=wished) from error
        for packet in packets:
            writer.write_video(packet)

    def _note_rounding(self, writer: ClipWriter) -> None:
        known = float(1 / writer.tick)
        self.record.warnings.append(f"uneven times were rounded: this output knows only 1/{known:.6g} s")

    def _note_start(self, begins: Fraction) -> None:
        moved = f"{abs(float(begins)) * 1000:.0f} ms {'earlier' if begins > 0 else 'later'}"
        self.record.warnings.append(f"all times are {moved}: this container has none, and begins at 0")

    def _note_shift(self, writer: ClipWriter) -> None:
        self.shift, self.refused = writer.shift, writer.refused
        self.record.damage += [Damage(seconds, what) for seconds, what in writer.troubles]
        for index, count in sorted(writer.left_out.items()):
            packets = "a packet" if count == 1 else f"{count} packets"
            self.record.warnings.append(f"stream {index}: {packets} before 0 left out: this container has no times")
        for index, early in sorted(writer.early.items()):
            moved = f"{float(early) * 1000:.0f} ms early"
            self.record.warnings.append(f"stream {index} is {moved}: this container has no times, all begins at 0")
        if self.shift:
            self.record.warnings.append(
                f"all times are {float(self.shift) * 1000:.0f} ms later: this container holds none before 0"
            )

    def _warn_dropped(self, copies: Iterable[CopyPlan]) -> None:
        for copy in copies:
            if not copy.kept or copy.target_codec:
                self.record.warnings.append(f"stream {copy.stream.index}: {copy.action}")

    def _progress(self, frames: int, total: int, frame: Frame | None) -> Progress:
        return Progress(
            "restore",
            frames,
            total,
            time.perf_counter() - self.began,
            self.times.limiting(),
            None if frame is None else frame.pts_seconds,
        )

    def _temporary(self, journal: Journal) -> Path:
        """Where OUTPUT is written before it is renamed: in the private folder, with its suffix."""
        return journal.folder / f"whole{self.target_path.suffix[:16]}"

    def segmented(self) -> Generator[Progress]:
        """File to file: closed segments and a journal, then one mux."""
        container_format = format_for(self.target, self.options.format)
        journal = self._claim()
        finished = False
        try:
            with self._open() as reader:
                info = reader.info
                copies = plan_copies(reader.container, info, container_format)
                self.record.streams = stream_actions(info, copies)
                self._warn_dropped(copies)
                stall = STALL_SECONDS
                frames = self._told(reader.frames())
                with closing(decoded_ahead(frames, self.times, self.meters, stall)) as decoded:
                    video = yield from self._segments(journal, info, decoded, container_format, stall)
                    interrupted = self.cancel.is_set()
                self._take_damage(reader)
                jumps = list(reader.clock_jumps)
                yield Progress("mux", self.record.frames_out, self.record.frames_out, time.perf_counter() - self.began)
                if interrupted:
                    self._leave_partial(journal, reader, info, copies, video.plan, jumps)
                temporary = self._temporary(journal)
                try:
                    counted = self._mux(temporary, journal, reader, info, copies, video.plan, jumps, None)
                    times = self._expected(journal, video.plan)
                    sync_file(temporary)
                    if self.options.verify != "none":
                        yield Progress("verify", len(times), len(times), time.perf_counter() - self.began)
                        self._self_check(temporary, video, self._promise(video, times, reader, copies, counted))
                    temporary.replace(self.target_path)
                    sync_folder(self.target_path.parent)
                finally:
                    temporary.unlink(missing_ok=True)
            finished = True
            if (partial := journal.own_partial()) is not None:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise translate_output(error, self.target, "encode") from error
        finally:
            if finished or not (journal.exists() or journal.own_partial()):  # or nothing was done that could be resumed
                journal.remove()
            else:
                journal.release()

    def _fingerprint(self, plan: VideoPlan, segment_frames: int) -> dict[str, Any]:
        """All that decides the bytes of a segment: --resume goes on only where it is the same."""
        decoding = self._decode_options()
        return {
            "version": __version__,
            "input": source_fingerprint(Path(self.source)),
            "model": self.record.model.sha256 or self.record.model.name,
            "device": self._device.partition(":")[0],
            "precision": self.enhancer.precision,
            "enhance options": self._settings,
            "encoding": repr(replace(plan, threads=0)),
            "threads": plan.threads,
            "decoding": {f.name: getattr(decoding, f.name) for f in fields(decoding) if f.name not in _SAME_FRAMES},
            "segment length": segment_frames,
        }

    def _segments(
        self, journal: Journal, info: ClipInfo, decoded: Generator[Frame], container_format: str, stall: float
    ) -> Generator[Progress, None, _Restored]:
        """Walk through the clip once; frames of segments that are done are decoded and left alone."""
        first = next((f for f in decoded if f.pts is not None), None)
        if first is None and self.cancel.is_set():
            raise Interrupted("interrupted before anything was finished")
        if first is None:
            raise InputError("no frame lies between --start and --end", stage="decode")
        plan = self._plan(info, first, container_format)
        if self.options.resume and not self.options.threads and isinstance(count := journal.noted("threads"), int):
            plan = replace(plan, threads=count)  # what an encoder writes depends on it; the machine may have changed
        require_codec(plan)
        width, height = plan.width, plan.height
        low, high = _SEGMENT_FRAMES
        length = int(min(high, max(low, _SEGMENT_PIXELS // max(1, width * height))))
        journal.begin(self._fingerprint(plan, length), resume=self.options.resume)
        self.record.segments_resumed = len(journal.entries)
        self._take_passed(journal)
        total = self._total(info)
        base = self._base(info)
        position = 0  # index of the frame in `ahead`
        ahead: Frame | None = first
        before: Frame | None = None
        while ahead is not None and not self.cancel.is_set():
            if position // length in journal.entries:
                before, ahead, position = ahead, next(decoded, None), position + 1
                if position % _SHOWN_EVERY == 0:
                    yield self._progress(position, total, before)
                continue
            stop = next((n * length for n in sorted(journal.entries) if n * length > position), None)
            stretch = _Stretch(ahead, position, stop, decoded)
            stage = enhanced_ahead(
                stretch.frames(),
                self.enhancer,
                self.times,
                self.meters,
                before=before,
                start_index=position,
                restart_every=length,
                observer=self.observer,
                stall_seconds=stall,
            )
            with closing(stage) as enhanced:
                yield from self._write_segments(journal, plan, enhanced, position, stop, length, base, total)
            position, ahead, before = stretch.position, stretch.ahead, stretch.before
        self.record.frames_out = sum(e.frames for e in journal.entries.values())
        return _Restored.of(plan, first, info).until(before)

    def _write_segments(
        self,
        journal: Journal,
        plan: VideoPlan,
        enhanced: Generator[EnhancedFrame | Aside],
        position: int,
        stop: int | None,
        length: int,
        base: int,
        total: int,
    ) -> Generator[Progress]:
        segment: _Segment | None = None
        done = sum(e.frames for e in journal.entries.values())
        try:
            for out in enhanced:
                if isinstance(out, Aside):
                    continue
                if stop is not None and position >= stop:
                    break  # the frame behind the last one was only looked at
                began = time.perf_counter()
                if segment is None:
                    wished = self._wished and not journal.entries
                    segment = _Segment(journal, plan, position // length, wished=wished)
                self._note(out)
                segment.write(_shifted(out.frame, base), passed_through=out.passed_through)
                position += 1
                done += 1
                if position % length == 0:
                    segment.close()
                    segment = None
                    gc.collect()  # PyAV's containers and streams hold each other: an encoder would stay for long
                self.times.encode.busy_seconds += time.perf_counter() - began
                yield self._progress(done, total, out.frame)
                if self.cancel.is_set():
                    break
            began = time.perf_counter()
            if segment is not None and not self.cancel.is_set():
                segment.close()
                segment = None
            elif segment is not None:
                segment.close(complete=False)
                segment = None
            self.times.encode.busy_seconds += time.perf_counter() - began
        finally:
            if segment is not None:
                segment.abandon()

    def _leave_partial(
        self,
        journal: Journal,
        reader: ClipReader,
        info: ClipInfo,
        copies: list[CopyPlan],
        plan: VideoPlan,
        jumps: list[float],
    ) -> None:
        if not journal.entries:
            raise Interrupted("interrupted before anything was finished", remedy="run again with --resume")
        entries = [journal.entries[n] for n in sorted(journal.entries)]
        last = max(t for e in entries for t in e.presentation)
        end = (last + 1) * plan.time_base
        name = journal.own_partial() or _free(self.target_path, "partial")
        temporary = self._temporary(journal)
        self._mux(temporary, journal, reader, info, copies, plan, jumps, end)
        temporary.replace(name)
        journal.note_partial(name)
        raise Interrupted(
            f"interrupted; what is done is playable in {printable(name)}", remedy="run again with --resume to finish"
        )

    def _mux(
        self,
        path: Path,
        journal: Journal,
        reader: ClipReader,
        info: ClipInfo,
        copies: list[CopyPlan],
        plan: VideoPlan,
        jumps: list[float],
        end: Fraction | None,
    ) -> dict[int, PacketTally]:
        """All segments and all copied streams into one container."""
        began = time.perf_counter()
        entries = [journal.entries[n] for n in sorted(journal.entries)]
        opening = {
            "container_format": self.options.input_format,
            "options": self.options.input_options,
            "allow_protocols": self.options.allow_protocols,
        }
        covers = read_covers(self.source, copies, **opening)
        counted: dict[int, PacketTally] = {}

        def video() -> Generator[TimedPacket]:
            stamps = decode_times([e.presentation for e in entries])
            place = 0
            for entry in entries:
                packets = segment_packets(journal.folder / entry.file)
                for packet, pts, duration in zip(packets, entry.presentation, entry.durations):
                    packet.time_base = plan.time_base
                    packet.pts, packet.dts, packet.duration = pts, next(stamps), duration
                    yield TimedPacket(packet.dts * plan.time_base, packet)
                    place += 1
            if place != (count := sum(e.frames for e in entries)):
                raise VerificationError(f"the segments hold {place} of {count} packets", stage="mux")

        def damaged(what: str, seconds: float | None) -> None:
            self.record.damage.append(Damage(seconds, what))

        start = self._start
        last = self._end if end is None else end + (start or 0)
        cut = Cut(copies, start, last)
        others = copied_packets(self.source, copies, clock_jumps=jumps, cut=cut, on_damage=damaged, **opening)
        writer = ClipWriter(
            OutputSettings(file_url(path), self.target, start, last),
            plan,
            reader.container,
            info,
            copies,
            covers,
            already_encoded=True,
        )
        try:
            for packet, copy in merged(video(), others):
                if packet is not None:
                    writer.write_video(packet)
                elif copy is not None:
                    payload = bytes(copy.packet)
                    if writer.write_copy(copy):
                        counted.setdefault(copy.stream_index, PacketTally()).add(payload)
            writer.close()
            self._note_shift(writer)
            self.record.warnings += cut.notes
        finally:
            writer.abandon()
        self.times.encode.busy_seconds += time.perf_counter() - began
        return counted

    def _expected(self, journal: Journal, plan: VideoPlan) -> Times:
        """Times of the frames as the container will tell them."""
        ticks: array[int] = array("q")
        for number in sorted(journal.entries):
            ticks.extend(sorted(journal.entries[number].presentation))
        times = Times(ticks, plan.time_base)
        if not begins_at_zero(plan.container_format) or not times[0]:
            return times
        self._note_start(times[0])
        return times.from_zero()

    def _promise(
        self,
        video: _Restored,
        times: Times,
        reader: ClipReader,
        copies: list[CopyPlan],
        counted: dict[int, PacketTally],
    ) -> Promise:
        """What the output has to hold."""
        container_format = video.plan.container_format
        chapters = chapters_of(cut_chapters(reader.container.chapters(), self._start, self._end))
        if chapters and chapters[0][0] > 0 and container_format in ("mp4", "mov"):
            self.record.warnings.append(
                f"the first chapter begins at 0, not {float(chapters[0][0]):.3f} s: so in {container_format}"
            )
        return Promise(
            source=reader.info,
            container_format=container_format,
            look=video.look,
            times=times,
            shown=video.shown,
            copies=copies,
            tallies=counted,
            chapters=chapters,
            shift=self.shift,
            refused=self.refused,
        )

    def _self_check(self, path: Path, video: _Restored, promise: Promise) -> None:
        """Open what was written and compare. A mismatch keeps the file under a telling name and raises."""
        expected = promise.times
        try:
            animated = format_for(self.target, self.options.format) == "webp"
            if animated:
                animation = open_animation(path, DecodeOptions())
                if animation is None:  # nothing ever changes: its encoder makes a still of it
                    made = read_facts(path).video_times[:1]
                else:
                    with animation as reader:
                        made = [f.pts * f.time_base for f in reader.frames() if f.pts is not None]
                differences = compare_animation(expected, made)
                if not differences and len(made) < len(expected):
                    joined = f"{len(expected) - len(made)} frames that change nothing are part of the one before"
                    self.record.warnings.append(f"{joined}: animated WebP holds no frame twice")
            else:
                found = read_facts(path)
                with open_clip(path, DecodeOptions(deinterlace="off", max_pixels=self.options.max_pixels)) as reader:
                    frames = reader.frames()
                    differences = compare(promise, found, look_of(next(frames), found.info))
                    made = 1 + sum(1 for _ in frames) if self.options.verify == "full" else len(expected)
                    if made != len(expected):
                        differences.append(Difference(f"{len(expected)} frames went in, {made} decode"))
                    if self.options.verify == "full" and reader.damage:
                        differences.append(Difference(f"it is damaged: {reader.damage[0].what}"))
                if lost := lost_tags(promise.source, promise.copies, found.info):
                    more = f" and {len(lost) - _NAMED_TAGS} more" if len(lost) > _NAMED_TAGS else ""
                    names = printable(", ".join(lost[:_NAMED_TAGS]))
                    self.record.warnings.append(f"tags that this container doesn't hold: {names}{more}")
        except InputError as error:
            differences = [Difference(f"it can't be read back: {error.message}")]
        self.record.verified = self.options.verify
        damaged, wished = bool(self.record.damage), bool(video.plan.wished)
        explained = [d for d in differences if (d.by_damage and damaged) or (d.by_wish and wished)]
        self.record.warnings += [d.what for d in explained]
        differences = [d for d in differences if d not in explained]
        if differences:
            kept = _free(self.target_path, "failed-check")
            path.replace(kept)
            raise VerificationError(
                f"the output is not what it should be: {'; '.join(d.what for d in differences[:5])}",
                stage="verify",
                remedy=f"it was kept as {printable(kept)}",
            )

    def note_failure(self, failure: NsVideoError) -> None:
        """Complete the record of a run that failed; should it fail, too, that is only logged."""
        self.record.exit_code = failure.exit_code
        try:
            self.finish()
        except Exception as error:
            logger.error("%s", printable(str(error)))  # with -q, too

    def finish(self) -> RunRecord:
        """Complete the record, write it where it was asked for, and the report."""
        record, stats = self.record, self.enhancer.stats
        settle(self.times, self.meters)
        record.stages = {"decode": self.times.decode, "enhance": self.times.enhance, "encode": self.times.encode}
        record.limiting_stage = self.times.limiting()
        record.seconds = time.perf_counter() - self.began
        record.fps = record.frames_out / record.seconds if record.seconds > 0 else 0.0
        record.frames_identical = stats.duplicates
        record.frames_undamaged = stats.undamaged
        record.frames_guessed = stats.guessed
        record.frames_raised = stats.raised
        if stats.without_side_information:
            record.warnings.append(
                f"{stats.without_side_information} frames were left as they are: this codec doesn't tell its quantisers"
            )
        if (guesses := stats.guesses()) is not None:
            record.warnings.append(guesses)
        if stats.missing_overlap:
            record.warnings.append(
                f"tiles overlap {stats.missing_overlap} px less than this model sees: their seams may show; "
                "without --overlap they don't"
            )
        record.fallbacks = stats.fallbacks()
        record.precision = stats.precision
        record.tile = stats.tile or 0
        record.peak_memory_bytes = peak_memory()
        record.damage.sort(key=in_time)
        if record.exit_code == 0 and (record.damage or record.frames_passed_through):
            record.exit_code = 3
        self._write_record()
        if record.exit_code in (0, 3) and self.options.report is not None and self.observer is not None:
            try:
                from ns_video.report import write_run_report

                write_run_report(
                    record,
                    self.observer,  # pyright: ignore[reportArgumentType]
                    self.options.report,
                    source=None if self._start is not None else Path(self.source),  # what begins in a cut is its own
                    output=self.target_path,
                    device=self._device,
                )
            except Exception as error:  # whatever scoring runs into: the output is there, whole and checked
                said = error if isinstance(error, NsVideoError) else f"{type(error).__name__}: {error}"
                record.warnings.append(f"the report failed, the output is whole: {printable(str(said))}")
                logger.error(record.warnings[-1], exc_info=logger.isEnabledFor(logging.DEBUG))  # with -q, too
                self._write_record()
        return record

    def _write_record(self) -> None:
        if self.options.record is not None:
            write_whole(self.options.record, (self.record.dumps() + "\n").encode(), stage="record")


@dataclass(frozen=True, slots=True)
class _Restored:
    """What the output is to show."""

    plan: VideoPlan
    look: Look
    shown: Fraction = Fraction(0)
    """Seconds for which the last frame is shown; 0 where that isn't known."""

    @classmethod
    def of(cls, plan: VideoPlan, first: Frame, info: ClipInfo) -> _Restored:
        """`first`: of the source's frames, whose colours and turn are to be kept; the rest is planned."""
        aspect, shape = plan.sample_aspect_ratio or Fraction(1), Fraction(plan.width, plan.height)
        return cls(plan, replace(look_of(first, info), aspect=aspect, shape=shape))

    def until(self, last: Frame | None) -> _Restored:
        """With `last` as its last frame."""
        return self if last is None else replace(self, shown=(last.duration or 0) * last.time_base)


class _Stretch:
    """A run of frames whose segments are missing, with one more frame behind it to look at."""

    def __init__(self, first: Frame, position: int, stop: int | None, decoded: Generator[Frame]) -> None:
        self.ahead: Frame | None = first
        self.before: Frame | None = None
        self.position = position
        self._stop = stop
        self._decoded = decoded

    def frames(self) -> Generator[Frame]:
        """Frames up to and with the one at `stop`; afterwards that one is `ahead`."""
        while self.ahead is not None:
            yield self.ahead
            if self._stop is not None and self.position >= self._stop:
                return
            self.before, self.ahead = self.ahead, next(self._decoded, None)
            self.position += 1


class _Segment:
    """A segment being written."""

    def __init__(self, journal: Journal, plan: VideoPlan, number: int, *, wished: bool = False) -> None:
        """`wished`: the user set up this encoder, and it has not worked yet."""
        self._journal, self._number, self._wished = journal, number, wished
        name = f"segment-{number:06d}.{'mkv' if plan.alpha_beside else 'nut'}"
        self._file = SegmentFile(journal.folder / name, plan)
        self._encoder = FrameEncoder(self._file.stream, plan)
        self._plan = plan
        self._times: array[int] = array("q")
        self._passed = 0

    def write(self, frame: Frame, *, passed_through: bool = False) -> None:
        assert frame.pts is not None
        self._passed += passed_through
        try:
            packets = self._encoder.encode(frame)
        except ENCODER_ERRORS as error:
            raise _encoder_failure(error, frame, wished=self._wished and not self._times) from error
        self._times.append(self._plan.ticks(frame.pts * frame.time_base))
        self._file.write(packets)

    def close(self, *, complete: bool = True) -> None:
        """Drain the encoder and note the segment; an incomplete one is noted too, but its place stays open."""
        try:
            packets = self._encoder.flush()
        except ENCODER_ERRORS as error:
            raise _encoder_failure(error, None, wished=False) from error
        self._file.write(packets)
        self._file.close()
        path, count = self._file.path, len(self._times)
        found = sum(1 for _ in segment_packets(path))
        if found != count or len(self._file.presentation) != count:
            raise VerificationError(
                f"segment {self._number} holds {found} of {count} frames; is the disk full?", stage="encode"
            )
        moved = next(((a, b) for a, b in zip(self._times, sorted(self._file.presentation)) if a != b), None)
        if moved is not None:
            was, now = (float(tick * self._plan.time_base) for tick in moved)
            raise VerificationError(f"the encoder moved the frame at {was:.4f} s to {now:.4f} s", stage="encode")
        entry = SegmentEntry(
            number=self._number,
            file=path.name,
            frames=count,
            bytes=path.stat().st_size,
            digest=file_digest(path),
            presentation=self._file.presentation,
            durations=self._file.durations,
            counts={"passed_through": self._passed},
        )
        if complete:
            self._journal.add(entry)
        else:
            self._journal.entries[self._number] = entry  # playable in the partial file, done again by --resume
            self._journal.open.add(self._number)

    def abandon(self) -> None:
        self._file.abandon()


def _encoder_failure(error: Exception, frame: Frame | None, *, wished: bool) -> NsVideoError:
    """What an encoder's error means; `wished`: at its first frame, after the user set it up."""
    if wished and getattr(error, "errno", None) in _REFUSED:
        return UsageError(f"the encoder refuses these options: {error}", remedy="change --encoder-option or --pix-fmt")
    seconds = None if frame is None else frame.pts_seconds
    return OutputError(f"the encoder failed: {error}", stage="encode", pts_seconds=seconds)


def _seconds(number: float | None) -> Fraction | None:
    """What was meant by a decimal number: 11/10 by 1.1, not the nearest binary one."""
    return None if number is None else Fraction(number).limit_denominator(_FINEST_CUT)


def _uneven(at: Fraction, tick: Fraction) -> UsageError:
    """A y4m file holds one frame after the other; in a pipe the note on what was rounded has to do."""
    return UsageError(
        f"the frame at {float(at):.4f} s does not fit into y4m, which holds only frames at an even "
        f"{float(1 / tick):.6g} per second",
        remedy="write .mkv or .mp4: they keep every frame's time",
    )


def _shifted(frame: Frame, base: int) -> Frame:
    if base == 0 or frame.pts is None:
        return frame
    return replace(frame, pts=frame.pts - base)


def _beside(path: Path, word: str) -> Path:
    """`clip.mp4` → `clip.WORD.mp4`, shortened to what a file system takes."""
    end = f".{word}{path.suffix}".encode("utf-8", "surrogateescape")
    stem = path.stem.encode("utf-8", "surrogateescape")[: max(1, _NAME_BYTES - len(end))]
    return path.with_name((stem.decode("utf-8", "ignore") or "output") + end.decode("utf-8", "surrogateescape"))


def _free(path: Path, word: str) -> Path:
    """`clip.WORD.mp4`, or `clip.WORD2.mp4` and so on where something is there."""
    names = (_beside(path, f"{word}{number if number > 1 else ''}") for number in itertools.count(1))
    return next(name for name in names if not os.path.lexists(name))


def _texts(name: str, table: Any) -> dict[str, str]:
    """Names with values, all as text: 5 becomes "5". Raises UsageError for what is none."""
    items: dict[Any, Any] = dict(table) if isinstance(table, Mapping) else {None: table}
    if not all(isinstance(k, str) and type(v) in (str, int, float) for k, v in items.items()):
        raise UsageError(f"{name.replace('_', ' ')} {table!r} are no names with texts or numbers")
    return {key: str(value) for key, value in items.items()}


def _is_size(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(n, int) and n >= 1 for n in value)


def _name(path: Any) -> str:
    """A path as text. Raises UsageError for what is none."""
    try:
        return os.fsdecode(path)
    except TypeError:
        raise UsageError(f"a path is wanted, not a {type(path).__name__}") from None


__all__ = ["Progress", "RestoreOptions", "StageTimes", "restore", "restore_steps", "verify"]
