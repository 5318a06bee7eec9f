"""Animations against what went in: what nothing changed in may be missing."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from checked import found
from conftest import ffmpeg
from material import write_clip
from PIL import Image, ImageSequence

import ns_video
from ns_video.errors import UsageError
from ns_video.media.animation_header import delays_of_png
from ns_video.media.compare_animation import compare_animation
from ns_video.pipeline import restore


def test_silent_on_animations(rgb_clip: Path, tmp_path: Path) -> None:
    """RGB has no matrix and full range, whatever was tagged; WebP is no clip to libav."""
    for source in (write_clip(tmp_path / "in.mkv"), rgb_clip):
        for suffix in ("webp", "apng", "gif", "mkv"):
            target = tmp_path / f"{source.stem}-out.{suffix}"
            restore(source, target, model="identity")
            assert ns_video.verify(source, target) == []
    back = tmp_path / "back.mkv"
    restore(tmp_path / "in-out.webp", back, model="identity")
    assert ns_video.verify(tmp_path / "in-out.webp", back) == []
    with Image.open(tmp_path / "in-out.webp") as image:
        image.save(tmp_path / "slow.webp", save_all=True, duration=90, lossless=True)
    assert "no frame went in at" in found(tmp_path / "in.mkv", tmp_path / "slow.webp")


def test_frames_that_an_animation_lacks_are_named_but_where_nothing_changes(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.webp"
    ffmpeg("-i", write_clip(tmp_path / "whole.mkv"), "-vf", "loop=20:1:4", "-c:v", "ffv1", source)
    restore(source, target, model="identity")
    assert ns_video.verify(source, target) == []
    with Image.open(target) as image:
        shown = [(image.copy(), int(image.info["duration"])) for _ in ImageSequence.Iterator(image)]
    times = [duration for _, duration in shown]
    assert len(times) == 10 and max(times) > 800

    def kept(numbers: list[int], durations: list[int]) -> str:
        first, *others = (shown[number][0] for number in numbers)
        first.save(tmp_path / "kept.webp", save_all=True, append_images=others, duration=durations, lossless=True)
        return found(source, tmp_path / "kept.webp")

    assert kept(list(range(10)), times) == ""
    assert "frames missing: 1, the first at 0.080 s" in kept([0, 1, *range(3, 10)], [40, 80, *times[3:]])
    assert "frames missing: 29" in kept([0], [40])
    assert "the animation ends at" in kept(list(range(10)), [*times[:9], 1040])


def test_a_picture_that_never_changes_is_an_animation_too(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.webp"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x48:r=25:d=0.4", "-c:v", "ffv1", source)
    restore(source, target, model="identity")
    assert ns_video.verify(source, target) == []


def test_long_animations_are_compared_in_one_walk() -> None:
    times = [Fraction(n, 25) for n in range(30_000)]
    assert compare_animation(times, times) == []
    assert compare_animation(times, [*times[:100], times[100] + Fraction(1, 100), *times[102:]])


@pytest.mark.parametrize(("rate", "suffix"), [("30", "apng"), ("24000/1001", "apng"), ("30", "gif"), ("30", "webp")])
def test_an_animation_of_any_rate_keeps_its_times(rate: str, suffix: str, tmp_path: Path) -> None:
    """APNG holds each delay as a fraction, of which libav's demuxer makes ticks of 10 µs."""
    source, target = tmp_path / "in.mp4", tmp_path / f"out.{suffix}"
    ffmpeg("-f", "lavfi", "-i", f"testsrc2=s=64x48:r={rate}:d=1", "-c:v", "mpeg4", source)
    assert restore(source, target, model="identity").exit_code == 0
    assert ns_video.verify(source, target) == []
    if suffix == "apng":
        assert set(delays_of_png(target)) == {1 / Fraction(rate)}


def test_more_frames_than_a_gif_has_ticks_for_are_refused(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mp4", tmp_path / "out.gif"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=120:d=0.1", "-c:v", "mpeg4", source)
    with pytest.raises(UsageError, match=r"at 0\.0333 s does not fit into gif, which holds at most 100 frames per"):
        restore(source, target, model="identity")
    assert not target.exists()
