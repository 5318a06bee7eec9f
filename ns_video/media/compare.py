"""A file against what was promised of it: frames, times, look and chapters, and its streams."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from ns_video.frame import MATRIX_RGB, RANGE_FULL, RANGE_LIMITED, ColorInfo, PixelFormat
from ns_video.media.chroma_place import is_moved
from ns_video.media.color_names import color_name
from ns_video.media.compare_beside import compare_beside, compare_boxes
from ns_video.media.compare_samples import lost_samples
from ns_video.media.compare_streams import compare_copied_times, compare_dispositions, compare_streams, kept_pairs
from ns_video.media.containers import COLOR_TAGS, Container
from ns_video.media.display_matrix import turn_alone
from ns_video.media.file_facts import Chapter, FileFacts
from ns_video.media.first_frame import BOTTOM_FIELD_FIRST, TOP_FIELD_FIRST, HdrMetadata
from ns_video.media.probe import ClipInfo
from ns_video.media.promise import Difference, Look, Promise, turn_of
from ns_video.media.promised_end import promised_end
from ns_video.media.video_plan import color_as

_CHAPTER_SLACK_SECONDS = Fraction(15, 10_000)
_END_SLACK_SECONDS = Fraction(1, 2)  # as in reading
_TURN_SLACK = 16  # of 65536: Matroska holds a display matrix as angles
# Codecs that tell all of the colours, and those whose decoders know some by themselves, whatever the container tells.
_TELLING = frozenset({"h264", "hevc", "vp9", "av1", "png", "prores"})
_IMPLIED = {
    **dict.fromkeys(("vp8", "mjpeg"), ("matrix", "range")),
    "dnxhd": ("matrix",),
}
_HDR_CODECS, _HDR_CODECS_IN_HEADER = frozenset({"h264", "hevc", "av1", "png"}), frozenset({"ffv1", "vp9"})
_TELLING_FIELDS = frozenset({"h264", "mpeg2video"})  # others leave it to some containers, or to nobody
_FIELDS = {
    0: "progressive",
    TOP_FIELD_FIRST: "interlaced (top field first)",
    BOTTOM_FIELD_FIRST: "interlaced (bottom field first)",
}
_PROGRAM_STREAM = "mpeg"  # libav's muxer puts small frames into one packet, which has the time of the first
_SHARED_TIMES = "program streams tell no times of small frames at an uneven rate: write .ts or .mkv"
_STRETCHED = 0.02  # change of width / height that is no rounding


def compare(promise: Promise, found: FileFacts, made: Look) -> list[Difference]:
    """All in which a file is not what was promised. `made`: of its first picture."""
    info, copies, tallies = promise.source, promise.copies, promise.tallies
    return [
        *compare_times(promise.times, found, promise.shift),
        *compare_ends(info, promise.shown, found),
        *compare_header(promise.shown, found),
        *compare_streams(info, copies, tallies, found, promise.refused),
        *compare_copied_times(promise, found),
        *compare_dispositions(info, copies, found, tallies),
        *compare_chapters(promise.chapters, found),
        *compare_picture(promise.look, made, found),
        *compare_beside(info, found.info, found.container),
        *compare_boxes(info, found.info, found.container, kept_pairs(info, copies, found, tallies)),
    ]


def compare_times(
    expected: Sequence[Fraction], found: FileFacts, allowed_shift: Fraction = Fraction(0)
) -> list[Difference]:
    """Frame counts and each presentation time, in order, exact to the output's clock.

    One common shift of up to `allowed_shift` seconds is allowed, and any where the first time lies before 0.
    """
    if len(expected) != len(found.video_times):
        return [Difference(f"{len(expected)} frames went in, {len(found.video_times)} are in the output")]
    if not expected:
        return []
    slack = max(found.video_tick, Fraction(0)) + Fraction(1, 1_000_000)
    shift = found.video_times[0] - expected[0]
    worst = max(((abs(b - a - shift), a) for a, b in zip(expected, found.video_times)), key=lambda pair: pair[0])
    if worst[0] > slack:
        what = f"the frame at {float(worst[1]):.4f} s is {float(worst[0]) * 1000:.3f} ms off"
        shared = f" ({_SHARED_TIMES})" if found.info.format == _PROGRAM_STREAM else ""
        return [Difference(what + shared)]
    if shift < -slack or (shift > slack + allowed_shift and expected[0] >= 0):
        return [Difference(f"the video begins at {float(found.video_times[0]):.6f} s, not {float(expected[0]):.6f} s")]
    return []


def compare_ends(source: ClipInfo, shown: Fraction, found: FileFacts) -> list[Difference]:
    """Whether the last frame is shown for `shown` seconds: by its packet's duration or the container's, to a frame; by
    the packet's it isn't shown longer either, where `shown` isn't 0 for unknown.

    Of interlaced pictures parsers tell the duration of a field. mp4 notes of a packet that is not the last one decoded
    only how long it is until the next.
    """
    untold = found.container.is_mov and not found.last_is_last
    if not found.container.tells_durations or not found.video_times or untold:
        return []
    whole = Fraction(found.info.duration_seconds or 0) + Fraction(found.info.start_seconds or 0)
    told, slack = max(found.last_duration, whole - found.video_times[-1]), 1 / source.video.rate
    if shown and found.last_duration > shown + slack:
        told = found.last_duration
    elif told >= shown - slack:
        return []
    return [Difference(f"the last frame was shown for {float(shown):.4f} s, is for {float(told):.4f} s", True)]


def compare_header(shown: Fraction, found: FileFacts) -> list[Difference]:
    """Whether the header lets the video end, and mp4's the whole file, where what it holds does: a reader would take
    the file for one that was cut, a player show its last frame for the rest."""
    if not found.video_times:
        return []
    slack = max(_END_SLACK_SECONDS, 3 / found.info.video.rate)
    ends = found.video_times[-1] + max(found.last_duration, shown)
    promised = promised_end(found.info)
    if promised is not None and promised > ends + slack:
        return [Difference(f"the video ends at {float(ends):.3f} s, its header promises {promised:.3f} s")]
    for s in found.info.streams:
        ends = max(ends, ((s.start_time or 0) + (s.duration or 0)) * (s.time_base or 0))
    ends = max((ends, *(end for _, end, _ in found.chapters)))
    if found.movie_seconds is None or found.movie_seconds <= ends + slack:
        return []
    what = f"its streams end at {float(ends):.3f} s, its header promises {float(found.movie_seconds):.3f} s"
    return [Difference(what)]


def compare_picture(was: Look, now: Look, found: FileFacts) -> list[Difference]:
    """Colour tags, display matrix and sample aspect ratio of the first frame of the output."""
    container, codec = found.container, found.info.video.codec
    if not container.tells_look:
        return []
    out: list[str] = []
    wanted = color_as(was.color, was.format, now.format, codec)
    tags, now_tags = (_tags(color, now.format) for color in (wanted, now.color))
    untold = _untold(wanted, container, codec)
    for name, tag in tags.items():
        if tag != now_tags[name] and name not in untold:
            out.append(f"colour {name} was {color_name(name, tag)}, is {color_name(name, now_tags[name])}")
    if is_moved(wanted, now.color, now.format, codec):
        places = (color_name("chroma_location", color.chroma_location) for color in (wanted, now.color))
        out.append("the chroma position was {}, is {}".format(*places))
    turn = was.turn
    if container.turns_only:
        turn = turn_of(turn_alone((*turn[:2], 0, *turn[2:], 0, 0, 0, 1 << 30)))
    if container.holds_turn and any(abs(a - b) > _TURN_SLACK for a, b in zip(turn, now.turn)):
        out.append("the display matrix (rotation) differs")
    stretched = abs(was.shape / now.shape - 1) > _STRETCHED  # by --fit stretch, whose pixels are square
    rounded = not container.holds_aspect or codec == "mpeg2video"
    if not stretched and not rounded and abs(was.aspect / now.aspect - 1) > Fraction(1, 1000):
        out.append(f"the sample aspect ratio was {was.aspect}, is {now.aspect}")
    out += [*lost_samples(was.samples, now.format), *_lost_hdr(was.hdr, now.hdr, codec, container)]
    if codec in _TELLING_FIELDS and now.fields != was.fields:
        out.append(f"the frames were {_FIELDS[was.fields]}, are {_FIELDS[now.fields]}")
    return [Difference(what, by_wish=True) for what in out]


def _lost_hdr(was: HdrMetadata | None, now: HdrMetadata | None, codec: str, container: Container) -> list[str]:
    """Whether HDR metadata is gone that the codec or the container tells; encoders take it in steps of their own."""
    in_header = codec in _HDR_CODECS_IN_HEADER and container.holds_hdr
    if was is None or not (codec in _HDR_CODECS or in_header):
        return []
    out: list[str] = []
    if was.primaries and was.luminance != (0, 0) and (now is None or not now.primaries):
        out.append("the mastering display's metadata is missing")
    if was.light_level not in (None, (0, 0)) and (now is None or now.light_level != was.light_level):
        out.append(f"the light level was {was.light_level}, is {None if now is None else now.light_level}")
    return out


def _untold(color: ColorInfo, container: Container, codec: str) -> set[str]:
    """Names of the colour tags that a file of this kind can't tell, or not as they are."""
    untold = {*container.color_tags_unread, *_IMPLIED.get(codec, ())}
    if container.is_mov and codec not in _TELLING:
        untold |= set(COLOR_TAGS) - set(container.told_of(color))
    return untold


def _tags(color: ColorInfo, fmt: PixelFormat) -> dict[str, int]:
    """Colour tags as players take them: RGB is of full range and has no matrix, all else is limited unless tagged."""
    return {
        "matrix": MATRIX_RGB if fmt.is_rgb else color.matrix,
        "range": RANGE_FULL if fmt.is_rgb else color.range or RANGE_LIMITED,
        "primaries": color.primaries,
        "transfer": color.transfer,
    }


def compare_chapters(chapters: Sequence[Chapter], found: FileFacts) -> list[Difference]:
    """Chapters by number, times and title, where the container holds chapters.

    In mp4 the first one begins at 0, and each lasts until the next; its relatives tell no ends at all.
    """
    if not chapters or not found.container.holds_chapters:
        return []
    if len(chapters) != len(found.chapters):
        return [Difference(f"{len(chapters)} chapters went in, {len(found.chapters)} are in the output")]
    out: list[Difference] = []
    for number, (a, b) in enumerate(zip(chapters, found.chapters), 1):
        from_zero = found.container.first_chapter_at_zero and number == 1 and b[0] == 0
        if (abs(a[0] - b[0]) > _CHAPTER_SLACK_SECONDS and not from_zero) or a[2] != b[2]:
            out.append(
                Difference(f"chapter {number} was {a[2]!r} at {float(a[0]):.3f} s, is {b[2]!r} at {float(b[0]):.3f} s")
            )
            continue
        following = (c[0] for c in found.chapters[number : number + 1] if found.container.is_mov)
        told = found.container.first_chapter_at_zero or not found.container.is_mov
        if told and all(abs(end - b[1]) > _CHAPTER_SLACK_SECONDS for end in (a[1], *following)):
            out.append(Difference(f"chapter {number} ended at {float(a[1]):.3f} s, ends at {float(b[1]):.3f} s"))
    return out
