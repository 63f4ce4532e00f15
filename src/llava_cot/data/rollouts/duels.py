"""Examples for a judge from one question: candidates of each stage, labeled, in the self-judge's prompts.

Owns the search that finds them, and what is kept of it. It goes stage by stage as `methods/stage_beam.py`
does, with what a candidate is worth in the place of a judge. How two are told apart is in `labeling.py`.
Knows no file.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, next_stage
from llava_cot.core.trace import Usage
from llava_cot.data.rollouts.labeling import (
    ANSWER,
    By,
    DuelLabeler,
    Prefix,
    RatedCandidate,
    RolloutLabeler,
    RolloutQuestion,
    by_chance,
)
from llava_cot.data.rollouts.scene_labeling import SceneLabeler
from llava_cot.errors import DataError
from llava_cot.models.base import Continuation, Model, Prompt, Sampling
from llava_cot.scenes.items import SceneItem
from llava_cot.search.judge_prompts import check_reply, choice_reply
from llava_cot.search.judges.base import shown
from llava_cot.search.judges.self_judge import check_prompt, duel_prompt
from llava_cot.search.search import close_cut

STAGES = (*LLAVA_COT.names, ANSWER)
Kind = Literal["duel", "check"]
_SAMPLING = Sampling(temperature=0.8, top_p=0.95)


@dataclass(frozen=True)
class DuelSettings:
    """What a set depends on, beside its questions and model.

    A search's candidates are sampled at 0.6 and 0.9; here it is a little wilder, so that where the model
    doubts, its candidates differ. The summary is left out unless asked for: an answer seldom fails or
    succeeds by it, so that many of its labels would be chance (docs/how-to/train-the-self-judge.md). Raises
    DataError.
    """

    candidates: int = 4
    rollouts: int = 4
    stages: tuple[str, ...] = STAGES[1:]
    sure: float = 0.75
    pairs: int = 2  # of one question and stage
    seed: int = 0
    sampling: Sampling = _SAMPLING

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage not in STAGES:
                raise DataError(f"there is no stage {stage!r}; name some of {', '.join(STAGES)}")
        if not self.stages:
            raise DataError(f"no stage is named; name some of {', '.join(STAGES)}")
        if self.candidates < 2 or self.rollouts < 1:
            raise DataError("a duel needs at least 2 candidates, and 1 rollout of each")
        if not 0.5 < self.sure <= 1:
            raise DataError(f"--sure is a share above 0.5 and up to 1, not {self.sure:g}")


@dataclass(frozen=True)
class JudgeExample:
    """A judge's prompt and the reply to learn. `worths` are the shares of right completions of the responses,
    in their order; None of one that was judged by the truth alone."""

    kind: Kind
    stage: str
    prompt: str
    reply: str
    picture: bool
    by: By
    worths: tuple[float | None, ...]


@dataclass
class StageTally:
    """What one stage gave: different candidates, pairs of them, how many were labeled, and how many would
    be by chance."""

    candidates: int = 0
    pairs: int = 0
    labelled: int = 0
    by_chance: float = 0.0


@dataclass
class DuelsFound:
    """What came of one question."""

    examples: list[JudgeExample] = field(default_factory=list)
    tallies: dict[str, StageTally] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


async def examples_of(
    question: Question, item: SceneItem | None, model: Model, settings: DuelSettings, rng: random.Random
) -> DuelsFound:
    """Sample, label and go on with the better ones, down to the last stage that is asked for.

    `question` has its reference, `item` is the scene that it asks about, if it is one. Raises ModelError.
    """
    asked = RolloutQuestion(question, model, settings.sampling)
    worth = RolloutLabeler(asked, settings.rollouts, settings.sure)
    labeller = worth if item is None else SceneLabeler(item, worth)
    search = _Search(asked, labeller, settings, rng, DuelsFound())
    if ANSWER in settings.stages:
        await search.round(ANSWER, Prefix())
    last = max((LLAVA_COT.names.index(stage) for stage in settings.stages if stage != ANSWER), default=-1)
    at, kept = 0, Prefix()
    while at <= last:
        rated = await search.round(LLAVA_COT.names[at], kept)
        best = max(one.score for one in rated)
        chosen = rng.choice([one for one in rated if one.score == best]).continuation
        kept = kept.plus(chosen)
        at = next_stage(at, chosen.text, chosen.finish, LLAVA_COT)
    search.found.usage = asked.usage
    return search.found


@dataclass(frozen=True)
class _Search:
    """The search of one question; every draw comes from `rng`, `found` grows."""

    asked: RolloutQuestion
    labeller: DuelLabeler
    settings: DuelSettings
    rng: random.Random
    found: DuelsFound

    async def round(self, stage: str, kept: Prefix) -> list[RatedCandidate]:
        """Sample and rate the candidates for a stage, each text once, and add the examples that come of them.

        A stage that is not asked for has one candidate, and gives none.
        """
        wanted = stage in self.settings.stages
        different = await self._sample(stage, kept, self.settings.candidates if wanted else 1)
        if not wanted:
            return [RatedCandidate(one) for one in different]
        if len(different) > 1:
            rated = await self.labeller.rate(stage, kept, different, self.rng)
        else:  # nothing to choose from: a search asks no judge, and nothing is spent on it here
            rated = [RatedCandidate(one) for one in different]
        tally = self.found.tallies[stage] = StageTally(
            len(rated), by_chance=by_chance(rated, self.settings.sure)
        )
        self.found.examples += self._duels(stage, kept, rated, tally)
        if stage == "reasoning" and len(rated) > 1:
            self.found.examples += self._checks(kept, rated)
        return rated

    async def _sample(self, stage: str, kept: Prefix, n: int) -> list[Continuation]:
        """Candidates that a judge would tell apart."""
        seed = self.rng.getrandbits(63)
        stop = () if stage == ANSWER else LLAVA_COT.closing_tags[LLAVA_COT.names.index(stage) :]
        sampled = await self.asked.sample(kept, n, stop, seed)
        if stage != ANSWER:
            sampled = [close_cut(one, stage, LLAVA_COT) for one in sampled]
        different: dict[str, Continuation] = {}
        for one in sampled:
            different.setdefault(shown(one.text, stage, LLAVA_COT), one)
        return list(different.values())

    def _duels(
        self, stage: str, kept: Prefix, rated: list[RatedCandidate], tally: StageTally
    ) -> list[JudgeExample]:
        """Some of the pairs that can be labeled, each in an order that is drawn."""
        made: list[JudgeExample] = []
        pairs = list(combinations(rated, 2))
        self.rng.shuffle(pairs)
        for pair in pairs:
            a, b = pair if self.rng.random() < 0.5 else pair[::-1]
            label = self.labeller.label(stage, kept, a, b)
            tally.pairs += 1
            tally.labelled += label is not None
            if label is not None and len(made) < self.settings.pairs:
                prompt = duel_prompt(self.asked.question, stage, kept.text, a.text, b.text, LLAVA_COT)
                reply = choice_reply(label.choice, label.reason)
                made.append(_example("duel", stage, prompt, reply, label.by, (a, b)))
        return made

    def _checks(self, kept: Prefix, rated: list[RatedCandidate]) -> list[JudgeExample]:
        """A correct reasoning and an incorrect one, as far as there are any."""
        made: dict[bool, JudgeExample] = {}
        for one in self.rng.sample(rated, len(rated)):
            verdict = self.labeller.check(kept, one)
            if verdict is not None and verdict[0] not in made:
                correct, reason, by = verdict
                prompt = check_prompt(self.asked.question, kept.text, one.text, LLAVA_COT)
                reply = check_reply(correct, reason)
                made[correct] = _example("check", "reasoning", prompt, reply, by, (one,))
        return list(made.values())


def _example(
    kind: Kind, stage: str, prompt: Prompt, reply: str, by: By, sides: tuple[RatedCandidate, ...]
) -> JudgeExample:
    [message] = prompt.messages
    worths = tuple(None if side.worth is None else side.worth.share for side in sides)
    return JudgeExample(kind, stage, message.text, reply, bool(message.images), by, worths)
