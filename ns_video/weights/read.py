"""A weights file → tensors by name, without running anything that the file says.

Pickles are read by `torch.load(weights_only=True)` and nothing else. Before that, sizes are checked against the file,
because weights_only stops code, not damage: a storage that is longer than its record is read past its end, and a
header can ask for any amount of memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ns_video.errors import ModelError
from ns_video.weights.pickles import read_pickle, without_prefixes

MAX_FILE_BYTES = 4 << 30
"""Larger than any picture network known; a file beyond it is refused unread."""
MAX_HEADER_BYTES = 100_000_000
"""safetensors' own limit for its header."""

_ITEM_BYTES = {
    name: size
    for size, names in ((8, "F64 I64 U64"), (4, "F32 I32 U32"), (2, "F16 BF16 I16 U16"), (1, "I8 U8 BOOL"))
    for name in names.split()
}


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """What a weights file holds."""

    path: Path
    sha256: str
    tensors: dict[str, Tensor]
    """By name; floating ones float32 and finite. Read only."""
    metadata: dict[str, str]
    """safetensors' own metadata; empty for pickles."""


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ModelError(f"model file {path} is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise ModelError(f"model file {path} is not a regular file")
        if status.st_size == 0:
            raise ModelError(f"model file {path} is empty")
        if status.st_size > MAX_FILE_BYTES:
            raise ModelError(f"model file {path} is larger than {MAX_FILE_BYTES >> 30} GiB")
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(f"model file {path} does not exist") from error
    except OSError as error:
        raise ModelError(f"model file {path} can't be read: {error.strerror or error}") from error


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"'{twice:.80}' is there twice")
    return table


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def _check_entry(name: str, entry: object, data_bytes: int) -> tuple[int, int]:
    """Begin and end of the tensor's bytes. Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError(f"'{name:.80}' is no table")
    table = cast(dict[str, object], entry)
    dtype, shape, offsets = table.get("dtype"), table.get("shape"), table.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES:
        raise ValueError(f"'{name:.80}' has the unknown type {dtype!r:.40}")
    if not isinstance(shape, list) or not all(_is_size(side) for side in cast(list[object], shape)):
        raise ValueError(f"'{name:.80}' has no valid shape")
    if not isinstance(offsets, list) or not all(_is_size(offset) for offset in cast(list[object], offsets)):
        raise ValueError(f"'{name:.80}' has no valid offsets")
    bounds = cast(list[int], offsets)
    if len(bounds) != 2 or not bounds[0] <= bounds[1] <= data_bytes:
        raise ValueError(f"'{name:.80}' lies outside the file: {bounds!r:.80} of {data_bytes} bytes")
    want = math.prod(cast(list[int], shape)) * _ITEM_BYTES[dtype]
    if bounds[1] - bounds[0] != want:
        raise ValueError(f"'{name:.80}' of shape {shape!r:.80} takes {want:.6g} bytes, not {bounds[1] - bounds[0]}")
    return bounds[0], bounds[1]


def check_safetensors(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file whose header holds together.

    Raises ValueError saying what is wrong. Nothing larger than the header itself is allocated.
    Format: https://github.com/huggingface/safetensors#format
    """
    if len(data) < 8:
        raise ValueError(f"it is cut off: {len(data)} bytes")
    header_bytes = int.from_bytes(data[:8], "little")
    if header_bytes > MAX_HEADER_BYTES or header_bytes > len(data) - 8:
        raise ValueError(f"its header claims {header_bytes} bytes, the file has {len(data)}")
    try:
        header: object = json.loads(data[8 : 8 + header_bytes].decode("utf-8"), object_pairs_hook=_no_duplicates)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise ValueError("its header is no UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"its header is no JSON: {error.msg} at {error.pos}") from error
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    entries = cast(dict[str, object], header)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(
        isinstance(value, str) for value in cast(dict[str, object], metadata).values()
    ):
        raise ValueError("its metadata is not text by name")
    data_bytes = len(data) - 8 - header_bytes
    end = 0
    for begin, until in sorted(_check_entry(name, entry, data_bytes) for name, entry in entries.items()):
        if begin != end:
            raise ValueError(f"its tensors {'overlap' if begin < end else 'leave a gap'} at byte {min(begin, end)}")
        end = until
    if end != data_bytes:
        raise ValueError(f"its tensors take {end} bytes, the file has {data_bytes} for them")
    return cast(dict[str, str], metadata)


def _clean(path: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Floating tensors as float32; every value finite."""
    clean: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensor = tensor.detach().to(torch.float32)
            if not np.isfinite(tensor.numpy()).all():  # one thread: torch's many wait on each other on a busy machine
                raise ModelError(f"model file {path}: '{name}' holds NaN or infinite values")
        clean[name] = tensor
    return clean


def read_weights(path: Path, expected_sha256: str | None = None) -> WeightsFile:
    """Read `path`, a .safetensors file or a PyTorch checkpoint; which of them, its content tells.

    Raises ModelError: unreadable, empty, cut, unsafe, not finite, or another checksum than `expected_sha256`.
    """
    data = _read_bytes(path)
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_sha256 is not None and sha256 != expected_sha256.lower():
        raise ModelError(
            f"model file {path} has the checksum {sha256}, not {expected_sha256.lower()} as its card says",
            remedy="the file is damaged or was exchanged; install it again",
        )
    metadata: dict[str, str] = {}
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(f"model file {path} only names the weights, which git-lfs keeps", remedy="git lfs pull")
    if path.suffix.lower() == ".safetensors" or data[8:9] == b"{":
        try:
            metadata = check_safetensors(data)
            tensors = without_prefixes(safetensors.torch.load(data))
        except (ValueError, safetensors.SafetensorError) as error:
            raise ModelError(f"model file {path} is a damaged safetensors file: {error}") from error
    else:
        try:
            tensors = read_pickle(data)
        except ValueError as error:
            raise ModelError(f"unsafe or damaged model file {path}: {error}") from error
    if not tensors:
        raise ModelError(f"model file {path} holds no tensors")
    return WeightsFile(path, sha256, _clean(path, tensors), metadata)
