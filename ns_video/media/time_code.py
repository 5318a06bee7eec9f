"""Time codes, which number a clip's frames as hours, minutes, seconds and frames (SMPTE ST 12-1)."""

from __future__ import annotations

import re
from fractions import Fraction

TIME_CODE, REEL = "timecode", "reel_name"
"""libav's names of the tags that tell the first frame's, and from which tape it is."""
_TIME_CODE = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2,3})")


def later(text: str, frames: int, rate: Fraction) -> str:
    """The time code so many frames later; what is none stays as it is.

    With ";" or "." before the frames, and at a multiple of 30 frames a second, it skips the numbers 0 and 1 (of 60, 0
    to 3) of each minute but every tenth.
    """
    match, per_second = _TIME_CODE.fullmatch(text.strip()), round(rate)
    if match is None or not frames or per_second < 1:
        return text
    hours, minutes, seconds, number = (int(match[group]) for group in (1, 2, 3, 5))
    skipped = per_second // 15 if match[4] != ":" and per_second % 30 == 0 else 0
    minutes += 60 * hours
    count = (60 * minutes + seconds) * per_second + number - skipped * (minutes - minutes // 10) + frames
    in_minute, in_ten = 60 * per_second - skipped, 600 * per_second - 9 * skipped
    tens, rest = divmod(count % (144 * in_ten), in_ten)
    count = tens * 600 * per_second + rest + (skipped * ((rest - skipped) // in_minute) if rest > skipped else 0)
    seconds, number = divmod(count, per_second)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{match[4]}{number:0{len(match[5])}}"
