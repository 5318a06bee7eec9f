"""Packets that are only copied, beside the video's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from conftest import ffmpeg
from material import Recipe, write_clip

from ns_video.enhance import Enhancer
from ns_video.errors import DamageError
from ns_video.media.containers import of_muxer
from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.copied_packets import TimedPacket, copied_packets, merged
from ns_video.media.copy_plan import plan_copies
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.libav import open_input
from ns_video.media.probe import clip_info
from ns_video.pipeline import restore

_SOUND_PID = 0x101  # of libav's muxer, where sound is stream 1


@pytest.fixture(scope="module")
def marked_sound_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MPEG-TS whose receiver found errors in every packet of its sound, and in none of its video."""
    path = write_clip(tmp_path_factory.mktemp("marked") / "in.ts", Recipe(audio=[("mp2", "eng")]))
    data = bytearray(path.read_bytes())
    for start in range(0, len(data), 188):
        if int.from_bytes(data[start + 1 : start + 3], "big") & 0x1FFF == _SOUND_PID:
            data[start + 1] |= 0x80  # transport_error_indicator (ISO/IEC 13818-1, 2.4.3.3)
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def sound_times(marked_sound_clip: Path) -> list[float]:
    with av.open(str(marked_sound_clip)) as clip:
        return [float(p.pts * p.time_base) for p in clip.demux(audio=0) if p.size]


def test_sound_that_is_marked_corrupt_is_damage(
    marked_sound_clip: Path, sound_times: list[float], tmp_path: Path
) -> None:
    record = restore(marked_sound_clip, tmp_path / "out.mkv", model="identity")
    assert record.exit_code == 3 and len(sound_times) > 10
    assert [d.pts_seconds for d in record.damage] == sound_times
    assert {d.what for d in record.damage} == {
        "a copied stream is damaged: a packet of stream 1 (audio) is marked corrupt"
    }
    record = restore(marked_sound_clip, tmp_path / "cut.mkv", model="identity", start=0.1, end=0.2)
    begins = sound_times[0]
    assert [d.pts_seconds for d in record.damage] == [t for t in sound_times if 0.1 <= t - begins < 0.2]


def test_sound_that_is_marked_corrupt_is_damage_in_one_walk(marked_sound_clip: Path, sound_times: list[float]) -> None:
    with open_clip(marked_sound_clip) as reader:
        list(reader.items({1}))
    assert [d.pts_seconds for d in reader.damage] == sound_times
    assert {d.what for d in reader.damage} == {
        "a copied stream is damaged: a packet of stream 1 (audio) is marked corrupt"
    }
    with open_clip(marked_sound_clip, DecodeOptions(start_seconds=0.1, end_seconds=0.2)) as reader:
        list(reader.items({1}))
    assert [d.pts_seconds for d in reader.damage] == [t for t in sound_times if 0.1 <= t - sound_times[0] < 0.2]


def test_damage_of_copied_streams_is_listed_up_to_a_limit(
    marked_sound_clip: Path, sound_times: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ns_video.record.DAMAGE_KEPT", 4)
    record = restore(marked_sound_clip, tmp_path / "out.mkv", model="identity")
    assert [d.pts_seconds for d in record.damage] == sound_times[:4]
    assert f"{len(sound_times)} places of damage in copied streams" in record.warnings


def test_frames_passed_through_leave_room_for_damage(
    marked_sound_clip: Path,
    sound_times: list[float],
    small_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each kind has its limit."""

    def fail(*_: Any) -> None:
        raise RuntimeError("out of order")

    monkeypatch.setattr(Enhancer, "_restored", fail)
    monkeypatch.setattr("ns_video.record.DAMAGE_KEPT", 4)
    record = restore(marked_sound_clip, tmp_path / "out.mkv", model=str(small_model), device="cpu")
    assert [d.pts_seconds for d in record.damage if d.is_of_input] == sound_times[:4]
    assert record.frames_passed_through == record.frames_in > 4
    assert len(record.damage) == 8


def test_damage_of_a_copied_stream_fails_a_strict_run(marked_sound_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(DamageError, match="stream 1"):
        restore(marked_sound_clip, tmp_path / "out.mkv", model="identity", strict=True)
    assert not (tmp_path / "out.mkv").exists()


def test_damage_of_the_container_is_told_once_and_where_it_is(tmp_path: Path) -> None:
    """Both the video's reader and the one of what is copied come across a block that is larger than its cluster."""
    recipe = Recipe(times=tuple(range(0, 4000, 40)), audio=[("flac", "eng")], muxing={"cluster_time_limit": "500"})
    path = write_clip(tmp_path / "in.mkv", recipe)
    data = bytearray(path.read_bytes())
    clusters = [n for n in range(len(data)) if data.startswith(b"\x1f\x43\xb6\x75", n)]
    block = data.index(0xA3, clusters[len(clusters) // 2] + 12)
    data[block + 1 : block + 3] = b"\x10\x7f"  # its length
    path.write_bytes(data)
    record = restore(path, tmp_path / "out.mkv", model="identity")
    assert record.exit_code == 3
    found = [d for d in record.damage if "exceeds containing master element" in d.what]
    assert len(found) == 1 and found[0].pts_seconds == pytest.approx(2, abs=0.7)
    with open_input(path) as container:
        plans = plan_copies(container, clip_info(container), of_muxer("matroska"))
    heard: list[tuple[str, float]] = []
    list(copied_packets(path, plans, on_damage=lambda what, seconds: heard.append((what, seconds))))
    assert [what for what, _ in heard] == [found[0].what] and heard[0][1] == pytest.approx(2, abs=0.7)


def test_of_a_cut_flv_nothing_but_the_cut_is_damage(tmp_path: Path) -> None:
    source, sound = tmp_path / "in.flv", ("-f", "lavfi", "-i", "sine=d=1:r=44100", "-c:a", "mp3")
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", *sound, "-c:v", "flv", source)
    source.write_bytes(source.read_bytes()[:-3000])
    record = restore(source, tmp_path / "out.mkv", model="identity")
    assert record.exit_code == 3
    assert not any("single-track" in d.what for d in record.damage) and (record.damage[0].pts_seconds or 0) > 0.5


def test_a_cover_becomes_an_attachment_with_the_same_bytes(cover_clip: Path, tmp_path: Path) -> None:
    restore(cover_clip, tmp_path / "out.mkv", model="identity")
    with av.open(str(tmp_path / "out.mkv")) as clip, av.open(str(cover_clip)) as source:
        cover = next(s for s in source.streams.video if s.codec_context.name == "png")
        wanted = next(bytes(p) for p in source.demux(cover) if p.size)
        found = [bytes(p) for s in clip.streams.video[1:] for p in clip.demux(s) if p.size]
    assert found == [wanted]


def test_merged_by_decode_time_and_video_first() -> None:
    video = [TimedPacket(Fraction(t), f"v{t}") for t in (0, 2, 4)]
    copies = [(Fraction(t), CopiedPacket(1, f"c{t}", 1)) for t in (0, 1, 4, 5)]
    found = [packet or copy.packet for packet, copy in merged(video, copies)]
    assert found == ["v0", "c0", "c1", "v2", "v4", "c4", "c5"]
