"""The table of containers against what libav writes and reads back."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.format import ContainerFormat
from conftest import QUARTER_TURN
from material import MILLISECOND, facts, picture

from ns_video.errors import UsageError
from ns_video.media.containers import CONTAINERS, Container, format_for, of_demuxer, of_file, of_muxer
from ns_video.media.libav import open_input
from ns_video.media.probe import clip_info
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore

CHAPTERS = [(120, 200, "One"), (200, 400, "Two")]
SOUND = {"webm": "libopus", "mpeg": "mp2", "vob": "mp2", "mxf": "pcm_s16le"}
FILLED = [c for c in CONTAINERS if not c.unfit and not c.video_only]
READ_AS = {"ipod": "mp4", "vob": "mpeg"}  # by what nothing in the file tells


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


def filled(container: Container, path: Path) -> Path:
    """A clip with sound that has languages, a turn and chapters, if they can be held."""
    with av.open(str(path), "w", format=container.name, container_options=dict(container.muxer_options)) as out:
        video = out.add_stream(container.encoder or "libx264", rate=25, width=64, height=48)
        video.codec_context.pix_fmt = "yuv420p"
        video.codec_context.max_b_frames = 0
        video.set_display_matrix(QUARTER_TURN)
        sound = out.add_stream(SOUND.get(container.name, "aac"), rate=48000, layout="stereo")
        sound.metadata["language"] = "deu"
        chapters = [
            {"id": n, "start": a, "end": b, "time_base": MILLISECOND, "metadata": {"title": title}}
            for n, (a, b, title) in enumerate(CHAPTERS, 1)
        ]
        out.set_chapters(chapters)
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(picture(index), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for index in range(18):
            block = av.AudioFrame(format="s16", layout="stereo", samples=1024)
            block.sample_rate, block.pts, block.time_base = 48000, index * 1024, Fraction(1, 48000)
            block.planes[0].update(bytes(block.planes[0].buffer_size))
            out.mux(sound.encode(block))
        out.mux(sound.encode(None))
    return path


@pytest.mark.parametrize("container", FILLED, ids=lambda c: c.name)
def test_what_it_holds_is_read_back(container: Container, tmp_path: Path) -> None:
    path = filled(container, tmp_path / "a.bin")
    with open_input(path) as found:
        assert of_file(path, clip_info(found)).name == READ_AS.get(container.name, container.name)
        begins = [int(c["start"] * c["time_base"] * 1000) for c in found.chapters()]
        titles = [c["metadata"]["title"] for c in found.chapters()]
        assert titles == (["One", "Two"] if container.holds_chapters else [])
        assert not titles or begins == [0 if container.first_chapter_at_zero else 120, 200]
        assert (next(found.decode(video=0)).rotation != 0) == container.holds_turn
        kept = {s.type for s in found.streams if s.metadata.get("language") in ("deu", "ger")}
        assert kept <= container.languages_of
        assert "audio" not in container.languages_of or container.numbers_languages or "audio" in kept


@pytest.mark.parametrize("suffix", ["3gp", "3g2", "f4v"])
def test_relatives_of_mp4_hold_what_they_can(
    suffix: str, mp4_streams_clip: Path, rotated_clip: Path, tmp_path: Path
) -> None:
    for source in (mp4_streams_clip, rotated_clip):
        out = tmp_path / f"out.{suffix}"
        record = restore(source, out, model="identity", overwrite=True)
        assert record.exit_code == 0 and not any("can't say" in text for text in record.warnings)
        assert verify_files(source, out) == []
        was, now = facts(source), facts(out)
        assert [(start, title) for start, _, title in now.chapters] == [(a, title) for a, _, title in was.chapters]
        assert now.display_matrix == was.display_matrix


def test_equal_runs_make_equal_mxf(plain_clip: Path, tmp_path: Path) -> None:
    made = [tmp_path / "a.mxf", tmp_path / "b.mxf"]
    for out in made:
        restore(plain_clip, out, model="identity")
    assert made[0].read_bytes() == made[1].read_bytes()
