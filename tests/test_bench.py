"""bench and doctor: figures that hang together, JSON a script can read, results on stdout and progress on stderr."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from test_enhance import clip as frames_of
from test_enhance import fp32, restorer
from torch import nn

from ns_video import bench
from ns_video.bench import BenchOptions, _damaged, gflop_per_pixel, measure_clip, measure_peaks, measure_pictures
from ns_video.cli import run as run_command
from ns_video.enhance import Enhancer
from ns_video.errors import InputError
from ns_video.media.bench_clip import make_clip
from ns_video.media.decode import DecodeOptions, open_clip
from ns_video.media.probe import pixel_format
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.weights import Metadata, load_descriptor, save_model


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "made.mkv"
    make_clip(path, 96, 64, 12)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network = NsRestore(NsRestoreConfig(frames=3, side=6, gated=True, channels=8, blocks=(0, 1, 0)))
    nn.init.normal_(network.tail.weight, std=0.05)
    save_model(network, path, Metadata("ns_restore", "quantiser", "ycbcr"))
    return path


def test_the_made_clip_has_quantisers_and_movement(clip: Path) -> None:
    with open_clip(clip, DecodeOptions(quantisers=True)) as reader:
        frames = list(reader.frames())
    assert len(frames) == 12 and (frames[0].width, frames[0].height) == (96, 64)
    assert all(frame.quantiser is not None for frame in frames)
    assert any((frames[5].planes[0] != frames[6].planes[0]).ravel())


def test_work_is_counted_by_hand() -> None:
    """A 3 × 3 convolution from 3 to 3 channels: 2 * 81 operations a pixel."""
    descriptor = load_descriptor("identity")
    assert gflop_per_pixel(descriptor) == 0.0
    network = nn.Conv2d(3, 3, 3, padding=1, bias=False)
    assert gflop_per_pixel(dataclasses.replace(descriptor, network=network)) == pytest.approx(162e-9)


def test_stages_alone_and_together(clip: Path, weights: Path, tmp_path: Path) -> None:
    options = BenchOptions(
        models=("identity", str(weights)),
        device="cpu",
        precisions=("fp32",),
        tiles=(None,),
        seconds=0.2,
        speed="ultrafast",
    )
    steps = measure_clip(clip, tmp_path, options)
    said: list[str] = []
    while True:
        try:
            said.append(next(steps))
        except StopIteration as done:
            result = done.value
            break
    assert [row.model for row in result.enhance] == ["identity", str(weights)]
    identity, network = result.enhance
    assert identity.gflops == 0.0 and network.gflops > 0.0
    assert network.share_of_peak == pytest.approx(network.gflops / result.peaks.matrix_gflops["fp32"])
    assert identity.speed.fps > network.speed.fps
    for speed in (result.decode, result.encode, *(run.speed for run in result.whole)):
        assert speed.fps == pytest.approx(speed.frames / speed.seconds)
        assert speed.megapixels_per_second == pytest.approx(speed.fps * 96 * 64 / 1e6)
    assert len(result.whole) == 2 and result.whole[1].speed.frames == 12
    assert 0 < result.whole[1].seconds_to_first_frame < result.whole[1].speed.seconds
    assert len(said) >= 6 and list(tmp_path.iterdir()) == []


def test_a_clip_too_short_is_refused(tmp_path: Path) -> None:
    make_clip(tmp_path / "short.mkv", 64, 48, 2)
    with pytest.raises(InputError, match="too few"):
        list(measure_clip(tmp_path / "short.mkv", tmp_path, BenchOptions(models=("identity",), seconds=0.2)))


def test_ns_ics_protocol(weights: Path) -> None:
    rows = list(measure_pictures(str(weights), "cpu", ("fp32",), ((256, 128), (512, 128)), repeats=1))
    assert [(row.tile, row.overlap) for row in rows] == [(256, 128), (512, 128)]
    for row in rows:
        assert row.megapixels_per_second == pytest.approx(1280 * 640 / 1e6 / row.seconds_per_picture)


def test_peaks_are_plausible() -> None:
    peaks = measure_peaks(torch.device("cpu"), ("fp32",))
    assert 0.1 < peaks.matrix_gflops["fp32"] < 1e5 and 0.01 < peaks.copy_gbytes < 1e4


def test_peaks_of_a_type_that_a_device_refuses_are_0(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> None:
        raise TypeError("BFloat16 is not supported on MPS")

    monkeypatch.setattr(torch, "mm", refuses)
    assert measure_peaks(torch.device("cpu"), ("bf16",)).matrix_gflops == {"bf16": 0.0}


def test_a_copy_that_a_device_has_no_memory_for_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(bench._COPY_BYTES, "cpu", 1 << 60)
    peaks = measure_peaks(torch.device("cpu"), ())
    assert (peaks.matrix_gflops, peaks.copy_gbytes) == ({}, 0.0)


def test_frames_so_large_that_one_alone_is_held_are_measured(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ns_video.bench.HELD_BYTES", 1)
    options = BenchOptions(models=("identity",), device="cpu", seconds=0.05, speed="ultrafast")
    for _ in measure_clip(clip, tmp_path, options):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_bench_command(clip: Path, weights: Path) -> None:
    from ns_video.cli.bench import command

    arguments = [str(clip), "--model", str(weights), "--device", "cpu", "--seconds", "0.2"]
    text = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert text.exit_code == 0
    assert "decode alone" in text.stdout and "all together" in text.stdout and "decoding" in text.stderr
    shown = CliRunner().invoke(command, [*arguments, "--json"], catch_exceptions=False)
    result = json.loads(shown.stdout)
    assert result["width"] == 96 and result["whole"][0]["speed"]["fps"] > 0
    wrong = CliRunner().invoke(command, ["--size", "big"])
    assert wrong.exit_code == 2


def test_the_doctor_command() -> None:
    from ns_video.cli.doctor import command

    text = CliRunner().invoke(command, [], catch_exceptions=False)
    assert text.exit_code == 0 and "device cpu" in text.stdout and "PyAV" in text.stdout
    seen = json.loads(CliRunner().invoke(command, ["--json"], catch_exceptions=False).stdout)
    assert seen["devices"][0]["precisions"]["fp32"] == "works"
    assert seen["media"]["encoders"]["libx264"] is True
    assert "h264" in seen["media"]["decoders"]


def test_networks_that_read_tables_are_measured_at_work() -> None:
    """A clip's frames have none, and would pass as undamaged, quickly."""
    enhancer = Enhancer(restorer("jpeg", domain="rgb"), fp32())
    frames = frames_of(2)
    assert [result.reason for result in enhancer.run(frames)] == ["undamaged"] * 2
    assert [result.reason for result in enhancer.run(_damaged(frame, enhancer) for frame in frames)] == [None] * 2
    plain = Enhancer(restorer("quantiser"), fp32())
    assert _damaged(frames[0], plain) is frames[0]


@pytest.fixture
def textured(tmp_path: Path) -> Path:
    make_clip(tmp_path / "made.mkv", 160, 96, 4)
    return tmp_path / "made.mkv"


@pytest.mark.parametrize("model", ["mosaic", "deblur"])
def test_networks_that_see_cells_are_measured_at_work(
    model: str, textured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame had any, and each was passed on, at many times the speed that the machine has."""
    descriptor = load_descriptor(model)
    enhancer = Enhancer(descriptor, fp32())
    with open_clip(textured, DecodeOptions()) as reader:
        frames = list(reader.frames())
    deep = tuple(np.left_shift(plane, 2, dtype=np.uint16) for plane in frames[0].planes)
    frames.append(dataclasses.replace(frames[0], planes=deep, format=pixel_format("yuv420p10le")))
    for frame in frames:
        assert next(enhancer.run([_damaged(frame, enhancer)])).reason is None
    calls: list[int] = []
    monkeypatch.setattr(bench, "NS_IC_SIZE", (256, 128))
    monkeypatch.setattr(bench, "load_descriptor", lambda _: descriptor)
    descriptor.network.register_forward_pre_hook(lambda *_: calls.append(1))
    list(measure_pictures(model, "cpu", ("fp32",), ((256, 128),), repeats=1))
    assert calls


def test_work_is_counted_per_pixel_not_per_cell() -> None:
    cells = load_descriptor("deblur")
    pixels = dataclasses.replace(cells, conditioning="none")
    assert 9 * gflop_per_pixel(cells) == pytest.approx(gflop_per_pixel(pixels))


def test_a_model_that_restores_nothing_is_not_measured(
    textured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_damaged", lambda frame, _: frame)
    with pytest.raises(InputError, match="mosaic restored no frame"):
        list(measure_clip(textured, tmp_path, BenchOptions(models=("mosaic",), device="cpu", seconds=0.2)))


@pytest.mark.parametrize("given", [["--tile", "²"], ["--size", "²x64"]], ids=str)
def test_numbers_of_the_bench_command_are_digits(given: list[str]) -> None:
    assert run_command(["bench", *given]) == 2


@pytest.mark.parametrize("given", [["--tile", "64"], ["--size", "64x64"], ["--seconds", "1"], [__file__]], ids=str)
def test_what_the_picture_benchmark_has_no_use_for_is_refused(
    given: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["bench", "--pictures", *given]) == 2
    assert "has no meaning with --pictures" in capfd.readouterr().err


def test_the_bench_command_looks_for_all_models_first(capfd: pytest.CaptureFixture[str]) -> None:
    assert run_command(["bench", "--model", "fast-photo", "--model", "nope", "--seconds", "0.2"]) != 0
    told = capfd.readouterr().err
    assert "nope" in told and "making a clip" not in told


@pytest.mark.parametrize(
    "command", [["bench"], ["report", "--json"], ["restore", "-q"], ["verify"], ["degrade", "--spec", "noise:sigma=5"]]
)
def test_a_missing_clip_ends_every_command_alike(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    absent, others = str(tmp_path / "absent.mkv"), [str(tmp_path / "out.mkv")] * (command[0] not in ("bench", "report"))
    assert run_command([*command, absent, *others]) == 1
    assert capfd.readouterr().err == f"error: open: {absent}: no such file\n"


def test_an_unknown_precision_is_a_usage_error(tmp_path: Path) -> None:
    images = ["--images", str(tmp_path), "--degrade", "none"]
    assert run_command(["evaluate", "--model", "photo", *images, "--precision", "foo"]) == 2
    assert run_command(["bench", "--precision", "foo"]) == 2
