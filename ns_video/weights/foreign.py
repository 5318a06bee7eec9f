"""Other people's architectures, by spandrel: detection, construction, size rules; RCAN and HAT at any size."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from spandrel import (
    ImageModelDescriptor,
    MaskedImageModelDescriptor,
    ModelLoader,
    ModelTiling,
    UnsupportedModelError,
)
from spandrel.architectures.HAT import HAT
from spandrel.architectures.RCAN import RCAN
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

MAX_INDEX = 4096
"""Layers of one sequence: a key with a larger number would have a network of that many layers built."""
_TRIED_SIDE = 16  # px: half a second of a core for 20 million weights
NOT_EXACT = frozenset({"ESRGAN", "RCAN"})
"""spandrel's ids of architectures whose radius is known to be unbounded or beyond any sensible tile."""

ONE_BY_ONE = frozenset({"DnCNN", "DRUNet"})
"""spandrel's ids of architectures whose noise map it makes for a batch of one."""


@dataclass(frozen=True, slots=True)
class RcanConfig:
    """RCAN's sizes (ECCV 2018, arXiv 1807.02758); the defaults are the paper's."""

    groups: int = 10
    blocks: int = 20
    """In each group."""
    channels: int = 64
    scale: int = 2
    reduction: int = 16
    """Channels / hidden channels of the channel attention."""


@dataclass(frozen=True, slots=True)
class HatConfig:
    """HAT's sizes (CVPR 2023, arXiv 2205.04437)."""

    dim: int = 180
    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    window: int = 16
    scale: int = 2


HAT_SIZES: dict[str, HatConfig] = {
    "large": HatConfig(180, (6,) * 6, 16),
    "medium": HatConfig(120, (6,) * 4, 16),
    "base": HatConfig(96, (6,) * 4, 16),
    "small": HatConfig(60, (4,) * 3, 8),
}
"""Name → sizes for a GPU of 24 GB, 12 to 24 GB (two of them) and 8 GB."""
HAT_HEADS = 6
"""Divides every width of HAT_SIZES."""


class _Rcan(RCAN):
    """spandrel's multiplies its input in place; this one leaves it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.clone())


def build_rcan(config: RcanConfig) -> nn.Module:
    """RCAN, (N, 3, H, W) in [0, 1] → (N, 3, scale * H, scale * W); it takes the DIV2K mean off the input itself."""
    network = _Rcan(
        scale=config.scale,
        n_resgroups=config.groups,
        n_resblocks=config.blocks,
        n_feats=config.channels,
        reduction=config.reduction,
    )
    _freeze_means(network)
    return network


def _freeze_means(network: nn.Module) -> None:
    """A data set's mean is no learned value, though spandrel keeps it as one."""
    for name, parameter in network.named_parameters():
        if {"sub_mean", "add_mean"} & set(name.split(".")):
            parameter.requires_grad_(False)


def build_hat(config: HatConfig) -> nn.Module:
    """HAT, (N, 3, H, W) in [0, 1] → (N, 3, scale * H, scale * W)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about how it calls torch.meshgrid
        return HAT(
            embed_dim=config.dim,
            depths=config.depths,
            num_heads=(HAT_HEADS,) * len(config.depths),
            window_size=config.window,
            overlap_ratio=0.5,
            mlp_ratio=2.0,
            upscale=config.scale,
            img_range=1.0,
        )


class SpandrelNetwork(nn.Module):
    """A foreign network as ours are: (N, C, H, W) → (N, C, scale * H, scale * W), clamped to [0, 1], of any size.

    Too small or odd sizes are padded by reflection, and cropped again.
    """

    def __init__(self, descriptor: ImageModelDescriptor[nn.Module]) -> None:
        super().__init__()
        self.model = descriptor.model
        self._descriptor = descriptor

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(1) if str(self._descriptor.architecture.id) in ONE_BY_ONE else (x,)
        # Copied before, because some architectures write to their input, and after, because nobody may write to a
        # tensor of inference mode.
        return torch.cat([self._descriptor(part.clone()) for part in parts])


class PerChannel(nn.Module):
    """A gray network on colour: (N, 3, H, W) → (N, 3, sH, sW), each channel by itself.

    So noise goes from all of them, a gray picture stays gray, and no channel needs another's scale.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor = self.network(x.flatten(0, 1).unsqueeze(1))
        return restored.squeeze(1).unflatten(0, x.shape[:2])


class _SkipRandom(TorchFunctionMode):
    """Leaves weights that are about to be overwritten as they were allocated, instead of drawing them."""

    _DRAWN = frozenset({Tensor.normal_, Tensor.uniform_, Tensor.erfinv_})

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Iterable[type],
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return args[0] if func in self._DRAWN else func(*args, **(kwargs or {}))


@contextmanager
def _without_initialisation() -> Generator[None]:
    with torch.random.fork_rng(devices=[]), _SkipRandom():
        yield


@dataclass(frozen=True, slots=True)
class Foreign:
    """What spandrel found."""

    network: nn.Module
    """3 channels in, 3 out."""
    architecture: str
    scale: int
    multiple_of: int
    safe_precisions: frozenset[str]
    tileable: bool
    """Tiling is neither discouraged nor done inside, and the radius is worth measuring."""


def _try_out(network: nn.Module, name: str, scale: int) -> None:
    """Raises ValueError where the network can't restore a picture: weights of sizes that its code doesn't foresee."""
    wanted = (1, 3, _TRIED_SIDE * scale, _TRIED_SIDE * scale)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = tuple(network(torch.full((1, 3, _TRIED_SIDE, _TRIED_SIDE), 0.5)).shape)
    except Exception as error:  # whatever the architecture's code trips over
        raise ValueError(f"{name} of these sizes can't run: {' '.join(str(error).split())[:200]}") from error
    if made != wanted:
        raise ValueError(f"{name} of these sizes makes {made} of {(*wanted[:2], _TRIED_SIDE, _TRIED_SIDE)}")


def load_foreign(tensors: Mapping[str, Tensor]) -> Foreign | None:
    """The network that `tensors` belong to; None when spandrel knows none.

    Raises ValueError: known, but damaged, or of a kind that is of no use here.
    """
    for name, tensor in tensors.items():
        if name.endswith(".weight") and not tensor.is_floating_point():  # PyTorch would convert them
            raise ValueError(f"'{name:.80}' holds {tensor.dtype}, not floating-point numbers")
        if any(int(number) > MAX_INDEX for number in re.findall(r"(?:^|\.)(\d{1,18})(?=\.|$)", name)):
            raise ValueError(f"'{name:.80}' would be layer of a network of more than {MAX_INDEX} layers")
        if re.search(r"\d{19}", name):
            raise ValueError(f"'{name:.80}' is no name of a weight")
    try:
        with _without_initialisation(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the architectures are written
            found = ModelLoader().load_from_state_dict(dict(tensors))
    except UnsupportedModelError:
        return None
    except Exception as error:  # detection raises whatever it trips over: KeyError, AssertionError, ZeroDivisionError
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ValueError(f"it does not fit the architecture it resembles: {' '.join(lines[:2])[:300]}") from error
    name = found.architecture.name
    if isinstance(found, MaskedImageModelDescriptor):
        raise ValueError(f"{name} fills masked holes; a restoration has no mask")
    if found.purpose == "FaceSR":
        raise ValueError(f"{name} restores aligned faces only")
    channels = (found.input_channels, found.output_channels)
    if channels not in ((1, 1), (3, 3)):
        raise ValueError(
            f"{name} makes {channels[1]} channels of {channels[0]}; only RGB and gray networks can be used"
        )
    if found.scale < 1:
        raise ValueError(f"{name} of these weights makes pictures smaller")
    network: nn.Module = SpandrelNetwork(found)
    if channels == (1, 1):
        network = PerChannel(network)
    _try_out(network.eval(), name, found.scale)
    _freeze_means(network)
    precisions = {"fp32"}
    precisions |= {"fp16"} if found.supports_half else set()
    precisions |= {"bf16"} if found.supports_bfloat16 else set()
    identifier = str(found.architecture.id)
    return Foreign(
        network=network,
        architecture=identifier,
        scale=found.scale,
        multiple_of=found.size_requirements.multiple_of,
        safe_precisions=frozenset(precisions),
        tileable=(
            found.tiling == ModelTiling.SUPPORTED and not found.size_requirements.square and identifier not in NOT_EXACT
        ),
    )
