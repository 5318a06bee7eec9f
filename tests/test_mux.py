"""Files written: what containers hold of the streams, tags and times beside the restored one."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest
from checked import found
from conftest import ffmpeg
from material import Recipe, cues, facts, write_clip

import ns_video
from ns_video.errors import OutputError
from ns_video.media import mux
from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore


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


@pytest.mark.parametrize("suffix", ["mov", "mp4", "mkv"])
def test_names_of_tracks_are_kept(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    """libav's muxer of MP4 calls them titles, its demuxer names."""
    titled, source, target, bare = (tmp_path / name for name in ("in.mkv", "in.mov", f"out.{suffix}", "bare.mov"))
    sound = ("-f", "lavfi", "-i", "sine=d=0.4", "-map", "0", "-map", "1", "-c:v", "copy", "-c:a", "aac")
    ffmpeg("-i", plain_clip, *sound, "-metadata:s:a", "title=Kommentar é", titled)
    restore(titled, source, model="identity")
    record = restore(source, target, model="identity")
    assert not any("name" in text for text in record.warnings) and ns_video.verify(source, target) == []
    with av.open(str(target)) as clip:
        assert clip.streams.audio[0].metadata["title" if suffix == "mkv" else "name"] == "Kommentar é"
    ffmpeg("-i", source, "-c", "copy", bare)
    assert found(source, bare) == "stream 1: the tag title is missing"


def test_a_name_beside_a_title_is_left_out_by_name(plain_clip: Path, tmp_path: Path) -> None:
    source, target, notes = tmp_path / "in.mkv", tmp_path / "out.mp4", list[str]()
    ffmpeg("-i", plain_clip, "-c", "copy", "-metadata:s:v", "title=A", "-metadata:s:v", "name=B", source)
    record = restore(source, target, model="identity")
    told = "tags that this container doesn't hold: stream 0: NAME"
    assert told in record.warnings and verify_files(source, target, notes=notes) == [] and told in notes


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


@pytest.mark.parametrize("suffix", ["mpg", "ts"])
def test_a_cut_between_two_frames_begins_where_mpegs_clock_can_tell(
    suffix: str, plain_clip: Path, tmp_path: Path
) -> None:
    for start in ("0.007", "0.0493", "0.091"):
        target = tmp_path / f"{start}.{suffix}"
        restore(plain_clip, target, model="identity", codec="mpeg2video", start=float(start))
        begins = next(t - Fraction(start) for t in video_times(plain_clip) if t >= Fraction(start))
        assert abs(video_times(target)[0] - begins) <= Fraction(1, 90_000)


def video_times(path: Path) -> list[Fraction]:
    """Of its frames, in seconds."""
    with av.open(str(path)) as clip:
        return [Fraction(f.pts or 0) * Fraction(f.time_base or 0) for f in clip.decode(video=0)]


def packet_times(path: Path, kind: str) -> list[float]:
    """Of the packets of its only stream of a kind, in seconds; those with which mov_text fills gaps left out."""
    with av.open(str(path)) as clip:
        stream = next(s for s in clip.streams if s.type == kind)
        packets = [p for p in clip.demux(stream) if p.size > 2]
        return [float((p.dts if p.pts is None else p.pts) * p.time_base) for p in packets]  # pyright: ignore


def spoken(path: Path, spans: list[tuple[int, int]], film: Path, codec: str = "subrip") -> Path:
    """A film with cues of (begin, end) milliseconds."""

    def clock(at: int) -> str:
        return f"{at // 3_600_000:02}:{at // 60_000 % 60:02}:{at // 1000 % 60:02},{at % 1000:03}"

    cues = [f"{n}\n{clock(a)} --> {clock(b)}\ncue {n}\n" for n, (a, b) in enumerate(spans, 1)]
    words = ("-f", "srt", "-i", "-", "-map", "0", "-map", "1", "-c:v", "copy", "-c:s", codec)
    ffmpeg("-i", film, *words, path, data="\n".join(cues).encode())
    return path


def test_packets_shorter_than_matroskas_clock_keep_their_times(plain_clip: Path, tmp_path: Path) -> None:
    """TrueHD's last 0.83 ms: some of them have equal times in ticks of 1 ms."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.ts"
    sound = ("-f", "lavfi", "-i", "sine=d=1:r=48000", "-map", "0", "-map", "1", "-c:v", "copy")
    ffmpeg("-i", plain_clip, *sound, "-c:a", "truehd", "-strict", "-2", source)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and not record.damage and not record.warnings
    was, now = packet_times(source, "audio"), packet_times(target, "audio")
    offset = video_times(target)[0] - video_times(source)[0]
    assert len(set(was)) < len(was) and len(now) == len(was)
    assert max(abs(b - a - float(offset)) for a, b in zip(was, now)) < 0.0005
    assert all(b > a for a, b in pairwise(now)) and ns_video.verify(source, target) == []


def test_cues_that_begin_together_are_no_damage(plain_clip: Path, tmp_path: Path) -> None:
    source = spoken(tmp_path / "in.mkv", [(40, 300), (40, 200), (40, 120), (41, 90)], plain_clip, "ass")
    record = restore(source, tmp_path / "out.mkv", model="identity")
    assert record.exit_code == 0 and not record.damage
    assert packet_times(tmp_path / "out.mkv", "subtitle") == pytest.approx([0.04, 0.04, 0.04, 0.041], abs=1e-4)


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_cues_that_begin_together_are_one_where_one_is_shown_at_a_time(
    suffix: str, plain_clip: Path, tmp_path: Path
) -> None:
    source = spoken(tmp_path / "in.mkv", [(40, 80), (40, 200), (40, 120), (240, 300), (240, 320)], plain_clip)
    target, again = tmp_path / f"out.{suffix}", tmp_path / "again.mkv"
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and not record.damage
    said = "stream 1: 3 cues are part of those that begin with them, and end with them"
    assert f"{said}: this container shows one at a time" in record.warnings
    assert [data[2:] for _, _, data in cues(target) if len(data) > 2] == [b"cue 1\ncue 2\ncue 3", b"cue 4\ncue 5"]
    assert ns_video.verify(source, target) == []
    assert restore(target, again, model="identity").exit_code == 0 and ns_video.verify(target, again) == []
    assert cues(again) == [(40, 160, b"cue 1\ncue 2\ncue 3"), (240, 80, b"cue 4\ncue 5")]


def test_cues_that_begin_together_are_one_in_a_pipe(plain_clip: Path, tmp_path: Path) -> None:
    source = spoken(tmp_path / "in.mkv", [(40, 200), (40, 300), (240, 380), (400, 420)], plain_clip)
    args = ("restore", source, "-", "--format", "mp4", "--model", "identity")
    run = subprocess.run([sys.executable, "-m", "ns_video", *args], capture_output=True, check=True)
    target = tmp_path / "out.mp4"
    target.write_bytes(run.stdout)
    assert packet_times(target, "subtitle") == pytest.approx([0.04, 0.24, 0.4])
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("suffix", ["mkv", "webm"])
def test_cues_shorter_than_a_tick_are_shown_for_one(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    """As ffmpeg writes cues that begin together into MP4. Without a duration Matroska's readers would make one up."""
    written, source, target = tmp_path / "written.mkv", tmp_path / "in.mp4", tmp_path / f"out.{suffix}"
    spoken(written, [(40, 200), (40, 300)], plain_clip)
    ffmpeg("-i", written, "-map", "0", "-c:v", "copy", "-c:s", "mov_text", source)
    assert (40_000, 1, b"\0\5cue 1") in cues(source)
    assert restore(source, target, model="identity").exit_code == 0 and ns_video.verify(source, target) == []
    assert cues(target) == [(40, 1, b"cue 1"), (40, 260, b"cue 2")]


def test_times_that_run_backwards_are_damage(plain_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = spoken(tmp_path / "in.mkv", [(40, 90), (100, 190), (200, 290)], plain_clip)
    whole = mux.ClipWriter.write_copy

    def write_copy(self: mux.ClipWriter, item: CopiedPacket) -> bool:
        if item.packet.pts == 200:
            item.packet.pts = item.packet.dts = 50
        return whole(self, item)

    monkeypatch.setattr(mux.ClipWriter, "write_copy", write_copy)
    record = restore(source, tmp_path / "out.mkv", model="identity")
    assert [d.what for d in record.damage] == ["stream 1: its times run backwards; they were moved on"]
    assert packet_times(tmp_path / "out.mkv", "subtitle") == [0.04, 0.1, 0.101]


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_overlapping_cues_begin_when_they_did(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    """Those of mp4 can't overlap: libav's muxer would move what begins before the end that it wrote. Nor does a gap of
    fifty minutes, of more ticks than it can count, move the cues behind it."""
    spans = [(100, 900), (300, 600), (700, 1100), (3_000_000, 3_000_500), (3_000_400, 3_000_900)]
    source, target = spoken(tmp_path / "in.mkv", spans, plain_clip), tmp_path / f"out.{suffix}"
    record = restore(source, target, model="identity")
    assert record.exit_code == 0
    assert "stream 1: 2 cues end when the next one begins: this container shows one at a time" in record.warnings
    with av.open(str(target)) as clip:
        tick = clip.streams.subtitles[0].time_base or 0
        found = [(float((a or 0) * tick), float((d or 0) * tick)) for a, d, text in cues(target) if len(text) > 2]
    assert [a for a, _ in found] == pytest.approx([0.1, 0.3, 0.7, 3000.0, 3000.4])
    assert [d for _, d in found] == pytest.approx([0.2, 0.3, 0.4, 0.4, 0.5])
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("suffix", ["mp4", "mov", "3gp", "f4v", "mkv", "ts"])
def test_a_clip_from_before_zero_is_shifted_as_a_whole(suffix: str, tmp_path: Path) -> None:
    """Edit lists of mp4 would hide its frames."""
    source, target = tmp_path / "in.ts", tmp_path / f"out.{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=1", "-c:v", "libx264", "-c:a", "aac", "-muxdelay", "0", "-muxpreload", "0")
    early = ("-avoid_negative_ts", "disabled", "-output_ts_offset", "-5")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", *tone, *early, source)
    assert video_times(source)[0] == -5
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and "later: this container holds none before 0" in "; ".join(record.warnings)
    was, now = video_times(source), video_times(target)
    shift = now[0] - was[0]
    assert len(was) == len(now) and max(abs(b - a - shift) for a, b in zip(was, now)) <= Fraction(1, 1000)
    heard = packet_times(target, "audio")
    assert min(heard) >= 0 and heard == pytest.approx([t + shift for t in packet_times(source, "audio")], abs=0.002)
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_sound_from_long_before_the_picture_is_kept(suffix: str, tmp_path: Path) -> None:
    film, source, target = tmp_path / "film.mkv", tmp_path / "in.mkv", tmp_path / f"out.{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=2", "-c:v", "libx264", "-c:a", "aac")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", *tone, film)
    both = ("-itsoffset", "-1.3", "-i", film, "-map", "0:v", "-map", "1:a", "-c", "copy")
    ffmpeg("-i", film, *both, "-avoid_negative_ts", "disabled", source)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and any(text.startswith("all times are 1300 ms later") for text in record.warnings)
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize(("codec", "suffix"), [("libopus", "nut"), ("flac", "nut"), ("alac", "mkv")])
def test_sound_whose_packets_tell_no_duration_is_heard_to_its_end_in_mp4(
    codec: str, suffix: str, plain_clip: Path, tmp_path: Path
) -> None:
    source, target = tmp_path / f"in.{suffix}", tmp_path / "out.mp4"
    tone = ("-f", "lavfi", "-i", "sine=r=48000:d=0.4")
    ffmpeg("-i", plain_clip, *tone, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", codec, source)
    assert restore(source, target, model="identity").exit_code == 0 and ns_video.verify(source, target) == []
    with av.open(str(source)) as before, av.open(str(target)) as after:
        were, are = ([p for p in clip.demux(audio=0) if p.size] for clip in (before, after))
        assert not were[-1].duration and len(were) == len(are)
        assert [bytes(p) for p in were] == [bytes(p) for p in are]


@pytest.mark.parametrize("suffix", ["mkv", "ts", "nut", "avi", "mp4"])
def test_sound_that_an_edit_list_hides_stays_unheard(suffix: str, tmp_path: Path) -> None:
    whole, source, target = tmp_path / "whole.mp4", tmp_path / "in.mp4", tmp_path / f"out.{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=3", "-c:v", "libx264", "-g", "100", "-c:a", "ac3")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=3", *tone, whole)
    ffmpeg("-ss", "1", "-i", whole, "-c", "copy", source)
    assert video_times(source)[0] == 0 and packet_times(source, "audio")[0] < -0.9
    record, notes = restore(source, target, model="identity"), list[str]()
    assert record.exit_code == 0
    told = [text for text in record.warnings if text.endswith("left out: the input's edit list hides what lies there")]
    heard = packet_times(target, "audio")[0] - float(video_times(target)[0])
    if suffix == "mp4":
        assert not told and heard < -0.9  # it holds the edit list
    else:
        assert len(told) == 1 and -0.3 < heard < 0.02
    assert verify_files(source, target, notes=notes) == [] and set(told) <= set(notes)


@pytest.mark.parametrize(
    ("picture", "sound", "told"), [(0.48, 0.48, ""), (0, 0.3, "300 ms early"), (0.32, 0, "320 ms late")]
)
def test_sound_that_mxf_moves_to_its_begin_is_named(picture: float, sound: float, told: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / "out.mxf"
    film = ("-itsoffset", str(picture), "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-c:v", "ffv1")
    ffmpeg("-itsoffset", str(sound), "-f", "lavfi", "-i", "sine=d=1:r=48000", *film, "-c:a", "pcm_s16le", source)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and ns_video.verify(source, target) == []
    said = [text for text in record.warnings if "counts packets" in text]
    assert said == ([f"stream 1 is {told}: this container counts packets, not times"] if told else [])


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_words_that_nobody_asked_for_stay_hidden(suffix: str, tmp_path: Path) -> None:
    """libav's muxer enables the first track of each kind."""
    source, target = tmp_path / "in.mkv", tmp_path / f"out.{suffix}"
    write_clip(tmp_path / "words.mkv", Recipe(subtitles=[("subrip", "eng"), ("subrip", "fra")]))
    ffmpeg("-i", tmp_path / "words.mkv", "-map", "0", "-c", "copy", "-disposition:s", "0", source)
    restore(source, target, model="identity")
    assert [s.disposition & 1 for s in facts(target).streams if s.type == "subtitle"] == [0, 0]
    assert verify_files(source, target) == []
