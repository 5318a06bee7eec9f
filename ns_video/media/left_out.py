"""What an output's container doesn't hold of its input, in words."""

from __future__ import annotations

from collections.abc import Sequence

from ns_video.media.compare_streams import changed_flags
from ns_video.media.compare_tags import lost_tags
from ns_video.media.containers import Container
from ns_video.media.file_facts import Chapter, FileFacts
from ns_video.media.libav import printable
from ns_video.media.probe import ClipInfo
from ns_video.media.promise import Promise

_NAMED = 12  # of what can't be held, in one sentence


def left_out(promise: Promise, found: FileFacts) -> list[str]:
    """What of the kept streams and of the file as a whole the output's container doesn't hold, in words."""
    changed = changed_flags(promise.source, promise.copies, found, promise.tallies)
    flags = [f"stream {s.index}: {f.name}" for s, f, is_held in changed if not is_held and s.disposition & f]
    kinds = {"flags": flags, "tags": lost_tags(promise.source, promise.copies, found.info)}
    out: list[str] = []
    for kind, lost in kinds.items():
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        if lost:
            out.append(f"{kind} that this container doesn't hold: {printable(', '.join(lost[:_NAMED]))}{more}")
    return out


def dropped_chapters(chapters: Sequence[Chapter], container: Container) -> str | None:
    """What is to be said of chapters that a container doesn't hold."""
    if not chapters or container.holds_chapters:
        return None
    return f"{'1 chapter' if len(chapters) == 1 else f'{len(chapters)} chapters'}: dropped: {container.name} holds none"


def joined_services(source: ClipInfo) -> str | None:
    """What is to be said of several channels (DVB) in one file: libav's muxers know of one."""
    return f"{source.services} services (channels) become one" if source.services > 1 else None
