"""Full range into codecs whose decoders know limited range only: converted, told, and the right colours."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ffmpeg
from decoded import frames
from planned import plan, written

from ns_video.frame import RANGE_FULL, RANGE_LIMITED, Frame
from ns_video.media.degrade import parse_spec
from ns_video.media.degraded_clip import degrade_clip
from ns_video.media.first_frame import field_order
from ns_video.media.planes import limited_range
from ns_video.media.verify import verify_files
from ns_video.pipeline import restore

TOLD = "converted from full to limited range"


@pytest.fixture(scope="module", params=["yuvj420p", "gray"])
def full_range_clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three frames without loss, from black to white."""
    path = tmp_path_factory.mktemp("range") / f"{request.param}.mkv"
    film = "gradients=s=96x64:r=25:d=0.12:c0=black:c1=white:c2=red:c3=blue:n=4:seed=3:x0=0:y0=0:x1=95:y1=63"
    scaled = f"scale=out_range=pc,format={request.param}"
    coding = ("ffv1",) if request.param == "gray" else ("libx264", "-qp", "0")
    ffmpeg("-f", "lavfi", "-i", film, "-vf", scaled, "-c:v", *coding, path)
    return path


def in_limited_range(frame: Frame) -> list[np.ndarray]:
    """Its planes as float, (H, W) each, in 8-bit steps of limited range, by the definition."""
    unit, most = 2 ** (frame.format.bit_depth - 8), 2**frame.format.bit_depth - 1
    planes = [plane.astype(float) for plane in frame.planes]
    if frame.color.range != RANGE_FULL:
        return [plane / unit for plane in planes]
    return [16 + planes[0] * 219 / most, *(128 + (plane - 128 * unit) * 224 / most for plane in planes[1:])]


def off(source: list[Frame], made: list[Frame]) -> tuple[float, float]:
    """(largest mean error of luma, largest shift of any plane's mean) of frames in 8-bit steps of limited range."""
    luma, shift = 0.0, 0.0
    for before, after in zip(source, made, strict=True):
        assert (before.color.range, after.color.range) == (RANGE_FULL, RANGE_LIMITED)
        was, now = in_limited_range(before), in_limited_range(after)
        was += [np.full((1, 1), 128.0)] * (3 - len(was))  # chroma of gray
        luma = max(luma, float(np.abs(now[0] - was[0]).mean()))
        shift = max(shift, *(abs(float(a.mean() - b.mean())) for a, b in zip(now, was)))
    return luma, shift


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("mpeg2video", "mkv"), ("mpeg2video", "mp4"), ("mpeg1video", "mkv"), ("libvpx", "mkv"), ("prores_ks", "mov")],
)
def test_full_range_is_converted_where_decoders_know_none(
    codec: str, suffix: str, full_range_clip: Path, tmp_path: Path
) -> None:
    target = tmp_path / f"out.{suffix}"
    record = restore(full_range_clip, target, model="identity", codec=codec)
    assert record.exit_code == 0
    assert [w for w in record.warnings if "range" in w] == [
        f"the samples are {TOLD}, all that {codec} tells; libx264 keeps it"
    ]
    luma, shift = off(frames(full_range_clip), frames(target))
    assert luma < 1 and shift < 0.4
    assert verify_files(full_range_clip, target) == []


@pytest.mark.parametrize("spec", ["mpeg2:q=1", "noise:sigma=0+mpeg2:q=1"])
def test_mpeg2_damages_full_range_by_no_more_than_its_steps(spec: str, full_range_clip: Path, tmp_path: Path) -> None:
    outcome = degrade_clip(full_range_clip, tmp_path / "out.mkv", parse_spec(spec))
    assert any(TOLD in note for note in outcome.notes)
    luma, shift = off(frames(full_range_clip), frames(tmp_path / "out.mkv"))
    assert luma < 1 and shift < 0.4


def test_interlaced_frames_that_a_stage_changed_are_converted_too(tmp_path: Path) -> None:
    """Their side data goes through libav's filters twice: in the format of the source, and in the output's."""
    source = tmp_path / "in.mkv"
    film = "gradients=s=96x64:r=25:d=0.12:seed=3,scale=out_range=pc,format=yuv420p10le,setfield=tff"
    ffmpeg("-f", "lavfi", "-i", film, "-c:v", "libx264", "-flags", "+ildct+ilme", "-color_range", "pc", source)
    before = frames(source, deinterlace="off")
    chosen, _ = plan(source, "matroska", codec="mpeg2video")
    chosen = replace(chosen, field_order=field_order(before[0].carrier))
    changed = [replace(frame, planes=tuple(plane.copy() for plane in frame.planes)) for frame in before]
    made = written(chosen, changed)
    luma, shift = off(before, made)
    assert chosen.field_order and field_order(made[0].carrier) and luma < 1 and shift < 0.4


@pytest.mark.parametrize("bits", [8, 10, 16])
def test_the_nearest_sample_of_limited_range(bits: int) -> None:
    unit, most = 2 ** (bits - 8), 2**bits - 1
    luma, chroma = limited_range(bits)
    sample = np.arange(most + 1)
    assert (luma[0], luma[-1], chroma[128 * unit]) == (16 * unit, 235 * unit, 128 * unit)
    assert np.abs(luma - (16 * unit + sample * (219 * unit / most))).max() <= 0.5
    assert np.abs(chroma - (128 * unit + (sample - 128 * unit) * (224 * unit / most))).max() <= 0.5
