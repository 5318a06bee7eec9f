"""What a container says of itself, read without decoding."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from conftest import ffmpeg
from material import picture
from PIL import Image

from ns_video.errors import InputError
from ns_video.media.decode import open_clip
from ns_video.media.libav import file_url, is_url, open_input, printable
from ns_video.media.png_chunks import put_in
from ns_video.media.probe import ClipInfo, clip_info, pixel_format, still_format
from ns_video.pipeline import restore


def info(path: Path) -> ClipInfo:
    """The header of a clip."""
    with open_input(path) as container:
        return clip_info(container)


def test_streams_chapters_tags_and_languages(two_audio_subs_chapters_clip: Path) -> None:
    found = info(two_audio_subs_chapters_clip)
    assert [s.type for s in found.streams] == ["video", "audio", "audio", "subtitle", "subtitle", "attachment"]
    assert [s.codec for s in found.streams][:5] == ["h264", "flac", "aac", "subrip", "subrip"]
    assert [dict(s.metadata).get("language") for s in found.streams[1:5]] == ["eng", "deu", "eng", "fra"]
    assert found.chapters == 2
    assert dict(found.metadata)["title"] == "Ünïcode title"
    assert found.video.index == 0 and (found.video.width, found.video.height) == (64, 48)
    assert found.video.rate == 25


def test_colour_depth_and_aspect(ten_bit_pq_clip: Path, sar_clip: Path, full_range_601_clip: Path) -> None:
    pq = info(ten_bit_pq_clip).video
    assert (pq.color.matrix, pq.color.range, pq.color.primaries, pq.color.transfer) == (9, 1, 9, 16)
    assert pq.format.bit_depth == 10 and not pq.format.is_rgb
    assert info(sar_clip).video.sample_aspect_ratio == Fraction(16, 11)
    assert info(full_range_601_clip).video.color.range == 2


def test_the_stream_to_restore(cover_clip: Path, second_video_clip: Path, audio_only_clip: Path) -> None:
    cover = info(cover_clip)
    pictures = [s for s in cover.streams if s.is_cover]
    assert len(pictures) == 1 and pictures[0].index != cover.video.index
    assert cover.video.codec == "h264"
    assert info(second_video_clip).video.index == 1
    with pytest.raises(InputError, match=r"no video stream \(audio only\)"):
        info(audio_only_clip)


@pytest.mark.parametrize(
    ("name", "depth", "planes", "shift", "rgb", "alpha"),
    [
        ("yuv420p", 8, 3, (1, 1), False, False),
        ("yuv422p10le", 10, 3, (1, 0), False, False),
        ("yuv444p12le", 12, 3, (0, 0), False, False),
        ("yuv411p", 8, 3, (2, 0), False, False),
        ("yuv410p", 8, 3, (2, 2), False, False),
        ("yuv440p", 8, 3, (0, 1), False, False),
        ("gray", 8, 1, (0, 0), False, False),
        ("gray16le", 16, 1, (0, 0), False, False),
        ("gbrp", 8, 3, (0, 0), True, False),
        ("gbrap16le", 16, 4, (0, 0), True, True),
        ("yuva420p", 8, 4, (1, 1), False, True),
    ],
)
def test_pixel_formats(name: str, depth: int, planes: int, shift: tuple[int, int], rgb: bool, alpha: bool) -> None:
    found = pixel_format(name)
    assert (found.bit_depth, found.planes, found.is_rgb, found.has_alpha) == (depth, planes, rgb, alpha)
    assert (found.chroma_shift_x, found.chroma_shift_y) == shift


def test_stills_are_told_from_clips_by_content(plain_clip: Path, tmp_path: Path) -> None:
    assert still_format(plain_clip) is None
    assert still_format(tmp_path / "absent") is None
    for data, wanted in (
        (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"RIFF\0\0\0\0AVI LIST", None),
        (b"GIF89a", None),
        (b"", None),
    ):
        path = tmp_path / "x"
        path.write_bytes(data + bytes(64) if data else data)
        assert still_format(path) == wanted


def test_an_animated_png_is_known_by_its_chunks(tmp_path: Path) -> None:
    """Not by their names in a text, and however long a text comes before them."""
    first, *others = (Image.fromarray(picture(index, 64, 48)) for index in range(3))
    path = tmp_path / "x.png"
    first.save(path, save_all=True, append_images=others)
    path.write_bytes(put_in(path.read_bytes(), [(b"tEXt", b"Comment\0" + b"x" * 70000)]))
    assert still_format(path) is None
    first.save(path)
    path.write_bytes(put_in(path.read_bytes(), [(b"tEXt", b"Comment\0acTL")]))
    assert still_format(path) == "PNG"


def test_raw_motion_jpeg_is_a_clip_and_a_photo_with_more_behind_it_is_none(tmp_path: Path) -> None:
    path = tmp_path / "cam.mjpeg"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", path)
    assert still_format(path) is None
    restore(path, tmp_path / "out.png", model="identity")
    with open_clip(tmp_path / "out.png") as reader:
        assert len(list(reader.frames())) == 10
    photo, smaller = Image.fromarray(picture(0, 64, 48)), Image.fromarray(picture(0, 32, 24))
    photo.save(tmp_path / "stereo.mpo", save_all=True, append_images=[photo])
    photo.save(tmp_path / "whole.jpg", progressive=True)
    smaller.save(tmp_path / "depth.jpg")
    whole, depth = ((tmp_path / name).read_bytes() for name in ("whole.jpg", "depth.jpg"))
    assert still_format(tmp_path / "stereo.mpo") == "JPEG"
    for data in (whole, whole[:-2], whole + depth, whole + b"\0" * 24 + b"ftypmp42"):
        path.write_bytes(data)
        assert still_format(path) == "JPEG"
    path.write_bytes(whole + bytes(2) + whole)
    assert still_format(path) is None


def test_names_are_files_unless_they_are_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert file_url("a:b.mp4") == f"file:{tmp_path}/a:b.mp4"
    assert file_url("-x") == f"file:{tmp_path}/-x"
    assert is_url("http://a/b") and not is_url("a:b") and not is_url("concat:a|b")
    Path("odd:").mkdir()
    (tmp_path / "odd:" / "b").touch()
    assert not is_url("odd://b")
    assert printable("a\nb\x1b[2J") == "a\\nb\\x1b[2J"
    assert printable("ünï") == "ünï"


def test_a_playlist_opens_no_other_file(plain_clip: Path, tmp_path: Path) -> None:
    for name, text in (
        ("a.m3u8", f"#EXTM3U\n#EXTINF:1,\n{plain_clip}\n#EXT-X-ENDLIST\n"),
        ("a.ffconcat", f"ffconcat version 1.0\nfile '{plain_clip}'\n"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError):
            open_input(tmp_path / name)


def test_a_cover_is_no_video(audio_only_clip: Path, tmp_path: Path) -> None:
    Image.fromarray(picture(90, 40, 40)).save(tmp_path / "art.png")
    sources = ("-i", audio_only_clip, "-i", tmp_path / "art.png", "-map", "0", "-map", "1")
    ffmpeg(*sources, "-c:a", "aac", "-c:v", "copy", "-disposition:v:0", "attached_pic", tmp_path / "song.m4a")
    with pytest.raises(InputError, match="audio, cover picture only"):
        info(tmp_path / "song.m4a")
