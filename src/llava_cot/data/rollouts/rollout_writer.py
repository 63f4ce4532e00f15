"""From the results in a store to the lines of `rollouts.jsonl`, and what there is to say about them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT
from llava_cot.data.annotation.output import place_in_set
from llava_cot.data.record import Record, pictures_until, record_key
from llava_cot.data.rollouts.duel_set import checkable
from llava_cot.data.rollouts.labeling import is_right
from llava_cot.data.rollouts.rollout_card import COSTS, RolloutSummary
from llava_cot.data.rollouts.rollout_file import QuestionRollouts, Rollout
from llava_cot.data.rollouts.rollouts import prefixes_of
from llava_cot.data.store import Store, unique_records

SAMPLES = "samples"  # the store's kind for the answers to a question


def first_question(record: Record) -> Question:
    """The record's first question, without its pictures."""
    turn = record.turns[0]
    return Question(turn.question, (), record.id, turn.options, turn.answer)


@dataclass
class RolloutWriter:
    """Makes the lines of the file from the records and the store alone; `summary` grows."""

    folder: Path
    store: Store
    values: str | None  # the store's kind for the values of stages
    agree_within: float
    balanced: bool
    summary: RolloutSummary = field(default_factory=RolloutSummary)

    def questions(self, records: Iterable[Record], limit: int | None) -> Iterator[QuestionRollouts]:
        last = self.values or SAMPLES
        for record, first in unique_records(checkable(records, limit, self.summary.left_out), self.store):
            if not first:
                self.summary.left_out["the id of an earlier one"] += 1
                continue
            key = record_key(record)
            if self.store.get(key, last) is None:
                self.summary.pending += 1
                continue
            with self.store.reading():
                question = self._rollouts(key, record)
            self.summary.add(question, record.source, record.license)
            written = balance(question) if self.balanced else question
            if written is None:
                self.summary.unbalanced += 1
            else:
                self.summary.written += len(written.samples)
                yield written

    def _rollouts(self, key: str, record: Record) -> QuestionRollouts:
        question, answers = first_question(record), self.store.get(key, SAMPLES)["answers"]
        found = None if self.values is None else self.store.get(key, self.values)
        samples = []
        for number, answer in enumerate(answers):
            right = is_right(answer["text"], question)
            if right is None:
                self.summary.undecided += answer["times"]
                continue
            values = None
            if found is not None:
                values = dict.fromkeys(
                    (name for name, rest in prefixes_of(answer["text"]).items() if rest is None), float(right)
                )
                counts = {stage: of for at, stage, of in found["counts"] if at == number}
                values = in_order(self._values(counts) | values)
            samples.append(
                Rollout(
                    answer["text"], right, times=answer["times"], logprob=answer["logprob"], values=values
                )
            )
        pictures = record.pictures[: pictures_until(record, 0)]
        return QuestionRollouts(
            record.id, question.text, question.reference or "", tuple(samples),
            images=tuple(place_in_set(picture, self.folder).name for picture in pictures),
            options=question.options, extra=dict(record.extra),
        )  # fmt: skip

    def _values(self, counts: dict[str, list[list[int]]]) -> dict[str, float]:
        """The value of each stage; none where words do not tell, or two models differ too much."""
        values = {}
        for stage, of_models in counts.items():
            shares = [right / (right + wrong) for right, wrong in of_models if right + wrong]
            if len(shares) < len(of_models):
                self.summary.unlabeled["the words of completions do not tell"] += 1
            elif max(shares) - min(shares) > self.agree_within:
                self.summary.unlabeled["the two models differ"] += 1
            else:
                values[stage] = sum(right for right, _ in of_models) / sum(map(sum, of_models))
        return values

    def add_costs(self) -> None:
        """Add up what all runs cost."""
        kinds = [SAMPLES] if self.values is None else [SAMPLES, self.values]
        for name in COSTS:
            self.summary.cost[name] = int(sum(self.store.total(kind, name) for kind in kinds))
        self.summary.usd = sum(self.store.total(kind, "usd") for kind in kinds) or None


def in_order(values: dict[str, float]) -> dict[str, float]:
    """The values in the order of the stages."""
    return {stage: values[stage] for stage in LLAVA_COT.names if stage in values}


def balance(question: QuestionRollouts) -> QuestionRollouts | None:
    """The question with as many distinct right answers as wrong ones, chosen at random by its id.

    None for one whose answers are all right or all wrong.
    """
    rng = random.Random(question.id)
    sides = [[at for at, one in enumerate(question.samples) if one.right is right] for right in (True, False)]
    each = min(map(len, sides))
    if not each:
        return None
    chosen = sorted(at for side in sides for at in rng.sample(side, each))
    return replace(question, samples=tuple(question.samples[at] for at in chosen))
