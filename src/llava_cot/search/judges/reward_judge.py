"""A judge that asks a reward model: a network that was trained to give an answer a number.

It is given the question with its pictures, and all of the answer so far with the candidate at its end, tags
included: a reward model knows nothing of stages, and reads an unfinished answer as an answer.
"""

from __future__ import annotations

import asyncio

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Prompt, RewardModel
from llava_cot.search.judges.base import Grade, Judge, Preference


class RewardJudge(Judge):
    """Prefers the higher reward; `scores` are the two, in the reward model's units."""

    name = "reward"

    def __init__(self, model: RewardModel) -> None:
        self._model = model
        self.model_name = model.name

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        x, y = await asyncio.gather(
            *(self.score(question, stage, context, side, seed=seed) for side in (a, b))
        )
        return Preference(
            None if x.value == y.value else 1 if x.value > y.value else 2,
            scores=(x.value, y.value),
            usage=x.usage + y.usage,
        )

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Grade:
        asked = Prompt.of(question_text(question), question.images)
        found = await self._model.reward(asked, (context + candidate.text).strip())
        return Grade(
            found.value, usage=Usage(prompt_tokens=found.prompt_tokens, model_calls=1, usd=found.usd)
        )
