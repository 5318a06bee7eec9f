"""What becomes of each stream that isn't restored: copied, attached, converted or dropped, and why."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

import av
from av.container import InputContainer, OutputContainer
from av.stream import Stream

from ns_video.media.containers import BLU_RAY_CODECS, Container, of_demuxer
from ns_video.media.hevc_tag import HVC1, holds_hvc1
from ns_video.media.libav import abandon, printable
from ns_video.media.probe import ICON, ClipInfo, StreamInfo, codec_name
from ns_video.media.sound import refusal_of_sound, tell_of_sound
from ns_video.media.stream_tags import told_tags
from ns_video.media.text_subtitles import TEXT_SUBTITLES
from ns_video.media.wave_sound import add_wave_stream
from ns_video.record import StreamAction

COVER_MIME = {
    "mjpeg": ("cover.jpg", "image/jpeg"),
    "png": ("cover.png", "image/png"),
    "bmp": ("cover.bmp", "image/bmp"),
}

_SECTIONS = frozenset({"scte_35", "epg"})  # of MPEG-TS (ISO/IEC 13818-1, 2.4.4), not packets of a stream


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """What becomes of one input stream that isn't restored."""

    stream: StreamInfo
    action: str
    """"copied", "attached", "converted: …" or "dropped: …"."""
    target_codec: str = ""
    """The codec of a converted text subtitle."""
    as_wave: bool = False
    """It is held as in WAVE files."""

    @property
    def kept(self) -> bool:
        """It is in the output."""
        return not self.action.startswith("dropped")


def plan_copies(source: InputContainer, info: ClipInfo, container: Container) -> list[CopyPlan]:
    """Decide for each stream beside the restored one; what the container refuses is found out by trying.

    `source` is only asked for its streams' parameters; no packet is read.
    """
    plans = list[CopyPlan]()
    for stream in source.streams:
        about = next(s for s in info.streams if s.index == stream.index)
        if about.index == info.video.index:
            continue
        if info.format == ICON:
            smaller = f"dropped: only the largest of {len(info.streams)} pictures is restored"
            plans.append(CopyPlan(about, smaller))
        else:
            plan = _plan_one(stream, about, container)
            if not plan.kept and container.holds_chapters and _holds_chapters(stream, source, info):
                plan = CopyPlan(about, "dropped: its chapters are written anew")
            plans.append(plan)
    return plans


def _holds_chapters(stream: Stream, source: InputContainer, info: ClipInfo) -> bool:
    """Whether it is the track of MP4 or MOV whose words libav reads as the titles of the file's chapters."""
    told = len(source.chapters())
    return of_demuxer(info.format).is_mov and codec_name(stream) == "bin_data" and told > 0 and stream.frames == told


def _plan_one(stream: Stream, about: StreamInfo, container: Container) -> CopyPlan:
    if container.video_only:
        return CopyPlan(about, f"dropped: {container.name} holds one video stream only")
    if about.is_cover and container.covers != "streams":
        if container.covers == "attached" and about.codec in COVER_MIME:
            return CopyPlan(about, "attached")
        lacking = f"can't hold {about.codec}" if container.is_matroska else "holds no"
        return CopyPlan(about, f"dropped: {container.name} {lacking} cover art")
    if about.type == "data" and container.makes_time_codes and "timecode" in dict(about.metadata):
        return CopyPlan(about, "dropped: libav makes the time code's track anew")
    problem = _refusal(stream, container)
    if problem is None:
        return CopyPlan(about, "copied")
    if container.holds_waves and about.type == "audio" and _refusal(stream, container, as_wave=True) is None:
        return CopyPlan(about, "copied", as_wave=True)
    target = container.text_codec
    if about.type == "subtitle" and about.codec in TEXT_SUBTITLES and target:
        return CopyPlan(about, f"converted: {about.codec} to {target}", target)
    return CopyPlan(about, f"dropped: {container.name} can't hold {_named(about)} ({problem})")


def _named(about: StreamInfo) -> str:
    """A stream in words; one whose codec libav doesn't know by what the file calls its kind."""
    if about.codec != "none":
        return f"{about.codec} {about.type}"
    kind = dict(about.metadata).get("handler_name")
    return f"{about.type} of the kind {printable(kind)!r}" if kind else about.type


def _refusal(stream: Stream, container: Container, *, as_wave: bool = False) -> str | None:
    """Why a container doesn't take a stream, found out by writing a header with it into memory."""
    if stream.type == "attachment" and not container.holds_attachments:
        return "attachments belong to Matroska"
    if stream.type == "data" and not container.takes_data:
        return "libav writes no timed metadata there"
    if container.codecs is not None and codec_name(stream) in _SECTIONS:
        return "libav would write these tables as private data, which no reader knows"
    if stream.type not in ("video", "audio", "subtitle", "data", "attachment"):
        return "of an unknown kind"
    if container.codecs is not None and stream.type != "data" and codec_name(stream) not in container.codecs:
        where = "; .m2ts holds it" if codec_name(stream) in BLU_RAY_CODECS and container.name == "mpegts" else ""
        return f"readers of MPEG streams would not know it{where}"
    if codec_name(stream) in TEXT_SUBTITLES and not container.tells_durations:
        return "it doesn't tell for how long words are shown; --format matroska does"
    if (problem := refusal_of_sound(stream, container)) is not None:
        return problem
    try:
        options = dict(container.muxer_options)
        trial = av.open(io.BytesIO(), "w", format=container.name, container_options=options)
        try:
            if container.wants_video or stream.type == "attachment":
                trial.add_stream(container.encoder or "libx264", rate=25, width=16, height=16)
            add_copied_stream(trial, stream, container, as_wave=as_wave)
            trial.start_encoding()
        finally:
            abandon(trial)
    except (av.FFmpegError, ValueError, OSError, TypeError, AttributeError) as error:
        return re.sub(r"\s+", " ", str(getattr(error, "strerror", None) or error))[:120]
    return None


def add_copied_stream(
    output: OutputContainer, stream: Stream, container: Container, *, as_wave: bool = False
) -> Stream:
    """Add a stream for the packets of `stream` as they are, with its tags, its flags and what is known of its sound.

    `as_wave`: it is held as in WAVE files. Raises what libav and PyAV raise where the container doesn't take it.
    """
    made = add_wave_stream(output, stream) if as_wave else output.add_stream_from_template(stream, opaque=True)
    made.metadata.update(told_tags(stream.metadata.items()))
    made.disposition = stream.disposition
    if stream.type == "video" and stream.codec_context.codec_tag == HVC1 and holds_hvc1(output):
        made.codec_context.codec_tag = HVC1
    tell_of_sound(made, stream, container)
    return made


def stream_actions(info: ClipInfo, copies: Iterable[CopyPlan]) -> list[StreamAction]:
    """The stream map of a run's record."""
    by_index = {c.stream.index: c.action for c in copies}
    return [
        StreamAction(s.index, s.type, s.codec, "restored" if s.index == info.video.index else by_index[s.index])
        for s in info.streams
    ]
