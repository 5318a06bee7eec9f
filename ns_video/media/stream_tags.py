"""Tags of an output's streams: those of the input, under the names that libav's muxers take."""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from fractions import Fraction

from ns_video.media.probe import ClipInfo
from ns_video.media.time_code import REEL, TIME_CODE, later


def told_tags(tags: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A stream's tags as they are written; its name in MP4 and MOV, which libav reads as `name`, as the title that it
    is."""
    out = dict(tags)
    if "name" in out and not any(key.lower() == "title" for key in out):
        out["title"] = out.pop("name")
    return out


def reel_tags(info: ClipInfo) -> dict[str, str]:
    """The reel's name of a track of time codes, which libav's muxer of MOV makes anew from the video's tags."""
    tracks = (dict(s.metadata) for s in info.streams if s.type == "data")
    return next(({REEL: tags[REEL]} for tags in tracks if TIME_CODE in tags and REEL in tags), {})


def move_time_codes(tags: MutableMapping[str, str], frames: int, rate: Fraction) -> None:
    """Let the time code be that of so many frames later."""
    for key, text in list(tags.items()):
        if key.lower() == TIME_CODE:
            tags[key] = later(text, frames, rate)
