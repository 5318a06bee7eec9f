"""Which lines of libav's log tell of damage."""

from __future__ import annotations

import re
from collections.abc import Iterable

import av

from ns_video.media.libav import LogLine, printable

# libav writes these at error level for files that are whole.
_HARMLESS = re.compile(
    r"Could not find codec parameters|Application has requested|deprecated|unspecified pixel format|"
    r"Unsupported codec with id|Failed to open codec|Cannot find .* reference|co located POCs unavailable|"
    r"DTS .* out of order|Invalid timestamps|Timestamps are unset|"
    r"Unknown cover type|error reading header|VPS 0 does not exist|SPS 0 does not exist|PPS id out of range|"
    r"Could not parse .*chapter|skipping|Header missing|"
    r"in single-track mode|"  # of FLV that was cut, which its last packet tells
    r"number of reference frames .* exceeds max|"
    r"mebx|tmcd|unknown stream|decoding for stream|Late SEI|no frame!$"
)


def is_news(level: int, text: str) -> bool:
    """Whether a line of libav's log tells of damage."""
    return level <= av.logging.ERROR and bool(text) and not _HARMLESS.search(text)


def news(lines: Iterable[LogLine]) -> list[str]:
    """What lines of libav's log tell of damage, safe to print."""
    return [f"{who}: {printable(text.strip())}" for level, who, text in lines if is_news(level, text.strip())]
