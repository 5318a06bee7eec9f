"""What the self-check says of an output."""

from __future__ import annotations

from pathlib import Path

import ns_video


def found(source: Path, output: Path) -> str:
    """All differences in one line."""
    return "; ".join(d.what for d in ns_video.verify(source, output))
