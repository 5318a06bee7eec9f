"""What an output's container doesn't hold of its input, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np

from ns_video.errors import first_of
from ns_video.media.compare_beside import lost_parts
from ns_video.media.compare_streams import changed_flags, kept_pairs
from ns_video.media.compare_tags import lost_tags
from ns_video.media.containers import Container
from ns_video.media.file_facts import Chapter, FileFacts
from ns_video.media.libav import printable
from ns_video.media.probe import ClipInfo
from ns_video.media.promise import Promise
from ns_video.media.sample_boxes import named


def left_out(promise: Promise, found: FileFacts) -> list[str]:
    """What of the kept streams and of the file as a whole the output's container doesn't hold, in words."""
    changed = changed_flags(promise.source, promise.copies, found, promise.tallies)
    flags = [f"stream {s.index}: {f.name}" for s, f, is_held in changed if not is_held and s.disposition & f]
    tags = lost_tags(promise.source, promise.copies, found.info)
    beside = left_out_beside(promise.source, found.info, found.container)
    return [*_shared_times(found), *_empty(promise, found), *_named("flags", flags), *_named("tags", tags), *beside]


def _empty(promise: Promise, found: FileFacts) -> list[str]:
    """Kept streams of which no packet was written, where the output's container holds no such tracks."""
    matched = {was.index: now.index for was, now in kept_pairs(promise.source, promise.copies, found, promise.tallies)}
    spare = Counter(s.type for s in found.info.streams if s.index not in matched.values())
    out: list[str] = []
    for s in (copy.stream for copy in promise.copies if copy.kept):
        tally = promise.tallies.get(s.index)
        if s.index in matched or s.is_cover or s.type == "attachment" or (tally is not None and tally.packets):
            continue
        if not spare[s.type]:
            out.append(f"stream {s.index}: left out: it has no packets here, and this container holds no empty tracks")
        spare[s.type] -= 1
    return out


def _shared_times(found: FileFacts) -> list[str]:
    """Frames that are told apart by their order alone, for the container's clock is too coarse."""
    times = found.video_times
    shared = np.flatnonzero(np.diff(np.asarray(times.ticks)) == 0)
    if not len(shared):
        return []
    named = "1 frame shares" if len(shared) == 1 else f"{len(shared)} frames share"
    first, tick = float(times[int(shared[0])]), float(found.video_tick)
    return [f"{named} the time of the one before, the first at {first:.3f} s: this container's clock ticks {tick:g} s"]


def left_out_beside(source: ClipInfo, found: ClipInfo, container: Container) -> list[str]:
    """What an animation says beside its pictures that the output's container doesn't hold, in words."""
    lost = [part.name for part, is_held in lost_parts(source, found, container) if not is_held]
    return _named("data beside the pictures", lost)


def _named(kind: str, lost: Sequence[str]) -> list[str]:
    return [f"{kind} that this container doesn't hold: {printable(first_of(lost))}"] if lost else []


def lost_space(
    source: ClipInfo, kept: Collection[int], held: Mapping[int, Collection[str]], told: Collection[str], where: str
) -> list[str]:
    """Of the streams in `kept`, what boxes of INPUT or, of the restored one, its first frame (`told`) say of where in
    space pictures and sound belong, and the output doesn't hold."""
    out: list[str] = []
    for s in source.streams:
        said = {*named(s.boxes), *(told if s.index == source.video.index else ())} - {*held.get(s.index, ())}
        if s.index in kept and said:
            out.append(f"stream {s.index}: left out: {', '.join(sorted(said))}, which {where} doesn't tell here")
    return out


def dropped_chapters(chapters: Sequence[Chapter], container: Container) -> str | None:
    """What is to be said of chapters that a container doesn't hold."""
    if not chapters or container.holds_chapters:
        return None
    return f"{'1 chapter' if len(chapters) == 1 else f'{len(chapters)} chapters'}: dropped: {container.name} holds none"


def joined_services(source: ClipInfo, container: Container) -> str | None:
    """What is to be said of several channels (DVB) in one file: libav's muxers know of one."""
    if source.services < 2:
        return None
    return f"{source.services} services (channels) become one{', with other PIDs' * (container.read_by == 'mpegts')}"
