"""A clip that is opened: what is read of it, what of its streams is kept, and where it is cut."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from ns_video.errors import UsageError
from ns_video.frame import Frame
from ns_video.machine import codec_threads
from ns_video.media.animation import open_animation
from ns_video.media.avi_header import LATEST_SECONDS
from ns_video.media.carried import Item, carry_quantisers
from ns_video.media.coded_headers import NEWER_CODECS
from ns_video.media.containers import of_muxer, of_output
from ns_video.media.copy_plan import plan_copies, stream_actions
from ns_video.media.cut import cut_chapters
from ns_video.media.decode import ClipReader, DecodeOptions, open_clip
from ns_video.media.encoder_choice import hardware_api
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.file_facts import Chapter, PacketTally, Times, chapters_of
from ns_video.media.jpeg_headers import CODECS as JPEG_CODECS
from ns_video.media.left_out import dropped_chapters, joined_services, lost_space
from ns_video.media.libav import is_url
from ns_video.media.mux import ClipWriter
from ns_video.media.probe import ClipInfo, pixel_format
from ns_video.media.promise import Look, Promise, look_of
from ns_video.media.riding import lost_riders, riding_on
from ns_video.media.sample_boxes import STEREO, named, told_by_frame, writable
from ns_video.media.video_plan import VideoPlan, plan_video
from ns_video.pipeline.ends import is_special
from ns_video.pipeline.run import Run
from ns_video.record import Damage

__all__ = ["STALL_SECONDS", "Clip", "Restored", "decode_options", "open_source"]

_PICTURE_PIPES = frozenset({"jpeg_pipe", "png_pipe", "tiff_pipe", "webp_pipe"})
STALL_SECONDS = 1800.0  # no stage of a file-to-file run may be silent for longer; a pipe may wait for its writer
_FINEST_CUT = 10**9  # parts of a second
_NOT_WRITTEN = frozenset({"pal8"})  # libav makes no palette of pixels


def decode_options(run: Run) -> DecodeOptions:
    """How the source of `run` is decoded."""
    options = run.options
    deinterlace = options.deinterlace or "auto"
    if deinterlace == "auto":
        deinterlace = "off" if run.enhancer.does_nothing else run.preset.deinterlace
    return DecodeOptions(
        container_format=options.input_format,
        container_options=options.input_options,
        allow_protocols=options.allow_protocols,
        threads=options.threads or codec_threads(),
        quantisers=run.conditioning == "quantiser",
        jpeg_tables=run.conditioning in ("quantiser", "jpeg"),
        deinterlace=deinterlace,
        start_seconds=options.start,
        end_seconds=options.end,
        strict=options.strict,
        max_pixels=options.max_pixels,
        cancel=run.cancel,
    )


def open_source(run: Run) -> ClipReader:
    """INPUT as an animation or a clip, with the model that suits it."""
    source = run.source
    run.note_source()
    if source != "-" and not is_url(source) and not run.options.input_format:
        animation = open_animation(Path(source), decode_options(run))
        if animation is not None:
            return animation
    return _suited(run, open_clip(source, decode_options(run)))


def _suited(run: Run, reader: ClipReader) -> ClipReader:
    """The reader of a clip, once the preset's model is the one for its codec."""
    codec = reader.info.video.codec
    of = "jpeg clip" if codec in JPEG_CODECS else "newer clip" if codec in NEWER_CODECS else "clip"
    if not run.options.model and of != "clip":
        try:
            model = run.preset_model(of)
            if run.record.model.name != model:
                run.enhancer = run.load_enhancer(model)
        except BaseException:
            reader.close()
            raise
    return reader


@dataclass(frozen=True, slots=True)
class Restored:
    """What the output is to show."""

    plan: VideoPlan
    look: Look
    shown: Fraction = Fraction(0)
    """Seconds for which the last frame is shown; 0 where that isn't known."""

    @classmethod
    def of(cls, plan: VideoPlan, first: Frame, info: ClipInfo) -> Restored:
        """`first`: of the source's frames, whose colours and turn are to be kept; the rest is planned."""
        look = look_of(first, info)
        held = replace(
            look,
            aspect=plan.sample_aspect_ratio or Fraction(1),
            shape=Fraction(plan.width, plan.height),
            samples=pixel_format(plan.pix_fmt),
            hdr=None if hardware_api(plan.codec) else look.hdr,
            fields=plan.field_order,
        )
        return cls(plan, held)

    def until(self, last: Frame | None) -> Restored:
        """With `last` as its last frame."""
        return self if last is None else replace(self, shown=(last.duration or 0) * last.time_base)


class Clip:
    """A clip on its way into a container: its reader, the streams that go along, and its cut."""

    def __init__(self, run: Run, reader: ClipReader, container_format: str) -> None:
        self.run, self.reader, self.info, self.container_format = run, reader, reader.info, container_format
        self.shift, self.refused = Fraction(0), 0
        """Seconds by which the writer had to move all streams."""
        self._attached: dict[int, PacketTally] = {}
        self._riding: Counter[str] = Counter()
        """libav's names of what rides on the frames that were decoded, and on how many."""
        self._codec = ""
        """The encoder, once it is chosen."""
        self.copies = plan_copies(reader.container, self.info, of_output(container_format, run.target))
        run.record.streams = stream_actions(self.info, self.copies)
        self._warn_dropped()
        self.start, self.end = (_seconds(t, self.info.begins) for t in (run.options.start, run.options.end))
        """On the clock of the source."""
        self.base = self._base()
        self._warn_chapters()
        self.stall_seconds = STALL_SECONDS if Path(run.source).is_file() else None
        """For which a stage may be silent; None: a pipe may wait for its writer."""

    def _warn_dropped(self) -> None:
        for copy in self.copies:
            if not copy.kept or copy.target_codec:
                self.run.record.warnings.append(f"stream {copy.stream.index}: {copy.action}")
        if self.info.format in _PICTURE_PIPES and not Path(self.run.source).is_file():
            self.run.record.warnings.append(
                "a picture from a pipe keeps no XMP, comment and resolution; from a file it does"
            )
        if (note := joined_services(self.info, of_muxer(self.container_format))) is not None:
            self.run.record.warnings.append(note)

    def _warn_chapters(self) -> None:
        chapters, container = self._chapters(), of_muxer(self.container_format)
        if (note := dropped_chapters(chapters, container)) is not None:
            self.run.record.warnings.append(note)
        elif chapters and chapters[0][0] > 0 and container.first_chapter_at_zero:
            self.run.record.warnings.append(
                f"the first chapter begins at 0, not {float(chapters[0][0]):.3f} s: so in {container.name}"
            )

    def _chapters(self) -> list[Chapter]:
        """Those of the cut."""
        return chapters_of(cut_chapters(self.reader.container.chapters(), self.start, self.end))

    def _base(self) -> int:
        """Ticks to take from each time of the picture, so that a cut begins at 0.

        From here on the cut begins at that tick for all else, too: sound stays with the picture.
        """
        if self.start is None:
            return 0
        base = math.ceil(self.start / self.info.video.time_base)
        video = next(s for s in self.info.streams if s.index == self.info.video.index)
        # A cut that begins where the picture does, at 0, takes nothing away: sound keeps what its decoder needs before.
        whole = base == 0 and (video.start_time or 0) >= 0
        self.start = None if whole else base * self.info.video.time_base
        return base

    def shifted(self, frame: Frame) -> Frame:
        """`frame` on the clock of the cut."""
        if self.base == 0 or frame.pts is None:
            return frame
        return replace(frame, pts=frame.pts - self.base)

    def plan(self, first: Frame, size: tuple[int, int]) -> VideoPlan:
        """How pictures of `size`, (width, height), are encoded, the first of which is `first` or made of it."""
        options, info, container_format = self.run.options, self.info, self.container_format
        codec = options.codec
        if codec is None and self.run.target == "-" and container_format == "nut":
            codec = "rawvideo"
        threads, layout = options.threads or codec_threads(), self._raw_layout()
        wanted = EncodeOptions(
            codec=codec,
            crf=options.crf,
            pix_fmt=options.pix_fmt or (layout if layout not in _NOT_WRITTEN else None),
            encoder_options=options.encoder_options,
            threads=threads,
            speed=self.run.preset.speed,
        )
        plan = plan_video(container_format, info.video, self.shifted(first), size, wanted)
        if plan.container.decode_times_only and plan.begins > LATEST_SECONDS:
            raise UsageError(
                f"the clip begins at {float(plan.begins):.0f} s: AVI holds no start that late",
                remedy="write .mkv or .mp4: they keep every frame's time",
            )
        self._codec = plan.codec
        self.run.record.warnings += plan.notes + self._lost_space(plan, first)
        if layout is not None and layout != plan.pix_fmt:
            self.run.record.warnings.append(f"the pixels came as {layout} and leave as {plan.pix_fmt}")
        if options.size is not None and options.fit == "stretch" and plan.sample_aspect_ratio:
            plan = replace(plan, sample_aspect_ratio=Fraction(1))  # shown as large as it was asked for
        return plan

    def _lost_space(self, plan: VideoPlan, first: Frame) -> tuple[str, ...]:
        video, target = self.info.video.index, self.run.target
        same_size = (plan.width, plan.height) == (self.info.video.width, self.info.video.height)
        held: dict[int, set[str]] = {video: {STEREO} if plan.holds_stereo else set()}
        if plan.container.is_mov and target != "-" and not is_special(Path(target)):
            for s in self.info.streams:
                held.setdefault(s.index, set()).update(
                    named(writable(s.boxes, same_size=same_size or s.index != video))
                )
        kept = {video, *(c.stream.index for c in self.copies if c.kept)}
        return tuple(lost_space(self.info, kept, held, told_by_frame(first.carrier), self.container_format))

    def _raw_layout(self) -> str | None:
        """The pixel format of raw video that leaves as it came: nothing else tells it to who reads it."""
        return self.info.video.format.name if self.container_format == self.info.format == "rawvideo" else None

    def total(self) -> int:
        """Frames that are to come, as the container claims; 0: not known."""
        options, info, video = self.run.options, self.info, self.info.video
        if options.start is None and options.end is None and video.frames_claimed:
            return video.frames_claimed
        if info.duration_seconds is None:
            return 0
        end = info.duration_seconds if options.end is None else min(info.duration_seconds, options.end)
        return max(0, round((end - (options.start or 0)) * float(video.rate)))

    def told(self, items: Iterable[Item]) -> Iterable[Item]:
        """What is decoded, with the quantisers as the network wants them."""
        seen = self._watched(items)
        return carry_quantisers(seen) if self.run.conditioning == "quantiser" else seen

    def _watched(self, items: Iterable[Item]) -> Generator[Item]:
        for item in items:
            if isinstance(item, Frame):
                self._riding.update(riding_on(item.carrier))
            yield item

    def take_damage(self) -> None:
        """What the reader met on the way."""
        reader = self.reader
        self.run.record.damage += reader.damage
        if reader.damage_count > len(reader.damage):
            self.run.record.warnings.append(f"{reader.damage_count} places of damage in all")
        late = lost_riders(self._codec, self._riding) if self._codec else []  # which the first frame didn't tell
        self.run.record.warnings += [w for w in (*reader.warnings, *late) if w not in self.run.record.warnings]
        self.run.record.frames_in = reader.frames_given

    def note_start(self, begins: Fraction) -> None:
        """The container has no times; `begins`: seconds of the first frame."""
        moved = f"{abs(float(begins)) * 1000:.0f} ms {'earlier' if begins > 0 else 'later'}"
        self.run.record.warnings.append(f"all times are {moved}: this container has none, and begins at 0")

    def note_written(self, writer: ClipWriter) -> None:
        """What a writer that is closed had to move or to leave out."""
        self.shift, self.refused = writer.shift, writer.refused
        self._attached = {index: PacketTally.of(data) for index, data in writer.attached.items()}
        self.run.record.damage += [Damage(seconds, what) for seconds, what in writer.troubles]
        self.run.record.warnings += writer.notes

    def promise(self, video: Restored, times: Times, counted: dict[int, PacketTally]) -> Promise:
        """What the output has to hold."""
        return Promise(
            source=self.info,
            look=video.look,
            times=times,
            shown=video.shown,
            copies=self.copies,
            tallies={**counted, **self._attached},
            chapters=self._chapters(),
            shift=self.shift,
            refused=self.refused,
            riding=Counter({n: c for n, c in self._riding.items() if not lost_riders(self._codec, {n})}),
        )


def _seconds(number: float | None, begins: Fraction) -> Fraction | None:
    """What was meant by a decimal number, from `begins` on: 11/10 by 1.1, not the nearest binary one."""
    return None if number is None else begins + Fraction(number).limit_denominator(_FINEST_CUT)
