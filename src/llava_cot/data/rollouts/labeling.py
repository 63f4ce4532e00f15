"""Which of two candidates is better, by rollouts (completions) or, about a scene, by the scene itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb, inf
from typing import Literal

from llava_cot.core.answer_matching import agrees
from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import LLAVA_COT, next_stage, parse
from llava_cot.core.trace import Usage
from llava_cot.data.record import Record
from llava_cot.models.base import Continuation, Model, Prompt, Sampling
from llava_cot.scenes.ground_truth import (
    AGREES,
    believed,
    caption_error,
    check_verdict,
    read_caption,
    which_answer,
    which_caption,
    which_reasoning,
)
from llava_cot.scenes.items import SceneItem, named_item
from llava_cot.scenes.teacher import reasoning
from llava_cot.search.judges.base import cost, shown

ANSWER = "answer"  # what judges call a whole answer
By = Literal["rollouts", "answer", "truth"]  # what a label is based on


@dataclass(frozen=True)
class Prefix:
    """The answer so far; `tokens` are its ids, None if they are not known."""

    text: str = ""
    tokens: tuple[int, ...] | None = ()

    def plus(self, more: Continuation) -> Prefix:
        """The answer with one more part."""
        unknown = self.tokens is None or (more.text and not more.tokens)
        return Prefix(self.text + more.text, None if unknown else (*(self.tokens or ()), *more.tokens))


@dataclass(frozen=True)
class RolloutValue:
    """The value of a candidate, by `total` answers that begin with it.

    `wrong` ones conclude with another answer than the standard one, or not at all; of those that are neither
    right nor wrong, words do not tell. `exact`: there is one answer, which is complete without a rollout.
    """

    right: int
    wrong: int
    total: int
    exact: bool = False

    @property
    def share(self) -> float:
        """The share of right answers."""
        return self.right / self.total


def is_right(text: str, question: Question) -> bool | None:
    """Whether an answer concludes with the reference; None if the words do not tell."""
    answer = parse(text).answer
    return False if answer is None else agrees(answer, question.reference or "", question.options)


class RolloutQuestion:
    """A question with a reference, and a model that answers it; `usage` grows with the calls."""

    def __init__(self, question: Question, model: Model, sampling: Sampling) -> None:
        self.question = question
        self.usage = Usage()
        self._model = model
        self._sampling = sampling

    async def sample(self, prefix: Prefix, n: int, stop: tuple[str, ...], seed: int) -> list[Continuation]:
        """Sample `n` continuations of an answer. Raises ModelError."""
        sampling = replace(self._sampling, stop=stop, seed=seed)
        images = self.question.images
        prompt = Prompt.of(question_text(self.question), images, prefix.text, prefix.tokens)
        found = await self._model.sample(prompt, n, sampling)
        for continuation in found:
            self.usage += cost(continuation)
        return found

    async def value(self, prefix: Prefix, rollouts: int, seed: int) -> RolloutValue:
        """The value of an answer so far, from so many completions. Raises ModelError."""
        ends = await self.sample(prefix, rollouts, (), seed)
        return self._value([prefix.text + end.text for end in ends])

    def exact(self, text: str) -> RolloutValue:
        """The value of a complete answer."""
        return replace(self._value([text]), exact=True)

    def _value(self, texts: list[str]) -> RolloutValue:
        right = [is_right(text, self.question) for text in texts]
        return RolloutValue(right.count(True), right.count(False), len(right))


@dataclass(frozen=True)
class RatedCandidate:
    """A candidate; the one with the highest score is continued. `value` is None if there were no rollouts."""

    continuation: Continuation
    score: float = 0.0
    value: RolloutValue | None = None

    @property
    def text(self) -> str:
        """The candidate's text."""
        return self.continuation.text


@dataclass(frozen=True)
class DuelLabel:
    """The better one of two candidates, 1 or 2; what that is based on; and the reason, if it is known."""

    choice: Literal[1, 2]
    by: By
    reason: str = ""


@dataclass(frozen=True)
class RolloutLabeler:
    """The better one has at least the share `sure` of right completions, and the other of wrong ones.

    `rate` rates the candidates of a stage, in their order. `label` says which of two is better, and `check`
    whether one for the reasoning is correct; both return None if that is not sure.
    """

    question: RolloutQuestion
    rollouts: int
    sure: float

    async def rate(
        self, stage: str, prefix: Prefix, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[RatedCandidate]:
        seeds = [rng.getrandbits(63) for _ in candidates]
        values = await asyncio.gather(
            *(self._value(stage, prefix, one, seed) for one, seed in zip(candidates, seeds, strict=True))
        )
        return [
            RatedCandidate(one, value.share, value) for one, value in zip(candidates, values, strict=True)
        ]

    async def _value(self, stage: str, prefix: Prefix, candidate: Continuation, seed: int) -> RolloutValue:
        longer, names = prefix.plus(candidate), LLAVA_COT.names
        if stage == ANSWER or next_stage(
            names.index(stage), candidate.text, candidate.finish, LLAVA_COT
        ) == len(names):
            return self.question.exact(longer.text)
        return await self.question.value(longer, self.rollouts, seed)

    def label(self, stage: str, prefix: Prefix, a: RatedCandidate, b: RatedCandidate) -> DuelLabel | None:
        if a.value is None or b.value is None:
            return None
        by: By = "answer" if a.value.exact and b.value.exact else "rollouts"
        if self._better(a.value, b.value):
            return DuelLabel(1, by)
        return DuelLabel(2, by) if self._better(b.value, a.value) else None

    def _better(self, one: RolloutValue, other: RolloutValue) -> bool:
        return one.right >= self.sure * one.total and other.wrong >= self.sure * other.total

    def check(self, prefix: Prefix, candidate: RatedCandidate) -> tuple[bool, str, By] | None:
        value = candidate.value
        if value is None or max(value.right, value.wrong) < value.total:
            return None
        return value.wrong == 0, "", "answer" if value.exact else "rollouts"


def by_chance(rated: Sequence[RatedCandidate], sure: float) -> float:
    """The expected number of labeled pairs if all the candidates had the same value.

    Their completions are drawn anew from all of them, without replacement. 0 if a value is exact. Answers
    whose words do not tell count as wrong.
    """
    values = [one.value for one in rated if one.value is not None]
    if len(values) < 2 or any(value.exact for value in values):
        return 0.0
    each, right, total = values[0].total, sum(v.right for v in values), sum(v.total for v in values)
    enough = [n for n in range(each + 1) if n >= sure * each]
    ways = sum(
        comb(each, good) * comb(each, bad) * comb(total - 2 * each, right - good - (each - bad))
        for good in enough
        for bad in enough
        if right - good - (each - bad) >= 0
    )
    return comb(len(values), 2) * 2 * ways / comb(total, right)


def scene_of(record: Record) -> SceneItem | None:
    """The scene that a record asks about; None if it asks about none, or not as this version does."""
    item, turn = named_item(record.id), record.turns[0]
    return item if item and item.has_question(turn.question, turn.options, turn.answer) else None


@dataclass(frozen=True)
class SceneLabeler:
    """Compares captions, reasonings and answers in the teacher's words with the scene; others by rollouts."""

    item: SceneItem
    by_rollouts: RolloutLabeler

    async def rate(
        self, stage: str, prefix: Prefix, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[RatedCandidate]:
        if stage in ("caption", "reasoning") and self._readable(stage, prefix, candidates):
            return [RatedCandidate(one, self._score(stage, prefix, one)) for one in candidates]
        return await self.by_rollouts.rate(stage, prefix, candidates, rng)  # without a call for whole answers

    def _score(self, stage: str, prefix: Prefix, candidate: Continuation) -> float:
        if stage == "reasoning":
            checked = self.check(prefix, RatedCandidate(candidate))
            return float(checked is not None and checked[0])
        error = caption_error(self.item.scene, _only_stage(stage, candidate.text))
        return -inf if error is None else -error

    def _readable(self, stage: str, prefix: Prefix, candidates: Sequence[Continuation]) -> bool:
        """Whether a caption that matters here is in the teacher's words."""
        captions: list[str | None] = []
        if stage == "caption":
            captions = [_only_stage(stage, one.text) for one in candidates]
        elif stage == "reasoning":
            captions = [parse(prefix.text).stages["caption"]]
        elif stage == ANSWER:
            captions = [parse(one.text).stages["caption"] for one in candidates]
        return any(read_caption(caption) for caption in captions)

    def label(self, stage: str, prefix: Prefix, a: RatedCandidate, b: RatedCandidate) -> DuelLabel | None:
        scene, question, before = self.item.scene, self.item.question, parse(prefix.text).stages
        texts = _only_stage(stage, a.text), _only_stage(stage, b.text)
        if stage == "conclusion" and before["reasoning"] == reasoning(scene, question):
            label = self.by_rollouts.label(stage, prefix, a, b)
            return label and replace(label, reason=AGREES)
        if not self._readable(stage, prefix, (a.continuation, b.continuation)):
            return self.by_rollouts.label(stage, prefix, a, b)
        if stage == "caption":
            verdict = which_caption(scene, *texts)
        elif stage == "reasoning":
            verdict = which_reasoning(scene, question, before["caption"], *texts)
        else:
            verdict = which_answer(scene, question, parse(a.text), parse(b.text))
        return verdict and DuelLabel(1 if verdict[0] == 1 else 2, "truth", verdict[1])

    def check(self, prefix: Prefix, candidate: RatedCandidate) -> tuple[bool, str, By] | None:
        seen = believed(self.item.scene, self.item.question, parse(prefix.text).stages["caption"])
        text = _only_stage("reasoning", candidate.text)
        if seen is None:
            return self.by_rollouts.check(prefix, candidate)
        return None if text is None else (*check_verdict(*seen, text), "truth")


def _only_stage(stage: str, text: str) -> str | None:
    """The stage's text, if that is all of the candidate that a judge sees."""
    inner = parse(text).stages.get(stage)
    return inner if inner == shown(text, stage, LLAVA_COT) else None
