"""The process of a training: its device, its place among those that torchrun started, and what it computes in."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ns_video.device import capable_precisions, pick_device
from ns_video.errors import UsageError
from ns_video.machine import check_device_name
from ns_video.training.checkpoint import diverged

Batch = TypeVar("Batch")

_PATIENCE = timedelta(days=7)
_LEAST_SCALE = 2.0**-24  # of fp16's gradients, 40 halvings below the first


@dataclass(frozen=True, slots=True)
class Process:
    """This process among those that torchrun started."""

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether it is the one that validates, writes and speaks."""
        return self.rank == 0

    def distributed(self, network: nn.Module) -> nn.Module:
        """The network as all processes train it: gradients are averaged in its backward pass."""
        if self.count == 1:
            return network
        ids = [self.device.index] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(network, device_ids=ids)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """The same for parameters outside such a network, after their backward pass."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat.div_(self.count)
        for gradient, mean in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(mean.view_as(gradient))

    def of_leader(self, values: Sequence[float]) -> list[float]:
        """The leader's values."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.broadcast(shared, 0)
        return shared.tolist()

    @contextlib.contextmanager
    def together(self) -> Generator[None]:
        """Nobody leaves it before the last one does, however long that takes."""
        if self.count == 1:
            yield
            return
        group = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=_PATIENCE))
        yield
        dist.barrier(group)

    def seed(self, seed: int, step: int) -> None:
        """What a step draws on any device (dropout) depends on the seed, the step and the rank alone, as batches do."""
        words = np.random.SeedSequence((seed, step, self.rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(words[0]))

    def pinned(self, batch: Batch) -> Batch:
        """The tensors of a dataclass where they can be copied to the device while it computes."""
        return _each(batch, Tensor.pin_memory) if self.device.type == "cuda" else batch

    def sent(self, batch: Batch) -> Batch:
        """The tensors of a dataclass on the device."""
        return _each(batch, lambda tensor: tensor.to(self.device, non_blocking=True))


def _each(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(cast(Any, batch))}
    changed = {name: change(value) for name, value in fields.items() if isinstance(value, Tensor)}
    return cast(Batch, dataclasses.replace(cast(Any, batch), **changed))


def find_process(device: str) -> Process:
    """From torchrun's environment; joins the process group on the first call.

    Raises:
        DeviceError: this machine has no such device; UsageError: torchrun's environment is incomplete.
    """
    check_device_name(device)
    try:
        count = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = (int(os.environ[name]) if count > 1 else 0 for name in ("RANK", "LOCAL_RANK"))
    except (KeyError, ValueError) as error:
        raise UsageError(
            f"WORLD_SIZE is set, but not all of torchrun's environment is ({error})",
            remedy="start with torchrun, or unset WORLD_SIZE",
        ) from error
    chosen = pick_device(device)
    if count <= 1:
        return Process(0, 1, chosen)
    if chosen.type == "mps":
        raise UsageError("several processes train on CUDA devices or on the CPU", remedy="add --device cpu")
    if chosen.type == "cuda":
        chosen = pick_device(f"cuda:{local}")
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Process(rank, count, chosen)


class Arithmetic:
    """What a training computes in: fp32 or mixed precision, with gradients scaled where fp16 needs it."""

    def __init__(self, wanted: str, device: torch.device) -> None:
        """`wanted` as `schedule.precision`. Raises UsageError for fp16 on another device than CUDA."""
        self.dtype = _dtype(wanted, device)
        self._device = device
        self._scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Around forward passes."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, dtype=self.dtype)

    def descend(self, loss: Tensor, network: nn.Module, optimizer: torch.optim.Optimizer, clip: float) -> None:
        """One step down the slope, whose norm is at most `clip` (0: as it is)."""
        optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        self._scaler.unscale_(optimizer)
        if clip > 0:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        self._scaler.step(optimizer)
        self._scaler.update()

    def kept(self, losses: Iterable[float]) -> list[float]:
        """The losses of the steps that count: steps that overflow in fp16 are left out by `descend`.

        Raises:
            ModelError: a loss isn't finite where nothing is scaled, or no scale is small enough.
        """
        finite: list[float] = []
        for loss in losses:
            if math.isfinite(loss):
                finite.append(loss)
            elif not self._scaler.is_enabled() or self._scaler.get_scale() < _LEAST_SCALE:
                raise diverged(f"a step's loss is {loss}")
        return finite

    def state(self) -> dict[str, Any]:
        """For a checkpoint; empty where nothing is scaled."""
        return self._scaler.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        """Of a checkpoint, which may have been made in another precision."""
        if state:
            self._scaler.load_state_dict(state)


def _dtype(wanted: str, device: torch.device) -> torch.dtype:
    """bf16 where the device computes in it (CUDA from 8.0, CPUs with AVX512-BF16 or AMX), fp16 on CUDA from 7.0, else
    fp32; or as asked."""
    if wanted == "auto":
        native = capable_precisions(device)
        if "bf16" in native:
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" and native else torch.float32
    if wanted == "fp16" and device.type != "cuda":
        raise UsageError("fp16 training needs CUDA", remedy='use schedule.precision = "bf16"')
    return {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[wanted]
