"""Text subtitles of one codec turned into another's."""

from __future__ import annotations

import re
from collections.abc import Callable

TEXT_SUBTITLES = frozenset({"subrip", "srt", "text", "mov_text", "webvtt", "ass", "ssa"})
_ASS_LINE_BREAK = b"\\N"


def text_converter(source: str, target: str) -> Callable[[bytes], bytes]:
    """Payload of one text subtitle codec to another's. Styling that the target can't hold is left out."""

    def text_of(data: bytes) -> bytes:
        if source == "mov_text":
            return data[2 : 2 + int.from_bytes(data[:2], "big")]
        if source in ("ass", "ssa"):
            body = data.split(b",", 8)[-1]
            return re.sub(rb"\{[^}]*\}", b"", body).replace(_ASS_LINE_BREAK, b"\n").replace(b"\\n", b"\n")
        return data

    def convert(data: bytes) -> bytes:
        text = text_of(data)
        if target == "mov_text":
            text = re.sub(rb"</?[a-zA-Z][^>]*>", b"", text)[:0xFFFF]
            return len(text).to_bytes(2, "big") + text
        return text

    return convert
