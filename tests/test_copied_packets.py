"""Packets that are only copied, beside the video's."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av

from ns_video.media.copied_clock import CopiedPacket
from ns_video.media.copied_packets import TimedPacket, merged
from ns_video.pipeline import restore


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
