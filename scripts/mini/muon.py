"""Muon (Jordan et al., 2024): momentum, made orthogonal by Newton-Schulz, for matrices of hidden layers.

torch's own works in bfloat16, which has no fast products on most CPUs; this one works in float32 and on all
matrices of a shape at once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic of the author's implementation


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly, of [K, rows, columns]."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x if wide else x.transpose(1, 2)


class Muon(torch.optim.Optimizer):
    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.2
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        by_shape: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
        for parameter in self.param_groups[0]["params"]:
            if parameter.grad is not None:
                by_shape[tuple(parameter.shape)].append(parameter)
        lr, momentum = self.param_groups[0]["lr"], self.param_groups[0]["momentum"]
        kept = 1 - lr * self.param_groups[0]["decay"]
        for (rows, columns), parameters in by_shape.items():
            gradients = []
            for parameter in parameters:
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - momentum)
                gradients.append(parameter.grad.lerp(buffer, momentum))
            updates = orthogonal(torch.stack(gradients)) * (lr * max(1.0, rows / columns) ** 0.5)
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(kept).sub_(update)
