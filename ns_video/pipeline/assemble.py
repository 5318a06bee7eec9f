"""All segments and all copied streams into one container."""

from __future__ import annotations

import time
from array import array
from collections.abc import Generator
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

from ns_video.errors import DamageError, Interrupted, VerificationError
from ns_video.journal import Journal
from ns_video.media.copied_packets import TimedPacket, copied_packets, merged, read_covers
from ns_video.media.cut import Cut
from ns_video.media.file_facts import PacketTally, Times, write_counted
from ns_video.media.libav import file_url, printable
from ns_video.media.mux import ClipWriter, OutputSettings
from ns_video.media.segment_file import decode_times, segment_packets
from ns_video.media.video_plan import VideoPlan
from ns_video.pipeline.clip import Clip
from ns_video.pipeline.place import free_name, temporary_of
from ns_video.record import Damage, list_damage

__all__ = ["expected_times", "leave_partial", "mux"]


def mux(
    path: Path, clip: Clip, journal: Journal, plan: VideoPlan, end: Fraction | None = None
) -> dict[int, PacketTally]:
    """All segments and all copied streams into one container, up to `end`; what was copied of each stream.

    Raises InputError where INPUT, which is read again, isn't what the picture was read of.
    """
    began = time.perf_counter()
    run, copies = clip.run, clip.copies
    run.check_source()
    opening = {
        "container_format": run.options.input_format,
        "options": run.options.input_options,
        "allow_protocols": run.options.allow_protocols,
    }
    covers = read_covers(run.source, copies, **opening)
    counted: dict[int, PacketTally] = {}

    told = {place.what for place in run.record.damage}
    damaged = unlisted = 0

    def on_damage(what: str, seconds: float) -> None:
        nonlocal damaged, unlisted
        if what in told:  # by the video's reader, which met it on its own way through the file
            return
        what = f"a copied stream is damaged: {what}"
        if run.options.strict:
            raise DamageError(what, stage="mux", pts_seconds=seconds, remedy="leave out --strict to go on past damage")
        damaged += 1
        if not list_damage(run.record.damage, Damage(seconds, what)):
            unlisted += 1

    start = clip.start
    last = clip.end if end is None else end + (start or 0)
    cut = Cut(copies, start, last)
    jumps = list(clip.reader.clock_jumps)
    others = copied_packets(run.source, copies, clock_jumps=jumps, cut=cut, on_damage=on_damage, **opening)
    settings = OutputSettings(file_url(path), run.target, start, last, resumes=True)
    writer = ClipWriter(settings, plan, clip.reader.container, clip.info, copies, covers, already_encoded=True)
    try:
        for packet, copy in merged(_video_packets(journal, plan), others):
            if packet is not None:
                writer.write_video(packet)
            elif copy is not None:
                write_counted(writer, copy, counted)
        writer.close()
        clip.note_written(writer)
        run.record.warnings += cut.notes
        if unlisted:
            run.record.warnings.append(f"{damaged} places of damage in copied streams")
    finally:
        writer.abandon()
    run.check_source()
    run.times.encode.busy_seconds += time.perf_counter() - began
    return counted


def _video_packets(journal: Journal, plan: VideoPlan) -> Generator[TimedPacket]:
    entries = [journal.entries[n] for n in sorted(journal.entries)]
    stamps = decode_times([e.presentation for e in entries])
    place = 0
    for entry in entries:
        packets = segment_packets(journal.folder / entry.file)
        for packet, pts, duration in zip(packets, entry.presentation, entry.durations):
            packet.time_base = plan.time_base
            packet.pts, packet.dts, packet.duration = pts, next(stamps), duration
            yield TimedPacket(plan.time_of(packet.dts), packet)
            place += 1
    if place != (count := sum(e.frames for e in entries)):
        raise VerificationError(f"the segments hold {place} of {count} packets", stage="mux")


def leave_partial(clip: Clip, journal: Journal, plan: VideoPlan) -> NoReturn:
    """Make what is done playable beside OUTPUT. Raises Interrupted."""
    if not journal.entries:
        raise Interrupted("interrupted before anything was finished", remedy="run again with --resume")
    entries = [journal.entries[n] for n in sorted(journal.entries)]
    last = max(t for e in entries for t in e.presentation)
    end = plan.time_of(last + 1)
    name = journal.own_partial() or free_name(clip.run.target_path, "partial")
    temporary = temporary_of(clip.run, journal)
    mux(temporary, clip, journal, plan, end)
    temporary.replace(name)
    journal.note_partial(name)
    raise Interrupted(
        f"interrupted; what is done is playable in {printable(name)}", remedy="run again with --resume to finish"
    )


def expected_times(clip: Clip, journal: Journal, plan: VideoPlan) -> Times:
    """Times of the frames as the container will tell them."""
    ticks: array[int] = array("q")
    for number in sorted(journal.entries):
        ticks.extend(sorted(journal.entries[number].presentation))
    times = Times(ticks, plan.time_base, -plan.offset)
    if not plan.container.begins_at_zero or not times[0]:
        return times
    clip.note_start(times[0])
    return times.from_zero()
