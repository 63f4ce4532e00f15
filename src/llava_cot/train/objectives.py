"""The losses of log-ratios: log(model / reference) of whole answers, against which of them are right.

`Comparison` names a loss and its settings; the Trainer divides its sums by what a whole step has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from llava_cot.train.encode import IGNORE
from llava_cot.train.recipe import TrainRecipe


@dataclass(frozen=True)
class Comparison:
    """What is learned of answers with labels.

    Attributes:
        beta: The factor of the log-ratio.
        alone: Whether each answer has a loss by itself, the cross-entropy of its outcome with a free bias;
            otherwise each pair of a right and a wrong one has, the right one first.
        dpo: The weight of a pair's DPO loss.
        bco: The weight of a pair's BCO loss.
        sft: The weight of the right answers' cross-entropy, a mean over their tokens.
    """

    beta: float
    alone: bool = False
    dpo: float = 1.0
    bco: float = 0.0
    sft: float = 0.0

    def losses(self, ratios: Tensor, right: Tensor, bias: float) -> Tensor:
        """The loss of each answer, or of each pair, without its `sft` part."""
        if self.alone:
            return outcome_losses(ratios, right, self.beta, bias)
        good, bad = ratios[0::2], ratios[1::2]
        return self.dpo * dpo_losses(good, bad, self.beta) + self.bco * bco_losses(good, bad, self.beta)

    def sorted_rightly(self, ratios: Tensor, right: Tensor, bias: float) -> Tensor:
        """How many answers, or pairs, are sorted rightly."""
        if self.alone:
            return ((self.beta * ratios + bias > 0) == right).sum()
        return (ratios[0::2] > ratios[1::2]).sum()

    def bias_gradient(self, ratios: Tensor, right: Tensor, bias: float) -> Tensor:
        """The gradient of the losses' sum by the bias."""
        if self.alone:
            return (torch.sigmoid(self.beta * ratios.detach() + bias) - right.float()).sum()
        return ratios.new_zeros(())


def comparison_of(recipe: TrainRecipe) -> Comparison:
    """The comparison of a recipe whose objective compares answers."""
    if recipe.objective == "dpo":
        settings = recipe.dpo_settings
        return Comparison(
            settings.beta, dpo=settings.weights.dpo, bco=settings.weights.bco, sft=settings.weights.sft
        )
    return Comparison(recipe.implicit_settings.beta, alone=recipe.implicit_settings.loss == "ce")


def sequence_logprobs(logits: Tensor, labels: Tensor, keep: int) -> Tensor:
    """The log-probability of each row's labeled tokens, summed: [rows], in float32.

    Args:
        logits: [rows, at least `keep`, vocabulary]; its last position is that of `labels`. Only labeled
            positions are converted to float32.
        labels: [rows, length].
        keep: How many positions at the end hold all labels and the position before the first one.
    """
    targets = labels[:, labels.shape[1] - keep + 1 :]
    marked = targets != IGNORE
    chosen = logits[:, -keep:-1][marked].float()
    logprobs = -F.cross_entropy(chosen, targets[marked], reduction="none")
    rows = torch.arange(len(labels), device=labels.device)[:, None].expand_as(targets)[marked]
    return torch.zeros(len(labels), device=logits.device).index_add(0, rows, logprobs)


def outcome_losses(ratios: Tensor, right: Tensor, beta: float, bias: float) -> Tensor:
    """The cross-entropy of sigmoid(beta x ratio + bias) against being right, of each answer (2412.01981)."""
    return F.binary_cross_entropy_with_logits(beta * ratios + bias, right.float(), reduction="none")


def dpo_losses(right: Tensor, wrong: Tensor, beta: float) -> Tensor:
    """DPO's loss (2305.18290) of each pair, from the log-ratios of its right and its wrong answer."""
    return -F.logsigmoid(beta * (right - wrong))


def bco_losses(right: Tensor, wrong: Tensor, beta: float) -> Tensor:
    """The loss of sorting each answer of a pair by itself (BCO, 2404.04656), without a shift, as in TRL."""
    return -F.logsigmoid(beta * right) - F.logsigmoid(-beta * wrong)


def pairs_ordered(scores: Sequence[float], questions: Sequence[str], right: Sequence[bool]) -> float:
    """The share of pairs of a right and a wrong answer to one question in which the right one scores higher.

    A tie counts half. NaN if there is no such pair.
    """
    groups: dict[str, tuple[list[float], list[float]]] = {}
    for score, question, is_right in zip(scores, questions, right, strict=True):
        groups.setdefault(question, ([], []))[not is_right].append(score)
    ordered = total = 0.0
    for good, bad in groups.values():
        total += len(good) * len(bad)
        ordered += sum((a > b) + (a == b) / 2 for a in good for b in bad)
    return ordered / total if total else float("nan")
