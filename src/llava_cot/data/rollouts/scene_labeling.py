"""Which of two candidates about a scene is better, told by the scene itself where that is possible."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from llava_cot.core.stages import LLAVA_COT, parse
from llava_cot.data.record import Record
from llava_cot.data.rollouts.labeling import ANSWER, By, DuelLabel, Prefix, RatedCandidate, RolloutLabeler
from llava_cot.models.base import Continuation
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
from llava_cot.search.judges.base import shown


def scene_of(record: Record) -> SceneItem | None:
    """The scene that a record asks about; None if it asks about none, or not as this version does."""
    item, turn = named_item(record.id), record.turns[0]
    if item is None:
        return None
    return item if item.has_question(turn.question, turn.options, turn.answer) else None


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
