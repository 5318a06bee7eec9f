"""PyTorch checkpoints → tensors, by `torch.load(weights_only=True)` after a look at what they ask for.

weights_only keeps a pickle from running code. What it lets through is checked here first, on the opcodes and without
building anything: names that weights need not have (`bytearray(2**40)` is allowed by it), storages larger than their
record (read past its end), archives that unpack to more than they are, and endless opcodes.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
from torch import Tensor

MAX_PICKLE_BYTES = 64 << 20
"""Of the structure without the tensors; some hundred bytes a tensor are usual."""
MAX_OPCODES = 1_000_000
"""An opcode can make an object of 200 bytes; a checkpoint of 2,000 tensors with its optimiser has about 60,000."""
MAX_UNPACKING = 16
"""Bytes unpacked / bytes of the archive. PyTorch does not compress; where others did, float weights gave 1.1 or so."""
MAX_DEPTH = 4
"""Dicts in which the state dict may lie."""
LEGACY_PICKLES = 5
"""A file of PyTorch before 1.6: magic number, version, system, object, storage keys; then the storages."""

_STORAGES = {
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("HalfStorage", "BFloat16Storage", "ShortStorage"), 2),
    **dict.fromkeys(("CharStorage", "ByteStorage", "BoolStorage", "UntypedStorage"), 1),
}
_NAMES = frozenset(
    {
        *("collections OrderedDict", "torch Size", "torch device", "torch.nn.parameter Parameter", "_codecs encode"),
        *("torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"),
        *("numpy dtype", "numpy.core.multiarray scalar", "numpy._core.multiarray scalar"),
        *(f"torch {name}" for name in ("float64", "float32", "float16", "bfloat16", "int64", "int32", "uint8", "bool")),
        *(f"{module} {storage}" for module in ("torch", "torch.storage") for storage in _STORAGES),
    }
)
_INTEGERS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "INT", "LONG"})
_STRINGS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "UNICODE"})
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"})
_GETS = frozenset({"BINGET", "LONG_BINGET", "GET"})
_REFUSED = frozenset({"INST", "OBJ", "STACK_GLOBAL", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"})
"""Opcodes that PyTorch does not write."""

_UNWRAP = (
    *("generator_state_dict", "model_state_dict", "state_dict", "params_ema", "params-ema", "params"),
    *("generator", "model", "net", "averaged", "network", "module"),
)
"""Keys under which trainers keep the state dict, the best one first."""
_PREFIXES = ("module.", "_orig_mod.", "netG.", "generator.")
"""What wrappers put before every key."""


def _scan(stream: io.BytesIO) -> dict[str, int]:
    """Bytes that each storage of the pickle at `stream`'s position claims, by key; stops behind the pickle.

    Raises ValueError for anything that weights have no use for.
    """
    claims: dict[str, int] = {}
    memo: dict[object, object] = {}
    recent: list[object] = []
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        name = opcode.name
        if count > MAX_OPCODES:
            raise ValueError(f"its structure has more than {MAX_OPCODES} opcodes")
        if name in _REFUSED:
            raise ValueError(f"its structure uses {name}, which no weights file needs")
        if name in _PUTS:
            memo[len(memo) if name == "MEMOIZE" else argument] = recent[-1] if recent else None
            continue
        if name == "GLOBAL":
            if argument not in _NAMES:
                raise ValueError(f"it wants to build '{str(argument).replace(' ', '.'):.100}', which no weights need")
            value: object = argument
        elif name in _GETS:
            value = memo.get(argument)
        elif name in _INTEGERS or name in _STRINGS:
            value = cast(object, argument)
        elif name == "NONE":
            value = None
        else:
            value = opcode
        if name == "BINPERSID":
            key, size = _claim(recent)
            claims[key] = max(size, claims.get(key, 0))
        recent = [*recent[-7:], value]
    return claims


def _claim(recent: list[object]) -> tuple[str, int]:
    """Key and bytes of the storage tuple ('storage', type, key, location, elements[, None]) that was just built."""
    texts = [getattr(item, "name", item) for item in recent]
    if len(texts) > 1 and texts[-1] == "TUPLE" and texts[-2] is None:
        del texts[-2]
    if len(texts) < 7 or texts[-1] != "TUPLE" or texts[-7] != "MARK" or texts[-6] != "storage":
        raise ValueError("its structure names a storage in an unusual way")
    kind, key, elements = texts[-5], texts[-4], texts[-2]
    item_bytes = _STORAGES.get(str(kind).rpartition(" ")[2])
    if item_bytes is None or not isinstance(key, str) or type(elements) is not int or elements < 0:
        raise ValueError("its structure names a storage in an unusual way")
    return key, elements * item_bytes


def _checked_archive(data: bytes) -> io.BytesIO:
    """The zip archive `data`, written anew from the records that were checked: no other reading of it counts."""
    clean = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as out:
        entries = archive.infolist()
        names = {entry.filename: entry for entry in entries}
        if len(names) != len(entries):
            raise ValueError("its archive has two records of one name")
        unpacked = sum(entry.file_size for entry in entries)
        if unpacked > MAX_UNPACKING * len(data):
            raise ValueError(f"its archive of {len(data)} bytes would unpack to {unpacked}")
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
            raise ValueError("it is a TorchScript program, not weights; save its state dict instead")
        if len(roots) != 1:
            raise ValueError("it is a zip archive, but not one of PyTorch's")
        root = roots[0]
        if names[f"{root}data.pkl"].file_size > MAX_PICKLE_BYTES:
            raise ValueError(f"its structure takes more than {MAX_PICKLE_BYTES} bytes")
        claims = _scan(io.BytesIO(archive.read(f"{root}data.pkl")))
        for key, size in claims.items():
            record = names.get(f"{root}data/{key}")
            if record is None:
                raise ValueError(f"its storage '{key:.40}' is missing")
            if size > record.file_size:
                raise ValueError(f"its storage '{key:.40}' claims {size} bytes, the record has {record.file_size}")
        keep = {f"{root}{name}" for name in ("data.pkl", "version", "byteorder", ".format_version")}
        keep.update(f"{root}data/{key}" for key in claims)
        for name in names:
            if name in keep:
                out.writestr(name, archive.read(name))
    clean.seek(0)
    return clean


def _checked_legacy(data: bytes) -> io.BytesIO:
    stream = io.BytesIO(data)
    claims: dict[str, int] = {}
    for _ in range(LEGACY_PICKLES):
        claims.update(_scan(stream))
        if stream.tell() > MAX_PICKLE_BYTES:
            raise ValueError(f"its structure takes more than {MAX_PICKLE_BYTES} bytes")
    if sum(claims.values()) > len(data) - stream.tell():
        raise ValueError(f"it is cut off: its storages claim {sum(claims.values())} bytes, {len(data)} are there")
    stream.seek(0)
    return stream


def _checked(data: bytes) -> io.BytesIO:
    """What PyTorch may read of `data`. Raises ValueError."""
    if data[:4] == b"PK\x03\x04":
        return _checked_archive(data)
    if data[257:262] == b"ustar":
        raise ValueError("it is a tar archive; PyTorch has not written those since 2017 and they can't be read safely")
    if data[:1] == b"\x80":
        return _checked_legacy(data)
    raise ValueError("it is neither safetensors nor a PyTorch checkpoint")


def _as_table(value: object) -> dict[object, object] | None:
    return cast(dict[object, object], value) if isinstance(value, dict) else None


def find_state_dict(loaded: object) -> dict[str, Tensor]:
    """The state dict somewhere in what a trainer saved, without wrappers' prefixes; empty where there is none."""
    table = _as_table(loaded)
    for _ in range(MAX_DEPTH):
        if table is None:
            return {}
        inner = next((found for key in _UNWRAP if (found := _as_table(table.get(key)))), None)
        if inner is None and len(table) == 1:
            inner = _as_table(next(iter(table.values())))
        if inner is None:
            break
        table = inner
    tensors = {str(key): value for key, value in (table or {}).items() if isinstance(value, Tensor)}
    return without_prefixes(tensors)


def without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """`tensors` with the names that they had before DataParallel, torch.compile and the like wrapped the network."""
    for _ in range(MAX_DEPTH):
        prefix = next((p for p in _PREFIXES if tensors and all(name.startswith(p) for name in tensors)), None)
        if prefix is None:
            break
        tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _numpy_scalars() -> list[Callable[..., object] | tuple[Callable[..., object], str]]:
    """What a number computed by numpy needs, as trainers keep it in their lists of losses. It runs no code."""
    scalar = cast(Callable[..., object], np.float64(0.0).__reduce__()[0])
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [*((scalar, name) for name in names), np.dtype, *kinds]


_DAMAGED = (pickle.UnpicklingError, zipfile.BadZipFile, zlib.error, struct.error)
"""What the modules that read archives and pickles raise at damage."""


def read_pickle(data: bytes) -> dict[str, Tensor]:
    """The state dict in a PyTorch checkpoint, of either format.

    Raises ValueError: unsafe, damaged, of another kind.
    """
    try:
        with torch.serialization.safe_globals(_numpy_scalars()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # advice to whoever wrote such a file
            stream = _checked(data)
            stream_bytes = len(stream.getbuffer())
            loaded: object = torch.load(stream, map_location="cpu", weights_only=True)
    except zipfile.BadZipFile as error:
        raise ValueError(f"it is cut off or damaged ({error})") from error
    except (*_DAMAGED, RuntimeError, EOFError, OverflowError, OSError) as error:
        raise ValueError(str(error).partition("\n")[0] or "it is damaged") from error
    except (LookupError, TypeError, AttributeError, AssertionError, MemoryError, NotImplementedError) as error:
        raise ValueError(f"it is damaged ({type(error).__name__}: {str(error).partition(chr(10))[0]:.100})") from error
    tensors = find_state_dict(loaded)
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            raise ValueError(f"'{name:.80}' is not a plain tensor")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes() or tensor.numel() > stream_bytes:
            raise ValueError(f"'{name:.80}' of shape {tuple(tensor.shape)} is larger than the file")
    return tensors
