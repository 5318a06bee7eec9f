"""A name or a file → a Descriptor."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from ns_video.cards import Card, find_card, list_cards
from ns_video.errors import ModelError
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig
from ns_video.weights.descriptor import PRECISIONS, Descriptor
from ns_video.weights.read import WeightsFile, read_weights

IDENTITY = "identity"
"""The built-in model that does nothing, exactly."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")


def list_models() -> list[Card]:
    """The cards of all installed models, by name.

    Raises ModelError for a card that can't be parsed.
    """
    return list_cards()


def _identity() -> Descriptor:
    return Descriptor(
        name=IDENTITY,
        architecture=IDENTITY,
        network=nn.Identity().eval(),
        scale=1,
        halo=0,
        exact_tiles=True,
        multiple_of=1,
        in_channels=3,
        out_channels=3,
        domain="rgb",
        conditioning="none",
        frames=1,
        sha256="",
        path=None,
        card=None,
        safe_precisions=PRECISIONS,
    )


def differences(network: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps `tensors` from fitting `network`: the first differing key and shape in words; None where they fit."""
    wanted: Mapping[str, Tensor] = network.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            return f"'{name}' {tuple(tensor.shape)} is missing"
        if tensors[name].shape != tensor.shape:
            return f"'{name}' has the shape {tuple(tensors[name].shape)}, the network wants {tuple(tensor.shape)}"
    for name, tensor in tensors.items():
        if name not in wanted:
            return f"'{name}' {tuple(tensor.shape)} is more than the network has"
    return None


@contextmanager
def without_weights() -> Iterator[None]:
    """Networks built inside have no memory for their weights: nothing is initialised only to be overwritten."""
    with torch.device("meta"):
        yield


def fill(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """`network` (built `without_weights`) with `tensors` in it: eval mode, no gradients.

    Raises ModelError naming the first key that differs.
    """
    wrong = differences(network, tensors)
    if wrong is not None:
        raise ModelError(f"model file {path} does not fit {type(network).__name__}: {wrong}")
    network.load_state_dict(dict(tensors), strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _config(file: WeightsFile) -> dict[str, object]:
    try:
        config: object = json.loads(file.metadata.get("config", "{}"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ModelError(f"model file {file.path}: its metadata 'config' is no JSON") from error
    if not isinstance(config, dict):
        raise ModelError(f"model file {file.path}: its metadata 'config' is no table")
    return cast(dict[str, object], config)


def _ns_restore_config(file: WeightsFile) -> NsRestoreConfig:
    values = _config(file)
    known = {item.name: item for item in dataclasses.fields(NsRestoreConfig)}
    for name, value in values.items():
        if name not in known:
            raise ModelError(f"model file {file.path}: its metadata 'config' has the unknown key '{name:.60}'")
        want = type(known[name].default)
        if want is tuple:
            numbers = cast(list[object], value) if isinstance(value, list) else []
            if len(numbers) != 3 or not all(type(n) is int and 0 <= n <= 1000 for n in numbers):
                raise ModelError(f"model file {file.path}: its metadata 'config' has an unusable '{name}'")
            values[name] = tuple(numbers)
        elif type(value) is not want or (isinstance(value, int) and not 0 <= value <= 10_000):
            raise ModelError(f"model file {file.path}: its metadata 'config' has an unusable '{name}'")
    return NsRestoreConfig(**values)  # pyright: ignore[reportArgumentType]  each value's type was compared above


def _ns_restore(name: str, file: WeightsFile) -> Descriptor:
    config = _ns_restore_config(file)
    try:
        with without_weights():
            network = NsRestore(config)
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"model file {file.path}: its metadata 'config' is unusable: {error}") from error
    fill(network, file.tensors, file.path)
    conditioning = file.metadata.get("conditioning", "none")
    domain = file.metadata.get("domain", "rgb")
    if domain not in ("rgb", "ycbcr") or conditioning not in ("none", "jpeg", "quantiser"):
        raise ModelError(f"model file {file.path}: unknown domain '{domain:.40}' or conditioning '{conditioning:.40}'")
    return Descriptor(
        name=name,
        architecture="ns_restore",
        network=network,
        scale=config.scale,
        halo=network.receptive_radius,
        exact_tiles=True,
        multiple_of=network.multiple_of,
        in_channels=config.planes,
        out_channels=config.planes,
        domain=domain,
        conditioning=conditioning,
        frames=config.frames,
        sha256=file.sha256,
        path=file.path,
        card=None,
        safe_precisions=PRECISIONS,
    )


def _describe(name: str, file: WeightsFile) -> Descriptor:
    architecture = file.metadata.get("architecture", "")
    if architecture == "ns_restore":
        return _ns_restore(name, file)
    raise ModelError(f"model file {file.path} is of an unknown architecture '{architecture:.60}'")


def _find_file(name: str) -> tuple[Path, Card | None]:
    path = Path(name)
    if path.suffix.lower() in SUFFIXES or len(path.parts) > 1:
        return path, None
    card = find_card(name)
    if card is not None and card.weights is not None:
        return card.weights, card
    if path.exists():
        return path, None
    names = ", ".join([IDENTITY, *(known.name for known in list_cards())])
    raise ModelError(f"there is no model '{name:.80}'", remedy=f"installed are {names}; or give a file's path")


def load_descriptor(name_or_path: str | os.PathLike[str], *, expected_sha256: str | None = None) -> Descriptor:
    """The model of that name, or in that file, ready to run.

    A name is `identity` or that of an installed card, whose checksum is verified. Anything with a folder in it or a
    known suffix is a path. `expected_sha256` is compared with the file's checksum, where given.

    Raises ModelError: unknown, of unknown architecture, unsafe, damaged, of a wrong checksum, or not as its card says.
    """
    text = os.fspath(name_or_path)
    if text == IDENTITY:
        return _identity()
    path, card = _find_file(text)
    file = read_weights(path, expected_sha256 or (card.sha256 if card is not None else None))
    descriptor = _describe(card.name if card is not None else path.stem, file)
    if card is None:
        return descriptor
    for key in ("architecture", "scale", "domain", "conditioning", "frames", "parameters"):
        said, is_ = getattr(card, key), getattr(descriptor, key)
        if said != is_:
            raise ModelError(f"model card {card.path} says {key} = {said}, the weights have {is_}")
    return dataclasses.replace(descriptor, card=card)
