"""MP4 of which edit lists hide a part: what was cut away stays away, and nobody calls it damage."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from conftest import ffmpeg
from material import facts

from ns_video.media.verify import verify_files
from ns_video.pipeline import restore

RATE = 48_000
NOTHING = -1


def parts(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind of each box, and what it holds."""
    while data:
        size = int.from_bytes(data[:4])
        yield data[4:8], data[8:size]
        data = data[size:]


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", len(body) + 8, kind) + body


def edited(clip: Path, handler: bytes, edits: list[tuple[int, int]]) -> Path:
    """A copy of an MP4 whose index lies at its end, its track of this kind with these edits: milliseconds, and the
    tick of the track at which they begin."""

    def track(body: bytes) -> bytes:
        if handler not in body:
            return body
        entries = b"".join(struct.pack(">IiI", lasts, begins, 1 << 16) for lasts, begins in edits)
        told = box(b"edts", box(b"elst", struct.pack(">II", 0, len(edits)) + entries))
        return b"".join(told if kind == b"edts" else box(kind, inner) for kind, inner in parts(body))

    def index(body: bytes) -> bytes:
        return b"".join(box(kind, track(inner) if kind == b"trak" else inner) for kind, inner in parts(body))

    made = clip.with_name(f"edited-{clip.name}")
    made.write_bytes(b"".join(box(kind, index(x) if kind == b"moov" else x) for kind, x in parts(clip.read_bytes())))
    return made


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """Two seconds of picture and sound, AC-3's packets being 32 ms long."""
    path, sound = tmp_path / "in.mp4", ("-f", "lavfi", "-i", f"sine=d=2:r={RATE}", "-c:a", "ac3")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2", *sound, "-c:v", "libx264", "-g", "100", path)
    return path


def sounding(path: Path) -> tuple[float, int]:
    """Seconds at which the sound begins, and its packets."""
    packets = next(s for s in facts(path).streams if s.type == "audio").packets
    return float(packets[0][0] or 0), len(packets)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_trimmed_sound_that_begins_late_is_not_heard_before(suffix: str, film: Path, tmp_path: Path) -> None:
    source = edited(film, b"soun", [(400, NOTHING), (1500, RATE // 2)])
    target, notes = tmp_path / f"out.{suffix}", list[str]()
    assert sounding(source)[0] < -0.09  # half a second of it is hidden
    record = restore(source, target, model="identity")
    said = [text for text in record.warnings if "the input's edit list hides what lies there" in text]
    assert record.exit_code == 0 and len(said) == 1
    first = video_begin(target)
    assert 0.4 - 2 * 0.032 < sounding(target)[0] - first <= 0.4 + 0.001  # one packet that the decoder begins with
    assert verify_files(source, target, notes=notes) == [] and said[0] in notes


def test_trimmed_sound_begins_late_in_a_cut_as_well(film: Path, tmp_path: Path) -> None:
    source, target = edited(film, b"soun", [(400, NOTHING), (1500, RATE // 2)]), tmp_path / "out.mkv"
    assert restore(source, target, model="identity", start=0.1).exit_code == 0
    assert 0.3 - 2 * 0.032 < sounding(target)[0] <= 0.3 + 0.001


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_sound_from_between_two_edits_is_left_out(suffix: str, film: Path, tmp_path: Path) -> None:
    source = edited(film, b"soun", [(600, 0), (600, RATE)])
    target, notes = tmp_path / f"out.{suffix}", list[str]()
    record = restore(source, target, model="identity")
    assert record.exit_code == 0
    said = [text for text in record.warnings if "the input's edit list hides what lies there" in text]
    with av.open(str(source)) as clip:
        packets = [p.is_discard for p in clip.demux(audio=0) if p.size]
    assert packets.count(True) > 30 and len(said) == 1
    assert sounding(target)[1] == packets.count(False)
    assert verify_files(source, target, notes=notes) == [] and said[0] in notes


def test_trimmed_video_that_begins_late_is_whole(film: Path, tmp_path: Path) -> None:
    """libav's duration of it holds the time before it, too."""
    source = edited(film, b"vide", [(800, NOTHING), (1200, 6400)])
    record = restore(source, tmp_path / "out.mkv", model="identity")
    assert record.exit_code == 0 and record.frames_out == 30 and not record.damage


def video_begin(path: Path) -> float:
    """Seconds."""
    return float(facts(path).times[0])


@pytest.fixture
def spoken_film(tmp_path: Path) -> Path:
    words, path = tmp_path / "words.srt", tmp_path / "in.mp4"
    cues = ("00,100 --> 00:00:00,900\nlong one", "00,900 --> 00:00:01,200\nbetween", "01,200 --> 00:00:01,600\nnext")
    words.write_text("".join(f"{number}\n00:00:{cue}\n\n" for number, cue in enumerate(cues, 1)))
    video = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2", "-i", words, "-map", "0", "-map", "1", "-c:v", "libx264")
    ffmpeg(*video, "-g", "5", "-pix_fmt", "yuv420p", "-c:s", "mov_text", path)
    return path


def said(path: Path) -> list[tuple[float, bytes]]:
    """When cues begin, and their words."""
    with av.open(str(path)) as clip:
        packets = [p for p in clip.demux(subtitles=0) if p.pts is not None and p.size > 2]
        cues = [(float(p.pts * p.time_base), bytes(p)) for p in packets if not p.is_discard]
    return [(round(begins, 2), words.removeprefix(struct.pack(">H", len(words) - 2))) for begins, words in cues]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("start", ["0.3", "0.42", "0.85", "1.1"])
def test_words_of_a_clip_that_was_cut_are_those_that_it_shows(
    start: str, suffix: str, spoken_film: Path, tmp_path: Path
) -> None:
    """Cues that end when the stream begins are hidden, too."""
    cut, out = tmp_path / "cut.mp4", tmp_path / f"out.{suffix}"
    ffmpeg("-ss", start, "-i", spoken_film, "-map", "0", "-c", "copy", cut)
    assert restore(cut, out, model="identity").exit_code == 0
    assert said(out) == said(cut)
    assert facts(out).times[0] == facts(cut).times[0]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_cue_that_is_still_shown_when_its_stream_begins_begins_with_it(
    suffix: str, spoken_film: Path, tmp_path: Path
) -> None:
    shortened, out = tmp_path / "cut.mp4", tmp_path / f"out.{suffix}"
    ffmpeg("-ss", "0.95", "-i", spoken_film, "-map", "0", "-c", "copy", shortened)
    with av.open(str(shortened)) as clip:
        first = next(p for p in clip.demux(subtitles=0) if p.size > 2)
        assert first.is_discard and first.pts < 0 < first.pts + first.duration
        tick = first.time_base
        rest = (first.pts + first.duration) * tick
    assert restore(shortened, out, model="identity").exit_code == 0
    assert verify_files(str(shortened), str(out)) == []
    assert said(out)[0] == (0.0, b"between")
    with av.open(str(out)) as clip:
        begun = next(p for p in clip.demux(subtitles=0) if p.size > 2)
        assert begun.pts == 0
        if suffix == "mkv":  # in MP4 the next one, which begins here, too, ends it
            assert float(begun.duration * begun.time_base) == pytest.approx(float(rest), abs=0.002)
