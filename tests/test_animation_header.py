"""What animations say beside their pictures: how often they are shown, profile, EXIF, XMP, texts, resolution."""

from __future__ import annotations

import gc
import struct
import zlib
from pathlib import Path

import pytest
from checked import found
from conftest import ffmpeg
from material import write_clip
from PIL import Image, ImageCms, PngImagePlugin

import ns_video
from ns_video.media.animation_header import AnimationInfo, add_parts, read_animation_info
from ns_video.media.containers import of_muxer
from ns_video.pipeline import restore
from ns_video.record import RunRecord

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
FORMATS = {".gif": "GIF", ".apng": "PNG", ".webp": "WEBP"}


def write_animation(path: Path, frames: int = 3, **options: object) -> Path:
    shown = [Image.linear_gradient("L").resize((48, 32)).rotate(90 * n).convert("RGB") for n in range(frames)]
    if path.suffix == ".webp":
        options["lossless"] = True
    kind = FORMATS[path.suffix]
    shown[0].save(path, kind, save_all=True, append_images=shown[1:], duration=100, **options)
    return path


def write_rich(path: Path, *, orientation: int = 1) -> Path:
    exif, texts = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x10E], exif[0x112] = "a picture", orientation
    options: dict[str, object] = {"icc_profile": PROFILE, "exif": exif.tobytes()}
    if path.suffix == ".webp":
        return write_animation(path, xmp=b"<x/>", **options)
    texts.add_text("Author", "Jane Doe")
    texts.add_text("Long", "word " * 50, zip=True)
    texts.add_itxt("XML:com.adobe.xmp", "<x/>")
    return write_animation(path, pnginfo=texts, dpi=(300, 150), **options)


def restored(source: Path, target: Path, **options: object) -> RunRecord:
    record = restore(source, target, model="identity", verify="full", **options)
    assert record.exit_code == 0 and ns_video.verify(source, target) == []
    return record


def info(path: Path) -> AnimationInfo:
    told = read_animation_info(path)
    assert told is not None
    return told


def names(path: Path) -> set[str]:
    return {part.name for part in info(path).parts}


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("loop", "again"), [(0, 0), (1, None), (3, 2)])
def test_animations_are_shown_as_often_as_they_were(kind: str, loop: int, again: int | None, tmp_path: Path) -> None:
    """GIF tells how often they are shown again, the others how often in all."""
    source = tmp_path / f"in{kind}"
    write_animation(source, **({} if kind == ".gif" and again is None else {"loop": again if kind == ".gif" else loop}))
    assert info(source).plays == loop
    for suffix in FORMATS:
        restored(source, tmp_path / f"out{suffix}")
        assert info(tmp_path / f"out{suffix}").plays == loop
        with Image.open(tmp_path / f"out{suffix}") as image:
            assert image.info.get("loop") == (again if suffix == ".gif" else loop)


def test_other_clips_become_animations_without_end(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv")
    for suffix in FORMATS:
        restored(source, tmp_path / f"out{suffix}")
        assert info(tmp_path / f"out{suffix}").plays == 0


@pytest.mark.parametrize("kind", FORMATS)
def test_another_number_is_named(kind: str, tmp_path: Path) -> None:
    source, target = write_animation(tmp_path / f"in{kind}", loop=0), write_animation(tmp_path / f"a{kind}", loop=2)
    assert f"the animation is shown {3 if kind == '.gif' else 2} times, not without end" in found(source, target)


@pytest.mark.parametrize("kind", [".apng", ".webp"])
@pytest.mark.parametrize("suffix", [".apng", ".webp"])
def test_profile_and_texts_are_kept(kind: str, suffix: str, tmp_path: Path) -> None:
    source, target = write_rich(tmp_path / f"in{kind}"), tmp_path / f"out{suffix}"
    record = restored(source, target)
    lost = names(source) - names(target)
    assert lost == ({"text Author", "text Long", "resolution"} if (kind, suffix) == (".apng", ".webp") else set())
    assert all(name in " ".join(record.warnings) for name in lost) and ("doesn't hold" in str(record.warnings)) == bool(
        lost
    )
    with Image.open(source) as was, Image.open(target) as now:
        for key in ("icc_profile", "xmp", *(("Author", "Long", "dpi") if kind == suffix == ".apng" else ())):
            assert now.info[key] == was.info[key], key
        assert now.getexif()[0x10E] == "a picture"
        assert [now.seek(n) or now.size for n in range(now.n_frames)] == [was.size] * 3
    gc.collect()  # ended the process with a signal where a frame's profile had been looked at


@pytest.mark.parametrize("suffix", [".apng", ".webp"])
def test_a_picture_that_was_turned_asks_for_no_turn(suffix: str, tmp_path: Path) -> None:
    """libav turns what EXIF of a PNG asks for."""
    restored(write_rich(tmp_path / "in.apng", orientation=6), tmp_path / f"out{suffix}")
    with Image.open(tmp_path / f"out{suffix}") as image:
        assert image.size == (32, 48) and image.getexif().get(0x112, 1) == 1 and image.getexif()[0x10E] == "a picture"


@pytest.mark.parametrize("suffix", [".gif", ".mkv"])
def test_what_is_lost_is_named(suffix: str, tmp_path: Path) -> None:
    source, target, notes = write_rich(tmp_path / "in.webp"), tmp_path / f"out{suffix}", list[str]()
    told = "data beside the pictures that this container doesn't hold: ICC profile, EXIF, XMP"
    assert told in restored(source, target).warnings
    assert ns_video.media.verify.verify_files(source, target, notes=notes) == [] and told in notes


def test_a_profile_of_pictures_in_a_clip_is_named(tmp_path: Path) -> None:
    """Of one frame, which comes when the decoder is drained."""
    told = "the ICC profile of the pictures is left out"
    for profile, notes in ((PROFILE, [told]), (None, [])):
        picture, source = tmp_path / "in.png", tmp_path / "in.mov"
        Image.new("RGB", (32, 32), (9, 99, 9)).save(picture, icc_profile=profile)
        ffmpeg("-i", picture, "-c", "copy", source)
        assert restored(source, tmp_path / "out.mkv", codec="ffv1").warnings == notes
        (tmp_path / "out.mkv").unlink()
        gc.collect()


@pytest.mark.parametrize("kind", [".apng", ".webp"])
def test_what_is_missing_is_a_difference(kind: str, tmp_path: Path) -> None:
    source, target = write_rich(tmp_path / f"in{kind}"), write_animation(tmp_path / f"out{kind}", loop=1)
    assert "ICC profile is missing" in found(source, target) and "XMP is missing" in found(source, target)


def test_a_shape_of_pixels_that_changed_is_no_resolution_of_before(tmp_path: Path) -> None:
    source, target = write_rich(tmp_path / "in.apng"), tmp_path / "out.apng"
    record = restore(source, target, model="identity", size=(24, 24), fit="stretch", verify="full")
    assert record.exit_code == 0 and "resolution" not in names(target)
    assert "doesn't hold: resolution" in str(record.warnings)


def test_an_animation_that_never_changes_is_a_still_without_them(tmp_path: Path) -> None:
    source = tmp_path / "in.apng"
    one = Image.new("RGB", (32, 32), (9, 99, 9))
    other = Image.new("RGB", (32, 32), (9, 99, 8))
    one.save(source, "PNG", save_all=True, append_images=[other], duration=100, icc_profile=PROFILE)
    assert info(source).plays == 0
    record = restored(source, tmp_path / "out.webp", encoder_options={"lossless": "0", "quality": "20"})
    if info(tmp_path / "out.webp").plays is None:
        assert "doesn't hold: ICC profile" in str(record.warnings)
    else:
        assert names(tmp_path / "out.webp") == {"ICC profile"}


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_not_whole_is_read_as_far_as_it_goes(kind: str, tmp_path: Path) -> None:
    path = write_animation(tmp_path / "a.gif") if kind == ".gif" else write_rich(tmp_path / f"a{kind}")
    whole = path.read_bytes()
    for size in range(0, len(whole), max(1, len(whole) // 400)):
        path.write_bytes(whole[:size])
        read_animation_info(path)
        if size > 100:
            add_parts(path, info(path).parts, of_muxer("apng").parts, turned=True)


def test_an_animation_with_much_beside_its_pictures_is_still_one(tmp_path: Path) -> None:
    """libav looks at the first 2 KiB of a PNG only."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Story", "".join(map(chr, range(33, 127))) * 50)
    source = write_animation(tmp_path / "in.apng", pnginfo=texts)
    assert restored(source, tmp_path / "out.apng").frames_out == 3
    with Image.open(tmp_path / "out.apng") as picture:
        assert getattr(picture, "n_frames", 1) == 3


def test_what_a_file_holds_beside_its_pictures_is_bounded(tmp_path: Path) -> None:
    """Profiles of 16 MiB that take 16 KiB each."""
    path = write_animation(tmp_path / "in.apng")
    data = path.read_bytes()
    body = b"icc\0\0" + zlib.compress(bytes(16 << 20), 9)
    chunk = struct.pack(">I", len(body)) + b"iCCP" + body + struct.pack(">I", zlib.crc32(b"iCCP" + body))
    path.write_bytes(data[:33] + chunk * 30 + data[33:])
    assert sum(len(part.data) for part in info(path).parts) <= 16 << 20
