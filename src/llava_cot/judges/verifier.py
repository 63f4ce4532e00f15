"""A judge that knows what is true: the ceiling of all others, for measuring alone.

Owns nothing of the truth: `better` does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from llava_cot.judges.base import Judge, Preference
from llava_cot.question import Question
from llava_cot.stages import Answer, StageFormat, parse
from llava_cot.trace import Candidate

# Of two answers, complete or as far as the named stage: the better one, None where the truth does not tell.
Better = Callable[[Question, str, Answer, Answer], Literal[1, 2] | None]


class VerifierJudge(Judge):
    """Prefers what the truth says is better; asks no model."""

    name = "verifier"

    def __init__(self, better: Better, fmt: StageFormat) -> None:
        self._better, self._fmt = better, fmt

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        first, second = (parse(context + side.text, self._fmt) for side in (a, b))
        return Preference(self._better(question, stage, first, second))
