"""A judge that knows what is true, for measuring alone: the ceiling of all others.

Owns where the truth comes from: a scene, or else the question's reference answer, which tells of conclusions
and nothing of what comes before them.
"""

from __future__ import annotations

from llava_cot.core.answer_matching import agrees
from llava_cot.core.question import Question
from llava_cot.core.stages import Answer, StageFormat, parse
from llava_cot.core.trace import Candidate
from llava_cot.errors import ModelError
from llava_cot.scenes.ground_truth import better, known, worth
from llava_cot.search.judges.base import Grade, Judge, Preference


class VerifierJudge(Judge):
    """Prefers what the truth says is better, and neither where it does not tell; asks no model.

    Of a scene, scores are as in `scenes.ground_truth.worth`; else 1 for a right conclusion, 0 for all else.
    """

    name = "verifier"
    probability = True

    def __init__(self, fmt: StageFormat) -> None:
        self._fmt = fmt

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        first, second = (parse(context + side.text, self._fmt) for side in (a, b))
        if known(question):
            return Preference(better(question, stage, first, second))
        right, other = (_right(question, side) for side in (first, second))
        return Preference(None if right == other else 1 if right else 2)

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Grade:
        answer = parse(context + candidate.text, self._fmt)
        return Grade(worth(question, stage, answer) if known(question) else float(_right(question, answer)))


def _right(question: Question, answer: Answer) -> bool:
    """Whether the answer gives the reference; an answer that does not conclude yet does not."""
    if question.reference is None:
        raise ModelError("the judge verifier needs a question whose answer is known; choose another judge")
    return bool(answer.answer) and agrees(answer.answer or "", question.reference, question.options) is True
