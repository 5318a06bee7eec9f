"""Spearman's rank correlation (SRCC): whether two measures order things alike."""

from __future__ import annotations

import torch
from torch import Tensor


def _ranks(values: Tensor) -> Tensor:
    """(N,) ranks from 0; equal values share the mean of theirs."""
    ordered, inverse, counts = torch.unique(values, return_inverse=True, return_counts=True)
    del ordered
    last = counts.cumsum(0)
    return (last - (counts + 1) / 2)[inverse].double()


def rank_correlation(first: Tensor, second: Tensor) -> float:
    """SRCC of (N,) and (N,), -1 to 1; 0 where one of them is constant."""
    one, other = _ranks(first.double()), _ranks(second.double())
    one, other = one - one.mean(), other - other.mean()
    power = float((one.square().sum() * other.square().sum()).sqrt())
    return float((one * other).sum()) / power if power > 0 else 0.0
