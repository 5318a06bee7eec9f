"""What becomes of each stream beside the restored one."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from conftest import ffmpeg
from material import facts
from PIL import Image

import ns_video
from ns_video.media.containers import of_muxer
from ns_video.media.copy_plan import plan_copies
from ns_video.media.libav import open_input
from ns_video.media.probe import clip_info
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore


def actions(path: Path, container_format: str) -> list[str]:
    """What would become of each stream beside the restored one."""
    with open_input(path) as container:
        return [c.action for c in plan_copies(container, clip_info(container), of_muxer(container_format))]


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


def test_sound_and_words_of_blu_ray_stay_in_m2ts_alone(tmp_path: Path) -> None:
    source, notes = tmp_path / "in.m2ts", list[str]()
    film = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", "-f", "lavfi", "-i", "sine=d=0.4:r=48000")
    ffmpeg(*film, "-ac", "2", "-c:v", "libx264", "-c:a", "pcm_bluray", source)
    assert restore(source, tmp_path / "out.m2ts", model="identity").warnings == []
    assert verify_files(source, tmp_path / "out.m2ts", notes=notes) == [] and not notes
    told = "can't hold pcm_bluray audio (readers of MPEG streams would not know it; .m2ts holds it)"
    for suffix in ("ts", "mts"):
        record = restore(source, tmp_path / f"out.{suffix}", model="identity")
        assert record.exit_code == 0 and [s.action for s in record.streams][1] == f"dropped: mpegts {told}"
        assert verify_files(source, tmp_path / f"out.{suffix}", notes=notes) == [] and told in notes.pop()


@pytest.mark.parametrize("codec", ["ass", "subrip"])
def test_words_are_dropped_where_nothing_tells_for_how_long_they_are_shown(
    codec: str, running_cue_clip: Path, tmp_path: Path
) -> None:
    source, notes = tmp_path / "in.mkv", list[str]()
    ffmpeg("-i", running_cue_clip, "-map", "0:v", "-map", "0:s", "-c:v", "copy", "-c:s", codec, source)
    record = restore(source, tmp_path / "out.nut", model="identity")
    why = "it doesn't tell for how long words are shown; --format matroska does"
    told = f"stream 1: dropped: nut can't hold {codec} subtitle ({why})"
    assert record.exit_code == 0 and told in record.warnings
    assert verify_files(source, tmp_path / "out.nut", notes=notes) == [] and told in notes


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


def test_containers_of_one_stream(two_audio_subs_chapters_clip: Path) -> None:
    for container_format in ("yuv4mpegpipe", "rawvideo", "gif"):
        assert all(a.startswith("dropped") for a in actions(two_audio_subs_chapters_clip, container_format))


@pytest.mark.parametrize("suffix", ["avi", "flv", "m2ts"])
def test_time_code_tracks_are_dropped_by_name(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    ffmpeg("-i", plain_clip, "-c", "copy", "-timecode", "01:00:00:00", source)
    record = restore(source, tmp_path / f"out.{suffix}", model="identity")
    assert record.exit_code == 0 and [s.action.partition(":")[0] for s in record.streams] == ["restored", "dropped"]


@pytest.mark.parametrize("suffix", ["ts", "nut"])
def test_a_time_code_beside_the_track_of_chapters_is_found_again(suffix: str, plain_clip: Path, tmp_path: Path) -> None:
    source, chapters = tmp_path / "in.mov", tmp_path / "chapters.txt"
    head = "[CHAPTER]\nTIMEBASE=1/1000\n"
    chapters.write_text(f";FFMETADATA1\n{head}START=0\nEND=200\ntitle=A\n{head}START=200\nEND=400\ntitle=B\n")
    sound = ("-f", "lavfi", "-i", "sine=d=0.4", "-i", chapters, "-map", "0:v", "-map", "1:a", "-map_chapters", "2")
    ffmpeg("-i", plain_clip, *sound, "-c:v", "copy", "-timecode", "01:00:00:00", source)
    assert restore(source, tmp_path / f"out.{suffix}", model="identity").exit_code == 0
    assert verify_files(source, tmp_path / f"out.{suffix}") == []


def test_of_an_icon_the_largest_picture_is_restored(noisy: np.ndarray, tmp_path: Path) -> None:
    source = tmp_path / "in.ico"
    Image.fromarray(noisy[:48, :48]).save(source, sizes=[(16, 16), (48, 48), (32, 32)])
    record = restore(source, tmp_path / "out.png", model="identity")
    with Image.open(tmp_path / "out.png") as made:
        assert made.size == (48, 48)
    told = "dropped: only the largest of 3 pictures is restored"
    assert sorted(s.action for s in record.streams) == [told, told, "restored"]


def test_cover_art(cover_clip: Path) -> None:
    assert actions(cover_clip, "mp4") == ["copied"]
    assert actions(cover_clip, "matroska") == ["attached"]
    assert actions(cover_clip, "mpegts")[0].startswith("dropped")
    assert actions(cover_clip, "mov") == ["dropped: mov holds no cover art"]


def test_mov_leaves_a_cover_out_and_says_so(cover_clip: Path, tmp_path: Path) -> None:
    record = restore(cover_clip, tmp_path / "out.mov", model="identity")
    assert record.exit_code == 0 and any("mov holds no cover art" in w for w in record.warnings)
    assert facts(tmp_path / "out.mov").samples


def test_copied_hevc_keeps_the_tag_that_players_take(plain_clip: Path, tmp_path: Path) -> None:
    sources = [tmp_path / f"{tag}.mp4" for tag in ("hvc1", "hev1")]
    for source in sources:
        hevc = (
            "-c:v:0",
            "copy",
            "-c:v:1",
            "libx265",
            "-x265-params",
            "log-level=none:pools=1",
            "-tag:v:1",
            source.stem,
        )
        ffmpeg("-i", plain_clip, "-map", "0:v", "-map", "0:v", *hevc, "-preset", "ultrafast", source)
        for suffix in ("mp4", "mov", "mkv"):
            target = tmp_path / f"out.{suffix}"
            assert restore(source, target, model="identity", overwrite=True).exit_code == 0
            assert ns_video.verify(source, target) == []
            with av.open(str(target)) as clip:
                tag = clip.streams.video[1].codec_context.codec_tag
            assert tag == source.stem or suffix == "mkv"


def test_the_track_of_chapters_is_no_loss(plain_clip: Path, tmp_path: Path) -> None:
    source, chapters = tmp_path / "in.mp4", tmp_path / "chapters.txt"
    head = "[CHAPTER]\nTIMEBASE=1/1000\n"
    chapters.write_text(f";FFMETADATA1\n{head}START=0\nEND=200\ntitle=A\n{head}START=200\nEND=400\ntitle=B\n")
    ffmpeg("-i", plain_clip, "-i", chapters, "-map_chapters", "1", "-c", "copy", source)
    for container_format in ("mp4", "matroska", "avi"):
        told = (
            "dropped: avi can't hold bin_data data"
            if container_format == "avi"
            else "dropped: its chapters are written"
        )
        assert [action.startswith(told) for action in actions(source, container_format)] == [True]


@pytest.mark.parametrize(("suffix", "lost"), [("mp4", True), ("mkv", False)])
def test_a_track_without_packets_is_named_where_it_is_lost(suffix: str, lost: bool, tmp_path: Path) -> None:
    source, target, notes = tmp_path / "in.mkv", tmp_path / f"out.{suffix}", list[str]()
    sound = ("-f", "lavfi", "-i", "sine=d=0.4", "-map", "0", "-map", "1", "-c:a", "flac", "-frames:a", "0")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", *sound, source)
    record = restore(source, target, model="identity")
    told = "stream 1: left out: it has no packets here, and this container holds no empty tracks"
    assert record.exit_code == 0 and (told in record.warnings) is lost
    assert verify_files(source, target, notes=notes) == [] and (told in notes) is lost
