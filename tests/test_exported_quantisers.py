"""Quantisers that libav's decoders export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from decoded import frames
from material import Recipe, write_clip


def test_quantisers_of_each_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "q.mp4", Recipe(options={"preset": "veryfast", "qp": "30", "bf": "0"}))
    found = frames(path, quantisers=True)
    assert all(f.quantiser is not None for f in found)
    first = found[0].quantiser
    assert first is not None
    assert first.step.shape == (3, 4) and first.source == "h264" and first.picture_type == "I"
    inter = [f.quantiser for f in found if f.quantiser is not None and f.quantiser.picture_type == "P"]
    assert inter and np.allclose(inter[0].step, 0.625 * 2 ** (30 / 6))  # x264's --qp is that of P frames
    assert all(f.quantiser is None for f in frames(path))


def test_quantisers_do_not_depend_on_threads() -> None:
    """libav's frame threads mix up those of H.264 in one of ten frames."""
    path = Path(__file__).parents[1] / "samples" / "bbb_crf36.mp4"

    def maps(threads: int) -> list[bytes]:
        return [f.quantiser.step.tobytes() for f in frames(path, threads=threads, quantisers=True) if f.quantiser]

    alone = maps(1)
    assert len(alone) == 48 and len(set(alone)) > 25
    assert all(maps(4) == alone for _ in range(3))
