"""Tensors on their way to a device. Floor 1: torch."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor of the CPU on the device; from pinned memory, since else the host waits for all that a GPU has to do."""
    target = torch.device(device)
    if target.type == "cuda":
        return tensor.pin_memory().to(target, non_blocking=True)
    return tensor.to(target)
