"""Quantisers that libav's decoders export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ffmpeg
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


@pytest.mark.parametrize(
    ("codec", "suffix", "bf"), [("mpeg2video", "mpg", "2"), ("mpeg2video", "mkv", "0"), ("mpeg4", "avi", "2")]
)
def test_the_last_frame_is_told_what_it_was_predicted_from(tmp_path: Path, codec: str, suffix: str, bf: str) -> None:
    """Of what MPEG's decoders give out at the end libav exports nothing."""
    for quality in ("4", "20"):
        clip = tmp_path / f"{quality}.{suffix}"
        film = ("-f", "lavfi", "-i", "testsrc2=s=160x120:r=25:d=0.56", "-c:v", codec)
        ffmpeg(*film, "-bf", bf, "-qmin", quality, "-qmax", quality, "-q:v", quality, clip)
        maps = [frame.quantiser for frame in frames(clip, quantisers=True)]
        assert len(maps) == 14 and all(found is not None for found in maps)
        steps = [float(found.step.mean()) for found in maps if found is not None]
        assert steps[-1] == pytest.approx(2 * float(quality), rel=0.2) and steps[-1] in steps[:-1]
