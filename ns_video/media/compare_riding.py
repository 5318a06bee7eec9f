"""What rides on the frames of an output against that of its input."""

from __future__ import annotations

from collections.abc import Mapping

from ns_video.media.promise import Difference
from ns_video.media.riding import CAPTION_CODECS, CAPTIONS


def compare_riding(was: Mapping[str, int], now: Mapping[str, int], codec: str) -> list[Difference]:
    """On how many frames captions ride, where the codec of the output holds them; each by libav's name."""
    before, after = (counts.get(CAPTIONS, 0) for counts in (was, now))
    if after >= before or codec not in CAPTION_CODECS:
        return []
    return [Difference(f"{before} frames had closed captions, {after} have", by_wish=True)]
