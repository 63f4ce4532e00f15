"""Which of two candidates is the better one: by what comes of them, or by the truth about a scene.

Owns the two ways to label and the noise of the first. Knows no prompt and no file.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import comb, inf
from typing import Literal, Protocol

from llava_cot.data.records import Record
from llava_cot.data.rollouts import Asked, Kept, Worth
from llava_cot.judges.base import shown
from llava_cot.methods.stage_beam import next_stage
from llava_cot.models.base import Continuation
from llava_cot.scenes.judging import (
    AGREES,
    believed,
    caption_error,
    check_verdict,
    read_caption,
    which_answer,
    which_caption,
    which_reasoning,
)
from llava_cot.scenes.teacher import reasoning
from llava_cot.scenes.write import Item, named_item
from llava_cot.stages import LLAVA_COT, parse

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


def scene_of(record: Record) -> Item | None:
    """The scene that a record asks about; None if it is no scene's, or not this version's question."""
    item, turn = named_item(record.id), record.turns[0]
    if item is None:
        return None
    same = (item.question.text, item.question.options, item.answer)
    return item if (turn.question, turn.options, turn.answer) == same else None


@dataclass(frozen=True)
class ByTruth:
    """Captions, reasonings and answers in the teacher's manner are compared with the scene, with a reason."""

    item: Item
    worth: ByWorth

    async def rate(
        self, stage: str, kept: Kept, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[Rated]:
        if not self._knows(stage, kept, candidates):
            return await self.worth.rate(stage, kept, candidates, rng)
        if stage == "caption":
            errors = [caption_error(self.item.scene, _alone(stage, one.text)) for one in candidates]
            return [
                Rated(one, -inf if error is None else -error)
                for one, error in zip(candidates, errors, strict=True)
            ]
        if stage == "reasoning":
            checks = [self.check(kept, Rated(one)) for one in candidates]
            return [
                Rated(one, float(check is not None and check[0]))
                for one, check in zip(candidates, checks, strict=True)
            ]
        return await self.worth.rate(stage, kept, candidates, rng)  # exact: nothing is asked

    def _knows(self, stage: str, kept: Kept, candidates: Sequence[Continuation]) -> bool:
        captions: list[str | None] = []
        if stage == "caption":
            captions = [_alone(stage, one.text) for one in candidates]
        elif stage == "reasoning":
            captions = [parse(kept.text).stages["caption"]]
        elif stage == ANSWER:
            captions = [parse(one.text).stages["caption"] for one in candidates]
        return any(read_caption(caption) for caption in captions)

    def label(self, stage: str, kept: Kept, a: Rated, b: Rated) -> Label | None:
        scene, question, before = self.item.scene, self.item.question, parse(kept.text).stages
        alone = _alone(stage, a.text), _alone(stage, b.text)
        if stage == "conclusion" and before["reasoning"] == reasoning(scene, question):
            label = self.worth.label(stage, kept, a, b)
            return label and replace(label, reason=AGREES)
        if not self._knows(stage, kept, (a.continuation, b.continuation)):
            return self.worth.label(stage, kept, a, b)
        if stage == "caption":
            verdict = which_caption(scene, *alone)
        elif stage == "reasoning":
            verdict = which_reasoning(scene, question, before["caption"], *alone)
        else:
            verdict = which_answer(scene, question, parse(a.text), parse(b.text))
        return verdict and Label(1 if verdict[0] == 1 else 2, "truth", verdict[1])

    def check(self, kept: Kept, candidate: Rated) -> tuple[bool, str, By] | None:
        asked = believed(self.item.scene, self.item.question, parse(kept.text).stages["caption"])
        said = _alone("reasoning", candidate.text)
        if asked is None:
            return self.worth.check(kept, candidate)
        return None if said is None else (*check_verdict(*asked, said), "truth")


def _alone(stage: str, text: str) -> str | None:
    """The stage's text, if a judge is shown nothing else of the candidate."""
    inner = parse(text).stages.get(stage)
    return inner if inner == shown(text, stage, LLAVA_COT) else None
