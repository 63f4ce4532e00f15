"""The judge that knows the truth, for measuring only: the ceiling of all others."""

from __future__ import annotations

from llava_cot.core.answer_matching import agrees
from llava_cot.core.question import Question
from llava_cot.core.stages import Answer, parse
from llava_cot.core.trace import Candidate
from llava_cot.errors import ModelError
from llava_cot.scenes.ground_truth import better, known, worth
from llava_cot.search.judges.base import Judge, JudgeScore, Preference, judge


@judge("verifier", probability=True)
class VerifierJudge(Judge):
    """Prefers what is truly better, and neither where the truth is not known.

    For a scene, scores are those of `scenes.ground_truth.worth`. For any other question, the reference answer
    tells: 1 for a right conclusion, 0 otherwise; it says nothing of what comes before a conclusion.
    """

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        first, second = (parse(context + side.text, self.setup.fmt) for side in (a, b))
        if known(question):
            return Preference(better(question, stage, first, second))
        right, other = (_right(question, side) for side in (first, second))
        return Preference(None if right == other else 1 if right else 2)

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        answer = parse(context + candidate.text, self.setup.fmt)
        return JudgeScore(
            worth(question, stage, answer) if known(question) else float(_right(question, answer))
        )


def _right(question: Question, answer: Answer) -> bool:
    """Whether the answer gives the reference; an answer that does not conclude yet does not."""
    if question.reference is None:
        raise ModelError("the judge verifier needs a question with a reference answer; choose another judge")
    return bool(answer.answer) and agrees(answer.answer or "", question.reference, question.options) is True
