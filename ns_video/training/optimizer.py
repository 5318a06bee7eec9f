"""Muon for convolutions, Adam for what is no matrix: one optimizer, as both trainers use it; how a rate falls."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn

OPTIMIZERS = ("adam", "muon")
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # the quintic of Jordan et al. 2024
_RMS = 0.2  # of an update at rate 1, as Adam's is: Liu et al. 2025, "Muon is scalable"


def orthogonalised(matrices: Tensor, rounds: int = 5) -> Tensor:
    """(N, rows, columns) float32 → each matrix with its singular values pushed towards 1 (Newton-Schulz)."""
    a, b, c = _COEFFICIENTS
    wide = matrices.shape[-2] <= matrices.shape[-1]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Momentum whose updates are orthogonalised, for weights of two and more dimensions; Adam for all others.

    A convolution's (out, in, h, w) weight counts as the matrix (out, in h w). Groups with `adam=True` go by Adam
    whatever their shape: first and last layers, and tables that are no layer's weights. Source: Jordan et al. 2024
    (kellerjordan.github.io/posts/muon); the update's size is matched to Adam's (Liu et al. 2025), so learning rates
    carry over.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "adam": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[Tensor]] = {}
            for parameter in cast(list[Tensor], group["params"]):
                if parameter.grad is None:
                    continue
                if group["adam"] or parameter.dim() < 2:
                    self._adam(parameter, group)
                else:
                    alike.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
            for parameters in alike.values():
                self._muon(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Parameters of one shape, all at once."""
        momentum = float(group["momentum"])
        directions: list[Tensor] = []
        for parameter in parameters:
            gradient = cast(Tensor, parameter.grad)
            state = self.state[parameter]
            if not state:
                state["momentum"] = torch.zeros_like(parameter)
            mean = cast(Tensor, state["momentum"])
            mean.lerp_(gradient, 1 - momentum)
            directions.append(gradient.lerp(mean, momentum).reshape(len(parameter), -1).float())
        stack = orthogonalised(torch.stack(directions))
        size = float(group["lr"]) * _RMS * max(stack.shape[-2:]) ** 0.5
        for parameter, update in zip(parameters, stack, strict=True):
            parameter.add_(update.reshape(parameter.shape).to(parameter.dtype), alpha=-size)

    def _adam(self, parameter: Tensor, group: dict[str, Any]) -> None:
        one, two = cast(tuple[float, float], group["betas"])
        gradient = cast(Tensor, parameter.grad)
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        mean, square = cast(Tensor, state["mean"]), cast(Tensor, state["square"])
        mean.lerp_(gradient, 1 - one)
        square.mul_(two).addcmul_(gradient, gradient, value=1 - two)
        step = int(state["step"])
        scale = (square / (1 - two**step)).sqrt_().add_(float(group["eps"]))
        parameter.addcdiv_(mean, scale, value=-float(group["lr"]) / (1 - one**step))


def cosine_fall(share: float) -> float:
    """What a learning rate is multiplied by: half a cosine from 1 at the start of a training to 0 at its end (1)."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


def make_optimizer(network: nn.Module, name: str, rate: float) -> torch.optim.Optimizer:
    """ "adam"; or "muon" for the weights of convolutions and linear layers but the first and the last, which go by Adam
    as all else does. Groups: Muon's weights with all biases; those two layers' weights and tables of other kinds.
    """
    if name == "adam":
        return torch.optim.Adam(network.parameters(), rate, betas=(0.9, 0.99))
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Linear)) and m.weight.requires_grad]
    inside = {id(layer.weight) for layer in layers[1:-1]}
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    outer = [parameter for parameter in learned if parameter.dim() >= 2 and id(parameter) not in inside]
    apart = {id(parameter) for parameter in outer}
    inner = [parameter for parameter in learned if id(parameter) not in apart]
    return Muon([{"params": inner}, {"params": outer, "adam": True}], rate)
