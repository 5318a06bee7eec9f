"""Stills on real codecs: every sample and everything that rides along, formats that hold less, damage."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from material import picture
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, PngImagePlugin, TiffImagePlugin

from ns_video.errors import InputError, OutputError, UsageError
from ns_video.media import still_samples
from ns_video.media.animation import open_animation
from ns_video.media.decode import DecodeOptions
from ns_video.media.probe import still_format
from ns_video.media.still import read_still
from ns_video.media.still_writer import still_suffix
from ns_video.pipeline import restore, verify

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def gray_profile(gamma: float) -> bytes:
    """An ICC profile of gray samples (ICC.1:2001-04)."""
    tags = {
        b"desc": b"desc\0\0\0\0\0\0\0\5gray\0" + bytes(78),
        b"wtpt": b"XYZ \0\0\0\0" + struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D),
        b"kTRC": b"curv\0\0\0\0" + struct.pack(">IHH", 1, round(gamma * 256), 0),
    }
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s", 132 + 12 * len(tags) + len(body), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp").ljust(44, b"\0")
    head += struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)
    return head.ljust(128, b"\0") + table + body


GRAY = gray_profile(1.0)
ORIENTATION, COPYRIGHT, EXPOSURE = 274, 33432, 33434


def exif_bytes() -> bytes:
    """Turned by 90 degrees, with a copyright, a camera's exposure and a place."""
    exif = Image.Exif()
    exif[ORIENTATION], exif[COPYRIGHT] = 6, "somebody"
    exif.get_ifd(ExifTags.IFD.Exif)[EXPOSURE] = 0.5
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return exif.tobytes()


def deep_picture(channels: int) -> np.ndarray:
    """(H, W, C) uint16 whose low bytes matter."""
    wide = picture(3).astype(np.uint16) * 256 + picture(4)
    if channels == 1:
        return wide[..., 2]
    return wide if channels == 3 else np.dstack([wide, wide[..., :1][:, ::-1]])


def identity(source: Path, target: Path, **options: object) -> int:
    """One run; its exit code."""
    record = restore(source, target, model="identity", **options)
    assert record.kind == "still" and record.frames_in == record.frames_out == 1
    return record.exit_code


def pixels(path: Path) -> np.ndarray:
    """The samples of a picture as Pillow reads them."""
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_identity_is_bit_exact_into_every_lossless_format(suffix: str, mode: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / f"out{suffix}"
    image = Image.fromarray(picture(7)).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(picture(8)[..., 0]))
    image.save(source)
    assert identity(source, target) == 0
    wanted = np.asarray(image if mode != "RGBA" or suffix != ".bmp" else image.convert("RGB"))
    found = pixels(target)
    if mode == "L" and suffix == ".webp":  # WebP knows no gray
        found = found[..., 0]
    assert np.array_equal(found, wanted)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay(suffix: str, channels: int, tmp_path: Path) -> None:
    deep = deep_picture(channels)
    source, target = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    order = [2, 1, 0, 3][:channels]
    assert cv2.imwrite(str(source), deep if channels == 1 else deep[..., order])
    assert identity(source, target) == 0
    found = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
    assert found.dtype == np.uint16
    assert np.array_equal(found if channels == 1 else found[..., order], deep)


def test_sixteen_bits_into_a_format_of_eight_are_rounded_and_told(tmp_path: Path) -> None:
    deep = deep_picture(3)
    cv2.imwrite(str(tmp_path / "in.png"), deep[..., ::-1])
    record = restore(tmp_path / "in.png", tmp_path / "out.webp", model="identity")
    assert any("8 of 16" in text for text in record.warnings)
    assert np.array_equal(pixels(tmp_path / "out.webp"), np.rint(deep / 257).astype(np.uint8))


@pytest.mark.parametrize("source", ["in.jpg", "in.png", "in.webp", "in.tif", "big.tif"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
def test_exif_profile_and_orientation_stay_and_the_samples_are_not_turned(
    source: str, suffix: str, tmp_path: Path
) -> None:
    smooth = Image.fromarray(cv2.GaussianBlur(picture(7), (0, 0), 2))
    options = {"lossless": True} if "webp" in source else {"quality": 95} if "jpg" in source else {}
    options |= {"big_tiff": True} if "big" in source else {}
    smooth.save(tmp_path / source, exif=exif_bytes(), icc_profile=SRGB, dpi=(300, 300), **options)
    target = tmp_path / f"out{suffix}"
    record = restore(tmp_path / source, target, model="identity")
    with Image.open(tmp_path / source) as before, Image.open(target) as after:
        if suffix == ".bmp":
            assert any("no EXIF" in text for text in record.warnings)
        else:
            assert after.getexif()[COPYRIGHT] == "somebody"
            assert after.getexif().get_ifd(ExifTags.IFD.Exif)[EXPOSURE] == 0.5
            assert after.getexif().get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
            assert after.info["icc_profile"] == SRGB
        if ".webp" not in source + suffix:
            assert round(float(after.info["dpi"][0])) == 300
        if ".tif" not in source and suffix not in (".tif", ".bmp"):  # Pillow turns a TIFF while it reads it
            assert after.size == (64, 48)
            assert after.getexif()[ORIENTATION] == 6
        before, after = ImageOps.exif_transpose(before), ImageOps.exif_transpose(after)
        upright, found = before.convert("RGB"), after.convert("RGB")
        assert found.size == upright.size == (48, 64)
        assert np.abs(np.asarray(found).astype(int) - np.asarray(upright)).mean() < 1
    assert verify(tmp_path / source, target) == []


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_metadata_of_a_deep_png_stays(suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / f"out{suffix}"
    Image.fromarray(deep_picture(1)).save(source, exif=exif_bytes(), icc_profile=GRAY, dpi=(300, 300))
    identity(source, target)
    with Image.open(target) as after:
        assert after.info["icc_profile"] == GRAY
        assert round(float(after.info["dpi"][0])) == 300
        upright = ImageOps.exif_transpose(after)
        assert np.array_equal(np.asarray(upright), np.rot90(deep_picture(1), -1))


def test_exif_that_a_format_cannot_take_is_told(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "bad.jpg", exif=b"Exif\0\0garbage")
    record = restore(tmp_path / "bad.jpg", tmp_path / "bad.tif", model="identity")
    assert any("EXIF" in text for text in record.warnings)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif.get_ifd(ExifTags.IFD.Exif)[37510] = b"comment!" * 10000
    Image.fromarray(picture(7)).save(tmp_path / "long.png", exif=exif)
    record = restore(tmp_path / "long.png", tmp_path / "long.jpg", model="identity")
    assert any("EXIF" in text for text in record.warnings)


@pytest.mark.parametrize("mode", ["RGB", "deep"])
def test_what_a_png_says_of_its_colours_stays_or_is_told(mode: str, tmp_path: Path) -> None:
    chunks = {
        b"cICP": bytes((9, 16, 0, 1)),
        b"gAMA": (100000).to_bytes(4, "big"),
        b"cHRM": bytes(range(32)),
        b"mDCV": bytes(range(24)),
        b"cLLI": bytes(range(8)),
    }
    samples = picture(7) if mode == "RGB" else deep_picture(1)
    Image.fromarray(samples).save(tmp_path / "plain.png")
    plain = (tmp_path / "plain.png").read_bytes()
    told = (len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in chunks.items())
    (tmp_path / "in.png").write_bytes(b"".join([plain[:33], *told, plain[33:]]))
    assert identity(tmp_path / "in.png", tmp_path / "out.png") == 0
    made = (tmp_path / "out.png").read_bytes()
    head = made[: made.index(b"IDAT")]
    assert all(kind + body in head for kind, body in chunks.items())
    assert np.array_equal(pixels(tmp_path / "out.png"), samples)
    record = restore(tmp_path / "in.png", tmp_path / "out.tif", model="identity")
    assert any("cICP, mDCV, cLLI" in text for text in record.warnings)


def test_a_png_that_says_srgb_loses_nothing_in_other_formats(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add(b"sRGB", b"\0")
    notes.add(b"gAMA", (45455).to_bytes(4, "big"))
    Image.fromarray(picture(7)).save(tmp_path / "in.png", pnginfo=notes)
    assert restore(tmp_path / "in.png", tmp_path / "out.tif", model="identity").warnings == []


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_colours_under_alpha_0_stay(suffix: str, tmp_path: Path) -> None:
    image = Image.fromarray(picture(7))
    image.putalpha(0)
    image.save(tmp_path / "in.png")
    identity(tmp_path / "in.png", tmp_path / f"out{suffix}")
    assert np.array_equal(pixels(tmp_path / f"out{suffix}"), np.asarray(image))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_deep_tiff_comes_out_upright(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    deep = Image.fromarray(deep_picture(1))
    deep.save(tmp_path / "in.tif", exif=exif)
    identity(tmp_path / "in.tif", tmp_path / "out.tif")
    small = Image.fromarray(picture(7))
    small.save(tmp_path / "small.tif", exif=exif)
    with Image.open(tmp_path / "small.tif") as turned:
        assert turned.size == pixels(tmp_path / "out.tif").shape[::-1]
    upright = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose}
    upright |= {6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90}
    assert np.array_equal(pixels(tmp_path / "out.tif"), upright[orientation](deep_picture(1)))


def tiff16(samples: np.ndarray, *, planar: bool = False, **tags: int) -> bytes:
    """A TIFF of 16 bits per sample as it lies in the file; `planar`: each channel's samples by themselves."""
    height, width, channels = samples.shape if samples.ndim == 3 else (*samples.shape, 1)
    strips = np.moveaxis(samples, -1, 0) if planar else samples[None]
    blob = strips.astype("<u2").tobytes()
    known = {
        256: [width],
        257: [height],
        258: [16] * channels,
        259: [1],
        262: [tags.get("photometric", 1 if channels == 1 else 2)],
        273: [8 + index * len(blob) // len(strips) for index in range(len(strips))],
        274: [tags.get("orientation", 1)],
        277: [channels],
        278: [height],
        279: [len(blob) // len(strips)] * len(strips),
        284: [2 if planar else 1],
        338: [tags.get("extra", 2)] * (channels == 4),
        339: [tags.get("sign", 1)] * channels,
    }
    known = {tag: values for tag, values in known.items() if values}
    rows = tail = b""
    behind = 8 + len(blob) + 2 + 12 * len(known) + 4
    for tag, values in known.items():
        data = b"".join(value.to_bytes(4, "little") for value in values)
        place = data if len(data) == 4 else (behind + len(tail)).to_bytes(4, "little")
        tail += data if len(data) > 4 else b""
        rows += tag.to_bytes(2, "little") + b"\4\0" + len(values).to_bytes(4, "little") + place
    head = b"II*\0" + (8 + len(blob)).to_bytes(4, "little") + blob
    return head + len(known).to_bytes(2, "little") + rows + bytes(4) + tail


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("orientation", [1, 6])
def test_deep_planes_that_lie_apart_are_read_as_they_are(channels: int, orientation: int, tmp_path: Path) -> None:
    deep = deep_picture(channels)
    (tmp_path / "in.tif").write_bytes(tiff16(deep, planar=True, orientation=orientation))
    assert identity(tmp_path / "in.tif", tmp_path / "out.png") == 0
    found = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(found[..., [2, 1, 0, 3][:channels]], deep if orientation == 1 else np.rot90(deep, -1))


@pytest.mark.parametrize("planar", [False, True])
def test_deep_colours_are_divided_by_an_alpha_that_was_multiplied_in(planar: bool, tmp_path: Path) -> None:
    deep = deep_picture(4)
    deep[..., 3] |= 0x8000
    deep[:4, :, 3] = 0
    alpha = deep[..., 3:].astype(np.uint64)
    multiplied = deep.copy()
    multiplied[..., :3] = (deep[..., :3] * alpha + 32767) // 65535
    (tmp_path / "in.tif").write_bytes(tiff16(multiplied, extra=1, planar=planar))
    samples = np.stack(read_still(tmp_path / "in.tif")[0].planes, -1)
    assert np.array_equal(samples[..., 3], deep[..., 3])
    assert np.abs(samples[4:].astype(int) - deep[4:]).max() <= 1
    assert not samples[:4].any()
    (tmp_path / "in.tif").write_bytes(tiff16(deep, extra=0, planar=planar))  # of which it says nothing
    assert np.array_equal(np.stack(read_still(tmp_path / "in.tif")[0].planes, -1), deep[..., :3])


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_the_transparent_value_of_a_gray_png(bits: int, tmp_path: Path) -> None:
    through = (1 << bits) - 1
    samples = np.random.default_rng(0).integers(0, 256, (48, 1 + 8 * bits), np.uint8)
    samples[:, 0] = 0  # no filter
    head = (64).to_bytes(4, "big") + (48).to_bytes(4, "big") + bytes((bits, 0, 0, 0, 0))
    chunks = {
        b"IHDR": head,
        b"tRNS": through.to_bytes(2, "big"),
        b"IDAT": zlib.compress(samples.tobytes()),
        b"IEND": b"",
    }
    made = (len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in chunks.items())
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(made))
    values = np.unpackbits(samples[:, 1:], axis=1).reshape(48, 64, bits) @ (1 << np.arange(bits)[::-1])
    identity(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        found = np.asarray(image.convert("RGBA"))
    assert np.array_equal(found[..., 0], values * 255 // through)
    assert np.array_equal(found[..., 3] == 0, values == through)


@pytest.mark.parametrize(("code", "sampling"), [(0x121111, (1, 2)), (0x411111, (4, 1)), (0x211111, (2, 1))])
def test_the_network_is_told_how_chroma_was_subsampled(code: int, sampling: tuple[int, int], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.jpg"), picture(7), [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, code])
    tables = read_still(tmp_path / "in.jpg")[0].jpeg
    assert tables is not None and tables.subsampling == sampling


def test_a_gray_tiff_whose_white_is_0_is_no_negative(tmp_path: Path) -> None:
    deep = deep_picture(1)
    (tmp_path / "in.tif").write_bytes(tiff16(65535 - deep, photometric=0))
    assert identity(tmp_path / "in.tif", tmp_path / "out.png") == 0
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED), deep)


def test_numbers_that_are_no_16_bits_are_refused(tmp_path: Path) -> None:
    (tmp_path / "signed.tif").write_bytes(tiff16(deep_picture(1), sign=2))
    Image.fromarray(deep_picture(1).astype(np.int32)).save(tmp_path / "long.tif")
    Image.fromarray(deep_picture(1).astype(np.float32)).save(tmp_path / "float.tif")
    for name in ("signed", "long", "float"):
        with pytest.raises(InputError, match="samples are not supported"):
            restore(tmp_path / f"{name}.tif", tmp_path / "out.png", model="identity")


def test_a_deep_gray_png_keeps_its_transparent_value(tmp_path: Path) -> None:
    deep = deep_picture(1)
    done, data = cv2.imencode(".png", deep)
    body = b"tRNS" + int(deep[5, 7]).to_bytes(2, "big")
    chunk = b"\0\0\0\2" + body + zlib.crc32(body).to_bytes(4, "big")
    (tmp_path / "in.png").write_bytes(data.tobytes()[:33] + chunk + data.tobytes()[33:])
    assert done and identity(tmp_path / "in.png", tmp_path / "out.png") == 0
    made = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(made[..., 0], deep)
    assert np.array_equal(made[..., 3] == 0, deep == deep[5, 7])


def test_a_comment_stays_or_is_told(tmp_path: Path) -> None:
    comment = "von Hand, h\u00fcbsch".encode("latin-1")
    Image.fromarray(picture(0)).save(tmp_path / "in.jpg", comment=comment)
    assert restore(tmp_path / "in.jpg", tmp_path / "out.jpg", model="identity").warnings == []
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["comment"] == comment
    assert restore(tmp_path / "in.jpg", tmp_path / "out.png", model="identity").warnings == []
    with Image.open(tmp_path / "out.png") as image:
        assert "von Hand" in image.text["Comment"]  # pyright: ignore[reportAttributeAccessIssue]
    assert any("Comment" in w for w in restore(tmp_path / "in.jpg", tmp_path / "out.webp", model="identity").warnings)


def test_an_avif_picture_is_a_still(tmp_path: Path) -> None:
    Image.fromarray(picture(0)).save(tmp_path / "in.avif", quality=100, subsampling="4:4:4")
    assert identity(tmp_path / "in.avif", tmp_path / "out.png") == 0
    assert np.array_equal(pixels(tmp_path / "out.png"), pixels(tmp_path / "in.avif"))
    assert verify(tmp_path / "in.avif", tmp_path / "out.png") == []


def test_text_of_a_png_stays(tmp_path: Path) -> None:
    notes = PngImagePlugin.PngInfo()
    notes.add_text("Title", "a title")
    notes.add_itxt("Comment", "Ünïcode")
    Image.fromarray(picture(7)).save(tmp_path / "in.png", pnginfo=notes)
    identity(tmp_path / "in.png", tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as after:
        after.load()
        assert after.text == {"Title": "a title", "Comment": "Ünïcode"}


def test_palette_and_one_bit_pictures(tmp_path: Path) -> None:
    palette = Image.fromarray(picture(7)).convert("P", palette=Image.Palette.ADAPTIVE)
    palette.save(tmp_path / "p.png")
    identity(tmp_path / "p.png", tmp_path / "p-out.png")
    assert np.array_equal(pixels(tmp_path / "p-out.png"), np.asarray(palette.convert("RGB")))
    palette.save(tmp_path / "t.png", transparency=0)
    identity(tmp_path / "t.png", tmp_path / "t-out.png")
    with Image.open(tmp_path / "t.png") as before:
        assert np.array_equal(pixels(tmp_path / "t-out.png"), np.asarray(before.convert("RGBA")))
    lines = Image.fromarray(picture(7)).convert("1")
    lines.save(tmp_path / "1.png")
    identity(tmp_path / "1.png", tmp_path / "1-out.png")
    assert np.array_equal(pixels(tmp_path / "1-out.png") > 127, np.asarray(lines))


def test_what_opencv_says_is_not_heard(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.tif").write_bytes(tiff16(deep_picture(1), photometric=8))
    with suppress(InputError):
        restore(tmp_path / "in.tif", tmp_path / "out.png", model="identity")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("mode", ["L", "LA", "transparent", "deep"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_a_gray_profile_stays_with_gray_samples(mode: str, suffix: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / f"out{suffix}"
    gray = Image.fromarray(cv2.GaussianBlur(picture(7)[..., 0], (0, 0), 3))
    if mode == "deep":
        levels = deep_picture(1)
        through = struct.pack(">I4sH", 2, b"tRNS", levels[0, 0])
        Image.fromarray(levels).save(source, icc_profile=GRAY)
        plain = source.read_bytes()
        source.write_bytes(plain[:33] + through + zlib.crc32(through[4:]).to_bytes(4, "big") + plain[33:])
    elif mode == "LA":
        Image.merge("LA", (gray, Image.fromarray(picture(8)[..., 0]))).save(source, icc_profile=GRAY)
    else:
        gray.save(source, icc_profile=GRAY, **({"transparency": 5} if mode == "transparent" else {}))
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and verify(source, target) == []
    (_, before), (frame, after) = read_still(source), read_still(target)
    is_gray = suffix != ".webp" and not (suffix == ".tif" and mode == "deep")
    assert after.is_gray == is_gray and after.icc == (GRAY if is_gray else b"") and before.icc == GRAY
    assert any("through its profile" in text for text in record.warnings) == (not is_gray)
    if suffix == ".jpg":
        return
    with Image.open(source) as image, Image.open(target) as made:
        if is_gray and mode != "deep":
            assert np.array_equal(np.asarray(made), np.asarray(image.convert("LA" if mode == "transparent" else mode)))
        elif mode != "deep":
            profile = ImageCms.ImageCmsProfile(io.BytesIO(GRAY))
            shown = ImageCms.profileToProfile(
                image.convert("L"), profile, ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            assert shown is not None
            assert np.array_equal(np.asarray(made.convert("RGB")), np.asarray(shown))
        elif suffix == ".png":
            assert np.array_equal(np.stack(frame.planes, -1)[..., 0], deep_picture(1))


def test_a_profile_of_other_samples_is_left_out_and_told(tmp_path: Path) -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    image = Image.fromarray(picture(7))
    image.convert("LAB").save(tmp_path / "lab.tif", icc_profile=lab)
    image.save(tmp_path / "gray.webp", icc_profile=GRAY)
    image.convert("L").save(tmp_path / "rgb.jpg", icc_profile=SRGB)
    for name in ("lab.tif", "gray.webp", "rgb.jpg"):
        record = restore(tmp_path / name, tmp_path / "out.png", model="identity", overwrite=True)
        assert any("left out" in text for text in record.warnings)
        with Image.open(tmp_path / "out.png") as made:
            assert "icc_profile" not in made.info


def test_verify_sees_a_profile_of_other_samples_and_what_is_missing(tmp_path: Path) -> None:
    image = Image.fromarray(picture(7))
    image.save(tmp_path / "in.jpg", exif=exif_bytes(), xmp=b"<x/>", comment=b"a", dpi=(300, 300), icc_profile=SRGB)
    image.save(tmp_path / "bare.jpg")
    found = "; ".join(difference.what for difference in verify(tmp_path / "in.jpg", tmp_path / "bare.jpg"))
    assert all(word in found for word in ("EXIF", "XMP", "texts", "resolution", "ICC"))
    image.convert("L").save(tmp_path / "gray.jpg", icc_profile=GRAY)
    image.save(tmp_path / "wrong.webp", icc_profile=GRAY)
    assert any("ICC" in difference.what for difference in verify(tmp_path / "gray.jpg", tmp_path / "wrong.webp"))


def jpeg_with(path: Path, segments: list[tuple[int, bytes]], behind: bytes = b"") -> None:
    """A JPEG with segments behind its JFIF header, and bytes behind its end."""
    buffer = io.BytesIO()
    Image.fromarray(picture(7)).save(buffer, "JPEG", dpi=(96, 96))
    added = b"".join(bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body for marker, body in segments)
    path.write_bytes(buffer.getvalue()[:20] + added + buffer.getvalue()[20:] + behind)


def test_a_jpeg_gets_all_that_rides_along_and_names_the_rest(tmp_path: Path) -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x=\'adobe:ns:meta/\'><rdf:Description GCamera:MotionPhoto="1" hdrgm:Version="1.0" '
        b'xmpNote:HasExtendedXMP="0123"><Container:Directory><rdf:Seq>it</rdf:Seq></Container:Directory>'
        b"</rdf:Description></x:xmpmeta>"
    )
    kept = [
        (0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0"),
        (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 40),
        (0xFE, b"one"),
        (0xFE, b"two"),
    ]
    lost = [(0xE2, b"MPF\0II*\0"), (0xEB, b"JP\0\1")]
    source = tmp_path / "in.jpg"
    jpeg_with(source, [(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp), *kept, *lost], b"\0\0\0\x18ftypmp42")
    record = restore(source, tmp_path / "out.jpg", model="identity", still_quality=95)  # else it is copied
    made = (tmp_path / "out.jpg").read_bytes()
    assert all(body in made for _, body in kept) and not any(body in made for _, body in lost)
    assert made.endswith(b"\xff\xd9")
    assert b'MotionPhoto="0"' in made and b"hdrgm" not in made and b"Container" not in made and b"HasExtended" in made
    said = " ".join(record.warnings)
    assert "APP2 (MPF)" in said and "APP11 (JP)" in said and "12 bytes behind its end" in said
    assert verify(source, tmp_path / "out.jpg") == []
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.info["dpi"] == (96, 96)
    record = restore(source, tmp_path / "out.webp", model="identity")
    said = " ".join(record.warnings)
    assert all(word in said for word in ("IPTC", "extended XMP", "Comment", "resolution"))
    assert b"HasExtended" not in (tmp_path / "out.webp").read_bytes()
    notes: list[str] = []
    assert verify(source, tmp_path / "out.webp", notes=notes) == [] and "IPTC" in " ".join(notes)


def test_a_png_gets_all_texts_and_the_shape_of_pixels_and_names_the_rest(tmp_path: Path) -> None:
    kept = {b"pHYs": bytes((0, 0, 0, 4, 0, 0, 0, 3, 0)), b"zTXt": b"Long\0\0" + zlib.compress(b"long" * 99)}
    several = [b"Author\0Jos\xe9", b"Author\0Second", b"Title\0T"]
    Image.fromarray(picture(7)).save(tmp_path / "plain.png")
    plain = (tmp_path / "plain.png").read_bytes()
    chunks = [*kept.items(), *((b"tEXt", body) for body in several), (b"sBIT", b"\5\6\5"), (b"oFFs", bytes(9))]
    told = (len(b).to_bytes(4, "big") + k + b + zlib.crc32(k + b).to_bytes(4, "big") for k, b in chunks)
    (tmp_path / "in.png").write_bytes(b"".join([plain[:33], *told, plain[33:], b"more"]))
    record = restore(tmp_path / "in.png", tmp_path / "out.png", model="identity")
    made = (tmp_path / "out.png").read_bytes()
    assert all(kind + body in made for kind, body in chunks[:5])
    said = " ".join(record.warnings)
    assert "sBIT, oFFs" in said and "4 bytes behind its end" in said
    assert verify(tmp_path / "in.png", tmp_path / "out.png") == []
    assert any("pHYs" in text for text in restore(tmp_path / "in.png", tmp_path / "o.tif", model="identity").warnings)


def test_a_picture_from_a_pipe_names_what_is_left_out(tmp_path: Path) -> None:
    jpeg_with(tmp_path / "in.jpg", [(0xFE, b"one")])
    program = [sys.executable, "-m", "ns_video", "restore", "-", str(tmp_path / "out.png"), "--model", "identity"]
    done = subprocess.run(program, input=(tmp_path / "in.jpg").read_bytes(), capture_output=True, timeout=120)
    assert done.returncode == 0 and b"keeps no XMP" in done.stderr


def test_cmyk_becomes_rgb_and_is_told(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).convert("CMYK").save(tmp_path / "in.jpg", quality=95)
    record = restore(tmp_path / "in.jpg", tmp_path / "out.png", model="identity")
    assert "CMYK was converted to RGB" in record.warnings
    with Image.open(tmp_path / "in.jpg") as before:
        assert np.array_equal(pixels(tmp_path / "out.png"), np.asarray(before.convert("RGB")))


def test_alpha_into_a_format_without_it_is_told(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).convert("RGBA").save(tmp_path / "in.png")
    record = restore(tmp_path / "in.png", tmp_path / "out.jpg", model="identity")
    assert any("alpha" in text for text in record.warnings)
    assert pixels(tmp_path / "out.jpg").shape == (48, 64, 3)


def test_jpeg_output_takes_a_quality(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "in.png")
    sizes = []
    for quality in (1, 10, 50, 95):
        restore(tmp_path / "in.png", tmp_path / f"{quality}.jpg", model="identity", still_quality=quality)
        sizes.append((tmp_path / f"{quality}.jpg").stat().st_size)
    assert sizes == sorted(sizes) and sizes[0] < sizes[1] < sizes[3] / 2
    record = restore(tmp_path / "in.png", tmp_path / "out.tif", model="identity", still_quality=50)
    assert any("no quality" in text for text in record.warnings)


def test_options_of_clips_are_refused_for_a_still(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "in.png")
    tables = {"encoder_options": {"g": 1}, "input_options": {"framerate": 1}}
    for name, value in {"crf": 18, "codec": "ffv1", "pix_fmt": "gray", "end": 1, **tables}.items():
        with pytest.raises(UsageError, match=name.replace("_", "-").removesuffix("s")):
            restore(tmp_path / "in.png", tmp_path / "out.jpg", model="identity", **{name: value})
    with pytest.raises(UsageError, match="mkv is of clips"):
        restore(tmp_path / "in.png", tmp_path / "out.png", model="identity", format="mkv")


def test_the_format_that_is_asked_for_is_written(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "in.png")
    for name, wanted in {"tiff": "TIFF", ".png": "PNG", "jpeg": "JPEG", "webp": "WEBP"}.items():
        restore(tmp_path / "in.png", tmp_path / "out.tmp", model="identity", format=name, overwrite=True)
        with Image.open(tmp_path / "out.tmp") as image:
            assert image.format == wanted


def test_jpeg_tables_are_read(tmp_path: Path) -> None:
    for subsampling, wanted in ((0, (1, 1)), (1, (2, 1)), (2, (2, 2))):
        Image.fromarray(picture(7)).save(tmp_path / "a.jpg", quality=30, subsampling=subsampling)
        frame, info = read_still(tmp_path / "a.jpg")
        assert frame.jpeg is not None and info.source_format == "JPEG"
        assert frame.jpeg.subsampling == wanted
        assert int(frame.jpeg.luma[0, 0]) == 27  # 16 at quality 50, scaled by 5/3 (T.81 annex K, libjpeg)
        assert int(frame.jpeg.chroma[0, 0]) == 28
    Image.fromarray(picture(7)).save(tmp_path / "a.png")
    assert read_still(tmp_path / "a.png")[0].jpeg is None
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    data[data.index(b"\xff\xdb") + 5 + 63] = 0  # of the first table's highest frequency: libjpeg decodes it
    (tmp_path / "a.jpg").write_bytes(data)
    frame, info = read_still(tmp_path / "a.jpg")
    assert frame.jpeg is None and not info.damage


def test_a_cut_still_is_told_while_another_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Pillow makes of cut files is said to all threads at once."""
    cut, lasts, load = tmp_path / "cut.jpg", threading.Event(), still_samples.load_samples
    Image.fromarray(picture(7, 96, 64)).save(cut, quality=90)
    cut.write_bytes(cut.read_bytes()[:-400])
    limit = Image.MAX_IMAGE_PIXELS

    def lasting(*given: Any) -> Any:
        lasts.set()
        wait([other], 0.2)
        return load(*given)

    def second() -> bool:
        return lasts.wait(5) and bool(read_still(cut)[1].damage)

    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second)
        monkeypatch.setattr(still_samples, "load_samples", lasting)
        assert read_still(cut)[1].damage and other.result(5)
    assert limit == Image.MAX_IMAGE_PIXELS and not ImageFile.LOAD_TRUNCATED_IMAGES


def test_truncated_picture_is_finished_and_reported(tmp_path: Path) -> None:
    Image.fromarray(picture(7, 96, 64)).save(tmp_path / "whole.jpg", quality=90)
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) * 2 // 3])
    record = restore(tmp_path / "cut.jpg", tmp_path / "out.png", model="identity")
    assert record.exit_code == 3 and "damaged" in record.damage[0].what
    top = pixels(tmp_path / "out.png")[:16].astype(int)
    assert np.abs(top - pixels(tmp_path / "whole.jpg")[:16]).mean() < 2
    with pytest.raises(InputError):
        restore(tmp_path / "cut.jpg", tmp_path / "strict.png", model="identity", strict=True)
    assert not (tmp_path / "strict.png").exists()


def cut(path: Path) -> Path:
    """Two thirds of a file, in its place."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


def test_a_cut_png_keeps_its_exif_and_blames_it_for_nothing(tmp_path: Path) -> None:
    for name, exif in (("plain.png", b""), ("told.png", exif_bytes())):
        Image.fromarray(picture(7, 96, 64)).save(tmp_path / name, exif=exif)
        record = restore(cut(tmp_path / name), tmp_path / "out.png", model="identity", overwrite=True)
        assert record.exit_code == 3 and not record.warnings
    with Image.open(tmp_path / "out.png") as after:
        assert after.getexif()[COPYRIGHT] == "somebody"


def test_a_cut_deep_picture_keeps_its_bits_or_says_that_it_does_not(tmp_path: Path) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    for channels in (1, 3):
        cv2.imwrite(str(source), deep_picture(channels))
        record = restore(cut(source), target, model="identity", overwrite=True)
        made = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
        assert record.exit_code == 3
        assert (made.dtype == np.uint16) != any("8 of its 16 bits" in text for text in record.warnings)
        if channels == 1:
            assert np.array_equal(made[:16], deep_picture(1)[:16])


def test_a_cut_palette_keeps_its_transparency(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).convert("P").save(tmp_path / "in.png", transparency=0)
    assert restore(cut(tmp_path / "in.png"), tmp_path / "out.png", model="identity").exit_code == 3
    assert pixels(tmp_path / "out.png").shape == (48, 64, 4)


def test_only_max_pixels_says_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # Pillow refuses pictures of twice as many
    Image.fromarray(picture(7)).save(tmp_path / "a.png")
    assert identity(tmp_path / "a.png", tmp_path / "b.png") == 0
    assert verify(tmp_path / "a.png", tmp_path / "b.png") == []
    assert Image.MAX_IMAGE_PIXELS == 100


def test_what_a_format_cannot_hold_is_no_foreign_error(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 20000, 3), np.uint8)).save(tmp_path / "wide.png")
    with pytest.raises(OutputError, match="can't be written as WEBP"):
        restore(tmp_path / "wide.png", tmp_path / "wide.webp", model="identity")
    assert [path.name for path in tmp_path.iterdir()] == ["wide.png"]


@pytest.mark.parametrize("dots", [(0, 0), ((1 << 32) - 1, 1), (1, 1000000), ()])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".bmp"])
def test_a_resolution_that_cannot_be_true_is_left_out(dots: tuple[int, ...], suffix: str, tmp_path: Path) -> None:
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags.tagtype[282] = tags.tagtype[283] = 5 if dots else 2  # RATIONAL, ASCII
    tags[282] = tags[283] = TiffImagePlugin.IFDRational(*dots) if dots else "fine"
    tags[296] = 2
    Image.fromarray(picture(7)).save(tmp_path / "in.tif", tiffinfo=tags)
    record = restore(tmp_path / "in.tif", tmp_path / f"out{suffix}", model="identity")
    assert record.exit_code == 0
    assert any("resolution" in text for text in record.warnings) == (1000000 not in dots)


def test_a_pipe_and_a_link_stay_what_they_are(tmp_path: Path) -> None:
    source, pipe, link = tmp_path / "in.png", tmp_path / "pipe.png", tmp_path / "link.png"
    Image.fromarray(picture(7)).save(source)
    os.mkfifo(pipe)
    link.symlink_to("real.png")
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        try:
            assert identity(source, pipe) == 0 and pipe.is_fifo()
            received = reader.communicate(timeout=20)[0]
        finally:
            reader.kill()
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(received))), picture(7))
    assert identity(source, link) == 0 and link.is_symlink()
    assert np.array_equal(pixels(tmp_path / "real.png"), picture(7))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty.png", b""),
        ("text.png", b"this is no picture"),
        ("head.png", b"\x89PNG\r\n\x1a\n"),
        ("head.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
        ("head.webp", b"RIFF\x10\0\0\0WEBPVP8 "),
    ],
)
def test_what_is_no_picture_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    target = tmp_path / "out.png"
    target.write_bytes(b"precious")
    with pytest.raises(InputError):
        restore(tmp_path / name, target, model="identity", overwrite=True)
    assert target.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_header_that_claims_too_much_is_refused(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="max-pixels"):
        restore(tmp_path / "a.png", tmp_path / "b.png", model="identity", max_pixels=100)


def test_a_still_needs_a_stills_name(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "a.png")
    for target in (tmp_path / "b.xyz", tmp_path / "b.mkv", "-"):
        with pytest.raises(UsageError, match=r"is a still .PNG."):
            restore(tmp_path / "a.png", target, model="identity")
    assert still_suffix("a.JPEG") == "JPEG" and still_suffix("a.mp4") is None


def test_content_counts_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "really.png")
    lying = tmp_path / "lying.mp4"
    lying.write_bytes((tmp_path / "really.png").read_bytes())
    assert still_format(lying) == "PNG"
    assert identity(lying, tmp_path / "out.png") == 0
    assert np.array_equal(pixels(tmp_path / "out.png"), picture(7))


def test_auto_restores_a_jpeg_and_hardly_touches_a_clean_png(tmp_path: Path) -> None:
    clean = cv2.GaussianBlur(np.kron(picture(5, 24, 16), np.ones((4, 4, 1), np.uint8)), (0, 0), 1.5)
    Image.fromarray(clean).save(tmp_path / "clean.png")
    buffer = io.BytesIO()
    Image.fromarray(clean).save(buffer, "JPEG", quality=10)
    (tmp_path / "bad.jpg").write_bytes(buffer.getvalue())

    def psnr(found: np.ndarray) -> float:
        error = float(np.mean((found.astype(float) - clean) ** 2))
        return 99.0 if error == 0 else 10 * np.log10(255**2 / error)

    restore(tmp_path / "clean.png", tmp_path / "clean-out.png", device="cpu", precision="fp32")
    assert psnr(pixels(tmp_path / "clean-out.png")) >= 55
    restore(tmp_path / "bad.jpg", tmp_path / "bad-out.png", device="cpu", precision="fp32")
    before, after = psnr(pixels(tmp_path / "bad.jpg")), psnr(pixels(tmp_path / "bad-out.png"))
    assert after > before + 0.3


def test_alpha_survives_a_restored_run(small_model: Path, tmp_path: Path) -> None:
    image = Image.fromarray(picture(7))
    image.putalpha(Image.fromarray(picture(8)[..., 0]))
    image.save(tmp_path / "in.png")
    restore(tmp_path / "in.png", tmp_path / "out.png", model=str(small_model), device="cpu")
    found = pixels(tmp_path / "out.png")
    assert np.array_equal(found[..., 3], picture(8)[..., 0])
    assert not np.array_equal(found[..., :3], picture(7))


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animations_are_clips(suffix: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(i, 32, 24)) for i in range(5)]
    path = tmp_path / f"anim{suffix}"
    more = {"lossless": True} if suffix == ".webp" else {}
    durations = [40, 80, 120, 200, 40]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, loop=0, **more)
    assert still_format(path) is None
    target = tmp_path / "out.mkv"
    record = restore(path, target, model="identity", codec="ffv1")
    assert record.kind == "clip" and record.frames_out == 5
    with av.open(str(target)) as clip:
        shown = list(clip.decode(video=0))
        times = [round(float(f.pts * f.time_base) * 1000) for f in shown]
    assert times == [0, 40, 120, 240, 440]
    with Image.open(path) as image:
        for index, frame in enumerate(shown):
            image.seek(index)
            assert np.array_equal(frame.to_ndarray(format="rgb24"), np.asarray(image.convert("RGB")))


def test_animation_into_animation(tmp_path: Path) -> None:
    frames = [Image.fromarray(picture(i, 32, 24)) for i in range(4)]
    path = tmp_path / "anim.webp"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40, 80, 40, 40], lossless=True)
    for name in ("out.webp", "out.png", "out.gif"):
        record = restore(path, tmp_path / name, model="identity")
        assert record.frames_out == 4 and record.exit_code == 0
        with Image.open(tmp_path / name) as image:
            assert image.n_frames == 4
            if name != "out.gif":
                image.seek(3)
                assert np.array_equal(np.asarray(image.convert("RGB")), picture(3, 32, 24))


def test_gifs_keep_few_colours_and_holes_exactly(tmp_path: Path) -> None:
    """Across segments (of 240 frames), with holes that come and go, as two readers show them."""
    noise = np.random.default_rng(5)
    frames: list[np.ndarray] = []
    for index in range(244):
        samples = np.full((16, 24, 4), 255, np.uint8)
        samples[..., :3] = noise.integers(0, 4, (16, 24, 3)) * 64 + index % 2 * 5
        samples[3:9, index % 16 : index % 16 + 5, 3] = 255 * (index % 3 > 0)
        frames.append(samples)
    shown = [Image.fromarray(samples) for samples in frames]
    shown[0].save(tmp_path / "in.webp", save_all=True, append_images=shown[1:], duration=40, lossless=True, exact=True)
    record = restore(tmp_path / "in.webp", tmp_path / "out.gif", model="identity")
    assert record.exit_code == 0 and verify(tmp_path / "in.webp", tmp_path / "out.gif") == []
    assert (tmp_path / "out.gif").read_bytes().count(b"GIF89a") == 1
    with av.open(str(tmp_path / "out.gif")) as clip, Image.open(tmp_path / "out.gif") as image:
        found = [(frame.to_ndarray(format="rgba"), index) for index, frame in enumerate(clip.decode(video=0))]
        for (decoded, index), samples in zip(found, frames, strict=True):
            image.seek(index)
            for seen in (decoded, np.asarray(image.convert("RGBA"))):
                assert np.array_equal(seen[..., 3], samples[..., 3]), index
                solid = samples[..., 3] > 0
                assert np.array_equal(seen[solid], samples[solid]), index


def test_gifs_have_a_palette_of_each_picture(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), cv2.GaussianBlur(picture(5, 96, 96), (0, 0), 9))
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "a.png", "-c:v", "ffv1", tmp_path / "a.mkv"], check=True)
    record = restore(tmp_path / "a.mkv", tmp_path / "a.gif", model="identity")
    assert any("256 colours" in text for text in record.warnings)
    with Image.open(tmp_path / "a.gif") as made, Image.open(tmp_path / "a.png") as source:
        error = np.asarray(made.convert("RGB")).astype(float) - np.asarray(source)
    assert 10 * np.log10(255**2 / np.mean(error**2)) > 28  # 20 with fixed colours


def test_one_picture_is_no_animation(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "a.webp", lossless=True)
    assert still_format(tmp_path / "a.webp") == "WebP"
    assert open_animation(tmp_path / "a.webp", DecodeOptions()) is None


def test_the_size_of_a_turned_picture_is_that_of_what_is_shown(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "in.jpg", exif=exif_bytes())
    for suffix in (".jpg", ".tif"):
        restore(tmp_path / "in.jpg", tmp_path / f"out{suffix}", model="identity", size=(30, 60), fit="stretch")
        with Image.open(tmp_path / f"out{suffix}") as made:
            assert ImageOps.exif_transpose(made).size == (30, 60)


def test_tiles_that_overlap_too_little_are_told(tmp_path: Path) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    large = cv2.resize(picture, (300, 200), interpolation=cv2.INTER_CUBIC)
    assert cv2.imwrite(str(tmp_path / "in.jpg"), large, [cv2.IMWRITE_JPEG_QUALITY, 20])
    for overlap, told in ((8, True), (None, False)):
        target = tmp_path / f"{overlap}.png"
        record = restore(tmp_path / "in.jpg", target, model="fast-photo", device="cpu", tile=128, overlap=overlap)
        assert record.tile == 128 and any("tiles overlap" in text for text in record.warnings) == told


@pytest.mark.parametrize("size", [None, (128, 96)])
def test_colours_under_full_transparency_stay_and_sharpen_no_edge(size: tuple[int, int] | None, tmp_path: Path) -> None:
    shown = list[np.ndarray]()
    for hidden in (0, 255):
        drawn = np.dstack([picture(1), np.full((48, 64), 255, np.uint8)])
        drawn[:, 39, 3], drawn[:, 40:] = 128, (hidden, hidden, hidden, 0)
        Image.fromarray(drawn).save(tmp_path / "in.png")
        restore(tmp_path / "in.png", tmp_path / "out.png", model="identity", sharpen=1.0, size=size, overwrite=True)
        made = pixels(tmp_path / "out.png")
        shown.append(np.where(made[..., 3:] > 0, made, 0))
        assert size is not None or (made[:, 40:, :3] == hidden).all()
    assert np.array_equal(shown[0], shown[1])


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "tif", "bmp"])
def test_a_clip_does_not_become_a_picture(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    target = tmp_path / f"one.{suffix}"
    with pytest.raises(UsageError, match=rf"plain\.mp4 is a clip; .*one\.{suffix} holds one picture") as told:
        restore(plain_clip, target, model="identity")
    assert told.value.remedy and ".mkv" in told.value.remedy and not target.exists()
    with pytest.raises(UsageError, match=f"is a clip; --format {suffix} holds one picture"):
        restore(plain_clip, tmp_path / "one.mkv", model="identity", format=suffix)


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_what_is_not_changed_is_copied(suffix: str, tmp_path: Path) -> None:
    """Coded again a fine JPEG lost 1 dB."""
    source, target = tmp_path / f"in.{suffix}", tmp_path / f"out.{suffix}"
    Image.fromarray(picture(3)).save(source, quality=97)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and target.read_bytes() == source.read_bytes()
    record = restore(source, tmp_path / "o.png", model="photo", strength=0.0)
    assert np.array_equal(read_still(source)[0].planes, read_still(tmp_path / "o.png")[0].planes)
    if suffix == "jpg":
        assert "nothing was restored: no sample was to be changed" in record.warnings
        restore(source, target, model="identity", overwrite=True, still_quality=97)
        assert target.read_bytes() != source.read_bytes()  # it was asked for
        restore(source, target, model="identity", overwrite=True, size=(20, 20))
        assert read_still(target)[0].width == 20


def test_a_damaged_picture_is_not_copied(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "whole.jpg", quality=90)
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "in.jpg").write_bytes(data[: len(data) // 2])
    record = restore(tmp_path / "in.jpg", tmp_path / "out.jpg", model="identity")
    assert record.exit_code == 3 and record.damage
    assert read_still(tmp_path / "out.jpg")[1].damage == ()
