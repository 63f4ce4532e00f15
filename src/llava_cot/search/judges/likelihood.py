"""A judge that asks nothing: the text the model itself was surer of.

Compares mean log-probabilities a token, which do not favour the shorter text as sums do.
"""

from __future__ import annotations

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate
from llava_cot.errors import ModelError
from llava_cot.search.judges.base import Grade, Judge, Preference


class LikelihoodJudge(Judge):
    """Prefers the higher mean log-probability; `scores` are the two means, in nats a token."""

    name = "likelihood"

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        x, y = _mean(a), _mean(b)
        return Preference(None if x == y else 1 if x > y else 2, scores=(x, y))

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Grade:
        return Grade(_mean(candidate))


def _mean(candidate: Candidate) -> float:
    if candidate.logprob is None:
        raise ModelError(
            "the judge likelihood needs log-probabilities, which this model does not give; "
            "choose another judge"
        )
    return candidate.logprob / max(1, len(candidate.tokens) or candidate.completion_tokens)
