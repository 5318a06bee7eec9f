"""What an output is planned to be, and what it is said to lose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from material import Recipe, write_clip
from planned import plan

from ns_video.media.decode import open_clip
from ns_video.media.encoder_options import EncodeOptions
from ns_video.media.video_plan import plan_video


def test_an_encoder_without_a_crf_says_so(plain_clip: Path, tmp_path: Path) -> None:
    assert not any("crf" in text for text in plan(plain_clip, "matroska", codec="ffv1")[0].notes)
    assert "ffv1 takes no --crf" in plan(plain_clip, "matroska", codec="ffv1", crf=20)[0].notes[0]


def test_fewer_bits_are_told(ten_bit_pq_clip: Path) -> None:
    for pix_fmt in ("yuv420p", "gray"):
        chosen, _ = plan(ten_bit_pq_clip, "mp4", codec="libx264", pix_fmt=pix_fmt)
        assert any("8 of 10 bits" in n for n in chosen.notes)


def test_frames_are_reordered_only_where_the_container_can_tell(plain_clip: Path, late_start_clip: Path) -> None:
    assert dict(plan(plain_clip, "mpegts")[0].options)["bf"] == "0"
    assert "bf" not in dict(plan(late_start_clip, "mpegts")[0].options)
    assert "bf" not in dict(plan(plain_clip, "mp4")[0].options)


def test_dolby_vision_is_left_out_by_name(plain_clip: Path) -> None:
    chosen, frames = plan(plain_clip, "mp4")
    told = SimpleNamespace(type=SimpleNamespace(name="DOVI_METADATA"))
    first = replace(frames[0], carrier=SimpleNamespace(side_data=[told], interlaced_frame=False))
    with open_clip(plain_clip) as reader:
        known = plan_video("mp4", reader.info.video, first, (first.width, first.height), EncodeOptions())
    assert [n for n in known.notes if n not in chosen.notes] == [
        "Dolby Vision's metadata is left out: the base picture stays"
    ]


def test_an_odd_size_that_takes_another_encoder_is_told(tmp_path: Path) -> None:
    odd = write_clip(tmp_path / "odd.mkv", Recipe(codec="ffv1", size=(65, 47), options={}))
    chosen, _ = plan(odd, "mp4")
    assert chosen.codec == "libvpx-vp9"
    assert "written as libvpx-vp9, for libx264 takes no 65x47: it wants even sides" in chosen.notes
    for other in (plan(odd, "mp4", codec="libvpx-vp9"), plan(odd, "webm")):
        assert not any("even sides" in note for note in other[0].notes)
