"""Where a file says that it ends; one that was cut short says so nowhere else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import IO

from ns_video.media.containers import of_demuxer
from ns_video.media.matroska_header import EBML, segment_end
from ns_video.media.movie_header import movie_seconds
from ns_video.media.probe import ClipInfo

_HEAD = 4096
"""Bytes that are enough for the header before Matroska's segment."""
_FROM_ZERO = frozenset({"matroska,webm", "nut"})  # where libav's durations count from 0, elsewhere from the start


def promised_end(info: ClipInfo) -> float | None:
    """Seconds at which the header says that the video ends; None where it doesn't."""
    stream = next(s for s in info.streams if s.index == info.video.index)
    fragmented = of_demuxer(info.format).is_mov and not info.video.frames_claimed  # no samples in its header
    from_zero = fragmented or info.format in _FROM_ZERO
    tag = dict(stream.metadata).get("DURATION")
    if tag is not None and info.format == "matroska,webm":
        return _clock_seconds(tag)  # a stream's duration is libav's guess there: of few frames that of the whole file
    if stream.duration is not None and stream.time_base is not None:
        begins = 0 if from_zero else stream.start_time or 0
        end = float((stream.duration + begins) * stream.time_base)
        movie = _movie_end(info) if of_demuxer(info.format).is_mov and begins > 0 else None
        return end if movie is None else min(end, movie)  # of trimmed video libav counts the time before it, too
    if tag is not None:
        return _clock_seconds(tag)
    if len(info.streams) == 1 and info.duration_seconds is not None:
        return info.duration_seconds + (0.0 if from_zero else info.start_seconds or 0.0)
    return None


def _movie_end(info: ClipInfo) -> float | None:
    """Seconds at which the header of MP4 or MOV lets all of it end, where it is a file's."""
    path = Path(info.name.removeprefix("file:"))
    seconds = movie_seconds(path) if info.name.startswith("file:") and path.is_file() else None
    return None if seconds is None else float(seconds)


def bytes_missing(source: str | Path | IO[bytes]) -> int:
    """Bytes that the first chunk of a RIFF file (AVI) promises beyond the file's end; libav guesses around the cut.

    Likewise of Matroska's segment: of a short file libav comes to the cut while it opens it, and says no more of it.
    """
    if not isinstance(source, (str, Path)) or not Path(source).is_file():
        return 0
    with Path(source).open("rb") as file:
        head = file.read(_HEAD)
        size = file.seek(0, 2)
    if head[:4] == EBML:
        return max(0, (segment_end(head) or 0) - size)
    promised = int.from_bytes(head[4:8], "little")
    if head[:4] != b"RIFF" or promised in (0, 0xFFFFFFFF):
        return 0
    return max(0, promised + 8 - size)


def _clock_seconds(text: str) -> float | None:
    match = re.fullmatch(r"(\d{1,9}):(\d\d):(\d\d(?:\.\d+)?)", text.strip())
    return None if match is None else int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
