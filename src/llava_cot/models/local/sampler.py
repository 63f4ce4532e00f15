"""Drawing tokens from logits, each row by its own settings.

Owns temperature, top-p and the rows' random numbers. Knows no text and no cache. SampledSequence i of a call
draws from (seed, i) alone, one uniform number a token, so what shares a batch changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# How many of the likeliest tokens are sorted; as long as they hold less than top-p, more are.
_SORTED = (8, 64, 1024)
_BLOCK = 64
# Below it, dividing by the temperature could overflow; the likeliest token is certain long before.
_COLDEST = 1e-4


class Uniforms:
    """The random numbers of one sample, in [0, 1)."""

    def __init__(self, seed: int, index: int) -> None:
        self._generator = np.random.default_rng([seed & (2**64 - 1), index])
        self._drawn: list[float] = []

    def at(self, start: int, count: int) -> list[float]:
        """The numbers of so many tokens from `start` on."""
        while len(self._drawn) < start + count:
            self._drawn += self._generator.random(_BLOCK).tolist()
        return self._drawn[start : start + count]


def draw(
    logits: Tensor,
    temperatures: Sequence[float],
    top_ps: Sequence[float],
    uniforms: Sequence[float],
    allowed: tuple[Sequence[int], Tensor] | None = None,
) -> tuple[list[int], list[float]]:
    """One token a row, and its log-probability at temperature 1.

    `logits` is [rows, vocabulary], float32. A row at temperature 0 takes its likeliest token. Otherwise
    the row's uniform number picks from the smallest set of likeliest tokens that holds `top_p`. The rows that
    `allowed` names draw from what it says alone, [named rows, vocabulary], at least one token each; their
    log-probabilities are of the network all the same.
    """
    logprobs = logits.log_softmax(-1)
    if allowed is not None:
        rows = torch.tensor(allowed[0], device=logits.device)
        logits = logits.index_copy(0, rows, logits[rows].masked_fill(~allowed[1], -torch.inf))
    if any(temperatures):
        tokens = _sample(logits, temperatures, top_ps, uniforms)
        if not all(temperatures):
            greedy = torch.tensor([t == 0 for t in temperatures], device=logits.device)
            tokens = torch.where(greedy, logits.argmax(-1), tokens)
    else:
        tokens = logits.argmax(-1)
    chosen = logprobs.gather(1, tokens[:, None])[:, 0]
    # One transfer from the device: float32 holds every token id below 2^24 exactly.
    ids, values = torch.stack((tokens.float(), chosen)).tolist()
    return [int(token) for token in ids], values


def _sample(
    logits: Tensor, temperatures: Sequence[float], top_ps: Sequence[float], uniforms: Sequence[float]
) -> Tensor:
    settings = [[max(t, _COLDEST) if t else 1.0 for t in temperatures], top_ps, uniforms]
    numbers = torch.tensor(settings, dtype=torch.float32, device=logits.device)[:, :, None]
    temperature, top_p, uniform = numbers
    scaled = (logits / temperature).log_softmax(-1)
    size = logits.shape[-1]
    for count in (*(few for few in _SORTED if 2 * few < size), size):
        best, tokens = scaled.topk(count) if count < size else scaled.sort(descending=True)
        mass = best.exp_().cumsum(-1)
        if count == size or bool((mass[:, -1:] >= top_p).all()):
            break
    # The set ends with the token that reaches top-p, or what there is of it: none after it has any chance.
    last = torch.searchsorted(mass, torch.minimum(top_p, mass[:, -1:]))
    picked = torch.searchsorted(mass, uniform * mass.gather(1, last), right=True)
    chosen: Tensor = tokens.gather(1, torch.minimum(picked, last))[:, 0]
    return chosen
