"""A finished output checked against its input: clips and pictures, read back."""

from __future__ import annotations

import math
from array import array
from fractions import Fraction
from pathlib import Path

from ns_video.frame import Frame
from ns_video.media.animation import open_clip_or_animation, seconds_of
from ns_video.media.compare import compare
from ns_video.media.compare_animation import compare_animation, compare_missing
from ns_video.media.compare_tags import compare_tags
from ns_video.media.containers import PRIMING_SECONDS
from ns_video.media.copy_plan import plan_copies
from ns_video.media.cut import CUT_OFF, left_out_notes
from ns_video.media.file_facts import Times, read_facts
from ns_video.media.left_out import dropped_chapters, joined_services, left_out
from ns_video.media.libav import open_input
from ns_video.media.promise import Difference, Promise, look_of
from ns_video.media.still import read_still

_WHOLE_FRAMES = frozenset({"mpeg1video", "mpeg2video"})  # whose encoders round times to the rate


def verify_files(
    source: str | Path, output: str | Path, *, full: bool = True, notes: list[str] | None = None
) -> list[Difference]:
    """Check a finished OUTPUT against its INPUT: frames, times, streams, tags. Decodes both where `full`.

    `notes` gets what OUTPUT's container can't hold of it.
    """
    reader, _ = open_clip_or_animation(source)
    with reader:
        ticks: array[int] = array("q")
        first, shown = None, Fraction(0)
        for frame in reader.frames():
            first = first or frame
            assert frame.pts is not None
            ticks.append(frame.pts)
            shown = (frame.duration or 0) * frame.time_base
        info, damaged, jumps = reader.info, reader.damage_count > 0, list(reader.clock_jumps)
    assert first is not None
    expected = Times(ticks, first.time_base)
    reader, is_animation = open_clip_or_animation(output)
    with reader:
        made: list[Fraction] = []
        found_first = None
        for frame in reader.frames():
            found_first = found_first or frame
            made.append((frame.pts or 0) * frame.time_base)
            if not (full or is_animation):
                break
    assert found_first is not None
    differences = [Difference(f"the output is damaged: {reader.damage[0].what}")] if reader.damage_count else []
    if is_animation:
        differences += compare_animation(expected, made, shown, seconds_of(Path(output)))
        return differences + compare_missing(source, expected, made)
    if full and len(made) != len(expected):
        differences.append(Difference(f"{len(expected)} frames decode from the input, {len(made)} from the output"))
    found = read_facts(output)
    with open_input(source) as container:
        copies = plan_copies(container, info, found.container.name)
    facts = read_facts(source, into=found.container, clock_jumps=jumps)
    begins = [facts.begins[c.stream.index] for c in copies if c.kept and c.stream.index in facts.begins]
    early = -min(begins, default=Fraction(0))
    moved = Fraction(0) if found.container.holds_negative_times and early < PRIMING_SECONDS else early
    if found.info.video.codec in _WHOLE_FRAMES:
        begin = expected[0]
        whole = array("q", (math.floor((t - begin) * info.video.rate + Fraction(1, 2)) for t in expected))
        expected = Times(whole, 1 / info.video.rate, -begin)
    if found.container.begins_at_zero:
        expected = expected.from_zero()
    promise = Promise(
        source=info,
        look=look_of(first, info),
        times=expected,
        shown=shown,
        copies=copies,
        tallies=facts.tallies,
        chapters=facts.chapters,
        shift=max(moved, Fraction(0)),
    )
    differences += compare(promise, found, look_of(found_first, found.info))
    if notes is not None:
        notes += [f"stream {c.stream.index}: {c.action}" for c in copies if not c.kept or c.target_codec]
        lost = joined_services(info), dropped_chapters(facts.chapters, found.container)
        notes += [note for note in lost if note]
        notes += left_out(promise, found)
        notes += left_out_notes({c.stream.index: facts.cut_off[c.stream.index] for c in copies if c.kept}, CUT_OFF)
    differences += compare_tags(info, copies, found)
    return [d for d in differences if not (damaged and d.by_damage)]


def verify_stills(source: Path, output: Path) -> list[Difference]:
    """Check a picture against the one it was made from: size, channels, bits, profile and turn, as its format holds."""
    (frame, info), (made, found) = read_still(source), read_still(output)
    kind, out = found.source_format, list[Difference]()
    (width, height), (made_width, made_height) = (_shown_size(f) for f in (frame, made))
    if (width, height) != (made_width, made_height):
        out.append(Difference(f"the picture was {width}x{height}, is {made_width}x{made_height}"))
    if frame.format.is_rgb and not made.format.is_rgb:
        out.append(Difference("the picture had colours, is gray"))
    holds_alpha = kind in ("PNG", "TIFF") or (kind == "WEBP" and _is_seen_through(frame))
    if holds_alpha and frame.format.has_alpha and not made.format.has_alpha:
        out.append(Difference("the alpha channel is missing"))
    if kind in ("PNG", "TIFF") and frame.format.bit_depth > made.format.bit_depth:
        out.append(Difference(f"the samples had {frame.format.bit_depth} bits, have {made.format.bit_depth}"))
    if kind != "BMP" and info.icc != found.icc:
        out.append(
            Difference(
                f"the ICC profile {'differs' if info.icc and found.icc else 'is missing' if info.icc else 'is new'}"
            )
        )
    if not {kind, info.source_format} & {"BMP", "TIFF"} and info.orientation != found.orientation:  # those are upright
        out.append(Difference(f"the orientation (EXIF) was {info.orientation}, is {found.orientation}"))
    return out


def _shown_size(frame: Frame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.turned else (frame.width, frame.height)


def _is_seen_through(frame: Frame) -> bool:
    """Whether its alpha channel says anything: libwebp leaves out one that doesn't."""
    return frame.format.has_alpha and bool((frame.planes[-1] < (1 << frame.format.bit_depth) - 1).any())


__all__ = ["verify_files", "verify_stills"]
