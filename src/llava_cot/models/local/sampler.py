"""Drawing tokens from logits, each row with its own sampling options and random numbers.

Sample i of a call draws from (seed, i) alone, one uniform number per token, so that what shares its batch
changes nothing. The options equal transformers' logits processors, in the order of its `generate`: repetition
penalty, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llava_cot.models.base import Sampling
from llava_cot.models.local.devices import send

# How many of the likeliest tokens are sorted at first; more where these do not settle what can be drawn.
_SORTED = (8, 64, 1024)
_BLOCK = 64
# Below it, dividing by the temperature could overflow; the likeliest token is certain long before.
_COLDEST = 1e-4
# A penalized logit is at most this, which no temperature makes infinite.
_LARGEST = torch.finfo(torch.float32).max * _COLDEST / 2

# Rows of the logits, and for each of these rows a Boolean per token: [rows named, vocabulary].
RowMasks = tuple[Sequence[int], Tensor]


class Uniforms:
    """The random numbers of one sample, in [0, 1)."""

    def __init__(self, seed: int, index: int) -> None:
        self._generator = np.random.default_rng([seed & (2**64 - 1), index])
        self._drawn: list[float] = []

    def at(self, start: int, count: int) -> list[float]:
        """The numbers of tokens `start` to `start + count - 1`."""
        while len(self._drawn) < start + count:
            self._drawn += self._generator.random(_BLOCK).tolist()
        return self._drawn[start : start + count]


class SeenTokens:
    """The tokens of one sample's prompt and of the sample so far, which the repetition penalty is for.

    Ids from `size` on, such as an image's in some models, cannot be drawn and are left out.
    """

    def __init__(self, ids: Sequence[int], size: int) -> None:
        self._mask = np.zeros(size, dtype=np.bool_)
        self._mask[[token for token in ids if token < size]] = True

    def masks(self, guess: Sequence[int] = ()) -> NDArray[np.bool_]:
        """What has been seen now, and after each token of a guess: [1 + len(guess), size]."""
        masks = np.tile(self._mask, (1 + len(guess), 1))
        for place, token in enumerate(guess, 1):
            masks[place:, token] = True
        return masks

    def take(self, token: int) -> None:
        self._mask[token] = True


def draw(
    logits: Tensor,
    options: Sequence[Sampling],
    uniforms: Sequence[float],
    allowed: RowMasks | None = None,
    seen: RowMasks | None = None,
) -> tuple[list[int], list[float]]:
    """Draw one token per row.

    Args:
        logits: [rows, vocabulary], float32.
        options: Each row's sampling options. At temperature 0 a row takes its likeliest token.
        uniforms: Each row's random number, which picks from the tokens that the options leave.
        allowed: What rows under a constraint may draw, at least one token each.
        seen: What rows with a repetition penalty have seen.

    Returns:
        The tokens, and their log-probabilities at temperature 1 without constraint and penalty; a row with a
        logit that is not a number has that for its log-probability, and any token.
    """
    logprobs = logits.log_softmax(-1)
    if allowed is not None:
        rows = send(allowed[0], logits.device)
        logits = logits.index_copy(0, rows, logits[rows].masked_fill(~allowed[1], -torch.inf))
    if seen is not None:
        logits = _penalized(logits, options, seen)
    rounds = _rounds(options, logits)
    for counts in rounds:
        tokens, settled = _choose(logits, options, uniforms, counts)
        chosen = logprobs.gather(1, tokens[:, None])[:, 0]
        # One transfer from the device: float32 holds every token id below 2^24 exactly.
        parts = [tokens.float(), chosen]
        if settled is not None and counts is not rounds[-1]:
            parts.append(settled.float())
        ids, values, *enough = torch.stack(parts).tolist()
        if not enough or all(enough[0]):
            break
    return [int(token) for token in ids], values


def _rounds(options: Sequence[Sampling], logits: Tensor) -> list[list[int]]:
    """How many of the likeliest tokens are sorted, in rounds that each end with a wait for the device.

    On a CPU, looking whether they settle what can be drawn costs nothing, and one round tries all numbers.
    """
    size = logits.shape[-1]
    counts = [few for few in _SORTED if 2 * few < size]
    if logits.device.type == "cpu":
        return [[*counts, size]]
    open_ended = any(one.top_p == 1 and not (one.top_k or one.min_p) for one in options if one.temperature)
    return [[size]] if open_ended or _SORTED[-1] not in counts else [[_SORTED[-1]], [size]]


def _choose(
    logits: Tensor, options: Sequence[Sampling], uniforms: Sequence[float], counts: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    """A token per row, and whether it would be the same with more tokens sorted; None if all would."""
    temperatures = [one.temperature for one in options]
    if not any(temperatures):
        return logits.argmax(-1), None
    tokens, settled = _sample(logits, options, uniforms, counts)
    if all(temperatures):
        return tokens, settled
    greedy = send([t == 0 for t in temperatures], logits.device)
    return torch.where(greedy, logits.argmax(-1), tokens), settled | greedy


def _penalized(logits: Tensor, options: Sequence[Sampling], seen: RowMasks) -> Tensor:
    rows = send(seen[0], logits.device)
    penalties = [options[row].repetition_penalty for row in seen[0]]
    penalty = send(penalties, logits.device, torch.float32)[:, None]
    some = logits[rows]
    changed = torch.where(some < 0, some * penalty, some / penalty).clamp(max=_LARGEST)
    return logits.index_copy(0, rows, torch.where(seen[1], changed, some))


def _sample(
    logits: Tensor, options: Sequence[Sampling], uniforms: Sequence[float], counts: Sequence[int]
) -> tuple[Tensor, Tensor]:
    size = logits.shape[-1]
    settings = [
        [max(one.temperature, _COLDEST) if one.temperature else 1.0 for one in options],
        [one.top_p for one in options],
        [one.min_p for one in options],
        [float(one.top_k if 0 < one.top_k < size else size) for one in options],
        uniforms,
    ]
    numbers = send(settings, logits.device, torch.float32)[:, :, None]
    temperature, top_p, min_p, top_k, uniform = numbers
    cut = any(one.top_k or one.min_p for one in options)
    scaled = (logits / temperature).log_softmax(-1)
    for count in counts:
        best, tokens = scaled.topk(count) if count < size else scaled.sort(descending=True)
        if cut:  # what top-k leaves: the k likeliest tokens, and those that are as likely as the last of them
            inside = best >= best.gather(1, top_k.clamp(max=count).long() - 1)
            closed = (top_k <= count) & ~inside[:, -1:]
        mass = best.exp_().cumsum(-1)
        reach, settled = top_p, mass[:, -1:] >= top_p
        if cut:
            whole = mass.gather(1, (inside.sum(-1, keepdim=True) - 1).clamp(min=0))
            likely = best >= min_p * best[:, :1]
            reach = torch.where(top_k < size, top_p * whole, top_p)
            settled = torch.where(top_k < size, closed | (best[:, -1:] == 0), settled | ~likely[:, -1:])
        if count == counts[-1] or bool(settled.all()):
            break
    # The set ends with the token that reaches top-p, or what there is of it: none after it has any chance.
    # A row of values that are no numbers gives any place, also one beyond the end.
    last = torch.searchsorted(mass, torch.minimum(reach, mass[:, -1:])).clamp(max=count - 1)
    if cut:
        last = torch.minimum(last, ((inside & likely).sum(-1, keepdim=True) - 1).clamp(min=0))
    picked = torch.searchsorted(mass, uniform * mass.gather(1, last), right=True)
    return tokens.gather(1, torch.minimum(picked, last))[:, 0], settled[:, 0]
