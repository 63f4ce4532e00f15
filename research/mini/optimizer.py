"""Muon (Jordan et al., 2024) for the matrices of the layers, AdamW for all else, as one optimizer.

Muon: momentum, made orthogonal by Newton-Schulz. torch's own works in bfloat16, which has no fast products on
most CPUs; this one works in float32 and on all matrices of a shape at once.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_A, _B, _C = 3.4445, -4.7750, 2.0315  # the quintic of the author's implementation
_MOMENTUM, _DECAY = 0.95, 0.2
_OTHERS = ("embed", "lm_head", "embedding", "patch", "vision_heads.", "question_heads.", "option_head.")


def make_optimizer(model: nn.Module, muon: float, rate: float) -> torch.optim.Optimizer:
    """Peak rates: `muon` of the matrices, `rate` of embeddings, norms, gates and heads."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and not any(part in name for part in _OTHERS)
        (matrices if inner else rest).append(parameter)
    return MuonAdamW(
        [{"params": matrices, "lr": muon, "muon": True}, {"params": rest, "lr": rate, "muon": False}],
        betas=(0.9, 0.98),
        weight_decay=0.0,
    )


def orthogonal(matrices: Tensor) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly, of [K, rows, columns]."""
    wide = matrices.shape[1] <= matrices.shape[2]
    x: Tensor = matrices if wide else matrices.transpose(1, 2)
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = _A * x + (_B * square + _C * square @ square) @ x
    return x if wide else x.transpose(1, 2)


class MuonAdamW(torch.optim.AdamW):
    """AdamW, with groups of matrices that have `muon` set stepped by Muon."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        groups = self.param_groups
        try:
            self.param_groups = [group for group in groups if not group["muon"]]
            super().step()
        finally:
            self.param_groups = groups
        for group in groups:
            if group["muon"]:
                self._step_matrices(group)

    def _step_matrices(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            if parameter.grad is not None:
                by_shape[parameter.shape].append(parameter)
        for (rows, columns), parameters in by_shape.items():
            gradients = []
            for parameter in parameters:
                assert parameter.grad is not None
                state = self.state[parameter]
                if not state:  # AdamW looks for a step when a state is loaded
                    state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(parameter)}
                momentum = state["momentum"]
                momentum.lerp_(parameter.grad, 1 - _MOMENTUM)
                gradients.append(parameter.grad.lerp(momentum, _MOMENTUM))
            scale = group["lr"] * max(1.0, rows / columns) ** 0.5
            updates = orthogonal(torch.stack(gradients)) * scale
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - group["lr"] * _DECAY).sub_(update)
