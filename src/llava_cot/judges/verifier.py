"""A judge that knows what is true, for measuring alone: the ceiling of all others.

Owns where the truth comes from: a scene, or else the question's reference answer, which tells of conclusions
and nothing of what comes before them.
"""

from __future__ import annotations

from typing import Literal

from llava_cot.data.checking.agreement import agrees
from llava_cot.judges.base import Judge, Preference
from llava_cot.models.base import ModelError
from llava_cot.question import Question
from llava_cot.scenes.verifying import better, known
from llava_cot.stages import Answer, StageFormat, parse
from llava_cot.trace import Candidate


class VerifierJudge(Judge):
    """Prefers what the truth says is better, and neither where it does not tell; asks no model."""

    name = "verifier"

    def __init__(self, fmt: StageFormat) -> None:
        self._fmt = fmt

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        first, second = (parse(context + side.text, self._fmt) for side in (a, b))
        if known(question):
            return Preference(better(question, stage, first, second))
        return Preference(_by_reference(question, first, second))


def _by_reference(question: Question, a: Answer, b: Answer) -> Literal[1, 2] | None:
    if question.reference is None:
        raise ModelError("the judge verifier needs a question whose answer is known; choose another judge")
    right, other = (
        agrees(side.answer, question.reference, question.options) is True if side.answer else False
        for side in (a, b)
    )
    return None if right == other else 1 if right else 2
