"""A CUDA device for machines without one: tensors of the CPU that say they are elsewhere, and copies that come late.

What can be seen so: tensors of two devices in one operation, reads for which the host waits, copies from memory that
isn't pinned, results that are read before they came, tensors of one stream used in another that hasn't waited.
What can't: memory, speed, and the arithmetic of kernels.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

GPU, CPU = torch.device("cuda", 7), torch.device("cpu")
"""The eighth GPU, which no machine of the tests has: constants that are kept by device are none of a real one."""
_MAIN = "main"
_WAITS = frozenset(("item", "tolist", "__bool__", "__float__", "__int__", "__index__", "nonzero", "unique", "equal"))
"""What needs the values on the host."""
_FREE = frozenset({"device", "_parse_to", "_has_compatible_shallow_copy_type", "__set__"})
"""What touches no values, or two devices by its nature."""


_STORAGES: dict[int, list[Any]] = {}
"""Of tensors on the device: address → storage (which keeps it from being used again), stream that made it. For good,
as constants are."""


def _is_mask(index: Any) -> bool:
    return any(isinstance(part, Tensor) and part.dtype == torch.bool for part in tree_leaves(index))


class PretendedCuda(TorchFunctionMode):
    """While it is entered, in this thread, what was moved to CUDA stays on the CPU under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        """Where the host waited for the main stream → how often; `upload` from memory that isn't pinned included."""
        self.beside = 0
        """How often it waited for another one."""
        self.stream = _MAIN
        self._pinned: dict[int, Any] = {}
        self._copies: list[Callable[[], None]] = []
        """Those to the host that were begun and haven't arrived, in order."""
        self.arrived = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():
            return self._call(func, args, dict(kwargs or {}))

    def is_there(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in _STORAGES

    def begun(self) -> int:
        """Copies to the host so far."""
        return self.arrived + len(self._copies)

    def arrive(self, count: int) -> None:
        """Copies come in until there were that many."""
        while self.arrived < count:
            self._copies.pop(0)()
            self.arrived += 1

    def settle(self, stream: str) -> None:
        """What that stream has made so far may be used in every other."""
        for held in _STORAGES.values():
            if held[1] == stream:
                held[1] = ""

    def wait(self, why: str) -> None:
        """The host waits for the stream in use."""
        if self.stream == _MAIN:
            lines = [
                f"{Path(f.filename).name}:{f.name}" for f in traceback.extract_stack() if "/ns_video/" in f.filename
            ]
            self.waits[" < ".join([why, *lines[:-4:-1]])] += 1
        else:
            self.beside += 1
        self.settle(self.stream)
        if self.stream == _MAIN:
            self.arrive(self.begun())

    def _take(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.nbytes():
            _STORAGES.setdefault(storage.data_ptr(), [storage, self.stream])
        return tensor

    def _pin(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self._pinned[storage.data_ptr()] = storage
        return tensor

    def _is_pinned(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._pinned

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        name = getattr(func, "__name__", "")
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [tensor for tensor in given if self.is_there(tensor)]
        if name == "__get__":
            asked = getattr(func.__self__, "__name__", "")
            return {"device": GPU, "is_cuda": True}.get(asked, func(*args)) if there else func(*args)
        if name in _FREE:
            return func(*args, **kwargs)
        if there:
            self._check(name, given)
        if name in ("numpy", "__array__") and there:
            raise TypeError("can't convert cuda:7 device type tensor to numpy")
        if name == "pin_memory":
            return self._pin(args[0].clone())
        if name == "copy_" and len(there) == 1:
            return self._copy(*args, **kwargs)
        if name in ("cpu", "to", "cuda"):
            return self._move(func, args, kwargs)
        if there and (name in _WAITS or (name == "__getitem__" and _is_mask(args[1]))):
            self.wait(name)
        return self._compute(func, name, args, kwargs, bool(there))

    def _check(self, name: str, given: list[Tensor]) -> None:
        for tensor in given:
            if not self.is_there(tensor):
                if tensor.dim() and tensor.numel() and name != "copy_":
                    raise RuntimeError(f"Expected all tensors to be on the same device: {name}")
            elif _STORAGES[tensor.untyped_storage().data_ptr()][1] not in ("", self.stream):
                raise RuntimeError(f"{name} uses what another stream may not have made yet")

    def _copy(self, target: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        if self.is_there(target):
            if not (non_blocking and self._is_pinned(source)):
                self.wait("upload")
            return target.copy_(source)
        if not (non_blocking and self._is_pinned(target)):
            self.wait("download")
            return target.copy_(source)
        value = source.clone()
        target.zero_()

        def arrive() -> None:
            with torch._C.DisableTorchFunction(), torch.inference_mode():
                target.copy_(value)

        self._copies.append(arrive)
        return target

    def _move(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        source: Tensor = args[0]
        was_there = self.is_there(source)
        named = [torch.device(one) for one in (*args[1:], kwargs.get("device")) if isinstance(one, (str, torch.device))]
        named += [GPU if self.is_there(one) else CPU for one in args[1:] if isinstance(one, Tensor)]
        named += {"cpu": [CPU], "cuda": [GPU]}.get(func.__name__, [])
        is_there = named[0].type == "cuda" if named else was_there
        changes = [one for one in args[1:] if isinstance(one, torch.dtype)] + [kwargs.get("dtype")]
        dtype = changes[0] or source.dtype
        result = source.to(dtype, memory_format=kwargs.get("memory_format", torch.preserve_format))
        if was_there == is_there:
            return self._take(result) if is_there else result
        if is_there and not (kwargs.get("non_blocking") and self._is_pinned(source)):
            self.wait("upload")
        if was_there:
            self.wait("download")
        return self._take(result.clone()) if is_there else result.clone()

    def _compute(self, func: Any, name: str, args: Any, kwargs: Any, there: bool) -> Any:
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = CPU
            if torch.device(wanted).type == "cuda" and name in ("tensor", "as_tensor"):
                self.wait("upload")
            there = there or torch.device(wanted).type == "cuda"
        pinned = kwargs.pop("pin_memory", False)
        result = func(*args, **kwargs)
        if there:
            tree_map_only(Tensor, self._take, result)
        elif pinned:
            self._pin(result)
        return result


@contextmanager
def pretended_cuda(monkeypatch: pytest.MonkeyPatch) -> Generator[PretendedCuda]:
    """A GPU of compute capability 9.0 with 64 GiB to spare, as long as the context lasts."""
    mode = PretendedCuda()

    class Stream:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.name = f"{id(self)}"

        def wait_stream(self, other: Any) -> None:
            mode.settle(other.name)

    class Event:
        def record(self) -> None:
            self.begun = mode.begun()

        def synchronize(self) -> None:
            mode.arrive(self.begun)

    @contextmanager
    def stream(other: Stream) -> Generator[None]:
        before, mode.stream = mode.stream, other.name
        yield
        mode.stream = before

    main = Stream()
    main.name = _MAIN
    pretended: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: GPU.index + 1,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "pretended",
        "mem_get_info": lambda *_: (64 << 30, 80 << 30),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
        "empty_cache": lambda: None,
        "synchronize": lambda *_: mode.wait("synchronize"),
        "device": lambda *_: nullcontext(),
        "current_stream": lambda *_: main,
        "stream": stream,
        "Stream": Stream,
        "Event": Event,
    }
    with monkeypatch.context() as patch, mode:
        for name, value in pretended.items():
            patch.setattr(torch.cuda, name, value)
        yield mode
