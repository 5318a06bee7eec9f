"""What is copied beside the restored stream, and how packets are put in order."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from conftest import ffmpeg
from material import Recipe, facts, write_clip

import ns_video
from ns_video.errors import OutputError
from ns_video.media.decode import CopiedPacket
from ns_video.media.libav import open_input
from ns_video.media.mux import Cut, TimedPacket, copied_packets, merged, plan_copies
from ns_video.media.probe import clip_info
from ns_video.pipeline import restore


def actions(path: Path, container_format: str) -> list[str]:
    """What would become of each stream beside the restored one."""
    with open_input(path) as container:
        return [c.action for c in plan_copies(container, clip_info(container), container_format)]


def test_matroska_holds_everything(two_audio_subs_chapters_clip: Path) -> None:
    assert actions(two_audio_subs_chapters_clip, "matroska") == ["copied"] * 5


def test_mp4_converts_text_and_names_what_it_drops(two_audio_subs_chapters_clip: Path) -> None:
    found = actions(two_audio_subs_chapters_clip, "mp4")
    assert found[:2] == ["copied", "copied"]
    assert found[2:4] == ["converted: subrip to mov_text"] * 2
    assert found[4].startswith("dropped: ") and "Matroska" in found[4]


def test_mpegts_drops_what_its_readers_do_not_know(two_audio_subs_chapters_clip: Path) -> None:
    found = actions(two_audio_subs_chapters_clip, "mpegts")
    assert [a.partition(":")[0] for a in found] == ["dropped", "copied", "dropped", "dropped", "dropped"]


@pytest.mark.parametrize("suffix", ["mpg", "vob"])
def test_program_streams_drop_what_their_readers_do_not_know(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    source, words = tmp_path / "in.mkv", tmp_path / "in.srt"
    words.write_text("1\n00:00:00,100 --> 00:00:00,400\nhello\n")
    sound = ("-f", "lavfi", "-i", "sine=d=0.4:r=48000")
    kinds = ("-c:v", "copy", "-c:a:0", "ac3", "-c:a:1", "pcm_s16be", "-c:s", "subrip")
    maps = ("-map", "0:v", "-map", "1", "-map", "1", "-map", "2", "-metadata:s:a:0", "language=deu")
    ffmpeg("-i", plain_clip, *sound, "-i", words, *maps, *kinds, source)
    record = restore(source, tmp_path / f"out.{suffix}", model="identity")
    assert record.exit_code == 0 and any("stream 1: language" in text for text in record.warnings)
    assert [s.action.partition(":")[0] for s in record.streams] == ["restored", "copied", "dropped", "dropped"]


def test_data_of_a_codec_without_a_name_is_told_by_its_kind(plain_clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    ffmpeg("-i", plain_clip, "-c:v", "libx264", "-timecode", "01:02:03:04", source)
    assert actions(source, "mov") == ["dropped: libav makes the time code's track anew"]
    restore(source, tmp_path / "out.mov", model="identity")
    assert actions(tmp_path / "out.mov", "matroska") == actions(source, "matroska")
    assert "can't hold data of the kind" in actions(source, "matroska")[0]


def sounding(path: Path, codec: str, channels: int, film: Path) -> Path:
    """A film with sound of one codec."""
    sound = ("-f", "lavfi", "-i", "sine=d=0.4:r=16000", "-map", "0", "-map", "1", "-ac", str(channels))
    ffmpeg("-i", film, *sound, "-c:v", "copy", "-c:a", codec, path)
    return path


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_alaw", "libspeex"])
def test_flv_is_told_where_channels_are_heard(codec: str, plain_clip: Path, tmp_path: Path) -> None:
    """Untold, libav's muxer ends the process."""
    source, target = sounding(tmp_path / "in.mkv", codec, 1, plain_clip), tmp_path / "out.flv"
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and record.streams[1].action == "copied"
    assert ns_video.verify(source, target) == []


def test_pcm_of_which_matroska_does_not_tell_the_layout_fits_into_mp4(plain_clip: Path, tmp_path: Path) -> None:
    for channels, wanted in ((1, "copied"), (2, "copied"), (6, "dropped")):
        source = sounding(tmp_path / f"{channels}.mkv", "pcm_s16le", channels, plain_clip)
        record = restore(source, tmp_path / f"{channels}.mp4", model="identity")
        assert record.exit_code == 0 and record.streams[1].action.partition(":")[0] == wanted


def test_chapters_that_a_container_does_not_hold_are_named(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    for suffix, told in (("ts", "2 chapters: dropped: mpegts holds none"), ("nut", ""), ("webm", "")):
        record = restore(two_audio_subs_chapters_clip, tmp_path / f"out.{suffix}", model="identity")
        assert [text for text in record.warnings if "chapter" in text] == [told] * bool(told)


def test_containers_of_one_stream(two_audio_subs_chapters_clip: Path) -> None:
    for container_format in ("yuv4mpegpipe", "rawvideo", "gif"):
        assert all(a.startswith("dropped") for a in actions(two_audio_subs_chapters_clip, container_format))


@pytest.mark.parametrize("suffix", ["avi", "flv"])
def test_time_code_tracks_are_dropped_by_name(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    ffmpeg("-i", plain_clip, "-c", "copy", "-timecode", "01:00:00:00", source)
    record = restore(source, tmp_path / f"out.{suffix}", model="identity")
    assert record.exit_code == 0 and [s.action.partition(":")[0] for s in record.streams] == ["restored", "dropped"]


def test_cover_art(cover_clip: Path) -> None:
    assert actions(cover_clip, "mp4") == ["copied"]
    assert actions(cover_clip, "matroska") == ["attached"]
    assert actions(cover_clip, "mpegts")[0].startswith("dropped")
    assert actions(cover_clip, "mov") == ["dropped: mov holds no cover art"]


def test_mov_leaves_a_cover_out_and_says_so(cover_clip: Path, tmp_path: Path) -> None:
    record = restore(cover_clip, tmp_path / "out.mov", model="identity")
    assert record.exit_code == 0 and any("mov holds no cover art" in w for w in record.warnings)
    assert facts(tmp_path / "out.mov").samples


def test_a_cover_becomes_an_attachment_with_the_same_bytes(cover_clip: Path, tmp_path: Path) -> None:
    restore(cover_clip, tmp_path / "out.mkv", model="identity")
    with av.open(str(tmp_path / "out.mkv")) as clip, av.open(str(cover_clip)) as source:
        cover = next(s for s in source.streams.video if s.codec_context.name == "png")
        wanted = next(bytes(p) for p in source.demux(cover) if p.size)
        found = [bytes(p) for s in clip.streams.video[1:] for p in clip.demux(s) if p.size]
    assert found == [wanted]


def test_text_survives_the_way_to_mov_text_and_back(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    restore(two_audio_subs_chapters_clip, tmp_path / "a.mp4", model="identity")
    restore(tmp_path / "a.mp4", tmp_path / "b.mkv", model="identity")
    words = [
        ffmpeg("-i", path, "-map", "0:s:0", "-f", "srt", "-")
        for path in (two_audio_subs_chapters_clip, tmp_path / "b.mkv")
    ]
    assert words[0].count(b"cue") == 3
    assert [line for line in words[1].splitlines() if b"cue" in line] == [
        line for line in words[0].splitlines() if b"cue" in line
    ]
    first = next(s for s in facts(two_audio_subs_chapters_clip).streams if s.type == "subtitle").packets
    last = next(s for s in facts(tmp_path / "b.mkv").streams if s.type == "subtitle").packets
    assert max(abs(a[0] - b[0]) for a, b in zip(first, last) if a[0] is not None and b[0] is not None) <= Fraction(
        1, 1000
    )


def test_merged_by_decode_time_and_video_first() -> None:
    video = [TimedPacket(Fraction(t), f"v{t}") for t in (0, 2, 4)]
    copies = [(Fraction(t), CopiedPacket(1, f"c{t}", 1)) for t in (0, 1, 4, 5)]
    found = [packet or copy.packet for packet, copy in merged(video, copies)]
    assert found == ["v0", "c0", "c1", "v2", "v4", "c4", "c5"]


def test_copied_packets_are_cut_and_moved(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mkv", Recipe(times=tuple(range(0, 1000, 40)), audio=[("flac", "eng")]))
    with open_input(source) as container:
        plans = plan_copies(container, clip_info(container), "matroska")
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


@pytest.fixture
def two_tracks(tmp_path: Path) -> Path:
    """Two video tracks of 2 s, the second in French, its key frames 0.8 s apart."""
    source = tmp_path / "two.mkv"
    made = [("-f", "lavfi", "-i", f"testsrc2=s={size}:r=25:d=2") for size in ("96x64", "64x48")]
    options = ("-c:v", "libx264", "-g", "20", "-metadata:s:v:1", "language=fra")
    ffmpeg(*made[0], *made[1], "-map", "0", "-map", "1", *options, source)
    return source


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


def test_mpegts_holds_no_language_of_video_and_says_so(two_tracks: Path, tmp_path: Path) -> None:
    record = restore(two_tracks, tmp_path / "out.ts", model="identity")
    assert record.exit_code == 0 and any("stream 1: language" in text for text in record.warnings)


@pytest.mark.parametrize("device", ["/dev/full"])
def test_a_full_disk_is_named(device: str, plain_clip: Path) -> None:
    with pytest.raises(OutputError, match="no space left"):
        restore(plain_clip, device, model="identity", format="matroska", codec="ffv1")


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_equal_runs_give_equal_bytes(suffix: str, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    begins = ("-metadata", "creation_time=2020-01-02T03:04:05Z", "-metadata", "title=A title")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x64:r=25:d=0.2", *begins, "-c:v", "libx264", source)
    targets = [tmp_path / f"{n}.{suffix}" for n in (1, 2)]
    for target in targets:
        restore(source, target, model="identity")
    assert targets[0].read_bytes() == targets[1].read_bytes()
    with av.open(str(targets[0])) as clip:
        assert clip.metadata["title"] == "A title" and clip.metadata["creation_time"].startswith("2020-01-02T03:04:05")


def test_languages_of_quicktime(two_audio_subs_chapters_clip: Path, tmp_path: Path) -> None:
    restore(two_audio_subs_chapters_clip, tmp_path / "out.mov", model="identity")
    found = {s.language for s in facts(tmp_path / "out.mov").streams}
    assert "ger" in found  # the code that QuickTime's table has for "deu"
    assert "deu" in {s.language for s in facts(two_audio_subs_chapters_clip).streams}


@pytest.mark.parametrize(("suffix", "options"), [("vob", {}), ("mkv", {"codec": "mpeg2video"})])
@pytest.mark.parametrize("start", [None, 0.3])
def test_whole_frames_are_counted_from_the_first_one(
    suffix: str, options: dict[str, Any], start: float | None, tmp_path: Path
) -> None:
    """Program streams of ffmpeg begin at 0.54 s, between two frames of 1/25 s; a cut begins between two as well."""
    source, target = tmp_path / "in.vob", tmp_path / f"out.{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg2video", "-c:a", "ac3", "-ar", "48000")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", *tone, source)
    restore(source, target, model="identity", start=start, **options)
    with av.open(str(source)) as clip:
        begins = 0 if start is None else Fraction(clip.start_time or 0, av.time_base) + Fraction("0.3")
    expected = [t - begins for t in video_times(source) if t >= begins]
    assert expected[0] % Fraction(1, 25) > Fraction(1, 1000)
    found = video_times(target)
    assert len(found) == len(expected) and all(abs(a - b) <= Fraction(1, 1000) for a, b in zip(found, expected))
    if start is None:
        assert ns_video.verify(source, target) == []


def video_times(path: Path) -> list[Fraction]:
    """Of its frames, in seconds."""
    with av.open(str(path)) as clip:
        return [Fraction(f.pts or 0) * Fraction(f.time_base or 0) for f in clip.decode(video=0)]
