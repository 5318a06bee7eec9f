"""evaluate: clips of any depth, pictures too small for a measure, JSON that is JSON, treatment as `restore` has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from ns_video.cli import emit
from ns_video.enhance import EnhanceOptions, Enhancer
from ns_video.errors import InputError, UsageError
from ns_video.media.bench_clip import picture
from ns_video.media.clip_files import list_clips
from ns_video.media.degrade import parse_spec
from ns_video.media.pictures import list_pictures, read_rgb
from ns_video.networks.deblur_study import StudyConfig, build_study_network
from ns_video.training.evaluate import mean_score, score_clip, score_picture, still_restorer
from ns_video.training.video_clips import ClipSources, find_sources
from ns_video.weights import Metadata, load_descriptor, save_model


def write_clip(path: Path, fmt: str, codec: str = "ffv1") -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options={"qp": "0"} if codec == "libx264rgb" else {})
        stream.width, stream.height, stream.pix_fmt = 96, 64, fmt
        for index in range(4):
            rgb = (picture(96, 64, index).transpose(1, 2, 0) * 255).round().astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24").reformat(format=fmt)
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_clip_is_compared_in_the_depth_of_its_original(tmp_path: Path) -> None:
    """MPEG-2 has 8 bits: its samples were compared with those of 10 as they are, and an RGB clip by its red alone."""
    enhancer = Enhancer(load_descriptor("identity"))
    clips = [("yuv420p", "ffv1"), ("yuv420p10le", "ffv1"), ("rgb24", "libx264rgb")]
    paths = [write_clip(tmp_path / f"{fmt}.mkv", fmt, codec) for fmt, codec in clips]
    plain, deep, rgb = (score_clip(path, parse_spec("mpeg2:q=8"), enhancer) for path in paths)
    assert plain.psnr_y_before > 25 and plain.gain == plain.worst_frame_gain == 0.0
    assert deep.psnr_y_before == pytest.approx(plain.psnr_y_before, abs=0.5)
    assert rgb.psnr_y_before == pytest.approx(plain.psnr_y_before, abs=3.0)
    assert plain.ssim_before == plain.ssim_after and 0.8 < plain.ssim_before < 0.999
    assert (deep.ssim_before, rgb.ssim_before) == pytest.approx((plain.ssim_before,) * 2, abs=0.02)


def test_what_is_too_small_for_a_measure_is_left_out() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    degradation = parse_spec("noise:sigma=9")
    small, large = (
        score_picture("", part, degradation, lambda picture, _: picture, 1) for part in (rgb[:9], rgb[:30, :30])
    )
    assert small.ssim_before is None and large.ssim_before is not None
    assert mean_score([small, large]).ssim_before == large.ssim_before and mean_score([small]).ssim_after is None
    with pytest.raises(UsageError, match="nothing within a border of 2 px"):
        enlarge: Any = lambda picture, _: cv2.resize(picture, None, fx=2, fy=2)  # noqa: E731
        score_picture("tiny", rgb[:4, :4], parse_spec("downscale:x=2"), enlarge, 2)


def test_json_holds_no_number_that_is_none(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    emit({"loss": float("inf"), "parts": [float("nan"), 1.5], "name": "é"})
    assert json.loads(capfdbinary.readouterr().out) == {"loss": None, "parts": [None, 1.5], "name": "é"}
    from ns_video.cli.evaluate import command

    cv2.imwrite(str(tmp_path / "t.png"), np.zeros((9, 9, 3), np.uint8))
    arguments = ["--model", "identity", "--images", str(tmp_path), "--degrade", "noise:sigma=5", "--device", "cpu"]
    shown = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    assert json.loads(shown.stdout, parse_constant=pytest.fail)["mean"]["ssim_before"] is None
    table = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert "–" in table.stdout and "nan" not in table.stdout


def test_clips_have_their_likeness_told(tmp_path: Path) -> None:
    from ns_video.cli.evaluate import command

    write_clip(tmp_path / "a.mkv", "yuv420p")
    arguments = ["--model", "identity", "--clips", str(tmp_path), "--degrade", "noise:sigma=9", "--device", "cpu"]
    found = json.loads(CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert 0 < found["clips"][0]["ssim_before"] == found["mean"]["ssim_after"] < 0.99
    header, row, mean = CliRunner().invoke(command, arguments, catch_exceptions=False).stdout.splitlines()
    assert header.split()[-3:] == ["SSIM-Y", "after", "bit/px"]
    assert row.split()[-3:-1] == mean.split()[-3:-1] == [f"{found['mean']['ssim_before']:.4f}"] * 2


def test_frames_that_could_not_be_restored_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ns_video.cli.evaluate import command

    def fail(*_: object) -> None:
        raise RuntimeError("no shape fits")

    write_clip(tmp_path / "a.mkv", "yuv420p")
    monkeypatch.setattr("ns_video.networks.deblur_study.DeblurCnn.forward", fail)
    model = tmp_path / "DeblurCNN.safetensors"
    save_model(build_study_network(StudyConfig(network="DeblurCNN")), model, Metadata("DeblurCNN"))
    arguments = ["--model", str(model), "--clips", str(tmp_path), "--degrade", "noise:sigma=9", "--device", "cpu"]
    shown = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False, standalone_mode=False)
    assert shown.return_value == 3
    found = json.loads(shown.stdout)
    assert found["clips"][0]["frames_passed_through"] == found["mean"]["frames_passed_through"] == 4
    table = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    assert table.stdout.splitlines()[0].split()[2] == "unrestored"
    assert table.stdout.splitlines()[1].split()[:3] == ["a", "4", "4"]
    good = [*arguments, "--model", "identity"]
    assert CliRunner().invoke(command, good, catch_exceptions=False, standalone_mode=False).return_value == 0


def test_files_that_share_a_stem_are_told_apart(tmp_path: Path) -> None:
    from ns_video.cli.evaluate import command

    for name in ("a.png", "c.png", "c.jpg"):
        cv2.imwrite(str(tmp_path / name), np.zeros((16, 16, 3), np.uint8))
    for name in ("a.mkv", "c.mkv", "c.avi"):
        write_clip(tmp_path / name, "yuv420p")
    for option, names in (("images", ["a", "c.jpg", "c.png"]), ("clips", ["a", "c.avi", "c.mkv"])):
        arguments = ["--model", "identity", f"--{option}", str(tmp_path), "--degrade", "noise:sigma=5", "--json"]
        found = json.loads(CliRunner().invoke(command, arguments, catch_exceptions=False).stdout)
        rows = found["pictures" if option == "images" else "clips"]
        assert [row["name"] for row in rows] == names


def test_a_picture_of_unsupported_samples_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    cv2.imwrite(str(path), np.zeros((8, 8), np.float32))
    with pytest.raises(InputError, match=r"deep\.tif: pictures of floating-point samples are not supported \(make"):
        read_rgb(path)
    path.write_bytes(b"junk")
    with pytest.raises(InputError) as caught:
        read_rgb(path)
    assert caught.value.message.startswith(f"{path} is not a picture")


def test_hidden_files_and_folders_are_no_material(tmp_path: Path) -> None:
    for name in ("._a.png", "._a.mkv", "a.png", "a.mkv"):
        (tmp_path / name).write_bytes(b"\0\5\26\7")
    for name in ("x.png", "x.mkv"):
        (tmp_path / name).mkdir()
    assert list_pictures(tmp_path) == [tmp_path / "a.png"]
    assert list_clips(tmp_path) == [tmp_path / "a.mkv"]
    assert find_sources([tmp_path], [tmp_path]) == ClipSources((tmp_path / "a.mkv",), (tmp_path / "a.png",))


def test_options_of_the_other_kind_of_material_are_refused(tmp_path: Path) -> None:
    from ns_video.cli.evaluate import command

    for given in (["--clips", str(tmp_path), "--blind"], ["--images", str(tmp_path), "--frames", "1"]):
        result = CliRunner().invoke(command, ["--model", "identity", "--degrade", "none", *given])
        assert isinstance(result.exception, UsageError)


def test_a_still_that_restore_leaves_is_left() -> None:
    enhancer = Enhancer(load_descriptor("photo"), EnhanceOptions(device="cpu", precision="fp32"))
    rgb = (picture(20, 20).transpose(1, 2, 0) * 255).round().astype(np.uint8)
    score = score_picture("", rgb, parse_spec("jpeg:q=10"), still_restorer(enhancer), 1)
    assert score.gain == 0.0 and score.self_psnr == 100.0
