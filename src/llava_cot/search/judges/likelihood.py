"""The judge without a model call: the text of which the model itself was surer."""

from __future__ import annotations

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate
from llava_cot.errors import ModelError
from llava_cot.search.judges.base import Judge, JudgeScore, judge


@judge("likelihood", logprobs=True)
class LikelihoodJudge(Judge):
    """Prefers the higher mean log-probability, in nats a token, which does not favor shorter texts as sums
    do.
    """

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        if candidate.logprob is None:
            raise ModelError(
                "the judge likelihood needs log-probabilities, which this model does not give; "
                "choose another judge"
            )
        return JudgeScore(candidate.logprob / count_tokens(candidate))


def count_tokens(candidate: Candidate) -> int:
    """The number of tokens that a candidate's log-probability is of, at least 1."""
    return max(1, len(candidate.tokens) or candidate.completion_tokens)
