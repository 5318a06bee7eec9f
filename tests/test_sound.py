"""Sound that is copied keeps its packets and their times, in containers that count them too."""

from __future__ import annotations

import os
import subprocess
import threading
from fractions import Fraction
from pathlib import Path

import av
import pytest
from conftest import ffmpeg

import ns_video
from ns_video.errors import VerificationError
from ns_video.media import copy_plan, libav
from ns_video.pipeline import restore

PICTURE = ("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1")


def sounding(path: Path, codec: str, *options: str) -> Path:
    """A second of a film with sound."""
    tone = ("-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg4", "-c:a", codec)
    ffmpeg(*PICTURE, *tone, *options, path)
    return path


def heard(path: Path, number: int = 0) -> list[tuple[Fraction, bytes]]:
    """Time behind the first one and payload of each packet of sound."""
    with av.open(str(path)) as clip:
        packets = [p for p in clip.demux(clip.streams.audio[number]) if p.size]
        stamps = [(p.dts if p.pts is None else p.pts) * p.time_base for p in packets]  # pyright: ignore
        return [(stamp - stamps[0], bytes(p)) for stamp, p in zip(stamps, packets)]


def remuxed(source: Path, target: Path) -> Path:
    """A copy by PyAV alone, which doesn't tell AVI how many samples a packet of sound holds."""
    with av.open(str(source)) as clip, av.open(str(target), "w") as out:
        made = [out.add_stream_from_template(stream, opaque=True) for stream in clip.streams]
        for packet in clip.demux():
            if packet.size:
                packet.stream = made[packet.stream_index]
                out.mux(packet)
    return target


@pytest.mark.parametrize(
    ("codec", "rate"),
    [
        ("ac3", 48000),
        ("aac", 44100),
        ("libmp3lame", 22050),
        ("mp2", 44100),
        ("adpcm_ima_wav", 22050),
        ("adpcm_ms", 44100),
        ("wmav2", 44100),
        ("pcm_mulaw", 8000),
    ],
)
def test_sound_of_avi_keeps_its_times_in_avi(codec: str, rate: int, tmp_path: Path) -> None:
    source, target = sounding(tmp_path / "in.avi", codec, "-ar", str(rate)), tmp_path / "out.avi"
    assert restore(source, target, model="identity").exit_code == 0
    assert heard(target) == heard(source)
    assert ns_video.verify(source, target) == []


def test_flac_from_matroska_is_counted_by_its_blocks(tmp_path: Path) -> None:
    """Untold, libav writes an empty chunk for each sample."""
    source, target = sounding(tmp_path / "in.mkv", "flac"), tmp_path / "out.avi"
    restore(source, target, model="identity", codec="mpeg4")
    was, now = heard(source), heard(target)
    assert [data for _, data in now] == [data for _, data in was]
    assert all(abs(a - b) <= Fraction(1, 1000) for (a, _), (b, _) in zip(was, now))
    assert target.stat().st_size < 2 * source.stat().st_size


@pytest.mark.parametrize("codec", ["libvorbis", "eac3"])
def test_sound_whose_times_avi_cannot_hold_is_named(codec: str, tmp_path: Path) -> None:
    record = restore(sounding(tmp_path / "in.mkv", codec), tmp_path / "out.avi", model="identity")
    assert record.exit_code == 0 and "how long its packets last" in record.streams[1].action


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
def test_what_nut_calls_ac3_is_looked_at(suffix: str, tmp_path: Path) -> None:
    """It has one name for AC-3 and E-AC-3."""
    for codec, action in (("eac3", "dropped"), ("ac3", "copied")):
        source, target = sounding(tmp_path / f"{codec}.nut", codec), tmp_path / f"{codec}.{suffix}"
        record = restore(source, target, model="identity")
        assert record.exit_code == 0 and record.streams[1].action.partition(":")[0] == action
        assert ns_video.verify(source, target) == []
    same = restore(tmp_path / "eac3.nut", tmp_path / "same.nut", model="identity")
    assert same.exit_code == 0 and same.streams[1].action == "copied"


def test_what_nut_calls_ac3_is_looked_at_in_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for codec, action in (("eac3", "dropped"), ("ac3", "copied")):
        source, target, pipe = sounding(tmp_path / f"{codec}.nut", codec), tmp_path / f"{codec}.mkv", tmp_path / codec
        with source.open("rb") as file:
            monkeypatch.setattr(libav, "_STANDARD_INPUT", os.dup(file.fileno()))
            record = restore("-", target, model="identity")
        assert record.exit_code == 0 and record.streams[1].action.partition(":")[0] == action
        os.mkfifo(pipe)
        writer = threading.Thread(target=pipe.write_bytes, args=(source.read_bytes(),), daemon=True)
        writer.start()
        record = restore(pipe, target, model="identity", overwrite=True)
        writer.join()
        assert record.exit_code == 0 and record.streams[1].action.partition(":")[0] == action


def test_times_that_collapse_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sounding(tmp_path / "in.avi", "ac3")
    found = ns_video.verify(source, remuxed(source, tmp_path / "remuxed.avi"))
    assert any("ac3): its packets lay within" in d.what for d in found)
    assert any("ac3): its packet at" in d.what for d in found)
    monkeypatch.setattr(copy_plan, "tell_of_sound", lambda *_: None)
    with pytest.raises(VerificationError, match="its packets lay within"):
        restore(source, tmp_path / "out.avi", model="identity")


def test_encoder_delay_that_matroska_rounds_is_no_difference(tmp_path: Path) -> None:
    """Its packets last 20 ms, as an edit left them, but libav counts back from 0 by the 21 ms of their samples."""
    source, target = tmp_path / "in.mp4", tmp_path / "out.mkv"
    sounding(source, "aac", "-ar", "48000", "-bsf:a", "setts=ts=N*960-1440")
    assert restore(source, target, model="identity").exit_code == 0
    assert ns_video.verify(source, target) == []


def test_a_gap_in_sound_that_avi_does_not_hold_is_named(tmp_path: Path) -> None:
    whole, source = sounding(tmp_path / "whole.mkv", "ac3", "-ar", "48000"), tmp_path / "in.mkv"
    ffmpeg("-i", whole, "-c", "copy", "-bsf:a", "noise=drop='between(n,10,19)'", source)
    record = restore(source, tmp_path / "out.avi", model="identity")
    assert record.exit_code == 3 and [d.what for d in record.damage] == [
        "stream 1: from here on 320 ms early: this container holds no gaps in sound"
    ]
    assert restore(source, tmp_path / "out.mp4", model="identity").exit_code == 0


@pytest.mark.parametrize("aspect", ["4:3", "2:1"])
@pytest.mark.parametrize("codec", ["wmav2", "adpcm_ms", "pcm_alaw"])
def test_matroska_holds_sound_as_wave_files_do(
    codec: str, aspect: str, tmp_path: Path, program: list[str], environment: dict[str, str]
) -> None:
    """Behind sound and a font that it holds otherwise, with square pixels and others, in a file and a pipe."""
    more, font = ("-f", "lavfi", "-i", "sine=f=300:d=1"), tmp_path / "font.ttf"
    font.write_bytes(b"font")
    attached = ("-attach", font, "-metadata:s:t", "mimetype=application/x-truetype-font")
    kinds = ("-map", "0", "-map", "1", "-map", "2", "-c:a:0", "flac", "-c:a:1", codec, "-aspect", aspect, *attached)
    tone = ("-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg4")
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    ffmpeg(*PICTURE, *more, *tone[:4], "-c:v", "mpeg4", *kinds, source)
    record = restore(source, target, model="identity", codec="ffv1")
    assert record.exit_code == 0 and [s.action for s in record.streams[1:]] == ["copied", "copied", "copied"]
    assert ns_video.verify(source, target) == []
    made = tmp_path / "piped.mkv"
    words = ("restore", str(source), "-", "--format", "matroska", "--codec", "ffv1", "--model", "identity")
    made.write_bytes(subprocess.run([*program, *words], env=environment, check=True, capture_output=True).stdout)
    for path in (target, made):
        assert heard(path, 1) == heard(source, 1)
        with av.open(str(path)) as clip:
            assert [s.codec_context.codec.canonical_name for s in clip.streams.audio][1] == codec
            assert [s.codec_context.layout.nb_channels for s in clip.streams.audio] == [1, 1]
            assert sum(1 for _ in clip.decode(audio=1)) > 10


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le"])
def test_mxf_keeps_its_sound(codec: str, tmp_path: Path) -> None:
    """Its header is written only beside a stream of video."""
    source, target = tmp_path / "in.mxf", tmp_path / "out.mxf"
    ffmpeg(*PICTURE, "-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg2video", "-c:a", codec, "-ar", "48000", source)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and record.streams[1].action == "copied"
    assert heard(target) == heard(source)
    assert ns_video.verify(source, target) == []


@pytest.mark.parametrize("channels", ["1", "2", "6"])
@pytest.mark.parametrize("suffix", ["vob", "mpg"])
def test_program_streams_keep_the_pcm_of_dvds(suffix: str, channels: str, tmp_path: Path) -> None:
    source, target = tmp_path / "in.vob", tmp_path / f"out.{suffix}"
    tone = ("-f", "lavfi", "-i", "sine=d=1", "-c:v", "mpeg2video", "-c:a", "pcm_dvd", "-ar", "48000", "-ac", channels)
    ffmpeg(*PICTURE, *tone, source)
    record = restore(source, target, model="identity")
    assert record.exit_code == 0 and record.streams[1].action == "copied"
    assert ns_video.verify(source, target) == []
    was, now = (ffmpeg("-i", path, "-map", "0:a", "-f", "s16le", "-") for path in (source, target))
    assert was == now
