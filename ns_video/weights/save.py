"""A trained network → a weights file that `load_descriptor` reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from ns_video.errors import ModelError
from ns_video.journal import write_whole
from ns_video.networks.int8 import Ranges

INT8_KEY = "int8"
"""Of the metadata: block → the two numbers of `Ranges`, as JSON."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a weights file says about itself."""

    architecture: str
    conditioning: str = "none"
    domain: str = "rgb"
    int8_ranges: Ranges = field(default_factory=dict[str, tuple[float, float]])
    """Of an ns_restore's blocks (`ns_video.training.ranges`), see Descriptor."""


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with its header in a fixed order: safetensors itself shuffles the metadata."""
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data[end:]


def save_model(network: nn.Module, path: Path, metadata: Metadata, dtype: torch.dtype | None = None) -> str:
    """Write `network`'s weights and metadata to `path` (.safetensors), whole or not at all; returns the sha256.

    The same weights give the same bytes. The configuration is taken from `network.config`, a dataclass, where there is
    one. Weights may be stored as `dtype` (torch.float16 halves the file); they are read back as float32.

    Raises ModelError when a weight is not finite, or too large for `dtype`; OutputError.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        stored = tensor.detach().to("cpu").contiguous()
        if stored.is_floating_point():
            stored = stored if dtype is None else stored.to(dtype)
            if not bool(torch.isfinite(stored).all()):
                raise ModelError(f"'{name}' holds values that are not finite as {stored.dtype}; {path} is not written")
        tensors[name] = stored.clone()
    config = getattr(network, "config", None)
    texts = {
        "architecture": metadata.architecture,
        "conditioning": metadata.conditioning,
        "domain": metadata.domain,
        "config": json.dumps(dataclasses.asdict(config) if dataclasses.is_dataclass(config) else {}, sort_keys=True),  # pyright: ignore[reportArgumentType]  an instance, never a class
    }
    if metadata.int8_ranges:
        texts[INT8_KEY] = json.dumps(metadata.int8_ranges)
    data = _ordered(safetensors.torch.save(tensors, texts))
    write_whole(path, data, stage="save")
    return hashlib.sha256(data).hexdigest()
