"""The losses of log-ratios: log(model / reference) of whole answers, against which of them are right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from llava_cot.train.encode import IGNORE


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
