"""Interlaced frames made progressive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import ffmpeg
from decoded import frames


def test_deinterlacing_gives_one_frame_for_each(interlaced_clip: Path) -> None:
    woven, smooth = frames(interlaced_clip, deinterlace="off"), frames(interlaced_clip, deinterlace="auto")
    assert all(f.carrier.interlaced_frame for f in woven)
    assert [(f.pts, f.duration) for f in smooth] == [(f.pts, f.duration) for f in woven]
    assert not np.array_equal(woven[3].planes[0], smooth[3].planes[0])


@pytest.mark.parametrize("sizes", [("128x96", "64x64"), ("64x64", "128x96")])
def test_an_interlaced_clip_may_change_its_size(sizes: tuple[str, str], tmp_path: Path) -> None:
    """Each frame is deinterlaced at its own size, without a sample from beside the picture, and none is lost."""
    coded = ("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-top", "1", "-bf", "0", "-q:v", "2", "-f", "mpeg2video")
    flat = [ffmpeg("-f", "lavfi", "-i", f"color=0x808080:s={s}:r=25:d=0.4", *coded, "-") for s in sizes]
    both, clip = tmp_path / "both.m2v", tmp_path / "both.ts"
    both.write_bytes(b"".join(flat))
    ffmpeg("-r", "25", "-f", "mpegvideo", "-i", both, "-c", "copy", "-bsf:v", "setts=ts=N*3600:time_base=1/90000", clip)
    whole = frames(clip, deinterlace="off")
    for mode in ("auto", "on"):
        found = frames(clip, deinterlace=mode)
        assert [f.pts for f in found] == [f.pts for f in whole] and len(found) >= 19  # libav drops one at the change
        assert {f.planes[0].shape for f in found} == {whole[0].planes[0].shape}
        assert max(int(np.ptp(f.planes[0])) for f in found) <= 4
