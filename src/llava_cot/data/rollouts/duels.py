"""Examples for a judge from one question: candidates of each stage, labeled, in the self-judge's prompts."""

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
    Prefix,
    RatedCandidate,
    RolloutLabeler,
    RolloutQuestion,
    SceneLabeler,
    by_chance,
)
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
    """What a set depends on, besides its questions and model. Raises DataError for impossible settings.

    The summary is not among the stages by default: an answer seldom succeeds or fails by it, so many of its
    labels would be chance (docs/how-to/train-the-self-judge.md). The sampling is wider than a search's (0.6
    and 0.9), so that candidates differ where the model is unsure.
    """

    candidates: int = 4  # of each stage
    rollouts: int = 4  # completions of each candidate
    stages: tuple[str, ...] = STAGES[1:]  # those that give examples
    sure: float = 0.75  # the share of right, or wrong, rollouts that a label needs
    pairs: int = 2  # the most of one question and stage
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
    """A judge's prompt, and the reply to learn; `picture` says whether it sees the question's pictures."""

    kind: Kind
    stage: str
    prompt: str
    reply: str
    picture: bool
    by: By
    worths: tuple[float | None, ...]  # shares of right completions; None without rollouts


@dataclass
class StageTally:
    """One stage of a question: different candidates, pairs, labeled pairs, and those expected by chance."""

    candidates: int = 0
    pairs: int = 0
    labeled: int = 0
    by_chance: float = 0.0


@dataclass
class DuelsFound:
    """What one question gave."""

    examples: list[JudgeExample] = field(default_factory=list)
    tallies: dict[str, StageTally] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)


async def examples_of(
    question: Question, item: SceneItem | None, model: Model, settings: DuelSettings, rng: random.Random
) -> DuelsFound:
    """Sample and label candidates, and continue the best ones, down to the last of the settings' stages.

    The question has its reference, and `item` is the scene that it asks about, if it asks about one. All
    random choices come from `rng`. Raises ModelError if a call fails.
    """
    rollouts = RolloutQuestion(question, model, settings.sampling)
    by_rollouts = RolloutLabeler(rollouts, settings.rollouts, settings.sure)
    labeler = SceneLabeler(item, by_rollouts) if item else by_rollouts
    search = _DuelSearch(rollouts, labeler, settings, rng, DuelsFound())
    if ANSWER in settings.stages:
        await search.round(ANSWER, Prefix())
    last = max((LLAVA_COT.names.index(stage) for stage in settings.stages if stage != ANSWER), default=-1)
    at, prefix = 0, Prefix()
    while at <= last:
        rated = await search.round(LLAVA_COT.names[at], prefix)
        best = max(one.score for one in rated)
        chosen = rng.choice([one for one in rated if one.score == best]).continuation
        prefix = prefix.plus(chosen)
        at = next_stage(at, chosen.text, chosen.finish, LLAVA_COT)
    search.found.usage = rollouts.usage
    return search.found


@dataclass(frozen=True)
class _DuelSearch:
    """A search like `stage-beam`, with a candidate's value in place of a judge; `found` grows."""

    rollouts: RolloutQuestion
    labeler: RolloutLabeler | SceneLabeler
    settings: DuelSettings
    rng: random.Random
    found: DuelsFound

    async def round(self, stage: str, prefix: Prefix) -> list[RatedCandidate]:
        """Sample and rate different candidates for a stage, and add the examples that they give.

        A stage that is not in the settings has one candidate, and gives none.
        """
        chosen = stage in self.settings.stages
        different = await self._sample(stage, prefix, self.settings.candidates if chosen else 1)
        if not chosen:
            return [RatedCandidate(one) for one in different]
        if len(different) > 1:
            rated = await self.labeler.rate(stage, prefix, different, self.rng)
        else:  # nothing to choose from, so no rollouts
            rated = [RatedCandidate(one) for one in different]
        tally = self.found.tallies[stage] = StageTally(
            len(rated), by_chance=by_chance(rated, self.settings.sure)
        )
        self.found.examples += self._duels(stage, prefix, rated, tally)
        if stage == "reasoning" and len(rated) > 1:
            self.found.examples += self._checks(prefix, rated)
        return rated

    async def _sample(self, stage: str, prefix: Prefix, n: int) -> list[Continuation]:
        seed = self.rng.getrandbits(63)
        stop = () if stage == ANSWER else LLAVA_COT.closing_tags[LLAVA_COT.names.index(stage) :]
        sampled = await self.rollouts.sample(prefix, n, stop, seed)
        if stage != ANSWER:
            sampled = [close_cut(one, stage, LLAVA_COT) for one in sampled]
        different: dict[str, Continuation] = {}
        for one in sampled:
            different.setdefault(shown(one.text, stage, LLAVA_COT), one)
        return list(different.values())

    def _duels(
        self, stage: str, prefix: Prefix, rated: list[RatedCandidate], tally: StageTally
    ) -> list[JudgeExample]:
        """Some of the pairs that can be labeled, each in a random order."""
        examples: list[JudgeExample] = []
        pairs = list(combinations(rated, 2))
        self.rng.shuffle(pairs)
        for pair in pairs:
            a, b = pair if self.rng.random() < 0.5 else pair[::-1]
            label = self.labeler.label(stage, prefix, a, b)
            tally.pairs += 1
            tally.labeled += label is not None
            if label is not None and len(examples) < self.settings.pairs:
                prompt = duel_prompt(self.rollouts.question, stage, prefix.text, a.text, b.text, LLAVA_COT)
                reply = choice_reply(label.choice, label.reason)
                examples.append(_example("duel", stage, prompt, reply, label.by, (a, b)))
        return examples

    def _checks(self, prefix: Prefix, rated: list[RatedCandidate]) -> list[JudgeExample]:
        """A correct reasoning and an incorrect one, if there are any."""
        examples: dict[bool, JudgeExample] = {}
        for one in self.rng.sample(rated, len(rated)):
            checked = self.labeler.check(prefix, one)
            if checked is not None and checked[0] not in examples:
                correct, reason, by = checked
                prompt = check_prompt(self.rollouts.question, prefix.text, one.text, LLAVA_COT)
                reply = check_reply(correct, reason)
                examples[correct] = _example("check", "reasoning", prompt, reply, by, (one,))
        return list(examples.values())


def _example(
    kind: Kind, stage: str, prompt: Prompt, reply: str, by: By, candidates: tuple[RatedCandidate, ...]
) -> JudgeExample:
    [message] = prompt.messages
    worths = tuple(None if one.value is None else one.value.share for one in candidates)
    return JudgeExample(kind, stage, message.text, reply, bool(message.images), by, worths)
