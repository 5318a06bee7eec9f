"""Networks: sizes as published, keys as in foreign files, what they see, what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ns_video.errors import ModelError
from ns_video.networks.deblur_study import RECEPTIVE_RADIUS, STUDY_NETWORKS, DnCnn, StudyConfig, build_study_network
from ns_video.networks.discriminator import DiscriminatorConfig, MultiScaleDiscriminator
from ns_video.networks.imagenet import MEAN, STD
from ns_video.networks.ns_c import NsC, NsCConfig, parse_labels, read_labels
from ns_video.networks.ns_iqa import NsIqa, NsIqaConfig
from ns_video.networks.ns_restore import SIZES, NsRestore, NsRestoreConfig
from ns_video.networks.nsie import Nsie, NsieConfig, fold_batchnorm


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def randomise(network: nn.Module, low: float = -0.2, high: float = 0.2) -> None:
    """Uniform weights and lively statistics everywhere, so that nothing is zero or one by chance."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(low, high, generator=generator)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                module.running_mean.uniform_(-0.3, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)


def ns_restore(size: str, **settings: int | bool) -> NsRestore:
    channels, blocks = SIZES[size]
    return NsRestore(NsRestoreConfig(channels=channels, blocks=blocks, **settings)).eval()  # pyright: ignore[reportArgumentType]


def reach(network: Callable[[Tensor], Tensor], side: int, block: int) -> int:
    """Pixels to each side of an aligned block that have a gradient on it: the farthest, in either direction."""
    picture = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(2)).requires_grad_()
    begin = side // 2 // block * block
    network(picture)[..., begin : begin + block, begin : begin + block].sum().backward()
    assert picture.grad is not None
    seen = picture.grad.abs().sum((0, 1))
    rows, columns = seen.sum(1).nonzero().flatten(), seen.sum(0).nonzero().flatten()
    edges = (int(rows[0]), int(columns[0])), (int(rows[-1]), int(columns[-1]))
    assert min(edges[0]) > 0 and max(edges[1]) < side - 1, "the picture is too small to tell"
    return max(begin - min(edges[0]), max(edges[1]) - (begin + block - 1))


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("tiny", 99_228),
        ("small", 357_964),
        ("lean", 542_668),
        ("deep", 579_660),
        ("deeper", 1_059_788),
        ("deepest", 2_094_028),
        ("fine", 358_220),
        ("finer", 616_908),
        ("medium", 1_412_236),
        ("large", 6_558_508),
    ],
)
def test_ns_restore_has_its_parameters(size: str, count: int) -> None:
    assert parameters(ns_restore(size, side=7)) == count


@pytest.mark.parametrize(
    ("network", "count"),
    [
        ("DeblurCNN", 292_355),
        ("DeblurCNN_RES", 292_355),
        ("DeblurSuperResCNN", 301_539),
        ("DnCNN", 558_336),
        ("EDSR_Deblur", 298_947),
    ],
)
def test_study_networks_have_their_parameters(network: str, count: int) -> None:
    assert parameters(build_study_network(StudyConfig(network))) == count


def test_the_others_have_their_parameters() -> None:
    assert parameters(Nsie(NsieConfig())) == 19_255_748
    assert parameters(NsIqa(NsIqaConfig())) == 267_905
    assert parameters(NsC(NsCConfig(classes=1000))) == 5_288_548  # torchvision's figure for EfficientNet-B0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("unshuffle", [1, 2])
def test_ns_restore_sees_no_farther_than_it_says(size: str, scale: int, unshuffle: int) -> None:
    blocks = SIZES[size][1]  # the width does not matter to what is seen, so it is small here
    network = NsRestore(NsRestoreConfig(channels=2, blocks=blocks, scale=scale, unshuffle=unshuffle)).eval()
    randomise(network, 0.01, 0.2)  # positive: no ReLU is closed, no two paths cancel
    radius, block = network.receptive_radius, network.multiple_of
    assert radius % block == 0

    def forward(picture: Tensor) -> Tensor:
        return F.avg_pool2d(network(picture), scale) if scale > 1 else network(picture)

    measured = reach(forward, 2 * radius + 6 * block, block)
    assert measured <= radius
    assert radius - measured <= 3 * block, "a halo much larger than needed costs time"


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_a_tile_with_its_halo_gives_what_the_whole_gives(size: str) -> None:
    network = ns_restore(size)
    randomise(network)
    halo = network.receptive_radius
    picture = torch.rand(1, 3, 2 * halo + 24, 2 * halo + 40, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        whole = network(picture)
        tile = network(picture[..., 4 : 4 + 2 * halo + 8, 8 : 8 + 2 * halo + 8])
    inner = tile[..., halo : halo + 8, halo : halo + 8]
    assert torch.allclose(inner, whole[..., 4 + halo : 12 + halo, 8 + halo : 16 + halo], atol=1e-5)
    assert not torch.allclose(inner, picture[..., 4 + halo : 12 + halo, 8 + halo : 16 + halo], atol=1e-2)


@pytest.mark.parametrize("size", ["tiny", "small", "medium"])
def test_an_untrained_ns_restore_is_the_identity(size: str) -> None:
    picture = torch.rand(2, 3, 24, 32)
    with torch.no_grad():
        assert torch.equal(ns_restore(size)(picture), picture)
        side = torch.rand(2, 7, 1, 1)
        assert torch.equal(ns_restore(size, side=7, gated=True)(picture, side), picture)
        three = torch.rand(1, 9, 24, 32)
        assert torch.equal(ns_restore(size, frames=3)(three), three[:, 3:6])
        enlarged = F.interpolate(picture, scale_factor=2, mode="bicubic", align_corners=False)
        assert torch.equal(ns_restore(size, scale=2)(picture), enlarged)


@pytest.mark.parametrize("side_shape", [(1, 1), (24, 32)])
def test_a_closed_gate_leaves_the_picture_exactly(side_shape: tuple[int, int]) -> None:
    network = ns_restore("tiny", side=7, gated=True)
    randomise(network)
    picture, side = torch.rand(1, 3, 24, 32), torch.rand(1, 7, *side_shape)
    with torch.no_grad():
        assert not torch.allclose(network(picture, side), picture, atol=1e-3)
        side[:, -1] = 0.0
        assert torch.equal(network(picture, side), picture)


def test_ns_restore_wants_the_side_information_it_was_made_for() -> None:
    with pytest.raises(ValueError, match="side information"):
        ns_restore("tiny", side=7)(torch.rand(1, 3, 8, 8))


def nsie_keys() -> set[str]:
    """As NS-IC's files have them, written down from their description."""
    convs = ["conv_first", "encoder.0", "encoder.3", "upsample.1", "upsample.5"]
    convs += ["final_conv.0", "final_conv.3", "final_conv.6"]
    convs += [f"attention.{name}" for name in ("query", "key", "value")]
    for block in range(16):
        convs += [f"rrdb_blocks.{block}.dense{i}.0" for i in (1, 2, 3)] + [f"rrdb_blocks.{block}.final_conv"]
    norms = ["encoder.1", "encoder.4", "upsample.2", "upsample.6", "final_conv.1", "final_conv.4"]
    fields = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {
        "attention.gamma",
        *(f"{conv}.{field}" for conv in convs for field in fields[:2]),
        *(f"{norm}.{field}" for norm in norms for field in fields),
    }


def test_nsie_has_the_keys_of_ns_ic_files() -> None:
    network = Nsie(NsieConfig())
    assert set(network.state_dict()) == nsie_keys()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes["encoder.0.weight"] == (128, 64, 4, 4)
    assert shapes["rrdb_blocks.15.dense3.0.weight"] == (32, 256 + 64, 3, 3)
    assert shapes["rrdb_blocks.0.final_conv.weight"] == (256, 256 + 96, 3, 3)
    assert shapes["attention.query.weight"] == (32, 256, 1, 1)
    assert shapes["final_conv.6.weight"] == (3, 64, 3, 3)


def test_nsie_attention_is_softmax_of_unscaled_products() -> None:
    attention = Nsie(NsieConfig(features=16, blocks=1, growth=4)).attention
    randomise(attention)
    x = torch.rand(2, 64, 5, 6, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        query, key, value = (layer(x).flatten(2) for layer in (attention.query, attention.key, attention.value))
        share = torch.softmax(torch.einsum("ncp,ncq->npq", query, key), -1)
        expected = attention.gamma * torch.einsum("npq,ncq->ncp", share, value).reshape(x.shape) + x
        assert torch.allclose(attention(x), expected, atol=1e-5)
    assert share.std() > 1e-3, "the test would not notice a wrong scale"


def test_folding_batchnorm_changes_nothing_but_the_layers() -> None:
    network = Nsie(NsieConfig(features=8, blocks=2, growth=4)).eval()
    randomise(network)
    picture = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        before = network(picture)
        after = fold_batchnorm(network)(picture)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert before.shape == picture.shape
    assert torch.allclose(before, after, atol=1e-5)
    assert before.std() > 1e-3


@pytest.mark.parametrize("name", STUDY_NETWORKS)
def test_study_networks_see_as_far_as_they_say(name: str) -> None:
    network = build_study_network(StudyConfig(name)).eval()
    randomise(network, 0.001, 0.01)
    assert reach(network, 2 * RECEPTIVE_RADIUS[name] + 7, 1) == RECEPTIVE_RADIUS[name]


def test_study_networks_take_what_they_learned_from_the_input_or_not() -> None:
    picture = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        for name in STUDY_NETWORKS:
            network = build_study_network(StudyConfig(name)).eval()
            for parameter in network.parameters():
                parameter.zero_()
            expected = picture if name in ("DeblurCNN_RES", "DnCNN") else torch.zeros_like(picture)
            assert torch.equal(network(picture), expected), name
        direct = DnCnn(StudyConfig("DnCNN", residual=False)).eval()
        residual = DnCnn(StudyConfig("DnCNN")).eval()
        residual.load_state_dict(direct.state_dict())
        assert torch.allclose(residual(picture), picture - direct(picture))


def test_study_networks_drop_channels_only_in_training() -> None:
    network = build_study_network(StudyConfig("DeblurSuperResCNN"))
    picture = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert not torch.equal(network(picture), network(picture))
        network.eval()
        assert torch.equal(network(picture), network(picture))


def test_ns_iqa_scores_pictures_of_any_size() -> None:
    network = NsIqa(NsIqaConfig()).eval()
    randomise(network)
    flat = torch.full((1, 3, 256, 256), 0.5)
    with torch.no_grad():
        assert network.score(torch.rand(2, 3, 300, 70)).shape == (2,)
        mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
        assert torch.allclose(network.score(flat), network((flat - mean) / std)[:, 0])
        assert torch.allclose(network.score(flat), network.score(flat[..., :64, :100]), atol=1e-3)


def test_ns_iqa_has_the_keys_of_ns_ic_files() -> None:
    keys = set(NsIqa(NsIqaConfig()).state_dict())
    separable = (3, 7, 10, 14, 17, 21)
    assert {f"features.{i}.{part}.weight" for i in separable for part in ("depthwise", "pointwise")} <= keys
    assert {"features.0.weight", "features.1.running_var", "classifier.1.weight", "classifier.1.bias"} <= keys


def test_ns_c_has_torchvisions_keys_and_gives_probabilities() -> None:
    from torchvision.models import efficientnet_b0

    network = NsC(NsCConfig(classes=3)).eval()
    assert list(network.state_dict()) == list(efficientnet_b0(num_classes=3).state_dict())
    with torch.no_grad():
        shares = network.probabilities(torch.rand(2, 3, 40, 60))
    assert shares.shape == (2, 3)
    assert torch.allclose(shares.sum(1), torch.ones(2), atol=1e-5)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "big5", "gbk", "cp950"])
def test_labels_are_read_in_every_encoding(encoding: str) -> None:
    # 動漫/照片 in Big5 and its superset; GBK text must not be valid Big5 to be told apart, as with "〇" and "丂"
    names = ("动漫 q10", "照片丂") if encoding == "gbk" else ("動漫 q10", "照片")
    assert parse_labels("\r\n".join((*names, "")).encode(encoding)) == names


def test_labels_in_latin_1_are_read_when_nothing_else_fits() -> None:
    assert parse_labels(b"d\xe9j\xe0\nna\xefve\xff") == ("déjà", "naïveÿ")


def test_a_labels_file_that_names_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    with pytest.raises(ModelError, match="can't be read"):
        read_labels(path)
    path.write_bytes(b"\n \n")
    with pytest.raises(ModelError, match="names no class"):
        read_labels(path)
    path.write_bytes(b"Kyouka\nRitsuka\n")
    assert read_labels(path) == ("Kyouka", "Ritsuka")


def test_the_discriminator_judges_three_sizes() -> None:
    network = MultiScaleDiscriminator(DiscriminatorConfig()).eval()
    picture = torch.rand(2, 3, 128, 96)
    with torch.no_grad():
        verdicts = network(picture)
        assert [verdict.shape[1] for verdict in verdicts] == [1, 1, 1]
        assert [verdict.shape[-2:] for verdict in verdicts] == [(14, 10), (6, 4), (2, 1)]
        assert all(verdict.min() > 0 and verdict.max() < 1 for verdict in verdicts)
        coarse = F.avg_pool2d(F.avg_pool2d(picture, 2), 2)
        assert torch.allclose(verdicts[2], network.discriminators[2](coarse), atol=1e-6)
    widths = [conv.out_channels for conv in network.discriminators[0] if isinstance(conv, nn.Conv2d)]
    assert widths == [64, 128, 256, 512, 1]


@pytest.mark.parametrize("norm", ["batch", "spectral", "none"])
def test_the_discriminator_without_sigmoid_gives_logits(norm: str) -> None:
    torch.manual_seed(0)
    network = MultiScaleDiscriminator(DiscriminatorConfig(scales=1, sigmoid=False, norm=norm)).eval()
    with torch.no_grad():
        logits = network(torch.rand(1, 3, 64, 64) * 50)[0]
    assert logits.min() < 0 or logits.max() > 1
