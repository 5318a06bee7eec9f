"""What each container can hold, by libav's name of its muxer, and which one an output's name asks for.

All facts are of libav 8's muxers and demuxers, found out by trying where nothing else is said: what a standard allows,
but libav doesn't write or read back, is not held here. A container that isn't in the table is taken to hold what the
fields' defaults say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from av.format import ContainerFormat
from av.stream import Disposition

from ns_video.errors import UsageError
from ns_video.frame import UNSPECIFIED, ColorInfo
from ns_video.media.animation_header import EXIF, PROFILE, RESOLUTION, TEXT, XMP
from ns_video.media.probe import ClipInfo

COLOR_TAGS = ("matrix", "primaries", "transfer", "range")
"""Names of ColorInfo's tags."""
PRIMING_SECONDS = 0.25
"""Most of an encoder's delay of sound, which lies before 0; for what begins earlier still all streams are shifted."""
_STREAM_TYPES = frozenset({"video", "audio", "subtitle", "data", "attachment"})
_NO_FLAGS = Disposition(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What one of libav's muxers writes and its demuxer reads back."""

    name: str
    """libav's, of the muxer."""
    demuxer: str = ""
    """libav's name of what reads it, where that isn't `name`. Some containers share one."""
    suffixes: tuple[str, ...] = ()
    """Of the file names that ask for it, where libav's own guess is another one, or none."""
    brand: str = ""
    """With which the major brand of its files begins, where others of the same demuxer have another."""
    unfit: str = ""
    """Why no run could finish it as a file: the self-check would find it wrong."""
    muxer_options: tuple[tuple[str, str], ...] = ()
    """Of every output, by libav's names."""

    # Times.
    begins_at_zero: bool = False
    """The first frame is at 0, wherever it was."""
    holds_negative_times: bool = False
    """A stream may begin before 0; elsewhere libav moves all streams later for it."""
    moves_for_reordering: bool = False
    """Decode times of reordered frames, which come before 0, would move all streams."""
    counts_frames: bool = False
    """Its clock ticks once a frame: in AVI each tick without one costs eight bytes, y4m states the tick as its rate."""
    own_ticks: Fraction = Fraction(0)
    """Seconds of a tick of its clock where each frame has to have one of its own."""
    gapless: bool = False
    """It has no times at all: one frame comes after the other."""
    decode_times_only: bool = False
    """It has no presentation times, and nothing before 0."""
    counts_sound: bool = False
    """Times of sound are its packets, or bytes, counted; all packets of a stream last equally long."""
    tells_durations: bool = False
    """For how long the last frame is shown can be read back."""

    # What goes along with the video.
    wants_video: bool = False
    """It takes other streams only beside one of video."""
    video_only: bool = False
    """It holds one video stream and nothing else."""
    codecs: frozenset[str] | None = None
    """libav's names of those that its readers know; None: all that the muxer takes."""
    places_channels: bool = False
    """Its sound has to tell where channels are to be heard: PCM in MP4 (ISO/IEC 23003-5), and in FLV, where libav ends
    the process for want of it."""
    holds_waves: bool = False
    """Sound may have the header that it has in WAVE files; libav's muxer takes it, but PyAV doesn't ask for it."""
    text_codec: str = ""
    """Into which text subtitles are converted that the muxer doesn't take."""
    covers: str = ""
    """How cover pictures are held: "attached", as "streams", or "" for not."""
    holds_attachments: bool = False
    takes_data: bool = True
    """Timed metadata may be tried; elsewhere libav takes what it doesn't write."""
    makes_time_codes: bool = False
    """libav writes the track of a time code anew, from the video's tag."""
    holds_reels: bool = False
    """That track tells the name of the reel."""
    holds_chapters: bool = False
    first_chapter_at_zero: bool = False
    """The first chapter begins at 0, wherever it did."""
    dispositions: Disposition = _NO_FLAGS
    """Flags of streams that can be read back."""
    tags: frozenset[str] | None = frozenset()
    """Names of the container's tags that have a place, in lower case; None: there is one for every tag."""
    stream_tags: frozenset[str] | None = frozenset()
    """The same of streams' tags, as `told_tags` names them, languages aside."""
    languages_of: frozenset[str] = _STREAM_TYPES
    """Types of the streams whose languages can be read back."""
    codes_languages: bool = False
    """Languages are codes of three letters (ISO 639-2)."""
    lists_languages: bool = False
    """A stream may have several of them."""
    numbers_languages: bool = False
    """Languages are numbers, of which there are about a hundred (QuickTime File Format, "Language Code Values")."""
    frames_by_length: bool = False
    """Packets lie in it by their length: NAL units and AAC are framed as in all other such containers."""

    # The video.
    encoder: str = ""
    """Of its video, where that can't be chosen freely. Everything else takes H.264 or HEVC, by bit depth."""
    encoders: frozenset[str] = frozenset()
    """Beside libx264, those that are chosen for sources which they keep better."""
    in_segments: bool = True
    """Its encoder's packets can be kept in segments."""
    holds_alpha_beside: bool = False
    """Alpha may ride beside the packets (Matroska's BlockAdditional)."""
    holds_turn: bool = False
    """It holds a display matrix."""
    turns_only: bool = False
    """Of a display matrix it holds the angle and whether it mirrors: nothing that stretches, skews or moves."""
    shown_as_stored: bool = False
    """Pictures that programs show as they are stored: turned here, where a display matrix asks for it."""
    holds_aspect: bool = True
    """It, or its codec, tells the shape of a pixel exactly."""
    color_tags: tuple[str, ...] = ()
    """Of COLOR_TAGS, what it tells whatever the codec does."""
    color_tags_together: bool = False
    """It tells none of them where the matrix, the primaries or the transfer is unknown."""
    color_tags_unread: tuple[str, ...] = ()
    """Of COLOR_TAGS, what can't be read back of it, whatever the codec."""
    plays_option: str = ""
    """Of the muxer: how often an animation is shown, 0 for without end."""
    counts_repeats: bool = False
    """It counts how often the pictures are shown again; -1 is the option's word for never."""
    parts: frozenset[str] = frozenset()
    """Of what animations say beside their pictures (`animation_header`), what it holds."""
    tells_look: bool = True
    """Enough of the picture can be read back to compare it: colours and the shape of a pixel."""
    holds_hdr: bool = False
    """It tells mastering display and light level, whatever the codec does."""

    @property
    def read_by(self) -> str:
        """libav's name of its demuxer."""
        return self.demuxer or self.name

    @property
    def is_matroska(self) -> bool:
        """Matroska, or WebM, which is one."""
        return self.demuxer == _MATROSKA

    @property
    def is_mov(self) -> bool:
        """QuickTime, or one of those that were made of it (ISO/IEC 14496-12)."""
        return self.demuxer == _MOV

    def told_of(self, color: ColorInfo) -> tuple[str, ...]:
        """Of COLOR_TAGS, what it tells of these colours, whatever the codec does."""
        if self.color_tags_together and UNSPECIFIED in (color.matrix, color.primaries, color.transfer):
            return ()
        return self.color_tags


_MATROSKA, _MOV = "matroska,webm", "mov,mp4,m4a,3gp,3g2,mj2"

_OF_MATROSKA = Container(
    name="matroska",
    demuxer=_MATROSKA,
    suffixes=(".mkv", ".mka"),
    muxer_options=(
        ("write_crc32", "0"),  # the header is completed when it is written
        ("fflags", "+bitexact"),  # no random numbers of segment and tracks: equal runs, equal files
    ),
    holds_negative_times=True,
    tells_durations=True,
    holds_waves=True,
    text_codec="subrip",
    covers="attached",
    holds_attachments=True,
    takes_data=False,
    holds_chapters=True,
    dispositions=Disposition.default
    | Disposition.forced
    | Disposition.original
    | Disposition.comment
    | Disposition.hearing_impaired
    | Disposition.visual_impaired,
    tags=None,
    stream_tags=None,
    frames_by_length=True,
    encoders=frozenset({"libx265", "ffv1", "libvpx-vp9"}),
    holds_alpha_beside=True,
    holds_turn=True,
    turns_only=True,
    color_tags=COLOR_TAGS,
    holds_hdr=True,
)
_OF_MP4 = Container(
    name="mp4",
    demuxer=_MOV,
    suffixes=(".mp4", ".m4v"),
    holds_negative_times=True,
    tells_durations=True,
    places_channels=True,
    text_codec="mov_text",
    covers="streams",
    takes_data=False,
    makes_time_codes=True,
    holds_chapters=True,
    first_chapter_at_zero=True,
    dispositions=Disposition.default,
    tags=frozenset({"title", "artist", "album", "comment", "genre", "copyright", "date"}),
    codes_languages=True,
    stream_tags=frozenset({"title"}),  # libav reads it as `name` (see `told_tags`)
    frames_by_length=True,
    encoders=frozenset({"libx265", "libvpx-vp9"}),
    holds_turn=True,
    color_tags=COLOR_TAGS,
    color_tags_together=True,
    holds_hdr=True,
)
_OF_3GP = replace(
    _OF_MP4,
    name="3gp",
    suffixes=(".3gp",),
    brand="3g",
    covers="",
    makes_time_codes=False,
    first_chapter_at_zero=False,
    tags=frozenset({"copyright"}),  # libav writes more (3GPP TS 26.244, 8), but reads no other
    stream_tags=frozenset(),
    encoders=frozenset(),
    color_tags=(),
    color_tags_together=False,
    holds_hdr=False,
)
# What libav reads back from MPEG streams; everything else it writes as private data or subtitles that no reader knows.
_PROGRAM_STREAM_CODECS = frozenset(
    {"mpeg1video", "mpeg2video", "mp1", "mp2", "mp3", "ac3", "dts", "pcm_dvd", "dvd_subtitle"}
)
_OF_MPEG = Container(
    name="mpeg",
    suffixes=(".mpg", ".mpeg"),
    muxer_options=(("preload", "0"),),  # libav's half second of it moves what begins before that
    moves_for_reordering=True,
    codecs=_PROGRAM_STREAM_CODECS,
    languages_of=frozenset(),
    encoder="mpeg2video",
    color_tags_unread=("range",),
)
_OF_MPEGTS = Container(
    name="mpegts",
    suffixes=(".ts", ".m2ts", ".mts"),
    moves_for_reordering=True,
    codecs=_PROGRAM_STREAM_CODECS - {"pcm_dvd", "dvd_subtitle"}
    | {"mpeg4", "h264", "hevc", "vvc", "av1", "dirac", "vc1", "cavs", "jpeg2000"}
    | {"aac", "aac_latm", "eac3", "truehd", "opus", "s302m", "ac4"}
    | {"dvb_subtitle", "dvb_teletext", "arib_caption"},
    tags=frozenset({"service_name", "service_provider"}),
    codes_languages=True,
    lists_languages=True,
    languages_of=frozenset({"audio", "subtitle"}),  # libav writes descriptors of a language for these only
    encoders=frozenset({"libx265"}),
    tells_look=False,
)
BLU_RAY_CODECS = frozenset({"hdmv_pgs_subtitle", "pcm_bluray"})
_OF_M2TS = replace(
    _OF_MPEGTS,
    muxer_options=(("mpegts_m2ts_mode", "1"),),
    codecs=(_OF_MPEGTS.codecs or frozenset()) | BLU_RAY_CODECS,
)
_M2TS = ".m2ts"  # libav's muxer goes by the name, too
_M2TS_PACKET = 192  # bytes: four, and one of MPEG-TS

CONTAINERS = (
    _OF_MATROSKA,
    replace(
        _OF_MATROSKA,
        name="webm",
        suffixes=(".webm",),
        holds_waves=False,
        text_codec="webvtt",
        covers="",
        holds_attachments=False,
        dispositions=Disposition.default | Disposition.forced,
        encoder="libvpx-vp9",
        encoders=frozenset(),
    ),
    _OF_MP4,
    replace(
        _OF_MP4,
        name="mov",
        suffixes=(".mov", ".qt"),
        brand="qt",
        places_channels=False,
        covers="",  # libav writes them as iTunes metadata only
        holds_reels=True,
        numbers_languages=True,
        encoders=frozenset({"libx265", "png"}),
        color_tags=COLOR_TAGS[:3],
    ),
    replace(
        _OF_MP4, name="ipod", suffixes=(), makes_time_codes=False, encoders=frozenset(), color_tags=(), holds_hdr=False
    ),
    replace(
        _OF_MP4,
        name="f4v",
        suffixes=(".f4v",),
        brand="f4v",
        holds_negative_times=False,  # libav writes no edit list
        moves_for_reordering=True,
        text_codec="",
        covers="",
        makes_time_codes=False,
        first_chapter_at_zero=False,
        encoders=frozenset(),
        color_tags=(),
        holds_hdr=False,
    ),
    _OF_3GP,
    replace(_OF_3GP, name="3g2", suffixes=(".3g2",), brand="3g2"),
    Container(
        name="nut",
        suffixes=(".nut",),
        moves_for_reordering=True,
        holds_chapters=True,
        encoders=frozenset({"libx265", "ffv1", "libvpx-vp9"}),
        tells_look=False,
    ),
    Container(
        name="avi",
        suffixes=(".avi",),
        counts_frames=True,
        decode_times_only=True,
        counts_sound=True,
        takes_data=False,
        languages_of=frozenset(),
        encoders=frozenset({"ffv1"}),
        tells_look=False,
    ),
    _OF_MPEGTS,
    _OF_MPEG,
    replace(_OF_MPEG, name="vob", demuxer="mpeg", suffixes=(".vob",)),
    Container(
        name="mxf",
        suffixes=(".mxf",),
        muxer_options=(("fflags", "+bitexact"),),  # no clock in its numbers and dates: equal runs, equal files
        begins_at_zero=True,
        wants_video=True,
        languages_of=frozenset(),
        encoder="mpeg2video",
        color_tags_unread=("range",),
    ),
    Container(
        name="flv",
        suffixes=(".flv",),
        moves_for_reordering=True,
        places_channels=True,
        takes_data=False,
        languages_of=frozenset(),
        frames_by_length=True,
        encoders=frozenset({"libx265"}),
        tells_look=False,
    ),
    Container(
        name="asf",
        suffixes=(".asf", ".wmv"),
        unfit="moves frames",
        holds_chapters=True,
        tells_look=False,
    ),
    Container(
        name="ogg",
        suffixes=(".ogv",),
        unfit="keeps the times of no video that is encoded here",
        holds_chapters=True,
    ),
    Container(
        name="ivf",
        suffixes=(".ivf",),
        video_only=True,
        encoder="libvpx-vp9",
        holds_aspect=False,
        color_tags_unread=("primaries", "transfer"),
    ),
    Container(
        name="gif",
        suffixes=(".gif",),
        begins_at_zero=True,
        own_ticks=Fraction(1, 100),
        video_only=True,
        encoder="gif",
        shown_as_stored=True,
        plays_option="loop",
        counts_repeats=True,
        holds_aspect=False,
        color_tags_unread=("primaries", "transfer"),
    ),
    Container(
        name="apng",
        suffixes=(".apng", ".png"),
        begins_at_zero=True,
        video_only=True,
        encoder="apng",
        in_segments=False,
        shown_as_stored=True,
        plays_option="plays",
        parts=frozenset({PROFILE, EXIF, XMP, RESOLUTION, TEXT}),
    ),
    Container(
        name="webp",
        demuxer="webp_pipe",
        suffixes=(".webp",),
        own_ticks=Fraction(1, 1000),
        video_only=True,
        encoder="libwebp_anim",
        in_segments=False,
        shown_as_stored=True,
        plays_option="loop",
        parts=frozenset({PROFILE, EXIF, XMP}),
        holds_aspect=False,
    ),
    Container(
        name="yuv4mpegpipe",
        suffixes=(".y4m",),
        muxer_options=(("strict", "-1"),),  # more than 8 bits, and alpha: y4m as libav extends it
        begins_at_zero=True,
        counts_frames=True,
        gapless=True,
        video_only=True,
        encoder="wrapped_avframe",
        in_segments=False,
        color_tags_unread=("matrix", "primaries", "transfer"),
    ),
    Container(
        name="rawvideo",
        suffixes=(".yuv",),
        unfit="holds neither size nor times",
        video_only=True,
        encoder="rawvideo",
    ),
    Container(
        name="h264",
        suffixes=(".264", ".h264"),
        unfit="holds no times",
        video_only=True,
    ),
    Container(
        name="hevc",
        suffixes=(".265", ".h265", ".hevc"),
        unfit="holds no times",
        video_only=True,
        encoder="libx265",
    ),
)
_BY_MUXER: Mapping[str, Container] = {container.name: container for container in CONTAINERS}
_BY_DEMUXER: Mapping[str, Container] = {container.read_by: container for container in reversed(CONTAINERS)}
_BY_SUFFIX: Mapping[str, str] = {suffix: container.name for container in CONTAINERS for suffix in container.suffixes}


def of_muxer(name: str) -> Container:
    """The container that one of libav's muxers writes."""
    return _BY_MUXER.get(name) or Container(name=name)


def of_output(container_format: str, path: str | Path) -> Container:
    """The container that libav's muxer writes into a file of this name."""
    blu_ray = container_format == _OF_M2TS.name and str(path).lower().endswith(_M2TS)
    return _OF_M2TS if blu_ray else of_muxer(container_format)


def of_demuxer(name: str) -> Container:
    """The container that one of libav's demuxers reads; of several the one that holds most."""
    return _BY_DEMUXER.get(name) or Container(name=name)


def of_file(path: str | Path, info: ClipInfo) -> Container:
    """The container of a file by what it holds, whatever its name: some of libav's muxers share one demuxer."""
    told = of_demuxer(info.format)
    if told.is_matroska:
        with Path(path).open("rb") as file:
            return of_muxer("webm" if b"\x42\x82\x84webm" in file.read(64) else "matroska")  # DocType: RFC 8794, 11.2.4
    if told == _OF_MPEGTS:
        with Path(path).open("rb") as file:
            return _OF_M2TS if file.read(_M2TS_PACKET + 5)[4::_M2TS_PACKET] == b"GG" else told  # their sync bytes
    if info.format == "png_pipe":
        return of_muxer("apng")
    brand = dict(info.metadata).get("major_brand", "")
    branded = (c for c in CONTAINERS if told.is_mov and c.brand and brand.startswith(c.brand))
    return max(branded, key=lambda c: len(c.brand), default=told)


def format_for(path: str, container_format: str | None = None) -> str:
    """libav's name of the muxer for an output path. Raises UsageError where the name says nothing."""
    if container_format:
        name = _BY_SUFFIX.get("." + container_format.lower().lstrip("."), container_format)
    elif path == "-":
        name = "nut"
    else:
        suffix = "." + path.rpartition(".")[2].lower() if "." in path.rpartition("/")[2] else ""
        name = _BY_SUFFIX.get(suffix, suffix[1:])
    try:
        known = ContainerFormat(name, "w")
    except ValueError:
        raise UsageError(
            f"no container is known by the name {name!r}",
            remedy="`ffmpeg -muxers` lists them" if container_format else "give OUTPUT a suffix such as .mkv or .mp4",
        ) from None
    if not known.is_output:
        raise UsageError(f"{name!r} can be read but not written", remedy="write .mkv or .mp4")
    return name


def refuse_as_file(container_format: str) -> None:
    """Raises UsageError for a container whose files can't keep every frame and its time."""
    problem = of_muxer(container_format).unfit
    if problem:
        raise UsageError(f"{container_format} {problem}", remedy="write .mkv or .mp4")


__all__ = [
    "BLU_RAY_CODECS",
    "COLOR_TAGS",
    "CONTAINERS",
    "PRIMING_SECONDS",
    "Container",
    "format_for",
    "of_demuxer",
    "of_file",
    "of_muxer",
    "of_output",
    "refuse_as_file",
]
