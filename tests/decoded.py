"""Frames of clips as the reader gives them."""

from __future__ import annotations

import io
from pathlib import Path

from ns_video.frame import Frame
from ns_video.media.decode import DecodeOptions, open_clip


def frames(source: Path | io.BytesIO, **options: object) -> list[Frame]:
    """All frames of a clip."""
    with open_clip(source, DecodeOptions(**options)) as reader:
        return list(reader.frames())
