"""What rides on a clip's first frame."""

from __future__ import annotations

from pathlib import Path

from planned import plan

from ns_video.media.first_frame import first_frame_metadata


def test_hdr_metadata_is_read_and_written(ten_bit_pq_clip: Path) -> None:
    chosen, found = plan(ten_bit_pq_clip, "matroska")
    _, hdr = first_frame_metadata(found[0].carrier)
    assert hdr is not None and hdr == chosen.hdr
    assert hdr.light_level == (1000, 400)
    assert [float(v) for v in hdr.luminance] == [0.005, 1000.0]
    assert [round(float(x), 3) for x in hdr.primaries[0]] == [0.68, 0.32]
    assert "max-cll=1000,400" in dict(chosen.options)["x265-params"]
    assert "L(10000000,50)" in dict(chosen.options)["x265-params"]
