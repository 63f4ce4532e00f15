"""A Trainer of the log-ratio of whole answers, log(model / reference), with the reference computed once.

The reference is the model as it was before the run. Its log-probabilities are kept in the run's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor
from transformers import TrainerCallback

from llava_cot.data.store import Store
from llava_cot.errors import DataError
from llava_cot.train.encode import IGNORE, RowEncoder
from llava_cot.train.objectives import Comparison, pairs_ordered, sequence_logprobs
from llava_cot.train.row_scores import score_rows
from llava_cot.train.trainer import StagedTrainer
from llava_cot.train.training_rows import RowSet, TrainingPlan

_REFERENCE = "reference"  # a kind of values in the run's store: a text's log-probability by its row's digest
# The step of the bias along the gradient of its loss, whose second derivative is 1/4 at most.
_BIAS_RATE = 0.1
_NOTE_EVERY = 1000  # answers


class LogRatioTrainer(StagedTrainer):
    """Trains on pairs, and answers alone, by the log-ratios of their texts; see `objectives`.

    The loss is a mean over the pairs (or answers) of an optimizer step, whatever batches and devices they are
    on. The bias is no weight of the model: it takes one gradient step of its own after each step, and is only
    in the log.

    Args:
        plan: Its rows have labels. The batches of training number them from 0, those of evaluation go on.
        store: Keeps the reference's log-probabilities; None in all processes but the first.
        note: Called with the progress of computing these.
    """

    def __init__(
        self,
        *,
        comparison: Comparison,
        encoder: RowEncoder,
        plan: TrainingPlan,
        store: Store | None,
        note: Callable[[str], None],
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self._comparison, self._encoder, self._plan = comparison, encoder, plan
        self._store, self._note = store, note
        self._labels = [*plan.rows.labels, *plan.held.labels]
        self._right = torch.tensor([bool(label.right) for label in self._labels], device=self.args.device)
        self._reference = torch.zeros(0)
        self._bias = 0.0
        # The share of pairs of held-out questions that the reference's own log-probability orders rightly.
        self.likelihood_order: float | None = None
        # What the current step adds up: answers or pairs, those that are sorted rightly, the bias's gradient.
        self._sums = torch.zeros(3, device=self.args.device)
        self.add_callback(_Begin(self._begin))

    def _begin(self) -> None:
        """Find the reference's log-probabilities, and the bias of the step to be resumed."""
        logged = [line["bias"] for line in self.state.log_history if "bias" in line]
        self._bias = logged[-1] if logged else 0.0
        self._reference = torch.tensor(self._references(), device=self.args.device)
        if self._plan.held:
            self.likelihood_order = self._ordered(self._reference[len(self._plan.rows) :].tolist())
            self._note(
                f"the reference's own log-probability orders {self.likelihood_order:.1%} of the right-wrong "
                "pairs of held-out questions rightly"
            )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        numbers = inputs["numbers"]
        logprobs = self._logprobs(model, inputs)
        compare, state = (
            self._comparison,
            (logprobs - self._reference[numbers], self._right[numbers], self._bias),
        )
        losses = compare.losses(*state)
        with torch.no_grad():
            hits = compare.sorted_rightly(*state).float()
            self._sums += torch.stack((torch.ones_like(losses).sum(), hits, compare.bias_gradient(*state)))
        assert isinstance(num_items_in_batch, Tensor), "only steps of training compute a loss"
        loss = losses.sum() / num_items_in_batch[0]
        if compare.sft:
            loss = loss - compare.sft * logprobs[0::2].sum() / num_items_in_batch[1]
        return loss * self.accelerator.num_processes  # gradients are averaged over processes

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> Tensor:
        """What a step has over all processes: answers, or pairs, and tokens of the first of each pair."""
        rows = sum(len(batch["numbers"]) for batch in batch_samples)
        tokens = sum(int((batch["labels"][0::2] != IGNORE).sum()) for batch in batch_samples)
        counts = torch.tensor([rows if self._comparison.alone else rows // 2, tokens], device=device)
        total: Tensor = self.accelerator.reduce(counts, "sum")
        return total

    def _logprobs(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        """The log-probability of each answer of a batch."""
        inputs = {name: value for name, value in inputs.items() if name != "numbers"}
        outputs, labels, keep = self._outputs(model, inputs)
        return sequence_logprobs(outputs.logits, labels, keep)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the step's answers add up to, and move the bias."""
        if "loss" in logs:
            count, hits, gradient = self.accelerator.reduce(self._sums, "sum").tolist()
            self._sums.zero_()
            logs["accuracy"] = hits / count
            if self._comparison.alone:
                self._bias -= _BIAS_RATE * gradient / count
                logs["bias"] = self._bias
        super().log(logs, start_time)

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss on held-out questions, and how many of their pairs the log-ratio orders rightly."""
        plan, first = self._plan, len(self._plan.rows)
        found = self._all_logprobs(plan.held, first, range(len(plan.held)))
        logprobs, tokens = torch.tensor([found[i] for i in range(len(plan.held))]).T
        reference, right = self._reference[first:].cpu(), self._right[first:].cpu()
        ratios, chosen = logprobs - reference, torch.tensor([i for unit in plan.held_units for i in unit])
        state = ratios[chosen], right[chosen], self._bias
        losses = self._comparison.losses(*state)
        loss = float(losses.mean())
        if self._comparison.sft:
            better = chosen[0::2]
            loss -= self._comparison.sft * float(logprobs[better].sum() / tokens[better].sum())
        metrics = {
            "eval_loss": loss,
            "eval_accuracy": float(self._comparison.sorted_rightly(*state)) / len(losses),
            "eval_pairs_ordered": self._ordered(ratios.tolist()),
            "eval_pairs_ordered_with_likelihood": self._ordered(logprobs.tolist()),
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _ordered(self, scores: Sequence[float]) -> float:
        labels = self._plan.held.labels
        groups = [label.pair or label.question for label in labels]
        return pairs_ordered(scores, groups, [bool(label.right) for label in labels])

    def _references(self) -> list[float]:
        """The reference's log-probability of each row that the run needs; 0 for the others.

        What an interrupted run computed is used again.
        """
        plan, count = self._plan, len(self._plan.rows)
        needed = sorted({i for unit in set(plan.order) for i in plan.units[unit]})
        digests = [*plan.rows.digests, *plan.held.digests]
        saved: list[Any] = [dict(self._store.items(_REFERENCE)) if self._store else None]
        self._share(saved)
        known: dict[str, float] = saved[0]
        for rows, first, wanted in ((plan.rows, 0, needed), (plan.held, count, range(len(plan.held)))):
            missing = [i for i in wanted if digests[first + i] not in known]
            if not missing:
                continue
            if self.state.global_step:
                raise DataError(
                    "the reference's log-probabilities are gone from the run's folder; start another run"
                )
            with self._as_reference():
                found = self._all_logprobs(rows, first, missing, save=digests)
            known |= {digests[first + i]: value for i, (value, _) in found.items()}
        wanted_rows = {*needed, *range(count, count + len(plan.held))}
        return [known[digest] if i in wanted_rows else 0.0 for i, digest in enumerate(digests)]

    @contextmanager
    def _as_reference(self) -> Iterator[None]:
        """The model as it was before the run: without its adapter, if one is trained."""
        model: Any = self.model
        with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
            yield

    def _all_logprobs(
        self, rows: RowSet, first: int, wanted: Sequence[int], save: Sequence[str] = ()
    ) -> dict[int, tuple[float, float]]:
        """The log-probabilities and the number of learned tokens of rows.

        `save` are the digests by which the log-probabilities are saved as they come.
        """
        found: dict[int, tuple[float, float]] = {}
        noted, limit = 0, self._plan.max_tokens
        for new in score_rows(self, self._encoder, rows, wanted, limit, self._with_tokens, first):
            found |= {number: (logprob, tokens) for number, (logprob, tokens) in new.items()}
            if save and self._store is not None:
                self._store.put_all(_REFERENCE, ((save[first + n], value) for n, (value, _) in new.items()))
            if save and len(found) // _NOTE_EVERY > noted:
                noted = len(found) // _NOTE_EVERY
                self._note(f"computed the reference's log-probability of {len(found):,} answers")
        return found

    def _with_tokens(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        tokens = (inputs["labels"] != IGNORE).sum(1)
        return torch.stack((self._logprobs(model, inputs), tokens), 1)

    def _share(self, objects: list[Any]) -> None:
        """Give the first process's objects to all."""
        if self.args.world_size > 1:
            broadcast_object_list(objects)


class _Begin(TrainerCallback):
    """Calls a function when training begins or goes on, with the model in its place."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._call()
