"""Which of two candidates about a scene is the better one, by the truth.

Owns when the truth is asked, and when what comes of a candidate. The verdicts are `scenes/ground_truth.py`'s.
"""

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
    """The scene that a record asks about; None if it is no scene's, or not this version's question."""
    item, turn = named_item(record.id), record.turns[0]
    if item is None:
        return None
    return item if item.has_question(turn.question, turn.options, turn.answer) else None


@dataclass(frozen=True)
class SceneLabeler:
    """Captions, reasonings and answers in the teacher's manner are compared with the scene, with a reason."""

    item: SceneItem
    worth: RolloutLabeler

    async def rate(
        self, stage: str, kept: Prefix, candidates: Sequence[Continuation], rng: random.Random
    ) -> list[RatedCandidate]:
        if not self._knows(stage, kept, candidates):
            return await self.worth.rate(stage, kept, candidates, rng)
        if stage == "caption":
            errors = [caption_error(self.item.scene, _alone(stage, one.text)) for one in candidates]
            return [
                RatedCandidate(one, -inf if error is None else -error)
                for one, error in zip(candidates, errors, strict=True)
            ]
        if stage == "reasoning":
            checks = [self.check(kept, RatedCandidate(one)) for one in candidates]
            return [
                RatedCandidate(one, float(check is not None and check[0]))
                for one, check in zip(candidates, checks, strict=True)
            ]
        return await self.worth.rate(stage, kept, candidates, rng)  # exact: nothing is asked

    def _knows(self, stage: str, kept: Prefix, candidates: Sequence[Continuation]) -> bool:
        captions: list[str | None] = []
        if stage == "caption":
            captions = [_alone(stage, one.text) for one in candidates]
        elif stage == "reasoning":
            captions = [parse(kept.text).stages["caption"]]
        elif stage == ANSWER:
            captions = [parse(one.text).stages["caption"] for one in candidates]
        return any(read_caption(caption) for caption in captions)

    def label(self, stage: str, kept: Prefix, a: RatedCandidate, b: RatedCandidate) -> DuelLabel | None:
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
        return verdict and DuelLabel(1 if verdict[0] == 1 else 2, "truth", verdict[1])

    def check(self, kept: Prefix, candidate: RatedCandidate) -> tuple[bool, str, By] | None:
        asked = believed(self.item.scene, self.item.question, parse(kept.text).stages["caption"])
        said = _alone("reasoning", candidate.text)
        if asked is None:
            return self.worth.check(kept, candidate)
        return None if said is None else (*check_verdict(*asked, said), "truth")


def _alone(stage: str, text: str) -> str | None:
    """The stage's text, if a judge is shown nothing else of the candidate."""
    inner = parse(text).stages.get(stage)
    return inner if inner == shown(text, stage, LLAVA_COT) else None
