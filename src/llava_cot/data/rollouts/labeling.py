"""Which of two candidates is the better one, by what comes of them.

Owns what a labeller is, this one, and its noise. The one that knows a scene is in `labelling_scenes.py`.
Knows no prompt and no file.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb
from typing import Literal, Protocol

from llava_cot.core.answer_matching import agrees
from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, next_stage, parse
from llava_cot.core.trace import Usage
from llava_cot.models.base import Continuation, Model, Prompt, Sampling
from llava_cot.search.judges.base import cost

ANSWER = "answer"  # what judges call a whole answer

By = Literal["rollouts", "answer", "truth"]


@dataclass(frozen=True)
class RatedCandidate:
    """A candidate; of two, the one with the higher score is to be kept. `worth` is None if nobody asked."""

    continuation: Continuation
    score: float = 0.0
    worth: RolloutValue | None = None

    @property
    def text(self) -> str:
        return self.continuation.text


@dataclass(frozen=True)
class DuelLabel:
    """The better one of two, 1 or 2; why, where that is known; and by what."""

    choice: Literal[1, 2]
    by: By
    reason: str = ""


class DuelLabeler(Protocol):
    async def rate(
        self, stage: str, kept: Prefix, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[RatedCandidate]:
        """The candidates for a stage, as many, in order. Raises ModelError."""
        ...

    def label(self, stage: str, kept: Prefix, a: RatedCandidate, b: RatedCandidate) -> DuelLabel | None:
        """None where neither is surely better."""
        ...

    def check(self, kept: Prefix, candidate: RatedCandidate) -> tuple[bool, str, By] | None:
        """Whether a candidate at the reasoning stage is correct, and why; None if that is not sure."""
        ...


@dataclass(frozen=True)
class RolloutLabeler:
    """Of two the better one has at least the share `sure` of right completions, the other of wrong ones."""

    asked: RolloutQuestion
    rollouts: int
    sure: float

    async def rate(
        self, stage: str, kept: Prefix, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[RatedCandidate]:
        seeds = [rng.getrandbits(63) for _ in candidates]
        worths = await asyncio.gather(
            *(self._worth(stage, kept, one, seed) for one, seed in zip(candidates, seeds, strict=True))
        )
        return [
            RatedCandidate(one, worth.share, worth) for one, worth in zip(candidates, worths, strict=True)
        ]

    async def _worth(self, stage: str, kept: Prefix, candidate: Continuation, seed: int) -> RolloutValue:
        grown, names = kept.plus(candidate), LLAVA_COT.names
        if stage == ANSWER or next_stage(
            names.index(stage), candidate.text, candidate.finish, LLAVA_COT
        ) == len(names):
            return self.asked.exact(grown.text)
        return await self.asked.worth(grown, self.rollouts, seed)

    def label(self, stage: str, kept: Prefix, a: RatedCandidate, b: RatedCandidate) -> DuelLabel | None:
        if a.worth is None or b.worth is None:
            return None
        by: By = "answer" if a.worth.exact and b.worth.exact else "rollouts"
        if self._better(a.worth, b.worth):
            return DuelLabel(1, by)
        return DuelLabel(2, by) if self._better(b.worth, a.worth) else None

    def _better(self, one: RolloutValue, other: RolloutValue) -> bool:
        return one.right >= self.sure * one.total and other.wrong >= self.sure * other.total

    def check(self, kept: Prefix, candidate: RatedCandidate) -> tuple[bool, str, By] | None:
        worth = candidate.worth
        if worth is None or max(worth.right, worth.wrong) < worth.total:
            return None
        return worth.wrong == 0, "", "answer" if worth.exact else "rollouts"


def by_chance(rated: Sequence[RatedCandidate], sure: float) -> float:
    """How many pairs would be labeled, on average, if all the candidates were worth the same.

    Their completions are dealt out to them anew, which is to say drawn without replacement. 0 if a worth is
    exact. What cannot be told counts as wrong.
    """
    worths = [one.worth for one in rated if one.worth is not None]
    if len(worths) < 2 or any(worth.exact for worth in worths):
        return 0.0
    each, right, total = worths[0].total, sum(w.right for w in worths), sum(w.total for w in worths)
    sure_of = [n for n in range(each + 1) if n >= sure * each]
    ways = sum(
        comb(each, good) * comb(each, bad) * comb(total - 2 * each, right - good - (each - bad))
        for good in sure_of
        for bad in sure_of
        if right - good - (each - bad) >= 0
    )
    return comb(len(worths), 2) * 2 * ways / comb(total, right)


@dataclass(frozen=True)
class Prefix:
    """The answer so far; `tokens` are its ids, None where they are not known."""

    text: str = ""
    tokens: tuple[int, ...] | None = ()

    def plus(self, more: Continuation) -> Prefix:
        unknown = self.tokens is None or (more.text and not more.tokens)
        return Prefix(self.text + more.text, None if unknown else (*(self.tokens or ()), *more.tokens))


@dataclass(frozen=True)
class RolloutValue:
    """Of `total` answers `right` conclude with the standard answer, `wrong` with another one or not at all.

    Of the rest it cannot be told. `exact` is true of one answer that is complete as it stands.
    """

    right: int
    wrong: int
    total: int
    exact: bool = False

    @property
    def share(self) -> float:
        return self.right / self.total


class RolloutQuestion:
    """A question with a reference, asked of a model; `usage` grows with the calls."""

    def __init__(self, question: Question, model: Model, sampling: Sampling) -> None:
        self.question = question
        self.usage = Usage()
        self._model = model
        self._sampling = sampling

    async def sample(self, kept: Prefix, n: int, stop: tuple[str, ...], seed: int) -> list[Continuation]:
        """`n` ways to go on with what is kept. Raises ModelError."""
        settings = replace(self._sampling, stop=stop, seed=seed)
        images = self.question.images
        prompt = Prompt.of(question_text(self.question), images, kept.text, kept.tokens)
        found = await self._model.sample(prompt, n, settings)
        for continuation in found:
            self.usage += cost(continuation)
        return found

    async def worth(self, kept: Prefix, rollouts: int, seed: int) -> RolloutValue:
        """What comes of what is kept, in so many completions. Raises ModelError."""
        ends = await self.sample(kept, rollouts, (), seed)
        return self._worth([kept.text + end.text for end in ends])

    def exact(self, text: str) -> RolloutValue:
        """What a complete answer is worth."""
        return replace(self._worth([text]), exact=True)

    def _worth(self, texts: list[str]) -> RolloutValue:
        right = [self._is_right(text) for text in texts]
        return RolloutValue(right.count(True), right.count(False), len(right))

    def _is_right(self, text: str) -> bool | None:
        said = parse(text).answer
        return False if said is None else agrees(said, self.question.reference or "", self.question.options)
