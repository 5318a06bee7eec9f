"""Options of encoders: each one's own quality, and the user's last."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from planned import plan

from ns_video.errors import UsageError
from ns_video.media import encoder_choice
from ns_video.pipeline import restore


@pytest.mark.parametrize(
    ("codec", "container"),
    [("libvpx", "webm"), ("mpeg4", "avi"), ("mpeg2video", "mpg"), ("mjpeg", "mkv"), ("msmpeg4", "avi"), ("flv", "flv")],
)
def test_every_encoder_heeds_the_crf(codec: str, container: str, plain_clip: Path, tmp_path: Path) -> None:
    sizes: list[int] = []
    for crf in (1, 12, 30):
        target = tmp_path / f"{crf}.{container}"
        record = restore(plain_clip, target, model="identity", codec=codec, crf=crf)
        assert not any("crf" in text for text in record.warnings)
        sizes.append(target.stat().st_size)
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[2]


@pytest.mark.parametrize(
    ("codec", "highest"), [("libx264", 51), ("libx265", 51), ("libvpx-vp9", 63), ("libsvtav1", 63), ("mpeg4", 31)]
)
def test_a_crf_beyond_the_scale_of_the_encoder_is_refused(codec: str, highest: int, plain_clip: Path) -> None:
    assert plan(plain_clip, "matroska", codec=codec, crf=highest)[0].codec == codec
    with pytest.raises(UsageError, match=rf"of {codec}, which ends at {highest}"):
        plan(plain_clip, "matroska", codec=codec, crf=highest + 1)


@pytest.mark.parametrize(
    ("codec", "crf", "wanted"),
    [
        ("h264_qsv", 0, {"global_quality": "1"}),
        ("hevc_amf", 23, {"rc": "cqp", "qp_i": "23", "qp_p": "23"}),
        ("av1_amf", 63, {"rc": "cqp", "qp_i": "255", "qp_p": "255"}),
        ("h264_videotoolbox", 0, {"qscale": "100"}),
        ("hevc_mf", 51, {"rate_control": "quality", "quality": "1"}),
    ],
)
def test_encoders_in_hardware_heed_the_crf(
    codec: str, crf: float, wanted: dict[str, str], plain_clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = av.Codec
    monkeypatch.setattr(encoder_choice, "hardware_encoder_works", lambda *_: True)
    monkeypatch.setattr(encoder_choice.av, "Codec", lambda name, mode: real("libx264", mode))
    options = dict(plan(plain_clip, "matroska", codec=codec, crf=crf)[0].options)
    assert {key: options.get(key) for key in wanted} == wanted


def test_options_of_the_user_come_last_and_add_to_parameter_lists(plain_clip: Path) -> None:
    chosen, _ = plan(plain_clip, "mp4", encoder_options={"preset": "slow", "x264-params": "bframes=1"}, crf=20)
    options = dict(chosen.options)
    assert options["preset"] == "slow" and options["crf"] == "20"
    assert options["x264-params"] == "cpu-independent=1:bframes=1"
