"""What of the copied streams lies in a cut."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from conftest import ffmpeg
from material import Recipe, cues, facts, write_clip

from ns_video.media.containers import of_muxer
from ns_video.media.copied_packets import copied_packets
from ns_video.media.copy_plan import plan_copies
from ns_video.media.cut import Cut
from ns_video.media.libav import open_input
from ns_video.media.probe import clip_info
from ns_video.pipeline import restore


def test_copied_packets_are_cut_and_moved(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(times=tuple(range(0, 1000, 40)), audio=[("flac", "eng")]))
    with open_input(source) as container:
        plans = plan_copies(container, clip_info(container), of_muxer("matroska"))
    whole = list(copied_packets(source, plans))
    part = list(copied_packets(source, plans, cut=Cut(plans, Fraction(1, 4), Fraction(3, 4))))
    inside = [bytes(c.packet) for t, c in whole if Fraction(1, 4) <= t < Fraction(3, 4)]
    assert [bytes(c.packet) for _, c in part] == inside and 2 <= len(inside) < len(whole)
    assert all(0 <= t < Fraction(1, 2) for t, _ in part)
    assert all(c.packet.pts * c.packet.time_base == t for t, c in part)


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv"])
def test_a_cover_is_whole_in_a_cut(name: str, cover_clip: Path, tmp_path: Path) -> None:
    restore(cover_clip, tmp_path / name, model="identity", start=0.1, end=0.3)
    covers = []
    for path in (cover_clip, tmp_path / name):
        with av.open(str(path)) as clip:
            stream = next(s for s in clip.streams.video if s.codec_context.name == "png")
            covers.append([bytes(p) for p in clip.demux(stream) if p.size])
    assert covers[0] == covers[1] and len(covers[0]) == 1


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_a_copied_video_track_begins_at_a_key_frame(suffix: str, two_tracks: Path, tmp_path: Path) -> None:
    target = tmp_path / f"cut.{suffix}"
    record = restore(two_tracks, target, model="identity", codec="libx264", start=1)
    assert record.exit_code == 0 and "stream 1 begins 0.600 s into the cut, at its first key frame" in record.warnings
    with av.open(str(two_tracks)) as was, av.open(str(target)) as now:
        behind = [f.to_ndarray() for f in was.decode(video=1) if f.time >= 1.599]
        decoded = list(now.decode(video=1))
        begins = float(now.streams.video[0].start_time * now.streams.video[0].time_base)
    assert [f.to_ndarray().tobytes() for f in decoded] == [f.tobytes() for f in behind]
    assert decoded[0].time - begins == pytest.approx(0.6, abs=0.001)


def test_a_cut_without_a_key_frame_of_a_copied_track_says_so(two_tracks: Path, tmp_path: Path) -> None:
    record = restore(two_tracks, tmp_path / "cut.mp4", model="identity", start=0.9, end=1.5)
    assert record.exit_code == 0 and "stream 1 is empty: no key frame of it lies in the cut" in record.warnings


@pytest.mark.parametrize("start", [None, 0.2, 0.5])
def test_cues_end_with_the_cut(start: float | None, running_cue_clip: Path, tmp_path: Path) -> None:
    """One of them lasts from 0.2 s to 0.9 s."""
    target, begins = tmp_path / "out.mkv", round((start or 0) * 1000)
    assert restore(running_cue_clip, target, model="identity", start=start, end=0.75).exit_code == 0
    spans = [(100, 300), (200, 750), (700, 750)]
    expected = [(max(a - begins, 0), b - max(a, begins)) for a, b in spans if b > begins]
    assert [(a, d) for a, d, _ in cues(target)] == expected


def test_truehd_begins_a_cut_where_its_decoder_can_begin(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    film = write_clip(tmp_path / "film.mkv", Recipe(times=tuple(range(0, 1200, 40))))
    sound = ("-f", "lavfi", "-i", "sine=d=1.2:r=48000", "-map", "0", "-map", "1", "-c:v", "copy")
    ffmpeg("-i", film, *sound, "-c:a", "truehd", "-strict", "-2", source)
    assert restore(source, target, model="identity", start=0.33, end=0.95).exit_code == 0


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_last_picture_ends_with_the_cut(suffix: str, tmp_path: Path) -> None:
    """As sound and cues do: pictures may be shown for long."""
    source, target = tmp_path / "in.mp4", tmp_path / f"out.{suffix}"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25/7:d=2.8", "-c:v", "mpeg4", source)
    assert restore(source, target, model="identity", start=0.3, end=1.0).exit_code == 0
    with av.open(target) as made:
        packets = [packet for packet in made.demux(video=0) if packet.size]
        ends = [float((packet.pts + packet.duration) * packet.time_base) for packet in packets]
    assert len(packets) == 2 and ends[-1] == pytest.approx(0.7, abs=0.001)


@pytest.mark.parametrize("end", [None, 0.3])
@pytest.mark.parametrize(("suffix", "codec"), [("mp4", "aac"), ("mkv", "aac"), ("webm", "libopus")])
def test_a_cut_from_the_beginning_keeps_what_decoders_of_sound_need(
    suffix: str, codec: str, end: float | None, tmp_path: Path
) -> None:
    """Its first packet lies before 0."""
    plain, source = write_clip(tmp_path / "plain.mkv"), tmp_path / f"in.{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=0.4:r=48000", "-map", "0", "-map", "1", "-c:a", codec)
    video = ("-c:v", "libvpx-vp9") if suffix == "webm" else ("-c:v", "copy")
    ffmpeg("-i", plain, *tone, *video, "-avoid_negative_ts", "disabled", source)
    found = []
    for start in (None, 0):
        target = tmp_path / f"{start}.{suffix}"
        assert restore(source, target, model="identity", start=start, end=end).exit_code == 0
        found.append(facts(target))
    assert found[0] == found[1]
    first, _ = found[0].streams[0].packets[0]
    assert first is not None and first < 0
