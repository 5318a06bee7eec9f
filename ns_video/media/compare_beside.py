"""What an animation says beside its pictures against that of the input."""

from __future__ import annotations

from collections.abc import Generator, Iterable

from ns_video.media.animation_header import MOST_PLAYS, RESOLUTION, Part
from ns_video.media.containers import Container
from ns_video.media.libav import printable
from ns_video.media.probe import ClipInfo, StreamInfo
from ns_video.media.promise import Difference
from ns_video.media.sample_boxes import named, writable


def compare_beside(source: ClipInfo, found: ClipInfo, container: Container) -> list[Difference]:
    """How often an animation is shown, of other clips without end, and what else its container could say."""
    out: list[Difference] = []
    now = None if found.animation is None else found.animation.plays
    if container.plays_option and now is not None:
        was = min((source.animation and source.animation.plays) or 0, MOST_PLAYS)
        if was != now:
            out.append(Difference(f"the animation is shown {_times(now)}, not {_times(was)}"))
    lost = (part for part, is_held in lost_parts(source, found, container) if is_held)
    return out + [Difference(f"beside the pictures: {printable(part.name)} is missing or differs") for part in lost]


def compare_boxes(
    source: ClipInfo, found: ClipInfo, container: Container, pairs: Iterable[tuple[StreamInfo, StreamInfo]]
) -> list[Difference]:
    """What MP4 and MOV say of where in space pictures and sound belong; `pairs`: of streams, was and is."""
    out: list[Difference] = []
    same_size = (source.video.width, source.video.height) == (found.video.width, found.video.height)
    for was, now in pairs if container.is_mov else ():
        wanted = writable(was.boxes, same_size=same_size or was.index != source.video.index)
        lost = sorted(named([box for box in wanted if box not in now.boxes]))
        out += [Difference(f"stream {was.index}: its {what} is missing or differs") for what in lost]
    return out


def lost_parts(source: ClipInfo, found: ClipInfo, container: Container) -> Generator[tuple[Part, bool]]:
    """Parts that the output doesn't have as they were, and whether its container holds them."""
    if source.animation is None:
        return
    now = found.animation
    # A WebP that never changes is a still without a place for them.
    kinds = frozenset[str]() if now is None or (container.name == "webp" and now.plays is None) else container.parts
    shapes = [info.video.sample_aspect_ratio or 1 for info in (source, found)]
    if shapes[0] != shapes[1]:
        kinds -= {RESOLUTION}  # it tells the shape of a pixel, too
    for part in source.animation.parts:
        if now is None or not part.is_in(now.parts):
            yield part, part.kind in kinds


def _times(plays: int) -> str:
    return {0: "without end", 1: "once"}.get(plays, f"{plays} times")
