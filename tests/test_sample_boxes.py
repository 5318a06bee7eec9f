"""What MP4 and MOV say of where in space pictures and sound belong stays, or its loss is named."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import av
import pytest
from checked import found
from conftest import ffmpeg
from material import Recipe, write_clip

import ns_video
from ns_video.media.sample_boxes import complete_movie, sample_boxes, writable
from ns_video.pipeline import restore


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


_STEREO = _box(b"st3d", b"\0\0\0\0\1")
_AROUND = _box(b"prhd", bytes(16)) + _box(b"equi", bytes(20))
_SPHERE = _box(b"sv3d", _box(b"svhd", b"\0\0\0\0test\0") + _box(b"proj", _AROUND))
_APERTURE = _box(b"clap", struct.pack(">8I", 60, 1, 40, 1, 0, 1, 0, 1))
_SPATIAL = _box(b"SA3D", bytes(8) + struct.pack(">5I", 4, 0, 1, 2, 3))
_XML = _box(b"uuid", bytes.fromhex("ffcc8263f8554a938814587a02521fdd") + b"<rdf:SphericalVideo/>")


@pytest.fixture
def around(tmp_path: Path) -> Path:
    """A clip that is to be seen and heard around the viewer."""
    path = write_clip(tmp_path / "in.mp4", Recipe(audio=[("aac", "eng")]))
    assert complete_movie(path, {1: (_STEREO, _SPHERE, _APERTURE, _XML), 2: (_SPATIAL,)}, ())
    assert sample_boxes(path) == {1: (_XML, _STEREO, _SPHERE, _APERTURE), 2: (_SPATIAL,)}
    return path


def _on_frame(path: Path) -> set[str]:
    """What libav reads of it."""
    with av.open(str(path)) as clip:
        data: list[Any] = list(next(clip.decode(video=0)).side_data)
    return {d.type.name for d in data} & {"SPHERICAL", "STEREO3D"}


@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
def test_it_stays_in_mp4_and_mov(name: str, around: Path, tmp_path: Path) -> None:
    target = tmp_path / name
    record = restore(around, target, model="identity", verify="full")
    assert not any("left out" in text for text in record.warnings)
    assert sample_boxes(target) == sample_boxes(around)
    assert _on_frame(around) == _on_frame(target) == {"SPHERICAL", "STEREO3D"}
    assert ns_video.verify(around, target) == []


def test_an_aperture_counts_pixels_of_its_size() -> None:
    assert writable((_APERTURE, _STEREO), same_size=False) == (_STEREO,)
    assert writable((_APERTURE, _box(b"vexu", b"")), same_size=True) == (_APERTURE,)  # one view is restored


def test_what_matroska_does_not_tell_is_named(around: Path, tmp_path: Path) -> None:
    record, notes = restore(around, tmp_path / "out.mkv", model="identity", codec="ffv1"), list[str]()
    assert ns_video.verify(around, tmp_path / "out.mkv", notes=notes) == []
    for told in (record.warnings, notes):
        assert "stream 0: left out: 360° projection, clean aperture, which matroska doesn't tell here" in told
        assert "stream 1: left out: spatial sound, which matroska doesn't tell here" in told
    assert _on_frame(tmp_path / "out.mkv") == {"STEREO3D"}


def test_its_loss_is_a_difference(around: Path, tmp_path: Path) -> None:
    ffmpeg("-i", around, "-map", "0", "-c", "copy", "-strict", "-2", tmp_path / "out.mp4")
    assert "stream 1: its spatial sound is missing or differs" in found(around, tmp_path / "out.mp4")


def test_a_file_whose_index_is_first_is_left_as_it_is(around: Path, tmp_path: Path) -> None:
    first = tmp_path / "first.mp4"
    ffmpeg("-i", around, "-c", "copy", "-movflags", "+faststart", first)
    shutil.copy(first, tmp_path / "same.mp4")
    assert not complete_movie(first, {1: (_STEREO,)}, ())
    assert first.read_bytes() == (tmp_path / "same.mp4").read_bytes()
    assert sample_boxes(write_clip(tmp_path / "plain.mkv")) == {}
