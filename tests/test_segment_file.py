"""Segments: their times put in order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from conftest import ffmpeg

import ns_video
from ns_video.errors import UsageError
from ns_video.media.segment_file import decode_times
from ns_video.pipeline import restore


@pytest.mark.parametrize(
    "presentation",
    [[0, 40, 80, 120], [0, 120, 40, 80, 160], [0, 80, 40, 160, 120, 200], [5], [0, 400, 200, 100, 300, 1000], []],
)
def test_decode_times_rise_and_never_pass_presentation(presentation: list[int]) -> None:
    stamps = list(decode_times([presentation] if presentation else []))
    assert len(stamps) == len(presentation)
    assert all(b > a for a, b in pairwise(stamps))
    assert all(d <= p for d, p in zip(stamps, presentation))
    if presentation == sorted(presentation):
        assert stamps == presentation
    later = [pts + 10_000 for pts in presentation]
    assert list(decode_times([presentation, later])) == list(decode_times([presentation + later]))


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt"),
    [
        ("prores_ks", "mov", "yuv422p10le"),
        ("prores_ks", "mkv", "yuva444p10le"),
        ("dnxhd", "mov", "yuv422p10le"),
        ("dnxhd", "mxf", "yuv420p"),
        ("qtrle", "mov", "rgb24"),
    ],
)
def test_codecs_that_nut_has_no_name_for(
    codec: str, suffix: str, pix_fmt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their segments are MOV files; what ffmpeg decodes is what its own encoder would have written."""
    monkeypatch.setattr("ns_video.pipeline.segmented._SEGMENT_FRAMES", (3, 3))
    source, target, other = tmp_path / "in.mkv", tmp_path / f"out.{suffix}", tmp_path / "other.mov"
    begins = () if suffix == "mxf" else ("-output_ts_offset", "-0.12")
    picture = ("-f", "lavfi", "-i", "testsrc2=s=256x120:r=25:d=0.2", "-pix_fmt", pix_fmt, "-c:v", "ffv1")
    ffmpeg(*picture, *begins, "-avoid_negative_ts", "disabled", source)
    assert restore(source, target, model="identity", codec=codec).exit_code == 0
    assert ns_video.verify(source, target) == []
    profile = {"yuv422p10le": "dnxhr_hqx", "yuv420p": "dnxhr_hq"}
    ffmpeg("-i", source, "-c:v", codec, *(("-profile:v", profile[pix_fmt]) if codec == "dnxhd" else ()), other)

    def decoded(path: Path) -> list[bytes]:
        hashes = ffmpeg("-i", path, "-map", "0:v", "-f", "framehash", "-hash", "md5", "-")
        return [line.rpartition(b",")[2] for line in hashes.splitlines() if not line.startswith(b"#")]

    assert len(decoded(target)) == 5 and decoded(target) == decoded(other)


def test_a_codec_that_the_container_cannot_hold_is_named_with_it(plain_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mp4 can't hold prores_ks"):
        restore(plain_clip, tmp_path / "out.mp4", model="identity", codec="prores_ks")
