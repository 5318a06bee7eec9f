"""Residual blocks in 8-bit integers: close to fp32, the same in tiles, and refused where they can't be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import ns_video
import ns_video.device as device_module
from ns_video.device import choose_precision, cpu_features
from ns_video.enhance import EnhanceOptions, Enhancer
from ns_video.errors import DeviceError, ModelError
from ns_video.networks.int8 import Int8Block, int8_network
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.training.firing import residual_blocks
from ns_video.training.ranges import measure_ranges
from ns_video.weights import Metadata, load_descriptor, save_model

vnni = pytest.mark.skipif("avx512_vnni" not in cpu_features(), reason="this processor has no AVX512-VNNI")


def network() -> NsRestore:
    torch.manual_seed(5)
    made = NsRestore(NsRestoreConfig(channels=16, blocks=(1, 2, 1)))
    nn.init.normal_(made.tail.weight, std=0.02)
    return made.eval().requires_grad_(False)


def ranges_of(made: NsRestore) -> dict[str, tuple[float, float]]:
    torch.manual_seed(6)
    pictures = [torch.rand(2, 3, 48, 48) for _ in range(2)]
    return dict(measure_ranges(made, [lambda x=x: made(x) for x in pictures]))


def saved(made: NsRestore, path: Path, ranges: dict[str, tuple[float, float]]) -> Path:
    save_model(made, path, Metadata("ns_restore", int8_ranges=ranges))
    return path


def test_ranges_leave_room_beyond_what_blocks_see() -> None:
    made = network()
    ranges = ranges_of(made)
    torch.manual_seed(6)
    x = torch.rand(2, 3, 48, 48)
    inner = torch.relu(made.encoder[0].conv1(made.head(nn.functional.pixel_unshuffle(x.round(), 2))))
    assert 1.2 * float(inner.max()) <= ranges["encoder.0"][1] <= 1.6 * float(inner.max())


def test_blocks_that_integers_would_harm_are_left_out() -> None:
    made = network()
    whole = ranges_of(made)
    assert set(whole) == {"encoder.0", "body.0", "body.1", "decoder.0"}
    made.body[1].conv1.bias[0] = 1e5  # one channel that leaves the others no steps, and says nothing
    made.body[1].conv2.weight[:, 0] = 0
    assert "body.1" not in ranges_of(made) and "encoder.0" in ranges_of(made)


@vnni
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_integers_come_close_to_fp32(dtype: torch.dtype) -> None:
    made = network()
    quantised = int8_network(made, ranges_of(made), dtype)
    assert sum(isinstance(module, Int8Block) for module in quantised.modules()) == 4
    x = torch.rand(1, 3, 64, 80)
    with torch.inference_mode():
        change, close = made(x) - x, quantised(x) - x
    assert float((close - change).square().mean()) < 4e-3 * float(change.square().mean())
    assert not torch.equal(close, change)


@vnni
def test_tiles_give_what_the_whole_picture_gives(tmp_path: Path) -> None:
    made = network()
    descriptor = load_descriptor(str(saved(made, tmp_path / "model.safetensors", ranges_of(made))))
    x = torch.rand(1, 3, 200, 168)
    whole, tiled = (
        Enhancer(descriptor, EnhanceOptions(device="cpu", precision="int8", tile=tile))(x) for tile in (1024, 128)
    )
    assert torch.equal(whole, tiled)


def test_ranges_hold_for_pure_colours_too() -> None:
    made = network()
    torch.manual_seed(6)
    pale = 0.5 + 0.02 * torch.rand(2, 3, 48, 48)
    ranges = measure_ranges(made, [lambda: made(pale)])
    seen: dict[str, float] = {}
    for name, block in residual_blocks(made).items():
        block.register_forward_pre_hook(
            lambda _, given, name=name: seen.__setitem__(name, float(given[0].abs().quantile(0.999)))
        )
    made(pale.round())
    assert ranges and all(ranges[name][0] > seen[name] for name in ranges)


def test_ranges_that_no_reader_takes_are_left_out() -> None:
    made = network()
    made.head.weight.mul_(1e9)
    made.tail.weight.mul_(1e-9)
    torch.manual_seed(6)
    x = torch.rand(2, 3, 48, 48)
    assert measure_ranges(made, [lambda: made(x)]) == {}


@vnni
def test_int8_is_taken_where_it_or_speed_is_asked_for(tmp_path: Path) -> None:
    made = network()
    path = saved(made, tmp_path / "model.safetensors", ranges_of(made))
    descriptor = load_descriptor(str(path))
    assert "int8" in descriptor.safe_precisions
    assert Enhancer(descriptor, EnhanceOptions(device="cpu")).precision != "int8"
    enhancer = Enhancer(descriptor, EnhanceOptions(device="cpu", precision="int8"))
    assert enhancer.precision == enhancer.stats.precision == "int8"
    quick = EnhanceOptions(device="cpu", integers=True)
    assert Enhancer(descriptor, quick).precision == "int8"
    assert Enhancer(descriptor, replace(quick, precision="fp32")).precision == "fp32"
    without = load_descriptor(str(saved(network(), tmp_path / "without.safetensors", {})))
    assert Enhancer(without, quick).precision == Enhancer(without, EnhanceOptions(device="cpu")).precision != "int8"


def test_the_preset_fast_computes_in_int8_where_the_processor_can(
    monkeypatch: pytest.MonkeyPatch, plain_clip: Path, tmp_path: Path
) -> None:
    def precision(preset: str, name: str) -> str:
        return ns_video.restore(plain_clip, tmp_path / name, preset=preset, device="cpu").precision

    usual = precision("video", "video.mkv")
    assert usual != "int8"
    assert precision("fast", "fast.mkv") == ("int8" if "avx512_vnni" in cpu_features() else usual)
    without = tuple(feature for feature in cpu_features() if feature != "avx512_vnni")
    monkeypatch.setattr(device_module, "cpu_features", lambda: without)
    assert precision("fast", "elsewhere.mkv") == usual


@vnni
def test_a_model_without_ranges_is_refused(tmp_path: Path) -> None:
    descriptor = load_descriptor(str(saved(network(), tmp_path / "model.safetensors", {})))
    assert "int8" not in descriptor.safe_precisions
    with pytest.raises(DeviceError, match="doesn't tell the ranges"):
        Enhancer(descriptor, EnhanceOptions(device="cpu", precision="int8"))


def test_a_processor_without_vnni_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_module, "cpu_features", lambda: ("avx2", "avx512"))
    with pytest.raises(DeviceError, match="AVX512-VNNI"):
        choose_precision("int8", torch.device("cpu"), frozenset({"int8"}), lambda _: torch.zeros(1))
    with pytest.raises(DeviceError, match="int8 does not work on cuda"):
        choose_precision("int8", torch.device("cuda"), frozenset({"int8"}), lambda _: torch.zeros(1))


@vnni
def test_a_pytorch_without_such_convolutions_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = network()
    descriptor = load_descriptor(str(saved(made, tmp_path / "model.safetensors", ranges_of(made))))
    monkeypatch.setattr("ns_video.networks.int8._CONVOLVE", "a name that this PyTorch doesn't know")
    with pytest.raises(DeviceError, match="int8 does not work on cpu"):
        Enhancer(descriptor, EnhanceOptions(device="cpu", precision="int8"))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"body.7": [1, 1]}', '{"body.0": [1]}', '{"body.0": [1, -1]}', '{"body.0": [1, NaN]}', '{"": []}',
     '{"body.0": ["a", 1]}', '{"tail": [1, 1]}'],
)  # fmt: skip
def test_unusable_ranges_are_named(tmp_path: Path, text: str) -> None:
    made = network()
    path = tmp_path / "model.safetensors"
    saved(made, path, {"body.0": (1.0, 1.0)})
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"]["int8"] = text
    changed = json.dumps(header).encode()
    path.write_bytes(len(changed).to_bytes(8, "little") + changed + data[end:])
    with pytest.raises(ModelError, match="'int8'"):
        load_descriptor(str(path))


@vnni
def test_the_shipped_clip_models_lose_next_to_nothing() -> None:
    torch.manual_seed(2)
    smooth = nn.functional.interpolate(torch.rand(1, 15, 12, 16), size=(96, 128), mode="bicubic").clamp(0, 1)
    blocky = (smooth * 12).round() / 12
    side = torch.tensor([0.6, 0.6, 0.6, 0.0, 1.0, 1.0]).view(1, 6, 1, 1)
    for name in ("video", "fast-video"):
        descriptor = load_descriptor(name)
        made = descriptor.network
        assert isinstance(made, NsRestore)
        quantised = int8_network(made, descriptor.int8_ranges, torch.float32)
        around = 3 * (made.config.frames // 2)
        seen = blocky[:, 6 - around : 9 + around]
        with torch.inference_mode():
            change, close = (one(seen, side) - blocky[:, 6:9] for one in (made, quantised))
        assert 0 < float((close - change).square().mean()) < 0.02 * float(change.square().mean())
