"""Copied streams against those of the input: packets, payloads, times, flags, languages."""

from __future__ import annotations

import math
from array import array
from collections.abc import Generator, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import repeat

from av.stream import Disposition

from ns_video.media.containers import Container, of_demuxer
from ns_video.media.copy_plan import CopyPlan
from ns_video.media.file_facts import FileFacts, PacketTally
from ns_video.media.languages import same_language, told_language
from ns_video.media.probe import ClipInfo, StreamInfo
from ns_video.media.promise import Difference, Promise

# Payloads that muxers rewrite on the way between containers, counted only: some always, others where the containers
# frame them in different ways (with or without ADTS headers, start codes or lengths of NAL units).
_REWRITTEN = frozenset({"av1", "mov_text", "dvb_subtitle"})
_REFRAMED = frozenset({"h264", "hevc", "vvc", "aac"})
_ROUNDED = 1e-6  # seconds
_WITHIN_PACKS = 1e-3
"""Seconds by which libav's times of sound in program streams may vary: only some of its frames tell theirs."""


def compare_streams(
    source: ClipInfo, copies: Iterable[CopyPlan], counted: Mapping[int, PacketTally], found: FileFacts, refused: int = 0
) -> list[Difference]:
    """Copied streams in order: kind, packets, payload, language and disposition.

    `refused`: packets that the container would not take. It says so one packet too late, maybe of another stream.
    """
    out: list[Difference] = []
    added = {s.index: s for s in found.info.streams if s.type in ("video", "audio", "subtitle") and not s.is_cover}
    added.pop(found.info.video.index, None)
    for copy, match in _matched(copies, counted, found):
        if match is not None:
            added.pop(match.index, None)
        about, expected = copy.stream, _expected(copy, counted)
        name = _name(about)
        beside = about.type in ("subtitle", "data")
        if match is None:
            out.append(Difference(f"{name} is missing", beside))
            continue
        language, kept = dict(about.metadata).get("language"), dict(match.metadata).get("language")
        told = told_language(language or "und", found.container)
        lost = told not in ("", "und") and not same_language(told, kept or "und")
        if found.container.numbers_languages and kept in (None, "und"):
            lost = False  # it has no number
        if lost and about.type in found.container.languages_of:
            out.append(Difference(f"{name} lost its language {language}"))
        elif language in (None, "und") and kept not in (None, "und") and about.type in ("audio", "subtitle"):
            out.append(Difference(f"{name} had no language, has {kept}"))
        if about.codec == match.codec and about.header != match.header:
            out.append(Difference(f"{name}: its header (styles) differs"))
        if expected is None:
            continue
        tally = found.tallies[match.index]
        if about.is_cover or about.type == "attachment":
            out += _compare_attached((expected, about), (tally, match))
            continue
        if about.codec.startswith("pcm_"):  # without packets of its own: each container cuts it as it likes
            if tally.nbytes != expected.nbytes:
                out.append(Difference(f"{name}: {expected.nbytes} bytes went in, {tally.nbytes} are in the output"))
            elif tally.digest.digest() != expected.digest.digest():
                out.append(Difference(f"{name}: its samples differ"))
            continue
        if tally.packets != expected.packets:
            if "mov_text" in (about.codec, copy.target_codec) and tally.packets > expected.packets:
                continue  # gaps between cues are written as empty samples
            if about.codec == "hdmv_pgs_subtitle" and 0 < tally.packets < expected.packets:
                continue  # MPEG-TS cuts a picture into packets that other containers keep whole
            if about.type == "audio" and _holds_the_same(tally, expected):
                continue  # libav's parser cuts damaged sound (MP2, MP3) in other places when it reads it again
            counts = f"{expected.packets} packets went in, {tally.packets} are in the output"
            out.append(Difference(f"{name}: {counts}", beside or abs(expected.packets - tally.packets) <= refused))
        elif (
            not copy.target_codec
            and _is_kept(about.codec, of_demuxer(source.format), found.container)
            and tally.digest.digest() != expected.digest.digest()
        ):
            out.append(Difference(f"{name}: its packets differ"))
        if about.type == "audio" and tally.packets == expected.packets:
            out += _compare_spans(name, (expected, about), (tally, match))
    out += [
        Difference(f"{_name(s)} of the output was not in the input", refused > 0)
        for s in added.values()
        if found.tallies[s.index].packets
    ]
    return out


def _holds_the_same(one: PacketTally, other: PacketTally) -> bool:
    """Whether packets hold the same bytes, however they are cut."""
    return one.nbytes == other.nbytes and one.digest.digest() == other.digest.digest()


def _expected(copy: CopyPlan, counted: Mapping[int, PacketTally]) -> PacketTally | None:
    """What was counted of a stream, cues that begin together as the one that they are in mov_text."""
    tally = counted.get(copy.stream.index)
    if tally is None or copy.target_codec != "mov_text":
        return tally
    times, durations = array("d"), array("d")
    for begins, lasts in zip(tally.times, tally.durations):
        if times and begins == times[-1]:
            durations[-1] = max(durations[-1], lasts)
        else:
            times.append(begins)
            durations.append(lasts)
    joined = len(tally.times) - len(times)
    return replace(tally, packets=tally.packets - joined, times=times, durations=durations)


def _compare_attached(was: tuple[PacketTally, StreamInfo], now: tuple[PacketTally, StreamInfo]) -> list[Difference]:
    """Covers and attachments: what they hold, and the names and types of the latter."""
    (before, about), (after, match) = was, now
    out: list[Difference] = []
    if before.digest.digest() != after.digest.digest():
        out.append(Difference(f"{_name(about)}: its content differs"))
    tags, told = dict(about.metadata), dict(match.metadata)
    for key in ("filename", "mimetype"):
        if about.type == "attachment" and tags.get(key) not in (None, told.get(key)):
            out.append(Difference(f"{_name(about)}: its {key} was {tags[key]!r}, is {told.get(key)!r}"))
    return out


def _compare_spans(
    name: str, was: tuple[PacketTally, StreamInfo], now: tuple[PacketTally, StreamInfo]
) -> list[Difference]:
    """Whether the same packets of sound lie within the same time, exact to the clocks of both files.

    Where it begins before 0 that is encoder delay, of which Matroska holds no times: libav's demuxer counts back, but
    where it doesn't know how long a packet lasts (Speex).
    """
    before, after = was[0].span, now[0].span
    untold = len(was[0].times) - len(now[0].times)
    if was[0].last is not None and 0 < untold <= sum(time < 0 for time in was[0].times):
        before = was[0].last - Fraction(was[0].times[untold])
    delay = max(Fraction(0), -(was[0].first or Fraction(0)))
    slack = 2 * max(stream.time_base or Fraction(0) for _, stream in (was, now)) + delay
    if before is None or after is None or abs(after - before) <= slack:
        return []
    text = f"its packets lay within {float(before):.3f} s, lie within {float(after):.3f} s"
    return [Difference(f"{name}: {text}", by_damage=True)]


def _is_kept(codec: str, was: Container, now: Container) -> bool:
    """Whether payloads pass from one container into the other bit by bit."""
    if codec in _REFRAMED:
        return (was.frames_by_length and now.frames_by_length) or (codec == "aac" and was.read_by == now.read_by)
    return codec not in _REWRITTEN


def _name(stream: StreamInfo) -> str:
    return f"stream {stream.index} ({stream.type} {stream.codec})"


def _matched(
    copies: Iterable[CopyPlan], counted: Mapping[int, PacketTally], found: FileFacts
) -> Generator[tuple[CopyPlan, StreamInfo | None]]:
    """Each copied stream that held something, and the stream of the output that it became."""
    beside = [s for s in found.info.streams if s.index != found.info.video.index]
    pool = [s for s in beside if s.type != "data" or found.tallies[s.index].packets]  # empty ones have no codec, either
    for copy in copies:
        about, tally = copy.stream, counted.get(copy.stream.index)
        carries = about.type == "attachment" or about.is_cover
        if not copy.kept or (not carries and (tally is None or tally.packets == 0)):
            continue  # a track without samples leaves no trace in most containers
        match = next(
            (
                s
                for s in pool
                if (s.type == about.type or (about.is_cover and s.is_cover))
                and (_family(s) == _family(about) or copy.target_codec or about.type in ("attachment", "data"))
            ),
            None,
        )
        if match is not None:
            pool.remove(match)
        yield copy, match


def compare_copied_times(promise: Promise, found: FileFacts) -> list[Difference]:
    """Times of the packets of copied streams beside the video's, exact to the clocks of both files, and for how long
    cues are shown.

    Of samples without packets of their own (PCM) only the first one's counts: each container cuts them as it likes.
    What lies before 0 is encoder delay, which Matroska rounds.
    """
    out: list[Difference] = []
    if not found.video_times or not promise.times:
        return out
    moved = found.video_times[0] - promise.times[0]
    for copy, match in _matched(promise.copies, promise.tallies, found):
        expected = _expected(copy, promise.tallies)
        if match is None or match.is_cover or expected is None:
            continue
        if found.container.decode_times_only and match.type != "audio":
            continue
        was, now = expected.times, found.tallies[match.index].times
        if len(was) != len(now) and not copy.stream.codec.startswith("pcm_"):
            continue  # told by their number
        ticks = (copy.stream.time_base or 0, match.time_base or 0, promise.source.video.time_base, found.video_tick)
        slack = float(2 * max(ticks)) + _ROUNDED
        if "mpeg" in (promise.source.format, found.info.format):
            slack = max(slack, _WITHIN_PACKS)
        # The sound of AVI and MXF is counted from 0 on, whenever it began.
        from_zero = found.container.counts_sound or found.container.begins_at_zero
        offset = now[0] - was[0] if from_zero and was and now else float(moved)
        whole = len(was) == len(now) and copy.stream.codec != "pcm_dvd"
        both = zip(was, now if whole else now[:1])
        far = next(((a, b - a - offset) for a, b in both if a >= 0 and abs(b - a - offset) > slack), None)
        if far is not None:
            where = f"its packet at {far[0]:.4f} s is {far[1] * 1000:+.3f} ms off beside the video"
            out.append(Difference(f"{_name(copy.stream)}: {where}", by_damage=True))
        elif match.type == "subtitle":
            out += _compare_cues(copy.stream, expected, match, found, slack)
    return out


def _compare_cues(
    about: StreamInfo, expected: PacketTally, match: StreamInfo, found: FileFacts, slack: float
) -> list[Difference]:
    """For how long each cue is shown, where both files tell; those of mov_text end when the next one begins."""
    container, now = found.container, found.tallies[match.index]
    one_at_a_time = match.codec == "mov_text"
    if not container.tells_durations or (container.is_mov and not one_at_a_time):
        return []
    following = (*expected.times[1:], math.inf) if one_at_a_time else repeat(math.inf)
    for begins, then, was, told in zip(expected.times, following, expected.durations, now.durations):
        wanted = min(was, max(0.0, then - begins))
        if was and abs(told - wanted) > slack:
            what = f"its cue at {begins:.4f} s was shown for {wanted:.3f} s, is for {told:.3f} s"
            return [Difference(f"{_name(about)}: {what}", by_damage=True)]
    return []


def kept_pairs(
    source: ClipInfo, copies: Iterable[CopyPlan], found: FileFacts, counted: Mapping[int, PacketTally]
) -> list[tuple[StreamInfo, StreamInfo]]:
    """Each stream that is kept, the restored one first, and what it became."""
    restored = [[s for s in info.streams if s.index == info.video.index] for info in (source, found.info)]
    return list(zip(*restored)) + [(c.stream, m) for c, m in _matched(copies, counted, found) if m is not None]


def compare_dispositions(
    source: ClipInfo, copies: Iterable[CopyPlan], found: FileFacts, counted: Mapping[int, PacketTally]
) -> list[Difference]:
    """Flags of the streams (default, forced and the like), as far as the output's container holds them."""
    return [
        Difference(f"{_name(was)} {'lost' if was.disposition & flag else 'gained'} the flag {flag.name}")
        for was, flag, is_held in changed_flags(source, copies, found, counted)
        if is_held
    ]


def changed_flags(
    source: ClipInfo, copies: Iterable[CopyPlan], found: FileFacts, counted: Mapping[int, PacketTally]
) -> Generator[tuple[StreamInfo, Disposition, bool]]:
    """Flags that a kept stream lost or gained, and whether the output's container holds them there.

    That the first stream of its kind is the default goes without saying.
    """
    pairs = [p for p in kept_pairs(source, copies, found, counted) if not p[0].is_cover and p[0].type != "attachment"]
    for was, now in pairs:
        alike = [a for a, _ in pairs if a.type == was.type]
        kept = found.container.dispositions
        if found.container.is_mov and not any(a.disposition & Disposition.default for a in alike):
            kept &= ~Disposition.default  # one of each kind is enabled, always
        for flag in Disposition:
            implied = flag == Disposition.default and was is min(alike, key=lambda a: a.index)
            if flag & (was.disposition ^ now.disposition) and (kept & flag or not implied):
                yield was, flag, bool(kept & flag)


def _family(stream: StreamInfo) -> str:
    """The codec; the layers of MPEG audio are one, for which mp4 has a single code, and so are plain words."""
    families = {"mp1": "mpeg audio", "mp2": "mpeg audio", "mp3": "mpeg audio", "text": "subrip"}
    return families.get(stream.codec, stream.codec)
