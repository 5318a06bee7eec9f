"""Weights files: every architecture comes back as it was saved; nothing unsafe runs; damage is named."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DCTLSA import DCTLSA
from spandrel.architectures.DnCNN import DnCNN as ForeignDnCnn
from spandrel.architectures.DRUNet import DRUNet
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.FBCNN import FBCNN
from spandrel.architectures.SAFMN import SAFMN
from spandrel.architectures.SCUNet import SCUNet
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

import ns_video.weights.pickles as pickles
from ns_video.cards import Card, DataRow, Training, find_card
from ns_video.errors import ModelError, UnknownModelError
from ns_video.networks.deblur_study import STUDY_NETWORKS, StudyConfig, build_study_network
from ns_video.networks.ns_c import NsC, NsCConfig
from ns_video.networks.ns_iqa import NsIqa, NsIqaConfig
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.networks.nsie import Nsie, NsieConfig
from ns_video.quality.ns_iqa import NsIqaJudges
from ns_video.weights import Metadata, list_models, load_descriptor, load_weights, save_model, write_card
from ns_video.weights.foreign import HAT_SIZES, HatConfig, RcanConfig, build_hat, build_rcan

TINY = NsRestoreConfig(side=7, channels=8, blocks=(0, 1, 0), gated=True)
SMALL_NSIE = NsieConfig(features=8, blocks=2, growth=4)


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """`network` with weights and statistics that nothing is trivial with, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-0.1, 0.12, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.2, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network.eval()


def picture(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A small ns_restore file with random weights."""
    path = tmp_path / "tiny.safetensors"
    save_model(randomised(NsRestore(TINY)), path, Metadata("ns_restore", conditioning="jpeg"))
    return path


# --- every architecture: save → detect → load → same output ---------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "metadata"),
    [
        (TINY, Metadata("ns_restore", conditioning="jpeg")),
        (NsRestoreConfig(frames=3, side=6, channels=8, gated=True), Metadata("ns_restore", "quantiser", "ycbcr")),
        (NsRestoreConfig(channels=8, scale=2, unshuffle=1, blocks=(1, 1, 1)), Metadata("ns_restore")),
    ],
)
def test_ns_restore_comes_back(config: NsRestoreConfig, metadata: Metadata, tmp_path: Path) -> None:
    network = randomised(NsRestore(config))
    path = tmp_path / "mine.safetensors"
    sha256 = save_model(network, path, metadata)
    found = load_descriptor(path)
    assert found.network.config == config  # pyright: ignore[reportAttributeAccessIssue]
    assert (found.name, found.architecture, found.scale) == ("mine", "ns_restore", config.scale)
    assert (found.conditioning, found.domain, found.frames) == (metadata.conditioning, metadata.domain, config.frames)
    assert found.sha256 == sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert found.exact_tiles and found.halo == NsRestore(config).receptive_radius
    assert found.multiple_of == 2 * config.unshuffle and found.restores
    assert not found.network.training and not any(p.requires_grad for p in found.network.parameters())
    x, side = picture(1, 3 * config.frames, 16, 24), picture(1, config.side, 1, 1) if config.side else None
    with torch.no_grad():
        expected = network(x, side)
        assert torch.equal(found.network(x, side), expected)
    assert not torch.allclose(expected[..., :16, :24], x[:, :3], atol=1e-3)


@pytest.mark.parametrize("name", STUDY_NETWORKS)
@pytest.mark.parametrize("legacy", [False, True])
def test_study_checkpoints_come_back(name: str, legacy: bool, tmp_path: Path) -> None:
    network = randomised(build_study_network(StudyConfig(name)))
    optimiser = torch.optim.Adam(network.parameters())
    content = {
        "epoch": 202,
        "model_state_dict": network.state_dict(),
        "optimizer_state_dict": optimiser.state_dict(),
        "train_loss": [0.25, np.float64(0.125), np.float32(0.5), np.mean(np.arange(3))],
    }
    path = tmp_path / "best.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    found = load_descriptor(path)
    assert found.architecture == name
    assert found.exact_tiles and found.halo > 0 and found.scale == 1
    x = picture(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(found.network(x), network(x))


def test_a_dncnn_that_learned_the_picture_itself_is_told_from_one_that_learned_the_damage(tmp_path: Path) -> None:
    network = build_study_network(StudyConfig("DnCNN")).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.zero_()
                for channel in range(3):
                    module.weight[channel, channel, 1, 1] = 1.0
    torch.save(network.state_dict(), tmp_path / "direct.pth")
    x = picture(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(load_descriptor(tmp_path / "direct.pth").network(x), x, atol=1e-3)
        for parameter in network.parameters():
            parameter.zero_()
        torch.save(network.state_dict(), tmp_path / "damage.pth")
        assert torch.equal(load_descriptor(tmp_path / "damage.pth").network(x), x)


@pytest.mark.parametrize("wrap", ["plain", "module", "generator", "safetensors", "without counters"])
def test_ns_ic_files_come_back(wrap: str, tmp_path: Path) -> None:
    network = randomised(Nsie(SMALL_NSIE))
    state: dict[str, object] = dict(network.state_dict())
    path = tmp_path / "Kyouka.pth"
    if wrap == "module":
        torch.save({f"module.{name}": value for name, value in state.items()}, path)
    elif wrap == "generator":
        content = {"epoch": 3, "generator_state_dict": state, "discriminator_state_dict": {"0.weight": torch.ones(3)}}
        path = tmp_path / "Kyouka_best_psnr.pth.tar"
        torch.save(content, path)
    elif wrap == "safetensors":
        path = tmp_path / "Kyouka.safetensors"
        safetensors.torch.save_file(dict(network.state_dict()), path)
    elif wrap == "without counters":
        torch.save({name: value for name, value in state.items() if "num_batches" not in name}, path)
    else:
        torch.save(state, path)
    found = load_descriptor(path)
    assert (found.architecture, found.multiple_of, found.halo, found.exact_tiles) == ("nsie", 4, 0, False)
    assert found.parameters == sum(p.numel() for p in network.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in found.network.modules())
    x = picture(2, 3, 16, 20)
    with torch.no_grad():
        assert torch.allclose(found.network(x), network(x), atol=1e-5)


def test_for_training_keeps_gradients_and_batchnorm(tmp_path: Path) -> None:
    network = randomised(Nsie(SMALL_NSIE))
    save_model(network, tmp_path / "a.safetensors", Metadata("nsie"))
    found = load_descriptor(tmp_path / "a.safetensors", for_training=True)
    assert all(parameter.requires_grad for parameter in found.network.parameters())
    assert list(found.network.state_dict()) == list(network.state_dict())
    save_model(found.network, tmp_path / "b.safetensors", Metadata("nsie"))
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_judges_come_back(tmp_path: Path) -> None:
    iqa, classes = randomised(NsIqa(NsIqaConfig())), randomised(NsC(NsCConfig(classes=3)))
    torch.save(iqa.state_dict(), tmp_path / "NS-IQA.pth")
    save_model(classes, tmp_path / "ns-c.safetensors", Metadata("ns_c"))
    torch.save(classes.state_dict(), tmp_path / "best_model.pth")
    x = picture(1, 3, 64, 64)
    with torch.no_grad():
        found = load_descriptor(tmp_path / "NS-IQA.pth")
        assert found.architecture == "ns_iqa" and not found.restores and found.parameters == 267_905
        assert torch.equal(found.network(x), iqa(x))
        for name in ("ns-c.safetensors", "best_model.pth"):
            found = load_descriptor(tmp_path / name)
            assert found.architecture == "ns_c" and not found.restores and found.out_channels == 3
            assert torch.equal(found.network(x), classes(x))


def test_the_shipped_scores_judges_come_back(tmp_path: Path) -> None:
    judges = NsIqaJudges()
    save_model(judges, tmp_path / "a.safetensors", Metadata("ns_iqa_statistics"))
    found = load_descriptor(tmp_path / "a.safetensors")
    assert isinstance(found.network, NsIqaJudges) and not found.restores
    assert found.network.config == judges.config
    assert not any(tensor.is_meta for tensor in (*found.network.parameters(), *found.network.buffers()))
    assert found.network.score(picture(1, 3, 80, 96)) == judges.eval().score(picture(1, 3, 80, 96))


@dataclasses.dataclass(frozen=True)
class ForeignCase:
    """A small network of a foreign architecture, and what is known about it."""

    architecture: str
    build: Callable[[], nn.Module]
    scale: int
    halo: int | None
    """None: the network looks at everything, or too far."""


FOREIGN = [
    ForeignCase("Compact", lambda: Compact(num_feat=8, num_conv=4, upscale=4), 4, 6),
    ForeignCase("Compact", lambda: Compact(num_feat=8, num_conv=16, upscale=1), 1, 18),
    ForeignCase("SPAN", lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=12, upscale=2), 2, 21),
    ForeignCase("DnCNN", lambda: ForeignDnCnn(in_nc=3, out_nc=3, nc=8, nb=9, act_mode="R"), 1, 9),
    ForeignCase("SAFMN", lambda: SAFMN(dim=12, n_blocks=1, upscaling_factor=2), 2, 24),
    ForeignCase("ESRGAN", lambda: ESRGAN(num_filters=8, num_blocks=1, scale=2), 2, None),
    ForeignCase("RCAN", lambda: build_rcan(RcanConfig(groups=1, blocks=2, channels=16)), 2, None),
    ForeignCase("HAT", lambda: build_hat(HatConfig(dim=60, depths=(1,), window=4)), 2, None),
    ForeignCase("SCUNet", lambda: SCUNet(config=[1] * 7, dim=64), 1, None),
    ForeignCase("FBCNN", lambda: FBCNN(nc=[8, 8, 8, 512], nb=4), 1, None),
    ForeignCase(
        "SwinIR",
        lambda: SwinIR(
            embed_dim=12, depths=[2], num_heads=[2], window_size=8, upscale=2, upsampler="pixelshuffledirect"
        ),
        2,
        None,
    ),
]


def lively(build: Callable[[], nn.Module]) -> nn.Module:
    """A network as its authors initialise it, less the zeros that would hide a part of it, its result away from 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build()
        with torch.no_grad():
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.rand(parameter.shape) * 0.02 - 0.01)
                    if parameter.shape == (3,):
                        parameter.fill_(0.5)
    return network.eval()


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize(
    ("case", "suffix"),
    [*((case, ".pth") for case in FOREIGN), *((case, ".safetensors") for case in FOREIGN[:5])],
    ids=lambda value: value if isinstance(value, str) else f"{value.architecture}-x{value.scale}",
)
def test_foreign_architectures_come_back(case: ForeignCase, suffix: str, tmp_path: Path) -> None:
    network = lively(case.build)
    path = tmp_path / f"foreign{suffix}"
    if suffix == ".pth":
        torch.save({"params_ema": network.state_dict(), "params": {"body": torch.zeros(1)}}, path)
    else:
        safetensors.torch.save_file({k: v.clone() for k, v in network.state_dict().items()}, path)
    found = load_descriptor(path)
    assert (found.architecture, found.scale) == (case.architecture, case.scale)
    assert found.in_channels == found.out_channels == 3
    assert found.exact_tiles == (case.halo is not None)
    assert found.halo == (case.halo or 0)
    assert "fp32" in found.safe_precisions
    x = picture(2, 3, 64, 64)
    with torch.no_grad():
        raw = network(x.clone())
        expected = (raw[0] if isinstance(raw, tuple) else raw).clamp(0, 1)
        result = copy.deepcopy(found.network)(x)
        assert torch.equal(x, picture(2, 3, 64, 64)), "the input was written to"
        assert (result - expected).abs().max() < 1e-3 * expected.std()
        result += 1  # a caller may write to what it was given
        assert found.network(picture(1, 3, 33, 41)).shape == (1, 3, 33 * case.scale, 41 * case.scale)
    assert expected.std() > 1e-3


@pytest.mark.parametrize(
    "case", [case for case in FOREIGN if case.halo], ids=lambda case: f"{case.architecture}-{case.halo}"
)
def test_tiles_with_the_measured_halo_are_exact(case: ForeignCase, tmp_path: Path) -> None:
    torch.save(lively(case.build).state_dict(), tmp_path / "a.pth")
    found = load_descriptor(tmp_path / "a.pth")
    h, s, m = found.halo, found.scale, found.multiple_of
    begin, end = 3 * m + h, 3 * m + h + 4 * m
    x = picture(1, 3, 2 * h + 8 * m, 2 * h + 8 * m)
    tile = x[..., begin - h : end + h, begin - h : end + h]
    with torch.no_grad():
        inner = found.network(tile)[..., h * s : (h + 4 * m) * s, h * s : (h + 4 * m) * s]
        whole = found.network(x)[..., begin * s : end * s, begin * s : end * s]
        assert torch.allclose(inner, whole, atol=1e-6)
    assert whole.std() > 1e-3


def test_a_gray_network_restores_every_channel_by_itself(tmp_path: Path) -> None:
    network = randomised(ForeignDnCnn(in_nc=1, out_nc=1, nc=8, nb=9, act_mode="R"))
    torch.save(network.state_dict(), tmp_path / "gray.pth")
    found = load_descriptor(tmp_path / "gray.pth")
    assert (found.in_channels, found.out_channels, found.halo) == (3, 3, 9)
    x = picture(2, 3, 20, 24)
    with torch.no_grad():
        expected = torch.cat([network(x[:, c : c + 1]) for c in range(3)], 1).clamp(0, 1)
        assert torch.allclose(found.network(x), expected, atol=1e-6)
        gray = found.network(x[:, :1].expand(-1, 3, -1, -1))
    assert torch.equal(gray[:, 0], gray[:, 1]) and torch.equal(gray[:, 0], gray[:, 2])


def test_networks_with_a_noise_map_take_batches(tmp_path: Path) -> None:
    torch.save(randomised(DRUNet(in_nc=4, out_nc=3, nc=[4, 4, 4, 4], nb=4)).state_dict(), tmp_path / "a.pth")
    found = load_descriptor(tmp_path / "a.pth")
    x = picture(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(found.network(x)[1:], found.network(x[1:]))


@pytest.mark.parametrize("channels", [(4, 4), (2, 2)])
def test_other_numbers_of_channels_are_refused(channels: tuple[int, int], tmp_path: Path) -> None:
    torch.save(
        Compact(num_in_ch=channels[0], num_out_ch=channels[1], num_feat=8, num_conv=1).state_dict(), tmp_path / "a.pth"
    )
    with pytest.raises(ModelError, match=rf"makes {channels[1]} channels of {channels[0]}; only RGB and gray"):
        load_descriptor(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("network", "said"),
    [
        (lambda: SCUNet(config=[1] * 7, dim=32), "SCUNet of these sizes can't run"),
        (lambda: DCTLSA(nf=20, num_modules=1, upscale=2), "DCTLSA of these sizes can't run"),
        (lambda: ESRGAN(in_nc=12, num_filters=8, num_blocks=1, scale=1, shuffle_factor=2), "makes pictures smaller"),
    ],
)
def test_weights_that_cannot_run_are_refused(network: Callable[[], nn.Module], said: str, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "a.pth")
    with pytest.raises(ModelError, match=said):
        load_descriptor(tmp_path / "a.pth")


def test_what_is_not_the_weights_themselves_is_named(tmp_path: Path) -> None:
    pointer, cut, checkpoint = tmp_path / "a.safetensors", tmp_path / "a.pth", tmp_path / "checkpoint.pt"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    torch.save({"head.weight": torch.zeros(1)}, checkpoint)
    cut.write_bytes(checkpoint.read_bytes()[:-100])
    for path, said in ((pointer, "git lfs pull"), (cut, "cut off"), (checkpoint, r"give the \.safetensors")):
        with pytest.raises(ModelError, match=said):
            load_descriptor(path)


def test_rcan_and_hat_have_the_published_sizes() -> None:
    rcan = build_rcan(RcanConfig(scale=4))
    hat = build_hat(HatConfig(scale=4))
    small = build_hat(HAT_SIZES["small"])
    assert sum(p.numel() for p in rcan.parameters() if p.requires_grad) == 15_592_355  # EDSR-PyTorch's RCAN ×4
    assert sum(p.numel() for p in hat.parameters()) == 20_772_507  # "20.8M" in the paper
    assert sum(p.numel() for p in small.parameters()) < 2_000_000


def real_files() -> list[Path]:
    folder = os.environ.get("NS_VIDEO_TEST_WEIGHTS")
    return sorted(path for path in Path(folder).iterdir() if path.suffix in (".pth", ".safetensors")) if folder else []


def test_real_and_realistic_files_load_and_run(tmp_path: Path) -> None:
    """Others' files in the folder NS_VIDEO_TEST_WEIGHTS, where it is set; always files made in their manner.

    Real-ESRGAN's is a compressed archive with "params"; KAIR's a bare state dict in the format before PyTorch 1.6.
    """
    esrgan, kair = tmp_path / "esrgan.pth", tmp_path / "kair.pth"
    compact = randomised(Compact(num_feat=8, num_conv=16, upscale=4))
    torch.save({"params": compact.state_dict()}, esrgan)
    rewrite(esrgan, lambda name, data: data, zipfile.ZIP_DEFLATED)
    gray = randomised(ForeignDnCnn(in_nc=1, out_nc=1, nc=8, nb=17, act_mode="R"))
    torch.save(gray.state_dict(), kair, _use_new_zipfile_serialization=False)
    x = picture(1, 3, 24, 24)
    for path in (esrgan, kair, *real_files()):
        found = load_descriptor(path)
        with torch.no_grad():
            result = found.network(x)
        assert result.shape == (1, 3, 24 * found.scale, 24 * found.scale), path
        assert torch.isfinite(result).all() and result.std() > 0, path
    with torch.no_grad():
        assert torch.allclose(load_descriptor(esrgan).network(x), compact(x).clamp(0, 1), atol=1e-5)


def test_identity_does_nothing() -> None:
    found = load_descriptor("identity")
    x = picture(1, 3, 5, 7)
    assert found.network(x) is x
    assert (found.scale, found.halo, found.exact_tiles, found.multiple_of) == (1, 0, True, 1)
    assert found.restores and found.sha256 == "" and found.card is None


def test_loading_draws_no_random_numbers(tiny: Path, tmp_path: Path) -> None:
    torch.save(Compact(num_feat=8, num_conv=2).state_dict(), tmp_path / "compact.pth")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_descriptor(tiny)
    load_descriptor(tmp_path / "compact.pth")
    assert torch.equal(torch.rand(4), expected)


# --- names, cards, checksums ----------------------------------------------------------------------------------------


def test_weights_without_a_card_are_told(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NS_VIDEO_MODELS", str(tiny.parent))
    with pytest.raises(UnknownModelError, match="has no card tiny") as refused:
        load_descriptor("tiny")
    assert refused.value.remedy == "give its path" and load_descriptor(tiny).architecture == "ns_restore"


@pytest.fixture
def installed(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Card:
    """The file of `tiny` with its card in a folder of models; the card."""
    monkeypatch.setenv("NS_VIDEO_MODELS", str(tiny.parent))
    card = Card(
        name="tiny",
        title="Tiny",
        task="JPEG stills",
        architecture="ns_restore",
        parameters=sum(p.numel() for p in NsRestore(TINY).parameters()),
        scale=1,
        domain="rgb",
        conditioning="jpeg",
        frames=1,
        sha256=hashlib.sha256(tiny.read_bytes()).hexdigest(),
        licence="Apache-2.0",
        data=(DataRow("none", "none"),),
        degradations=(),
        training=Training(0, 0.0, "none"),
        figures=(),
        known_failures=(),
    )
    write_card(card, tiny.with_suffix(".toml"))
    return card


def test_an_installed_model_is_found_by_name_with_its_card(installed: Card, tiny: Path) -> None:
    found = load_descriptor("tiny")
    assert (found.name, found.path, found.card) == ("tiny", tiny, installed)
    assert found.sha256 == installed.sha256
    assert "tiny" in [card.name for card in list_models()]
    assert load_weights("tiny").metadata["conditioning"] == "jpeg"
    assert load_descriptor(tiny).card is None


def test_a_wrong_checksum_is_refused(installed: Card, tiny: Path) -> None:
    data = bytearray(tiny.read_bytes())
    data[-1] ^= 1
    tiny.write_bytes(data)
    with pytest.raises(ModelError, match=f"checksum {hashlib.sha256(data).hexdigest()}, not {installed.sha256}"):
        load_descriptor("tiny")
    with pytest.raises(ModelError, match="checksum"):
        load_weights("tiny")
    with pytest.raises(ModelError, match="checksum"):
        load_descriptor(tiny, expected_sha256=installed.sha256)


@pytest.mark.parametrize(("key", "value"), [("scale", 2), ("conditioning", "none"), ("parameters", 5), ("frames", 3)])
def test_a_card_that_says_something_else_is_refused(installed: Card, tiny: Path, key: str, value: object) -> None:
    write_card(dataclasses.replace(installed, **{key: value}), tiny.with_suffix(".toml"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(ModelError, match=f"says {key} = {value}"):
        load_descriptor("tiny")


def test_an_unknown_name_names_the_known_ones(installed: Card) -> None:
    with pytest.raises(ModelError, match="no model 'nonsense'") as caught:
        load_descriptor("nonsense")
    assert "identity" in str(caught.value) and "tiny" in str(caught.value)
    assert find_card("nonsense") is None


def test_every_shipped_model_loads_as_its_card_says() -> None:
    cards = list_models()
    shipped = {
        "video",
        "newer-video",
        "fast-newer-video",
        "fast-video",
        "photo",
        "fast-photo",
        "best-photo",
        "anime",
        "mosaic",
        "deblur",
        "upscale2x",
        "quantiser",
        "ns-iqa",
    }
    assert shipped <= {card.name for card in cards}
    for card in cards:
        assert load_weights(card.name).sha256 == card.sha256
        assert load_descriptor(card.name).card == card


# --- damage ---------------------------------------------------------------------------------------------------------


def with_state(path: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The safetensors file `path` after `change` of its tensors, metadata kept."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    change(state)
    safetensors.torch.save_file(state, path, metadata)
    return path


def poke(state: dict[str, Tensor], name: str, value: float) -> None:
    state[name].view(-1)[0] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("down.bias"), r"NsRestore: 'down.bias' \(16,\) is missing"),
        (lambda state: state.update(more=torch.ones(2, 3)), r"'more' \(2, 3\) is more than the network has"),
        (
            lambda state: state.update({"up.weight": torch.ones(32, 8, 1, 1)}),
            r"'up.weight' has the shape \(32, 8, 1, 1\), the network wants \(32, 16, 1, 1\)",
        ),
        (lambda state: poke(state, "tail.bias", torch.nan), "'tail.bias' holds NaN or infinite values"),
        (lambda state: poke(state, "tail.bias", torch.inf), "'tail.bias' holds NaN or infinite values"),
        (lambda state: state.clear() or state.update(x=torch.ones(3)), "does not fit NsRestore: 'head.weight'"),
        (
            lambda state: state.update({"up.bias": state["up.bias"].long()}),
            r"'up.bias' holds torch\.int64, not floating",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tiny: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_descriptor(with_state(tiny, change))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1]", "is no table"),
        ('{"colour": 1}', "unknown key 'colour'"),
        ('{"channels": "8"}', "unusable 'channels'"),
        ('{"channels": -1}', "unusable 'channels'"),
        ('{"channels": 100000000}', "unusable 'channels'"),
        ('{"blocks": [1, 2]}', "unusable 'blocks'"),
        ('{"blocks": [0, 9999, 0]}', "more than 256 blocks"),
        ('{"gated": 1}', "unusable 'gated'"),
        ('{"scale": 0}', "is unusable"),
        ('{"frames": 2}', "is unusable"),
        ('{"frames": 7}', "is unusable"),
        ('{"channels": 0}', "is unusable"),
        ('{"planes": 1}', "is unusable"),
        ("{}", "reads 0 planes of side information, which the conditioning 'jpeg' does not give"),
        ('{"side": 7}', "does not fit NsRestore"),
    ],
)
def test_an_unusable_configuration_is_named(tiny: Path, config: str, message: str) -> None:
    with safetensors.safe_open(tiny, "pt") as file:
        metadata = file.metadata() | {"config": config}
    safetensors.torch.save_file(safetensors.torch.load_file(tiny), tiny, metadata)
    with pytest.raises(ModelError, match=message):
        load_descriptor(tiny)


@pytest.mark.parametrize(
    ("key", "value"), [("domain", "cmyk"), ("conditioning", "webp"), ("conditioning", "quantiser")]
)
def test_unknown_metadata_is_named(tiny: Path, key: str, value: str) -> None:
    with safetensors.safe_open(tiny, "pt") as file:
        metadata = file.metadata() | {key: value}
    safetensors.torch.save_file(safetensors.torch.load_file(tiny), tiny, metadata)
    with pytest.raises(ModelError, match=value):
        load_descriptor(tiny)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_files_are_read_as_float(dtype: torch.dtype, tmp_path: Path) -> None:
    network = randomised(NsRestore(TINY))
    save_model(network, tmp_path / "half.safetensors", Metadata("ns_restore", "jpeg"), dtype)
    save_model(network, tmp_path / "full.safetensors", Metadata("ns_restore", "jpeg"))
    torch.save({name: value.to(dtype) for name, value in Nsie(SMALL_NSIE).state_dict().items()}, tmp_path / "nsie.pth")
    found = load_descriptor(tmp_path / "half.safetensors")
    for name, value in found.network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, network.state_dict()[name].to(dtype).float())
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]
    assert all(p.dtype == torch.float32 for p in load_descriptor(tmp_path / "nsie.pth").network.parameters())


@pytest.mark.parametrize("kind", ["safetensors", "zip", "legacy"])
def test_a_file_cut_anywhere_is_damaged(kind: str, tmp_path: Path) -> None:
    network = randomised(NsRestore(TINY)) if kind == "safetensors" else randomised(Nsie(SMALL_NSIE))
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    if kind == "safetensors":
        save_model(network, path, Metadata("ns_restore", "jpeg"))
    else:
        torch.save(network.state_dict(), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.read_bytes()
    for part in range(20):
        path.write_bytes(whole[: len(whole) * part // 20])
        with pytest.raises(ModelError, match="is empty" if part == 0 else "damaged") as caught:
            load_descriptor(path)
        assert str(path) in str(caught.value)
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match="damaged"):
        load_descriptor(path)


def test_what_is_no_weights_file_is_refused(tmp_path: Path) -> None:
    text, folder, fifo = tmp_path / "a.pth", tmp_path / "b.pth", tmp_path / "c.pth"
    text.write_text("version https://git-lfs.github.com/spec/v1\n")
    folder.mkdir()
    os.mkfifo(fifo)
    archive = tmp_path / "d.pth"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "hello")
    for path, message in (
        (text, "only names the weights, which git-lfs keeps"),
        (folder, "is a directory"),
        (fifo, "is not a regular file"),
        (archive, "not one of PyTorch's"),
        (tmp_path / "none.pth", "does not exist"),
    ):
        with pytest.raises(ModelError, match=message):
            load_descriptor(path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"some.weight": torch.ones(3, 3)}, "unknown architecture; its first weights are 'some.weight'"),
        ({}, "holds no tensors"),
        ({"epoch": 3}, "holds no tensors"),
        ({"body.999999999.weight": torch.ones(8, 3, 3, 3)}, "more than 4096 layers"),
        ({f"body.{'9' * 30}.weight": torch.ones(1)}, "no name of a weight"),
    ],
)
def test_an_unknown_architecture_is_named(state: Mapping[str, object], message: str, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=message):
        load_descriptor(tmp_path / "a.pth")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_that_are_no_floats_are_named(dtype: torch.dtype, tmp_path: Path) -> None:
    for network in (Nsie(SMALL_NSIE), Compact(num_feat=8, num_conv=2)):
        torch.save({name: value.to(dtype) for name, value in network.state_dict().items()}, tmp_path / "a.pth")
        with pytest.raises(ModelError, match=rf"'[\w.]+\.weight' holds {dtype}, not floating-point numbers"):
            load_descriptor(tmp_path / "a.pth")


def test_only_ns_restore_takes_side_information(tmp_path: Path) -> None:
    network = build_study_network(StudyConfig("DeblurCNN"))
    for metadata in (Metadata("DeblurCNN", "jpeg"), Metadata("DeblurCNN", domain="ycbcr")):
        save_model(network, tmp_path / "a.safetensors", metadata)
        with pytest.raises(ModelError, match="DeblurCNN knows nothing of"):
            load_descriptor(tmp_path / "a.safetensors")


def test_the_averaged_weights_of_a_training_s_checkpoint_are_taken(tmp_path: Path) -> None:
    raw, averaged = (randomised(build_study_network(StudyConfig("DeblurCNN")), seed) for seed in (0, 1))
    content = {"training": "{}", "network": raw.state_dict(), "averaged": averaged.state_dict(), "step": 4}
    torch.save(content, tmp_path / "checkpoint.pt")
    found = load_descriptor(tmp_path / "checkpoint.pt").network.state_dict()
    assert all(torch.equal(value, averaged.state_dict()[name]) for name, value in found.items())


def test_a_foreign_network_that_lacks_a_weight_names_it(tmp_path: Path) -> None:
    state = Compact(num_feat=8, num_conv=2).state_dict()
    del state["body.2.weight"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"body\.2\.weight"):
        load_descriptor(tmp_path / "a.pth")


def test_an_enhancer_with_a_wrong_shape_names_it(tmp_path: Path) -> None:
    state = Nsie(SMALL_NSIE).state_dict()
    state["attention.query.weight"] = torch.ones(5, 32, 1, 1)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"'attention.query.weight' has the shape \(5, 32, 1, 1\)"):
        load_descriptor(tmp_path / "a.pth")


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    network = NsRestore(TINY)
    path = tmp_path / "a.safetensors"
    save_model(network, path, Metadata("ns_restore"))
    before = path.read_bytes()
    with torch.no_grad():
        network.head.weight[0, 0, 0, 0] = 1e6  # too large for half precision
    with pytest.raises(ModelError, match=r"not finite as torch\.float16"):
        save_model(network, path, Metadata("ns_restore"), torch.float16)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.safetensors"]


# --- hostile files --------------------------------------------------------------------------------------------------


class Payload:
    """What a hostile checkpoint holds: unpickled, it makes the file `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def rewrite(path: Path, change: Callable[[str, bytes], bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Write the zip archive `path` anew, every record as `change` makes it."""
    with zipfile.ZipFile(path) as archive:
        records = [(name, change(name, archive.read(name))) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in records:
            archive.writestr(name, data)


def plain_pickle(path: Path, payload: object) -> None:
    path.write_bytes(pickle.dumps({"conv_first.weight": payload}, protocol=2))


def zip_checkpoint(path: Path, payload: object) -> None:
    torch.save({"conv_first.weight": torch.ones(3), "extra": payload}, path)


def nested_checkpoint(path: Path, payload: object) -> None:
    torch.save({"state_dict": {"conv_first.weight": torch.ones(3), "deep": [{"x": payload}]}}, path)


def legacy_checkpoint(path: Path, payload: object) -> None:
    torch.save({"state_dict": {"x": payload}}, path, _use_new_zipfile_serialization=False)


def torchscript_archive(path: Path, payload: object) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({"x": payload}, protocol=2))
        archive.writestr("m/constants.pkl", pickle.dumps(payload, protocol=2))
        archive.writestr("m/code/__torch__.py", "class M(Module):\n  pass\n")
        archive.writestr("m/version", "3\n")


def tar_checkpoint(path: Path, payload: object) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(payload, protocol=2)
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def protocol_0(path: Path, payload: Payload) -> None:
    path.write_bytes(b"\x80\x02cposix\nmkdir\n(S'" + str(payload.path).encode() + b"'\ntR.")


HOSTILE = [
    plain_pickle,
    zip_checkpoint,
    nested_checkpoint,
    legacy_checkpoint,
    torchscript_archive,
    tar_checkpoint,
    protocol_0,
]


@pytest.mark.parametrize("make", HOSTILE)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("forced", [False, True])
def test_a_hostile_checkpoint_runs_nothing(
    make: Callable[[Path, object], None], suffix: str, forced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    sentinel, path = tmp_path / "sentinel", tmp_path / f"hostile{suffix}"
    make(path, Payload(sentinel))
    with pytest.raises(ModelError, match=r"unsafe or damaged|damaged safetensors"):
        load_descriptor(path)
    assert not sentinel.exists()


@pytest.mark.parametrize("make", [zip_checkpoint, nested_checkpoint, legacy_checkpoint])
def test_the_payload_is_live_and_weights_only_alone_would_stop_it(
    make: Callable[[Path, object], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without our look at the opcodes, under the variable that asks PyTorch to trust every file."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr(pickles, "_scan", skip_pickle)
    sentinel, path = tmp_path / "sentinel", tmp_path / "hostile.pth"
    make(path, Payload(sentinel))
    with pytest.raises(ModelError, match="unsafe or damaged"):
        load_descriptor(path)
    assert not sentinel.exists()
    torch.load(path, weights_only=False)
    assert sentinel.exists()


def skip_pickle(stream: io.BytesIO) -> dict[str, int]:
    """Goes behind the pickle and claims nothing."""
    import pickletools

    for _ in pickletools.genops(stream):
        continue
    return {}


def tensor_file(header: Mapping[str, object] | bytes, data: bytes = b"", claim: int | None = None) -> bytes:
    """A safetensors file of that header, whose length it claims to be `claim`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if claim is None else claim).to_bytes(8, "little") + text + data


def entry(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


ONE = b'"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
TWICE = b"{%s, %s}" % (ONE, ONE)
BAD_TENSOR_FILES = {
    "header of 2^63 bytes": (tensor_file(b"{}", claim=2**63), "header claims 9223372036854775808 bytes"),
    "header of 100 MB": (tensor_file(b"{}", claim=99_999_999), "header claims 99999999 bytes"),
    "header longer than the file": (tensor_file({}, claim=3), "header claims 3 bytes"),
    "duplicate keys": (tensor_file(TWICE, b"\0" * 4), "'a' is there twice"),
    "offsets outside": (tensor_file({"a": entry([2], 0, 8)}, b"\0" * 4), "'a' lies outside the file"),
    "offsets far outside": (tensor_file({"a": entry([2**40], 0, 2**42)}, b"\0" * 4), "'a' lies outside the file"),
    "offsets backwards": (tensor_file({"a": entry([1], 4, 0)}, b"\0" * 4), "'a' lies outside the file"),
    "negative offsets": (tensor_file({"a": entry([1], -4, 0)}, b"\0" * 4), "'a' has no valid offsets"),
    "offsets of 2^64": (tensor_file({"a": entry([1], 0, 2**64)}, b"\0" * 4), "'a' has no valid offsets"),
    "shape too large": (tensor_file({"a": entry([2**31, 2**31], 0, 4)}, b"\0" * 4), "'a' of shape"),
    "shape negative": (tensor_file({"a": entry([-1], 0, 4)}, b"\0" * 4), "'a' has no valid shape"),
    "shape with a truth value": (tensor_file({"a": entry([True], 0, 4)}, b"\0" * 4), "'a' has no valid shape"),
    "unknown type": (tensor_file({"a": entry([1], 0, 4, "F31")}, b"\0" * 4), "'a' has the unknown type"),
    "overlap": (tensor_file({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, b"\0" * 4), "its tensors overlap"),
    "gap": (tensor_file({"a": entry([1], 4, 8)}, b"\0" * 8), "its tensors leave a gap"),
    "bytes left over": (tensor_file({"a": entry([1], 0, 4)}, b"\0" * 8), "its tensors take 4 bytes"),
    "no table": (tensor_file(b"[]"), "its header is no table"),
    "no tensor table": (tensor_file({"a": 3}), "'a' is no table"),
    "no JSON": (tensor_file(b"{]"), "its header is no JSON"),
    "no UTF-8": (tensor_file(b'{"\xff": 1}'), "its header is no UTF-8"),
    "nested": (tensor_file(b'{"a":' * 100_000), "nested too deeply|no JSON"),
    "metadata of numbers": (tensor_file({"__metadata__": {"format": 1}}), "metadata is not text"),
    "no tensors": (tensor_file({}), "holds no tensors"),
}


@pytest.mark.parametrize("hazard", BAD_TENSOR_FILES)
def test_a_bad_tensor_file_is_named(hazard: str, tmp_path: Path) -> None:
    data, message = BAD_TENSOR_FILES[hazard]
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        load_descriptor(path)


def bombs(folder: Path) -> None:
    """Small files in `folder` that would take gigabytes from whoever believes them."""
    for index, (data, _) in enumerate(BAD_TENSOR_FILES.values()):
        (folder / f"tensors{index}.safetensors").write_bytes(data)
    with zipfile.ZipFile(folder / "zeros.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}, protocol=2))
        archive.writestr("a/data/0", bytes(1 << 28))
    (folder / "bytearray.pth").write_bytes(b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.")
    with zipfile.ZipFile(folder / "bytearray_zip.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02c__builtin__\nbytearray\n\x8a\x06\0\0\0\0\0\x01\x85R.")
        archive.writestr("a/version", "3\n")
    with zipfile.ZipFile(folder / "opcodes.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"}" * 5_000_000 + b".")
    torch.save({"conv_first.weight": torch.zeros(1).expand(2**18, 2**18)}, folder / "expanded.pth")
    for legacy in (False, True):
        for claimed in (2**20, 2**30):
            path = folder / f"storage_{legacy}_{claimed}.pth"
            torch.save({"w": torch.zeros(16)}, path, _use_new_zipfile_serialization=not legacy)
            lie = b"J" + claimed.to_bytes(4, "little")
            old, new = (b"K\x10Nt", lie + b"Nt") if legacy else (b"K\x10t", lie + b"t")
            if legacy:
                assert old in path.read_bytes()
                path.write_bytes(path.read_bytes().replace(old, new))
            else:
                rewrite(
                    path, lambda name, data, old=old, new=new: data.replace(old, new) if "data.pkl" in name else data
                )
                assert new in path.read_bytes()


MEASURE = """
import resource, sys
from pathlib import Path
from ns_video.errors import ModelError, UnknownModelError
from ns_video.weights import load_descriptor
try:
    load_descriptor("none.pth")
except ModelError:
    pass
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        load_descriptor(path)
    except ModelError as error:
        print(path.name, error)
    else:
        sys.exit(f"{path} was loaded")
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
print(f"grown by {grown:.0f} MiB")
sys.exit(grown > 300)
"""


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    bombs(tmp_path)
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert "would unpack to" in lines["zeros.pth"]
    assert "'__builtin__.bytearray'" in lines["bytearray.pth"] and "bytearray" in lines["bytearray_zip.pth"]
    assert "more than 1000000 opcodes" in lines["opcodes.pth"]
    assert "is larger than the file" in lines["expanded.pth"]
    assert "claims 4194304 bytes, the record has 64" in lines["storage_False_1048576.pth"]
    assert "claims 4294967296 bytes" in lines["storage_False_1073741824.pth"]
    assert "its storages claim 4194304 bytes" in lines["storage_True_1048576.pth"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("kind", ["safetensors", "zip", "deflated", "legacy"])
def test_a_mutated_file_loads_or_is_a_model_error(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    whole = mutants(kind)
    begin = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.integers(begin, min(len(whole), begin + 16)))
    path = tmp_path / ("a.safetensors" if kind == "safetensors" else "a.pth")
    path.write_bytes(whole[:begin] + data.draw(st.binary(max_size=16)) + whole[end:])
    try:
        found = load_weights(path)
    except ModelError as error:
        assert str(path) in str(error)
    else:
        assert all(np.isfinite(tensor.numpy()).all() for tensor in found.tensors.values())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    header=st.dictionaries(
        st.text(max_size=4),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "I64", "U8", "F8_E4M3", "", 3]),
                "shape": st.lists(st.integers(-1, 4) | st.just(2**63) | st.none(), max_size=3),
                "data_offsets": st.lists(st.integers(-4, 32) | st.just(2**64), max_size=3),
            }
        )
        | st.none()
        | st.integers(),
        max_size=3,
    ),
    data=st.binary(max_size=32),
    claim=st.none() | st.integers(0, 2**64 - 1),
)
def test_any_header_is_read_or_a_model_error(
    header: Mapping[str, object], data: bytes, claim: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(tensor_file(header, data, claim))
    try:
        found = load_weights(path)
    except ModelError as error:
        assert str(path) in str(error)
    else:
        assert set(found.tensors) == set(header) - {"__metadata__"}


def mutants(kind: str) -> bytes:
    """A small valid file to mutate."""
    stream, state = io.BytesIO(), {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}
    if kind == "safetensors":
        return safetensors.torch.save(state, {"architecture": "none"})
    torch.save({"state_dict": state}, stream, _use_new_zipfile_serialization=kind != "legacy")
    if kind != "deflated":
        return stream.getvalue()
    packed = io.BytesIO()
    with zipfile.ZipFile(stream) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out:
        for name in archive.namelist():
            out.writestr(name, archive.read(name))
    return packed.getvalue()
