"""Tags of a file and of its streams against those of the input."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable

from ns_video.media.copy_plan import CopyPlan
from ns_video.media.file_facts import FileFacts
from ns_video.media.probe import ClipInfo, StreamInfo
from ns_video.media.promise import Difference
from ns_video.media.stream_tags import reel_tags, told_tags
from ns_video.media.time_code import REEL, TIME_CODE

_FORMATTED_TAGS = ("creation_time", "location", "software")
"""Beginnings of names of tags with other values: mp4 holds the first two as numbers, AVI its writer in the last."""

_TIME_CODE = "time code: "

# What containers and encoders note of themselves; languages are compared with the streams.
_OWN_TAGS = re.compile(
    r"^(encoder|encoded_by|handler_name|vendor_id|major_brand|minor_version|compatible_brands|language|duration|rotate|"
    r"alpha_mode|variant_bitrate|source_id|bps|number_of_(frames|bytes)|_statistics.*|(product|toolkit)_version_num|application_platform|\w+_package_umid)(-\w+)?$",
    re.I,
)
_SUBTAGS = re.compile("[-_,]")  # what a language has beyond its code, or beside it


def lost_tags(source: ClipInfo, copies: Iterable[CopyPlan], found: ClipInfo) -> list[str]:
    """Names of the tags of the container and of the kept streams that the output doesn't have, "stream 1: title"."""
    out: list[str] = []
    for prefix, was, now in _tagged(source, copies, found):
        names = _missing(was, now)
        language, told = (dict(tags).get("language", "und") for tags in (was, now))
        if prefix and language != "und" and told == "und":
            names.append("language")
        elif prefix and _SUBTAGS.search(language) and told.lower() != language.lower():
            names.append(f"language ({language}, {told} is told)")
        out += [prefix + name for name in names if not prefix or name.lower() != "creation_time"]  # the container's
    return out


Tags = tuple[tuple[str, str], ...]


def _tagged(source: ClipInfo, copies: Iterable[CopyPlan], found: ClipInfo) -> Generator[tuple[str, Tags, Tags]]:
    """Tags of the container and of each kept stream, in the input and in the output: ("stream 1: ", was, now)."""
    codes = ((k, v) for s in found.streams for k, v in s.metadata if k.lower() == TIME_CODE)  # MOV has a track for it
    yield "", source.metadata, (*codes, *found.metadata)
    kept = {c.stream.index for c in copies if c.kept} | {source.video.index}
    pairs: list[tuple[StreamInfo, StreamInfo]] = []
    for kind in ("video", "audio", "subtitle"):
        were = [s for s in source.streams if s.type == kind and s.index in kept and not s.is_cover]
        are = [s for s in found.streams if s.type == kind and not s.is_cover]
        pairs += zip(were, are)
    reels = tuple(reel_tags(found).items())
    for was, now in sorted(pairs, key=lambda pair: pair[0].index):
        tags, made = (tuple(told_tags(stream.metadata).items()) for stream in (was, now))
        yield f"stream {was.index}: ", tags, made + reels * (was.type == "video")
    if reel := reel_tags(source):  # its track is made anew, or its tags are the video's
        yield _TIME_CODE, tuple(reel.items()), tuple(tag for s in found.streams for tag in s.metadata)


def compare_tags(source: ClipInfo, copies: Iterable[CopyPlan], found: FileFacts) -> list[Difference]:
    """Tags that are gone though the output's container holds them, and tags of another value."""
    out: list[Difference] = []
    for prefix, was, now in _tagged(source, copies, found.info):
        held = found.container.stream_tags if prefix else found.container.tags
        if prefix == _TIME_CODE and held is not None and found.container.holds_reels:
            held |= {REEL}
        present, values = {name.lower(): value.strip() for name, value in now}, {value.strip() for _, value in now}
        missing = set(_missing(was, now))
        for name, value in was:
            own = bool(_OWN_TAGS.match(name)) or (prefix and name.lower() == "creation_time")  # that is the container's
            if name in missing and not own and (held is None or name.lower() in held):
                out.append(Difference(f"{prefix}the tag {name} is missing"))
            elif (
                not own
                and not name.lower().startswith(_FORMATTED_TAGS)
                and present.get(name.lower(), value.strip()) != value.strip()
                and value.strip() not in values
            ):
                out.append(Difference(f"{prefix}the tag {name} was {value!r}, is {present[name.lower()]!r}"))
    return out


def _missing(were: Iterable[tuple[str, str]], are: Iterable[tuple[str, str]]) -> list[str]:
    """Containers spell names in their own way: a tag is there by its name or by its value."""
    now = list(are)
    names, values = {name.lower() for name, _ in now}, {value.strip() for _, value in now}
    return [
        name
        for name, value in were
        if value.strip() and not _OWN_TAGS.match(name) and name.lower() not in names and value.strip() not in values
    ]
