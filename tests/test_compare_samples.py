"""Pictures that hold less than they held, or show nothing of what they showed, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from checked import found
from conftest import ffmpeg
from material import Recipe, write_clip

import ns_video
from ns_video.frame import ColorInfo, Frame
from ns_video.media.compare import compare_chapters, compare_picture
from ns_video.media.compare_samples import Thumbnails, compare_thumbnails
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.file_facts import read_facts
from ns_video.media.first_frame import BOTTOM_FIELD_FIRST, TOP_FIELD_FIRST
from ns_video.media.probe import pixel_format
from ns_video.media.promise import look_of
from ns_video.pipeline import restore

_DRAWN = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.8")


def _made(path: Path, *options: str, drawn: tuple[str, ...] = _DRAWN) -> Path:
    ffmpeg(*drawn, *options, path)
    return path


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("yuv422p10le", "yuv420p", "the samples had 10 bits, have 8; chroma is coarser"),
        ("yuva420p", "yuv420p", "the alpha channel is missing"),
        ("yuv420p", "yuv422p10le", ""),
    ],
)
def test_samples_that_hold_less_are_named(was: str, now: str, told: str, tmp_path: Path) -> None:
    source = _made(tmp_path / "in.mkv", "-c:v", "ffv1", "-pix_fmt", was)
    target = _made(tmp_path / "out.mkv", "-c:v", "ffv1", "-pix_fmt", now)
    said = found(source, target)
    assert told in said and bool(told) == bool(said)


def test_what_another_encoder_cannot_hold_is_a_note(alpha_clip: Path, tmp_path: Path) -> None:
    target, notes = tmp_path / "out.mkv", list[str]()
    assert restore(alpha_clip, target, model="identity", codec="libx264", verify="full").exit_code == 0
    assert ns_video.verify(alpha_clip, target, notes=notes) == [] and "the alpha channel is missing" in notes


def test_a_wish_for_other_pixels_is_no_fault_of_the_run(ten_bit_pq_clip: Path, tmp_path: Path) -> None:
    record = restore(ten_bit_pq_clip, tmp_path / "out.mkv", model="identity", codec="ffv1", pix_fmt="yuv420p")
    assert record.exit_code == 0
    assert found(ten_bit_pq_clip, tmp_path / "out.mkv") == "the samples had 10 bits, have 8"


def test_lost_hdr_metadata_is_named(ten_bit_pq_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    ffmpeg("-i", ten_bit_pq_clip, "-vf", "sidedata=delete", "-c:v", "ffv1", target)
    said = found(ten_bit_pq_clip, target)
    assert "the mastering display's metadata is missing" in said and "the light level was (1000, 400), is None" in said


def test_fields_are_compared(interlaced_clip: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    ffmpeg("-i", interlaced_clip, "-vf", "setparams=field_mode=prog", "-c:v", "libx264", tmp_path / "told.mp4")
    assert ns_video.verify(interlaced_clip, tmp_path / "told.mp4", notes=notes) == []  # or were they deinterlaced?
    assert any("were interlaced, are progressive" in text for text in notes)
    with open_clip(interlaced_clip, DecodeOptions(deinterlace="off")) as reader:
        look = look_of(next(reader.frames()), reader.info)
    facts = read_facts(interlaced_clip)
    other = {TOP_FIELD_FIRST: BOTTOM_FIELD_FIRST, BOTTOM_FIELD_FIRST: TOP_FIELD_FIRST}[look.fields]
    assert compare_picture(look, look, facts) == []
    for before in (other, 0):
        (difference,) = compare_picture(replace(look, fields=before), look, facts)
        assert difference.what.startswith("the frames were ") and ", are interlaced (" in difference.what


def test_styles_of_words_are_compared(tmp_path: Path) -> None:
    source, other = tmp_path / "in.mkv", tmp_path / "other.mkv"
    for path, size in ((source, 20), (other, 40)):
        words = tmp_path / f"{size}.ass"
        words.write_text(
            f"[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\nFormat: Name, Fontsize\nStyle: Default,{size}\n"
            "[Events]\nFormat: Layer, Start, End, Style, Text\nDialogue: 0,0:00:00.10,0:00:00.30,Default,Hello\n"
        )
        ffmpeg(*_DRAWN, "-i", words, "-c:v", "ffv1", "-c:s", "copy", path)
    assert found(source, other) == "stream 1 (subtitle ass): its header (styles) differs"
    restore(source, tmp_path / "out.mkv", model="identity")
    assert ns_video.verify(source, tmp_path / "out.mkv") == []


def test_ends_of_chapters_are_compared(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(chapters=[(0, 100, "a"), (200, 300, "b")]))
    other = write_clip(tmp_path / "other.mkv", Recipe(chapters=[(0, 150, "a"), (200, 300, "b")]))
    assert found(source, other) == "chapter 1 ended at 0.100 s, ends at 0.150 s"
    for name in ("out.mp4", "out.mov", "out.nut"):  # the first two know no gaps
        restore(source, tmp_path / name, model="identity")
        assert ns_video.verify(source, tmp_path / name) == []


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_late_chapter_keeps_its_end(suffix: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(chapters=[(200, 300, "only")]))
    record = restore(source, tmp_path / f"out.{suffix}", model="identity")
    facts = read_facts(tmp_path / f"out.{suffix}")
    assert facts.chapters == [(0, Fraction(3, 10), "only")]
    assert any("the first chapter begins at 0, not 0.200 s" in text for text in record.warnings)
    assert compare_chapters([(Fraction(1, 5), Fraction(2, 5), "only")], facts) != []


def test_other_pictures_are_named(tmp_path: Path) -> None:
    source = _made(tmp_path / "in.mkv", "-c:v", "ffv1")
    black = _made(tmp_path / "black.mkv", "-c:v", "ffv1", "-vf", "drawbox=t=fill")
    turned = _made(tmp_path / "turned.mkv", "-c:v", "ffv1", "-vf", "negate")
    for other in (black, turned):
        assert "the picture at 0.0000 s shows something else (2 of 2 looked at do)" in found(source, other)


def _seen(luma: np.ndarray) -> Thumbnails:
    seen, fmt = Thumbnails(), pixel_format("gray")
    seen.take(Frame((luma.astype(np.uint8),), luma.shape[1], luma.shape[0], fmt, ColorInfo(), 0, Fraction(1, 25)))
    return seen


def test_restored_pictures_show_the_same() -> None:
    """Noise, mosaics, blur, enlargement and dark scenes are far from what is named."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[0:96, 0:128]
    scene = 128 + 60 * np.sin(x / 17) * np.cos(y / 11)
    noisy = np.clip(scene + random.normal(0, 60, scene.shape), 0, 255)
    mosaic = scene[::8, ::8].repeat(8, 0).repeat(8, 1)
    for was, now in (
        (noisy, scene),
        (mosaic, scene),
        (scene, scene.repeat(2, 0).repeat(2, 1)),
        (scene / 16, np.zeros_like(scene)),  # hardly a picture
        (random.integers(0, 255, scene.shape), np.full(scene.shape, 128)),  # nothing but noise
        (scene, np.clip(scene * 0.5 + 40, 0, 255)),
    ):
        assert compare_thumbnails(_seen(was), _seen(now)) is None
    assert compare_thumbnails(_seen(scene), _seen(np.zeros_like(scene))) is not None
