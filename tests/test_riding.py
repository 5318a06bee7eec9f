"""What rides on frames stays, or its loss is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checked import found
from conftest import ffmpeg
from material import facts
from planned import written

import ns_video
from ns_video.media.decode import open_clip
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.riding import lost_riders
from ns_video.media.video_plan import plan_video
from ns_video.pipeline import restore


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_captions_stay_where_the_encoder_writes_them(codec: str, captions_clip: Path, tmp_path: Path) -> None:
    target, before = tmp_path / "out.mkv", facts(captions_clip).captions
    record = restore(captions_clip, target, model="identity", codec=codec, verify="full")
    assert not any("captions" in text for text in record.warnings)
    assert facts(target).captions == before


def test_captions_stay_where_the_picture_is_resized(captions_clip: Path) -> None:
    with open_clip(captions_clip) as reader:
        small = list(reader.frames())
        planes = tuple(np.full(size, 90, np.uint8) for size in ((60, 80), (30, 40), (30, 40)))
        large = [replace(frame, planes=planes, width=80, height=60) for frame in small]
        chosen = plan_video("matroska", reader.info.video, small[0], (80, 60), EncodeOptions(codec="libx264"))
    out = written(chosen, large)
    words = [[bytes(d) for d in f.carrier.side_data if d.type.name == "A53_CC"] for f in (*small, *out)]
    assert words[: len(small)] == words[len(small) :] and all(words)
    assert out[0].planes[0].shape == (60, 80) and abs(int(out[0].planes[0][30, 40]) - 90) < 3


@pytest.mark.parametrize("codec", ["ffv1", "libvpx-vp9"])
def test_captions_that_an_encoder_does_not_write_are_named(codec: str, captions_clip: Path, tmp_path: Path) -> None:
    record = restore(captions_clip, tmp_path / "out.mkv", model="identity", codec=codec)
    notes: list[str] = []
    assert ns_video.verify(captions_clip, tmp_path / "out.mkv", notes=notes) == []
    for told in (record.warnings, notes):
        assert sum("closed captions: left out" in text for text in told) == 1


def test_captions_that_begin_late_are_named_once(captions_clip: Path, plain_clip: Path, tmp_path: Path) -> None:
    both, late = tmp_path / "plain.ts", tmp_path / "late.ts"
    for clip, name in ((plain_clip, both), (captions_clip, late)):
        ffmpeg("-i", clip, "-map", "0:v", "-c", "copy", "-muxdelay", "0", name)
    ffmpeg("-i", f"concat:{both}|{late}", "-c", "copy", tmp_path / "in.mkv")
    assert 0 < len(facts(tmp_path / "in.mkv").captions) < len(facts(tmp_path / "in.mkv").pictures)
    record = restore(tmp_path / "in.mkv", tmp_path / "out.mkv", model="identity", codec="ffv1")
    assert sum("closed captions: left out" in text for text in record.warnings) == 1


def test_lost_captions_are_a_difference(captions_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    ffmpeg("-i", captions_clip, "-c", "copy", "-bsf:v", "filter_units=remove_types=6", target)
    assert "10 frames had closed captions, 0 have" in found(captions_clip, target)


def test_dynamic_hdr_is_named() -> None:
    notes = lost_riders("libx265", ["DYNAMIC_HDR_PLUS", "A53_CC", "GOP_TIMECODE"])
    assert notes == ["HDR10+ metadata: left out, for libx265 writes none"]
