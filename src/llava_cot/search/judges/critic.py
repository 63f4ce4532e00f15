"""The judge by a generative critic, which writes about a text, and a number (LLaVA-Critic, 2410.02712)."""

from __future__ import annotations

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate
from llava_cot.models.base import Sampling
from llava_cot.search.judges.base import Judge, JudgeScore, cost, judge
from llava_cot.search.verifier_prompts import parse_score, rating_prompt

# The most tokens of one rating with its reasons.
REPLY_TOKENS = 1024
_UNREAD = 0.5  # the score of a reply without a rating: in the middle of all ratings


@judge("critic", uses="model", probability=True, prompted=True)
class CriticJudge(Judge):
    """Prefers the higher rating of the whole answer so far, which the model writes greedily.

    A score is the rating as a share of its range, or 1 or 0 for a verdict in words. A reply without either
    counts as the middle.
    """

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        prompts = self.setup.prompts
        prompt = rating_prompt(prompts, question, context + candidate.text)
        limit = min(self.setup.sampling.max_tokens, REPLY_TOKENS)
        sampling = Sampling(temperature=0.0, top_p=1.0, max_tokens=limit, seed=seed)
        [reply] = await self.model.sample(prompt, 1, sampling)
        rating = parse_score(reply.text, prompts)
        return JudgeScore(_UNREAD if rating is None else rating, reply.text, cost(reply))
