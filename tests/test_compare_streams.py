"""Copied streams against those of the input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest
from checked import found
from conftest import ffmpeg
from material import write_clip

import ns_video
from ns_video.media.compare_streams import compare_streams
from ns_video.media.containers import of_muxer
from ns_video.media.copy_plan import plan_copies
from ns_video.media.decode import open_clip
from ns_video.media.file_facts import read_facts
from ns_video.pipeline import restore


def test_a_packet_that_the_container_refused_is_no_fault_of_the_check(
    two_audio_subs_chapters_clip: Path, finished: Path
) -> None:
    """libav names the packet after it, which may be of another stream."""
    facts = read_facts(finished)
    with open_clip(two_audio_subs_chapters_clip) as reader:
        copies = plan_copies(reader.container, reader.info, of_muxer("matroska"))
        info = reader.info
    counted = {index: replace(tally) for index, tally in read_facts(two_audio_subs_chapters_clip).tallies.items()}
    first, second = [s.index for s in info.streams if s.type == "audio"]
    assert compare_streams(info, copies, counted, facts) == []
    counted[first].packets -= 1
    counted[second].packets += 1
    assert compare_streams(info, copies, counted, facts) == []  # all bytes are there: cut in other places
    counted[first].nbytes -= 1
    counted[second].nbytes += 1
    assert [d.by_damage for d in compare_streams(info, copies, counted, facts)] == [False, False]
    assert [d.by_damage for d in compare_streams(info, copies, counted, facts, refused=1)] == [True, True]


def test_pcm_may_be_cut_into_other_packets(tmp_path: Path) -> None:
    source = tmp_path / "short-packets.mkv"
    tone = ("-itsoffset", "3", "-f", "lavfi", "-i", "sine=440:r=8000:d=2:samples_per_frame=371")
    ffmpeg("-i", write_clip(tmp_path / "a.mp4"), *tone, "-c:v", "copy", "-c:a", "pcm_s16le", source)
    target = tmp_path / "out.mov"
    assert restore(source, target, model="identity").exit_code == 0
    tallies = [read_facts(path).tallies[1] for path in (source, target)]
    assert tallies[0].nbytes == tallies[1].nbytes and tallies[0].packets != tallies[1].packets
    assert ns_video.verify(source, target) == []
    ffmpeg("-i", target, "-c", "copy", "-bsf:a", "noise=amount=1", tmp_path / "noisy.mov")
    assert "its samples differ" in found(source, tmp_path / "noisy.mov")
    ffmpeg("-i", target, "-c", "copy", "-bsf:a", "noise=drop='eq(n,4)'", tmp_path / "short.mov")
    assert "bytes went in" in found(source, tmp_path / "short.mov")


def half_silent(source: Path, target: Path) -> Path:
    """A copy in which the second half of each packet of sound is zeros."""
    with av.open(str(source)) as clip, av.open(str(target), "w") as out:
        made = [out.add_stream_from_template(stream) for stream in clip.streams]
        for packet in clip.demux():
            if not packet.size:
                continue
            copy = packet
            if packet.stream.type == "audio":
                copy = av.Packet(bytes(packet)[: packet.size // 2].ljust(packet.size, b"\0"))
                copy.pts, copy.dts, copy.duration = packet.pts, packet.dts, packet.duration
                copy.time_base, copy.is_keyframe = packet.time_base, True
            copy.stream = made[packet.stream_index]
            out.mux(copy)
    return target


@pytest.mark.parametrize(
    ("codec", "suffixes"), [("aac", "mkv mp4 flv"), ("libmp3lame", "mkv mp4 ts"), ("libopus", "mkv mp4 ts")]
)
def test_sound_is_compared_wherever_containers_frame_it_alike(codec: str, suffixes: str, tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mkv")
    rate = "48000" if codec == "libopus" else "44100"
    source = tmp_path / "in.mkv"
    ffmpeg("-i", silent, "-f", "lavfi", "-i", f"sine=d=0.4:r={rate}", "-c:v", "copy", "-c:a", codec, source)
    for suffix in suffixes.split():
        target = tmp_path / f"out.{suffix}"
        restore(source, target, model="identity")
        assert ns_video.verify(source, target) == []
        assert "its packets differ" in found(source, half_silent(target, tmp_path / f"half.{suffix}"))
    for suffix in ("ts", "ts", "mkv"):  # where AAC has headers of its own, and where it loses them
        source, target = target, tmp_path / f"{source.stem}-out.{suffix}"
        restore(source, target, model="identity")
        assert ns_video.verify(source, target) == []


def test_gaps_between_mov_text_cues_are_no_cues(mp4_streams_clip: Path, tmp_path: Path) -> None:
    for name in ("a.mkv", "a.mp4", "a.mov"):
        restore(mp4_streams_clip, tmp_path / name, model="identity")
        assert ns_video.verify(mp4_streams_clip, tmp_path / name) == []


def test_sound_of_program_streams_is_compared_to_a_millisecond(tmp_path: Path) -> None:
    """Not each of its frames tells a time; for those between libav's may be some ticks of 1/90000 s beside."""
    source, lavfi = tmp_path / "in.vob", ("-f", "lavfi", "-i")
    ffmpeg(*lavfi, "testsrc2=s=64x48:r=25:d=1", *lavfi, "sine=d=1", "-c:v", "mpeg2video", "-c:a", "mp2", source)
    for ticks in (0, 40, 900):
        target = tmp_path / f"{ticks}.vob"
        ffmpeg("-i", source, "-c", "copy", "-bsf:a", f"setts=pts=PTS+{ticks}:dts=DTS+{ticks}", target)
        if ticks < 90:
            assert ns_video.verify(source, target) == []
        else:
            assert "ms off beside the video" in found(source, target)
