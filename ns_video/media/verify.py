"""A finished output checked against its input: clips and pictures, read back."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ns_video.frame import Frame
from ns_video.media.animation import open_clip_or_animation, seconds_of
from ns_video.media.compare import compare
from ns_video.media.compare_animation import compare_animation, compare_missing
from ns_video.media.compare_beside import compare_beside
from ns_video.media.compare_riding import compare_riding
from ns_video.media.compare_samples import Thumbnails, compare_thumbnails, held_samples, lost_samples
from ns_video.media.compare_streams import kept_pairs
from ns_video.media.compare_tags import compare_tags
from ns_video.media.containers import PRIMING_SECONDS, of_muxer
from ns_video.media.copy_plan import plan_copies
from ns_video.media.cut import CUT_OFF, left_out_notes
from ns_video.media.decode import MAX_PIXELS
from ns_video.media.file_facts import Times, read_facts
from ns_video.media.left_out import dropped_chapters, joined_services, left_out, left_out_beside, lost_space
from ns_video.media.libav import open_input
from ns_video.media.promise import Difference, Promise, look_of
from ns_video.media.riding import riding_on, unwritten_riders
from ns_video.media.sample_boxes import named, told_by_frame
from ns_video.media.still import read_still
from ns_video.media.still_info import HOLDS, Holding, StillInfo, exif_directory, fitted
from ns_video.media.still_writer import TIFF_STRUCTURE
from ns_video.media.text_subtitles import conversion_notes

_TOLD_APART = {274, 282, 283, 296, 700}  # orientation, resolution and its unit, XMP
_DAMAGED = "the output is damaged: "
_SAME_SHAPE = 0.02
_WHOLE_FRAMES = frozenset({"mpeg1video", "mpeg2video"})  # whose encoders round times to the rate


def verify_files(
    source: str | Path,
    output: str | Path,
    *,
    full: bool = True,
    notes: list[str] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> list[Difference]:
    """Check a finished OUTPUT against its INPUT: frames, times, streams, tags. Decodes both where `full`.

    `notes` gets what OUTPUT's container can't hold of it. Raises TooLargeError for pictures of more than `max_pixels`.
    """
    reader, _ = open_clip_or_animation(source, max_pixels=max_pixels)
    with reader:
        ticks: array[int] = array("q")
        first, shown = None, Fraction(0)
        rode: Counter[str] = Counter()
        showed = Thumbnails()
        for frame in reader.frames():
            first = first or frame
            showed.take(frame)
            rode.update(riding_on(frame.carrier))
            assert frame.pts is not None
            ticks.append(frame.pts)
            shown = (frame.duration or 0) * frame.time_base
        info, damaged, jumps = reader.info, reader.damage_count > 0, list(reader.clock_jumps)
    assert first is not None
    expected = Times(ticks, first.time_base)
    reader, is_animation = open_clip_or_animation(output, compared=True, max_pixels=max_pixels)
    with reader:
        made: list[Fraction] = []
        found_first = None
        rides: Counter[str] = Counter()
        shows = Thumbnails()
        for frame in reader.frames():
            found_first = found_first or frame
            shows.take(frame)
            rides.update(riding_on(frame.carrier))
            made.append((frame.pts or 0) * frame.time_base)
            if not (full or is_animation):
                break
    assert found_first is not None
    differences = [Difference(_DAMAGED + place.what) for place in reader.damage[:1]]
    if is_animation:
        differences += compare_animation(expected, made, shown, seconds_of(Path(output)))
        differences += compare_beside(info, reader.info, of_muxer("webp"))
        if notes is not None:
            notes += left_out_beside(info, reader.info, of_muxer("webp"))
        return differences + compare_missing(source, expected, made, max_pixels=max_pixels)
    found = read_facts(output)
    if full and len(made) not in (len(expected), len(found.video_times)):  # which is told with the times
        differences.append(Difference(f"{len(expected)} frames decode from the input, {len(made)} from the output"))
    with open_input(source) as container:
        copies = plan_copies(container, info, found.container)
    facts = read_facts(source, into=found.container, copies=copies, clock_jumps=jumps)
    begins = [facts.begins[c.stream.index] for c in copies if c.kept and c.stream.index in facts.begins]
    early = -min(begins, default=Fraction(0))
    moved = Fraction(0) if found.container.holds_negative_times and early < PRIMING_SECONDS else early
    if found.info.video.codec in _WHOLE_FRAMES:
        begin = expected[0]
        whole = array("q", (math.floor((t - begin) * info.video.rate + Fraction(1, 2)) for t in expected))
        expected = Times(whole, 1 / info.video.rate, -begin)
    if found.container.begins_at_zero:
        expected = expected.from_zero()
    made_look, look = look_of(found_first, found.info), look_of(first, info)
    size = (found_first.width, found_first.height)
    held = held_samples(found.info.video.codec, found.container, first.format, size)
    deinterlaced = look.fields and not made_look.fields  # or untold by the encoder: both are legal
    look = replace(look, samples=held or made_look.format, fields=0 if deinterlaced else look.fields)
    promise = Promise(
        source=info,
        look=look,
        times=expected,
        shown=shown,
        copies=copies,
        tallies=facts.tallies,
        chapters=facts.chapters,
        shift=max(moved, Fraction(0)),
    )
    compared = compare(promise, found, made_look)
    turned = found.container.shown_as_stored and look.turn != made_look.turn
    same_shape = abs(look.shape / made_look.shape - 1) < _SAME_SHAPE and not turned
    if full and same_shape and (other := compare_thumbnails(showed, shows)):
        compared.append(Difference(other, by_damage=True))
    if full:
        compared += compare_riding(rode, rides, found.info.video.codec)
    told = {_DAMAGED + d.what for d in compared}
    differences = [d for d in differences if d.what not in told] + compared
    if notes is not None:
        notes += [f"stream {c.stream.index}: {c.action}" for c in copies if not c.kept or c.target_codec]
        lost = joined_services(info, found.container), dropped_chapters(facts.chapters, found.container)
        notes += [note for note in lost if note]
        lost_of_samples = lost_samples(first.format, found_first.format)
        notes += [what for what in lost_of_samples if what not in {d.what for d in compared}]
        if deinterlaced:
            notes.append("the frames were interlaced, are progressive: deinterlaced, or players will take them for it")
        pairs = kept_pairs(info, copies, found, facts.tallies)
        said = {was.index: {*named(was.boxes if found.container.is_mov else now.boxes)} for was, now in pairs}
        said[info.video.index] |= told_by_frame(found_first.carrier)
        notes += lost_space(info, set(said), said, told_by_frame(first.carrier), found.container.name)
        notes += unwritten_riders(found.info.video.codec, rode, rides)
        notes += left_out(promise, found)
        notes += left_out_notes({c.stream.index: facts.cut_off[c.stream.index] for c in copies if c.kept}, CUT_OFF)
        notes += conversion_notes(facts.words)
    differences += compare_tags(info, copies, found)
    return [d for d in differences if not (damaged and d.by_damage)]


def verify_stills(
    source: Path, output: Path, *, notes: list[str] | None = None, max_pixels: int = MAX_PIXELS
) -> list[Difference]:
    """Check a picture against the one it was made from: size, channels, bits and what rides along, as its format holds.

    `notes` gets what it can't hold. Raises TooLargeError for pictures of more than `max_pixels`.
    """
    (frame, info), (made, found) = (read_still(path, max_pixels=max_pixels) for path in (source, output))
    kind, out = "JPEG" if found.source_format == "MPO" else found.source_format, list[Difference]()
    (width, height), (made_width, made_height) = (_shown_size(f) for f in (frame, made))
    if (width, height) != (made_width, made_height):
        out.append(Difference(f"the picture was {width}x{height}, is {made_width}x{made_height}"))
    if found.is_gray and not info.is_gray:
        out.append(Difference("the picture had colours, is gray"))
    holds = HOLDS.get(kind, Holding(frozenset()))
    says_alpha = frame.format.has_alpha and (kind != "WEBP" or _is_seen_through(frame))
    if holds.alpha and says_alpha and not made.format.has_alpha:
        out.append(Difference("the alpha channel is missing"))
    if holds.deep and frame.format.bit_depth > made.format.bit_depth:
        out.append(Difference(f"the samples had {frame.format.bit_depth} bits, have {made.format.bit_depth}"))
    if kind not in HOLDS:
        return out
    kept, lost = fitted(info, kind, is_gray=found.is_gray)
    if notes is not None:
        notes += lost
    out += compare_riders(kept, found)
    if "TIFF" not in (kind, info.source_format) and kept.orientation != found.orientation:  # those are upright
        out.append(Difference(f"the orientation (EXIF) was {kept.orientation}, is {found.orientation}"))
    return out


def compare_riders(kept: StillInfo, found: StillInfo) -> list[Difference]:
    """What rides along with a picture, as its format keeps it, beside what its file holds."""
    out: list[Difference] = []
    if found.icc != kept.icc:
        word = "differs" if kept.icc and found.icc else "is missing" if kept.icc else "is new"
        out.append(Difference(f"the ICC profile {word}"))
    comparable = {
        "EXIF data": (_exif_of(kept, found), _exif_of(found, kept)),
        "XMP": (kept.xmp.decode("utf-8", "replace"), found.xmp.decode("utf-8", "replace")),
        "texts": (_texts_of(kept), _texts_of(found)),
        "chunks": (set(kept.chunks), set(found.chunks)),
        "IPTC and Photoshop data": (set(kept.segments), set(found.segments)),
    }
    for name, (wanted, there) in comparable.items():
        if wanted and wanted != there:
            is_one = name in ("EXIF data", "XMP")
            verb = "differ" + "s" * is_one if there else "is missing" if is_one else "are missing"
            out.append(Difference(f"the {name} {verb}"))
    if kept.dpi and not (found.dpi and all(abs(a - b) < 1 for a, b in zip(kept.dpi, found.dpi, strict=True))):
        out.append(Difference(f"the resolution {'differs' if found.dpi else 'is missing'}"))
    return out


def _exif_of(info: StillInfo, other: StillInfo) -> object:
    """EXIF data to compare: its bytes; the tags that are there where one side is a TIFF, which tells them anew."""
    if "TIFF" not in (info.source_format, other.source_format):
        return info.exif
    return set(exif_directory(info.exif)) - TIFF_STRUCTURE - _TOLD_APART


def _texts_of(info: StillInfo) -> dict[str, str]:
    return {key: text.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for key, text in info.texts}


def _shown_size(frame: Frame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.turned else (frame.width, frame.height)


def _is_seen_through(frame: Frame) -> bool:
    """Whether its alpha channel says anything: libwebp leaves out one that doesn't."""
    return frame.format.has_alpha and bool((frame.planes[-1] < (1 << frame.format.bit_depth) - 1).any())


__all__ = ["verify_files", "verify_stills"]
