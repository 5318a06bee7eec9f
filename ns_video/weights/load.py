"""A name or a file → a Descriptor."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from ns_video.cards import CONDITIONINGS, DOMAINS, Card, find_card, list_cards
from ns_video.cells import CELL_SCALES
from ns_video.conditioning import JPEG_PLANES, PITCH_PLANES, QUANTISER_PLANES
from ns_video.errors import ModelError, UnknownModelError, printable
from ns_video.networks.deblur_study import RECEPTIVE_RADIUS, STUDY_NETWORKS, DnCnn, StudyConfig, build_study_network
from ns_video.networks.int8 import MOST_RANGE, Ranges
from ns_video.networks.ns_iqa import NsIqa, NsIqaConfig
from ns_video.networks.ns_quantiser import MULTIPLE_OF, QUANTILES, NsQuantiser, NsQuantiserConfig
from ns_video.networks.ns_restore import NsRestore, NsRestoreConfig, ResidualBlock
from ns_video.networks.nsie import Nsie, NsieConfig, fold_batchnorm
from ns_video.quality.ns_content import NsContent
from ns_video.quality.ns_iqa import JudgesConfig, NsIqaJudges
from ns_video.resources import model_folders
from ns_video.weights.descriptor import PRECISIONS, Descriptor
from ns_video.weights.reach import measure_radius
from ns_video.weights.read import WeightsFile, read_weights
from ns_video.weights.save import INT8_KEY

IDENTITY = "identity"
"""The built-in model that does nothing, exactly."""
SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".tar")
MAX_CONFIG_NUMBER = 10_000
"""Of any number in a file's configuration: channels, blocks, planes."""
MAX_BLOCKS = 256
"""Residual blocks at one level of an NsRestore."""
SIDE_PLANES = {
    "none": 0,
    "jpeg": JPEG_PLANES,
    "quantiser": QUANTISER_PLANES,
    "mosaic": PITCH_PLANES,
    "shrunk": 0,
}
"""Conditioning → planes of side information."""

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config", NsRestoreConfig, NsIqaConfig, NsQuantiserConfig, JudgesConfig, StudyConfig)


def list_models() -> list[Card]:
    """The cards of all installed models, by name; files that are none are left out."""
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
        parameters=0,
    )


def differences(network: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """What keeps `tensors` from fitting `network`: the first key that differs, and how; None where they fit."""
    wanted: Mapping[str, Tensor] = network.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            return f"'{name}' {tuple(tensor.shape)} is missing"
        if tensors[name].shape != tensor.shape:
            return f"'{name}' has the shape {tuple(tensors[name].shape)}, the network wants {tuple(tensor.shape)}"
        if tensor.is_floating_point() and not tensors[name].is_floating_point():
            return f"'{name}' holds {tensors[name].dtype}, not floating-point numbers"
    for name, tensor in tensors.items():
        if name not in wanted:
            return f"'{name}' {tuple(tensor.shape)} is more than the network has"
    return None


@contextmanager
def without_weights() -> Generator[None]:
    """Networks built inside have no memory for their weights: nothing is initialised only to be overwritten."""
    with torch.device("meta"):
        yield


def fill(network: nn.Module, file: WeightsFile) -> None:
    """Put `file`'s tensors into `network`, which was built `without_weights`.

    Raises ModelError naming the first key that differs.
    """
    tensors = dict(file.tensors)
    for name in network.state_dict():
        if name.endswith(".num_batches_tracked"):  # files of PyTorch before 0.4.1 lack them; they matter to no result
            tensors.setdefault(name, torch.zeros((), dtype=torch.int64))
    wrong = differences(network, tensors)
    if wrong is not None:
        raise ModelError(f"model file {file.path} does not fit {type(network).__name__}: {wrong}")
    network.load_state_dict(tensors, strict=True, assign=True)


def _config_table(file: WeightsFile) -> dict[str, object]:
    try:
        config: object = json.loads(file.metadata.get("config", "{}"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model file {file.path}: its metadata 'config' is no JSON") from error
    if not isinstance(config, dict):
        raise ModelError(f"model file {file.path}: its metadata 'config' is no table")
    return cast(dict[str, object], config)


def _config(file: WeightsFile, default: Config) -> Config:
    """`default` with the values of the file's metadata in it; those of another name or type are errors."""
    values = _config_table(file)
    for name, value in values.items():
        known: object = getattr(default, name, None)
        if name not in {item.name for item in dataclasses.fields(default)}:
            raise ModelError(f"model file {file.path}: its metadata 'config' has the unknown key '{name:.60}'")
        if isinstance(known, tuple):
            want = len(cast(tuple[object, ...], known))
            numbers = cast(list[object], value) if isinstance(value, list) else []
            fits = len(numbers) == want and all(type(n) is int and 0 <= n <= MAX_CONFIG_NUMBER for n in numbers)
            values[name] = tuple(numbers)
        elif type(known) is int:
            fits = type(value) is int and 0 <= value <= MAX_CONFIG_NUMBER
        else:
            fits = type(value) is type(known)
        if not fits:
            raise ModelError(f"model file {file.path}: its metadata 'config' has an unusable '{name}': {value!r:.60}")
    return dataclasses.replace(default, **values)


def _built(file: WeightsFile, build: Callable[[], Network]) -> Network:
    """What `build` makes of a configuration that a file gave, filled with the file's tensors.

    Raises ModelError when there is no such network, or the tensors are another one's.
    """
    try:
        with without_weights():
            network = build()
    except (RuntimeError, ValueError, ZeroDivisionError, KeyError) as error:
        raise ModelError(f"model file {file.path}: its configuration is unusable: {error}") from error
    fill(network, file)
    network.eval()
    return network


@dataclass(frozen=True, slots=True)
class _Traits:
    """What `_describe` finds out about a file, in a Descriptor's terms."""

    network: nn.Module
    architecture: str
    scale: int = 1
    halo: int = 0
    exact_tiles: bool = False
    multiple_of: int = 1
    in_channels: int = 3
    out_channels: int = 3
    frames: int = 1
    safe_precisions: frozenset[str] = PRECISIONS
    cell_scale: int = 0
    aligned: bool = False
    int8_ranges: Ranges = field(default_factory=dict[str, tuple[float, float]])


def _ns_restore(file: WeightsFile) -> _Traits:
    config = _config(file, NsRestoreConfig())
    if (
        config.unshuffle not in (1, 2)
        or config.scale not in (1, 2, 3, 4)
        or config.frames not in (1, 3, 5)
        or config.planes != 3
        or config.channels < 1
    ):
        raise ModelError(f"model file {file.path}: its metadata 'config' is unusable: {config}")
    if config.aligned and (config.frames == 1 or config.unshuffle != 2 or file.metadata.get("domain") != "ycbcr"):
        raise ModelError(f"model file {file.path}: its metadata 'config' aligns what can't be")
    if max(config.blocks) > MAX_BLOCKS:
        raise ModelError(f"model file {file.path}: its metadata 'config' wants more than {MAX_BLOCKS} blocks")
    conditioning = file.metadata.get("conditioning", "none")
    if SIDE_PLANES.get(conditioning) != config.side:
        raise ModelError(
            f"model file {file.path}: its network reads {config.side} planes of side information, "
            f"which the conditioning '{conditioning:.40}' does not give"
        )
    cell_scale = CELL_SCALES.get(conditioning, 0)
    if cell_scale and (config.scale, config.frames) != (cell_scale, 1):
        raise ModelError(
            f"model file {file.path}: its network enlarges {config.scale} times, "
            f"the conditioning '{conditioning:.40}' wants {cell_scale}"
        )
    network = _built(file, lambda: NsRestore(config))
    ranges = _int8_ranges(file, network)
    return _Traits(
        network,
        "ns_restore",
        safe_precisions=PRECISIONS | {"int8"} if ranges else PRECISIONS,
        int8_ranges=ranges,
        scale=1 if cell_scale else config.scale,
        cell_scale=cell_scale,
        halo=network.receptive_radius,
        exact_tiles=True,
        multiple_of=network.multiple_of,
        in_channels=config.planes,
        out_channels=config.planes,
        frames=config.frames,
        aligned=config.aligned,
    )


def _int8_ranges(file: WeightsFile, network: NsRestore) -> Ranges:
    """What the file's metadata "int8" tells of the network's blocks; empty where it tells nothing."""
    text = file.metadata.get(INT8_KEY)
    if text is None:
        return {}
    try:
        table: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"model file {file.path}: its metadata '{INT8_KEY}' is no JSON") from error
    blocks = {name for name, module in network.named_modules() if isinstance(module, ResidualBlock)}
    ranges: dict[str, tuple[float, float]] = {}
    for name, pair in cast(dict[object, object], table if isinstance(table, dict) else {"": None}).items():
        numbers = cast(list[object], pair) if isinstance(pair, list) else []
        sound = [float(n) for n in numbers if isinstance(n, (int, float)) and 0 <= n < MOST_RANGE]
        if name not in blocks or len(sound) != 2 or len(numbers) != 2:
            raise ModelError(f"model file {file.path}: its metadata '{INT8_KEY}' is unusable at {name!r:.60}")
        ranges[cast(str, name)] = (sound[0], sound[1])
    return ranges


def _nsie(file: WeightsFile) -> _Traits:
    first, dense = file.tensors.get("conv_first.weight"), file.tensors.get("rrdb_blocks.0.dense1.0.weight")
    indices = {name.split(".")[1] for name in file.tensors if name.startswith("rrdb_blocks.")}
    if first is None or dense is None or first.ndim != 4 or dense.ndim != 4:
        raise ModelError(f"model file {file.path} does not fit Nsie: 'conv_first' or 'rrdb_blocks.0' is missing")
    config = NsieConfig(features=first.shape[0], blocks=len(indices), growth=dense.shape[0])
    return _Traits(_built(file, lambda: Nsie(config)), "nsie", multiple_of=Nsie.multiple_of)


def _ns_iqa(file: WeightsFile) -> _Traits:
    config = _config(file, NsIqaConfig())
    return _Traits(_built(file, lambda: NsIqa(config)), "ns_iqa", out_channels=1)


def _ns_iqa_statistics(file: WeightsFile) -> _Traits:
    config = _config(file, JudgesConfig())
    judges = _built(file, lambda: NsIqaJudges(config))
    return _Traits(judges, "ns_iqa_statistics", out_channels=1)


def _ns_content(file: WeightsFile) -> _Traits:
    return _Traits(_built(file, NsContent), "ns_content", out_channels=1)


def _ns_quantiser(file: WeightsFile) -> _Traits:
    config = _config(file, NsQuantiserConfig())
    network = _built(file, lambda: NsQuantiser(config))
    return _Traits(network, "ns_quantiser", multiple_of=MULTIPLE_OF, in_channels=1, out_channels=len(QUANTILES))


def _ns_c(file: WeightsFile) -> _Traits:
    from ns_video.networks.ns_c import NsC, NsCConfig  # torchvision takes a second to import

    last = file.tensors.get("classifier.1.weight")
    if last is None or last.ndim != 2:
        raise ModelError(f"model file {file.path} does not fit NsC: 'classifier.1.weight' is missing")
    config = NsCConfig(classes=last.shape[0])
    return _Traits(_built(file, lambda: NsC(config)), "ns_c", out_channels=config.classes)


def _draws_picture(network: DnCnn) -> bool:
    """Whether the layers give the picture itself, not what is wrong with it.

    The study trained its DnCNN to give the picture, the paper's gives the damage, and their files look alike. On a
    smooth picture without damage the first gives the picture back, the second nearly nothing.
    """
    ramp = torch.linspace(0.2, 0.8, 48)
    picture = torch.stack((ramp.expand(48, 48), ramp[:, None].expand(48, 48), (ramp * ramp[:, None]).sqrt()))[None]
    with torch.no_grad():
        drawn = network.dncnn(picture)
    return bool((drawn - picture).square().mean() < 0.25 * picture.square().mean())


def _study(name: str, file: WeightsFile) -> _Traits:
    config = dataclasses.replace(_config(file, StudyConfig()), network=name)
    network = _built(file, lambda: build_study_network(config))
    if isinstance(network, DnCnn) and "config" not in file.metadata and _draws_picture(network):
        network.config = dataclasses.replace(config, residual=False)
    return _Traits(network, name, halo=RECEPTIVE_RADIUS[name], exact_tiles=True)


def _foreign(file: WeightsFile) -> _Traits | None:
    from ns_video.weights.foreign import load_foreign  # spandrel takes a second to import

    try:
        found = load_foreign(file.tensors)
    except ValueError as error:
        raise ModelError(f"model file {file.path}: {error}") from error
    if found is None:
        return None
    radius = measure_radius(found.network, 3, found.multiple_of) if found.tileable else None
    return _Traits(
        found.network,
        found.architecture,
        scale=found.scale,
        halo=radius or 0,
        exact_tiles=radius is not None,
        multiple_of=found.multiple_of,
        safe_precisions=found.safe_precisions,
    )


SIGNATURES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("nsie", ("conv_first.weight", "attention.gamma")),
    ("ns_iqa", ("features.3.depthwise.weight", "classifier.1.weight")),
    ("ns_c", ("features.0.0.weight", "features.8.0.weight", "classifier.1.weight")),
    ("DeblurCNN", ("conv1.0.weight", "output_layer.weight")),
    ("DeblurCNN_RES", ("block1.0.weight", "output_conv.weight")),
    ("DeblurSuperResCNN", ("conv1.weight", "conv3.weight", "conv5.weight")),
    ("DnCNN", ("dncnn.0.weight",)),
    ("EDSR_Deblur", ("head.weight", "body.0.block.0.weight", "tail.weight")),
)
"""Architecture → keys that only it has."""


def _traits(file: WeightsFile) -> _Traits:
    known: dict[str, Callable[[WeightsFile], _Traits]] = {
        "ns_restore": _ns_restore,
        "nsie": _nsie,
        "ns_iqa": _ns_iqa,
        "ns_iqa_statistics": _ns_iqa_statistics,
        "ns_content": _ns_content,
        "ns_quantiser": _ns_quantiser,
        "ns_c": _ns_c,
        **{name: partial(_study, name) for name in STUDY_NETWORKS},
    }
    architecture = file.metadata.get("architecture", "")
    if architecture in known:
        return known[architecture](file)
    for name, keys in SIGNATURES:
        if all(key in file.tensors for key in keys):
            return known[name](file)
    found = _foreign(file)
    if found is None:
        named = f" '{architecture:.60}'" if architecture else ""
        keys = ", ".join(f"'{key:.60}'" for key in list(file.tensors)[:3])
        raise ModelError(
            f"model file {file.path} is of an unknown architecture{named}; its first weights are {keys}",
            remedy="of a training give the .safetensors that it leaves at its end"
            if file.path.name == "checkpoint.pt"
            else None,
        )
    return found


def _describe(name: str, file: WeightsFile, for_training: bool) -> Descriptor:
    traits = _traits(file)
    conditioning, domain = file.metadata.get("conditioning", "none"), file.metadata.get("domain", "rgb")
    if domain not in DOMAINS or conditioning not in CONDITIONINGS:
        raise ModelError(f"model file {file.path}: unknown domain '{domain:.40}' or conditioning '{conditioning:.40}'")
    if traits.architecture != "ns_restore" and (domain, conditioning) != ("rgb", "none"):
        raise ModelError(
            f"model file {file.path}: its metadata says domain '{domain}' and conditioning '{conditioning}', "
            f"which {traits.architecture} knows nothing of"
        )
    network = traits.network
    parameters = sum(parameter.numel() for parameter in network.parameters())
    if not for_training:
        network.requires_grad_(False)
        if isinstance(network, Nsie):
            fold_batchnorm(network)
    shared = {item.name: getattr(traits, item.name) for item in dataclasses.fields(traits)}
    return Descriptor(
        name=name,
        domain=domain,
        conditioning=conditioning,
        sha256=file.sha256,
        path=file.path,
        card=None,
        parameters=parameters,
        **shared,
    )


def _without_card(name: str) -> Path | None:
    """Weights of that name in a folder of models."""
    places = (folder / f"{name}.safetensors" for folder in model_folders())
    return next((place for place in places if place.is_file()), None)


def _find_file(name: str) -> tuple[Path, Card | None]:
    if not name:
        raise UnknownModelError("the model's name is empty", remedy="a shell's variable may not be set")
    path = Path(name)
    if path.suffix.lower() in SUFFIXES or len(path.parts) > 1:
        return path, None
    card = find_card(name)
    if card is not None and card.weights is not None:
        return card.weights, card
    if path.exists():
        return path, None
    if (weights := _without_card(name)) is not None:
        raise UnknownModelError(f"{weights} has no card {name}.toml beside it", remedy="give its path")
    names = ", ".join([IDENTITY, *(known.name for known in list_cards())])
    raise UnknownModelError(f"there is no model '{name:.80}'", remedy=f"installed are {names}; or give a file's path")


def load_descriptor(
    name_or_path: str | os.PathLike[str], *, expected_sha256: str | None = None, for_training: bool = False
) -> Descriptor:
    """The model of that name, or in that file, ready to run.

    A name is `identity` or that of an installed card, whose checksum is verified. Anything with a folder in it or a
    known suffix is a path. `expected_sha256` is compared with the file's checksum, where given. `for_training` leaves
    BatchNorm as it is and gradients on.

    Raises ModelError: unknown, of unknown architecture, unsafe, damaged, of a wrong checksum, or not as its card says.
    """
    try:
        text = os.fsdecode(name_or_path)
    except TypeError:
        raise UnknownModelError(f"a model's name or path is wanted, not a {type(name_or_path).__name__}") from None
    if "\0" in text:
        raise UnknownModelError(f"there is no model {text!r:.80}")
    if text == IDENTITY:
        return _identity()
    path, card = _find_file(text)
    file = read_weights(path, expected_sha256 or (card.sha256 if card is not None else None))
    descriptor = _describe(card.name if card is not None else printable(path.stem), file, for_training)
    if card is None:
        return descriptor
    for key in ("architecture", "scale", "domain", "conditioning", "frames", "parameters"):
        said, found = getattr(card, key), getattr(descriptor, key)
        if said != found:
            raise ModelError(f"model card {card.path} says {key} = {said}, the weights have {found}")
    return dataclasses.replace(descriptor, card=card)


def load_weights(name_or_path: str | os.PathLike[str]) -> WeightsFile:
    """The tensors and metadata of that installed model or file, for models that are more than one network.

    Raises ModelError as `load_descriptor`, without looking at the architecture.
    """
    path, card = _find_file(os.fspath(name_or_path))
    return read_weights(path, card.sha256 if card is not None else None)
