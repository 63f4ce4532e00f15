"""Which of two candidates is the better one, by what comes of them.

Owns what a labeller is, this one, and its noise. The one that knows a scene is in `labelling_scenes.py`.
Knows no prompt and no file.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb
from typing import Literal, Protocol

from llava_cot.core.stages import LLAVA_COT, next_stage
from llava_cot.data.rollouts.rollouts import Asked, Kept, Worth
from llava_cot.models.base import Continuation

ANSWER = "answer"  # what judges call a whole answer

By = Literal["rollouts", "answer", "truth"]


@dataclass(frozen=True)
class Rated:
    """A candidate; of two, the one with the higher score is to be kept. `worth` is None if nobody asked."""

    continuation: Continuation
    score: float = 0.0
    worth: Worth | None = None

    @property
    def text(self) -> str:
        return self.continuation.text


@dataclass(frozen=True)
class Label:
    """The better one of two, 1 or 2; why, where that is known; and by what."""

    choice: Literal[1, 2]
    by: By
    reason: str = ""


class Labeller(Protocol):
    async def rate(
        self, stage: str, kept: Kept, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[Rated]:
        """The candidates for a stage, as many, in order. Raises ModelError."""
        ...

    def label(self, stage: str, kept: Kept, a: Rated, b: Rated) -> Label | None:
        """None where neither is surely better."""
        ...

    def check(self, kept: Kept, candidate: Rated) -> tuple[bool, str, By] | None:
        """Whether a candidate at the reasoning stage is correct, and why; None if that is not sure."""
        ...


@dataclass(frozen=True)
class ByWorth:
    """Of two the better one has at least the share `sure` of right completions, the other of wrong ones."""

    asked: Asked
    rollouts: int
    sure: float

    async def rate(
        self, stage: str, kept: Kept, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[Rated]:
        seeds = [rng.getrandbits(63) for _ in candidates]
        worths = await asyncio.gather(
            *(self._worth(stage, kept, one, seed) for one, seed in zip(candidates, seeds, strict=True))
        )
        return [Rated(one, worth.share, worth) for one, worth in zip(candidates, worths, strict=True)]

    async def _worth(self, stage: str, kept: Kept, candidate: Continuation, seed: int) -> Worth:
        grown, names = kept.plus(candidate), LLAVA_COT.names
        if stage == ANSWER or next_stage(
            names.index(stage), candidate.text, candidate.finish, LLAVA_COT
        ) == len(names):
            return self.asked.exact(grown.text)
        return await self.asked.worth(grown, self.rollouts, seed)

    def label(self, stage: str, kept: Kept, a: Rated, b: Rated) -> Label | None:
        if a.worth is None or b.worth is None:
            return None
        by: By = "answer" if a.worth.exact and b.worth.exact else "rollouts"
        if self._better(a.worth, b.worth):
            return Label(1, by)
        return Label(2, by) if self._better(b.worth, a.worth) else None

    def _better(self, one: Worth, other: Worth) -> bool:
        return one.right >= self.sure * one.total and other.wrong >= self.sure * other.total

    def check(self, kept: Kept, candidate: Rated) -> tuple[bool, str, By] | None:
        worth = candidate.worth
        if worth is None or max(worth.right, worth.wrong) < worth.total:
            return None
        return worth.wrong == 0, "", "answer" if worth.exact else "rollouts"


def by_chance(rated: Sequence[Rated], sure: float) -> float:
    """How many pairs would be labelled, on average, if all the candidates were worth the same.

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
