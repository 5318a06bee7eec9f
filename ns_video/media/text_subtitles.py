"""Text subtitles of one codec turned into another's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

TEXT_SUBTITLES = frozenset({"subrip", "srt", "text", "mov_text", "webvtt", "ass", "ssa"})
FILLS_GAP = b"\0\0"
"""The sample of mov_text that says nothing, between cues."""
_LONGEST = 0xFFFF  # bytes of mov_text, whose length is a number of 16 bits (3GPP TS 26.245, 5.17)
_CHARACTER = 4  # bytes of one in UTF-8, at most
_OF_ASS = {b"\\N": b"\n", b"\\n": b"\n", b"\\h": "\u00a0".encode()}  # line breaks, and a space that doesn't break


@dataclass(slots=True)
class Cue:
    """What is said for a while."""

    words: bytes
    pts: int
    duration: int
    time_base: Fraction

    @property
    def begins(self) -> Fraction:
        """Seconds."""
        return self.pts * self.time_base

    def join(self, other: Cue) -> bool:
        """Say what another cue says, too, as long as either lasts. False where it doesn't begin with this one."""
        if (other.pts, other.time_base) != (self.pts, self.time_base):
            return False
        self.words += b"\n" + other.words
        self.duration = max(self.duration, other.duration)
        return True


class TextConverter:
    """Cues of one text subtitle codec as another's. Styling that the target can't hold is left out."""

    def __init__(self, source: str, target: str) -> None:
        """libav's names of both codecs."""
        self.one_at_a_time = target == "mov_text"
        """The target shows one cue at a time."""
        self.wordless = 0
        """Cues so far in which no words were left."""
        self.joined = 0
        """Cues so far that became part of another one."""
        self.shortened = 0
        """Cues so far that were too long."""
        self._source = source

    def words(self, data: bytes) -> bytes:
        """What a packet says in the target's markup; nothing where that is nothing to read."""
        if self._source == "mov_text" and data == FILLS_GAP:
            return b""
        text = self._text_of(data)
        if self.one_at_a_time:
            text = re.sub(rb"</?[a-zA-Z][^>]*>", b"", text)
        if text.strip():
            return text
        self.wordless += 1
        return b""

    def _text_of(self, data: bytes) -> bytes:
        if self._source == "mov_text":
            return data[2 : 2 + int.from_bytes(data[:2], "big")]
        if self._source in ("ass", "ssa"):
            text = _spoken(data.split(b",", 8)[-1])
            return re.sub(rb"\\[Nnh]", lambda found: _OF_ASS[found[0]], text)
        return data

    def payload(self, words: bytes) -> bytes:
        """The packet that says these words."""
        if not self.one_at_a_time:
            return words
        if len(words) > _LONGEST:
            self.shortened += 1
            words = words[: _character_before(words, _LONGEST)]
        return len(words).to_bytes(2, "big") + words


def _spoken(text: bytes) -> bytes:
    """What is left of ASS without its overrides, and without the drawings that `\\p1` begins and `\\p0` ends."""
    said, draws = b"", False
    for part in re.split(rb"(\{[^}]*\})", text):
        if part.startswith(b"{") and part.endswith(b"}"):
            scales = re.findall(rb"\\p(\d+)", part)
            draws = int(scales[-1]) > 0 if scales else draws
        elif not draws:
            said += part
    return said


def _character_before(text: bytes, place: int) -> int:
    """Where the character of UTF-8 begins that `place` lies in; `place` itself in other text."""
    places = range(place, place - _CHARACTER, -1)
    return next((n for n in places if text[n] & 0xC0 != 0x80), place)


def conversion_notes(converters: Mapping[int, TextConverter]) -> list[str]:
    """What is to be said of the cues of each stream that could not be converted as they were."""
    out: list[str] = []
    for index, converter in sorted(converters.items()):
        if n := converter.wordless:
            cues = "a cue" if n == 1 else f"{n} cues"
            out.append(f"stream {index}: {cues} left out: without markup no words remain")
        if n := converter.joined:
            one = "a cue is part of the one that begins with it, and ends with it"
            said = one if n == 1 else f"{n} cues are part of those that begin with them, and end with them"
            out.append(f"stream {index}: {said}: this container shows one at a time")
        if n := converter.shortened:
            cues = "a cue was" if n == 1 else f"{n} cues were"
            out.append(f"stream {index}: {cues} cut: this container holds {_LONGEST} bytes of words at a time")
    return out
