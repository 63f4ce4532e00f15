"""A Trainer of a scalar head that scores the steps of answers, by their values and by their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from llava_cot.models.local.reward_head import step_scores
from llava_cot.train.encode import RowEncoder
from llava_cot.train.labeled_rows import RowLabel
from llava_cot.train.objectives import pairs_ordered
from llava_cot.train.row_scores import score_rows
from llava_cot.train.trainer import StagedTrainer
from llava_cot.train.training_rows import TrainingPlan

_NO_INPUTS = ("labels", "logits_to_keep", "numbers", "steps", "values")


def comparisons(rows: Sequence[int], values: Sequence[float], pairs: Sequence[int]) -> list[tuple[int, int]]:
    """The numbers of steps to compare: of the same place in two answers, the better one first.

    Args:
        rows: The row of each step, in order.
        values: Their values; equal ones are not compared.
        pairs: The first row of each pair of answers to one question; the other one is the next.
    """
    steps: dict[int, list[int]] = {}
    for number, row in enumerate(rows):
        steps.setdefault(row, []).append(number)
    found = []
    for row in pairs:
        for a, b in zip(steps.get(row, ()), steps.get(row + 1, ()), strict=False):
            if values[a] != values[b]:
                found.append((a, b) if values[a] > values[b] else (b, a))
    return found


class RewardTrainer(StagedTrainer):
    """Trains a model with a `reward_head`.

    The loss is the cross-entropy of each step's score against its value, and `rank` times the rank loss of
    steps of pairs. Both are means over an optimizer step, whatever its batches.
    """

    def __init__(self, *, rank: float, encoder: RowEncoder, plan: TrainingPlan, **settings: Any) -> None:
        super().__init__(**settings)
        self._rank, self._encoder, self._plan = rank, encoder, plan
        self._labels = [*plan.rows.labels, *plan.held.labels]

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        assert isinstance(num_items_in_batch, Tensor), "only steps of training compute a loss"
        scores, values = self._scores(model, inputs), inputs["values"]
        loss = F.binary_cross_entropy_with_logits(scores, values, reduction="sum") / num_items_in_batch[0]
        if compared := self._compared(inputs):
            better, worse = torch.tensor(compared, device=scores.device).T
            order = -F.logsigmoid(scores[better] - scores[worse]).sum()
            loss = loss + self._rank * order / num_items_in_batch[1]
        return loss * self.accelerator.num_processes  # gradients are averaged over processes

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """The steps, and the comparisons of steps, of an optimizer step over all processes."""
        counts = [
            sum(len(batch["values"]) for batch in batch_samples),
            sum(len(self._compared(batch)) for batch in batch_samples),
        ]
        total: Tensor = self.accelerator.reduce(torch.tensor(counts, device=device), "sum")
        return total

    def _compared(self, batch: dict[str, Any]) -> list[tuple[int, int]]:
        labels = [self._labels[number] for number in batch["numbers"].tolist()]
        pairs = [i for i in range(len(labels) - 1) if _is_pair(labels[i], labels[i + 1])]
        return comparisons(batch["steps"][:, 0].tolist(), batch["values"].tolist(), pairs)

    def _scores(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        head = self.accelerator.unwrap_model(model).reward_head
        plain = {name: value for name, value in inputs.items() if name not in _NO_INPUTS}
        return step_scores(model, head, plain, inputs["steps"], self._takes_keep)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """How the scores of whole answers to held-out questions sort and order them."""
        held, found = self._plan.held, dict[int, list[float]]()

        def last(model: Any, inputs: dict[str, Any]) -> Tensor:
            scores, rows = self._scores(model, inputs), inputs["steps"][:, 0]
            ends = [int((rows == row).nonzero()[-1]) for row in range(len(inputs["numbers"]))]
            return scores[ends][:, None]

        everything, limit = range(len(held)), self._plan.max_tokens
        for new in score_rows(self, self._encoder, held, everything, limit, last, len(self._plan.rows)):
            found |= new
        scores = torch.tensor([found[i][0] for i in everything])
        right = torch.tensor([bool(label.right) for label in held.labels])
        questions = [label.question for label in held.labels]
        metrics = {
            "eval_loss": float(F.binary_cross_entropy_with_logits(scores, right.float())),
            "eval_accuracy": float(((scores > 0) == right).float().mean()),
            "eval_pairs_ordered": pairs_ordered(scores.tolist(), questions, right.tolist()),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def _is_pair(first: RowLabel, second: RowLabel) -> bool:
    """Whether two neighbors are a pair; only in a pair does a wrong answer follow a right one."""
    return first.question == second.question and bool(first.right) and not second.right
