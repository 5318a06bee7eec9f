"""PyTorch checkpoints → tensors, by `torch.load(weights_only=True)` after a look at what they ask for."""

from __future__ import annotations

import io
import pickle
from typing import cast

import torch
from torch import Tensor


def _tensors(value: object) -> dict[str, Tensor]:
    if not isinstance(value, dict):
        return {}
    table = cast(dict[object, object], value)
    return {str(key): item for key, item in table.items() if isinstance(item, Tensor)}


def read_pickle(data: bytes) -> dict[str, Tensor]:
    """The state dict in a PyTorch checkpoint. Raises ValueError."""
    try:
        loaded: object = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return _tensors(loaded)
