"""The table of containers, and which one an output's name asks for."""

from __future__ import annotations

from collections import Counter

import pytest
from av.format import ContainerFormat

from ns_video.errors import UsageError
from ns_video.media.containers import CONTAINERS, Container, format_for, of_demuxer, of_muxer


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("a.mkv", "matroska"),
        ("b.MP4", "mp4"),
        ("c.mov", "mov"),
        ("d.webm", "webm"),
        ("e.ts", "mpegts"),
        ("-", "nut"),
        ("x.y/a.mkv", "matroska"),
        ("a.b.mp4", "mp4"),
        ("a.y4m", "yuv4mpegpipe"),
        ("%03d.mkv", "matroska"),
    ],
)
def test_container_by_name(path: str, wanted: str) -> None:
    assert format_for(path) == wanted


def test_container_by_wish() -> None:
    assert format_for("a.mkv", "mp4") == "mp4"
    assert format_for("-", "y4m") == "yuv4mpegpipe"
    assert format_for("-", "mkv") == "matroska"
    for name in ("a", "a.xyz", "folder.mkv/a"):
        with pytest.raises(UsageError):
            format_for(name)


def test_names_and_suffixes() -> None:
    for container in CONTAINERS:
        assert ContainerFormat(container.name, "w").is_output
        assert ContainerFormat(container.read_by.partition(",")[0], "r").is_input
        assert of_muxer(container.name) is container
        assert of_demuxer(container.read_by).read_by == container.read_by
        assert all(format_for(f"a{suffix}") == container.name for suffix in container.suffixes)
    assert max(Counter(suffix for c in CONTAINERS for suffix in c.suffixes).values()) == 1
    assert of_muxer("wtv") == Container(name="wtv") and of_demuxer("dv") == Container(name="dv")
