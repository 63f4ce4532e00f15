"""A judge without words: how likely the model is to name each response, or to call one correct.

The prompts of the self-judge with the reply begun for it, so that one forward pass scores "1" against
"2" or "correct" against "incorrect". Of two responses both orders are asked, which takes out the preference
for a position.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Model, Prompt
from llava_cot.search.judges.base import Grade, Judge, Preference, earlier, shown
from llava_cot.search.judges.judge_prompts import (
    CHOICE,
    CHOICES,
    VERDICT,
    VERDICTS,
    judge_prompt,
    part_check_prompt,
)
from llava_cot.search.judges.self_judge import check_of


class LogitsJudge(Judge):
    """Prefers the response with the higher probability; `scores` are the two probabilities.

    A response's own score is the probability of "correct" against "incorrect", by the paper's check at the
    reasoning stage (without the image, given the caption), elsewhere by one of the same form with the images.
    """

    name = "logits"
    probability = True

    def __init__(self, model: Model, fmt: StageFormat) -> None:
        self._model = model
        self.model_name = model.name
        self._fmt = fmt

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        hint = earlier(stage, context, self._fmt)
        texts = (shown(a.text, stage, self._fmt), shown(b.text, stage, self._fmt))
        prompts = [
            Prompt.of(
                judge_prompt(stage, question_text(question), hint, first, second), question.images, CHOICE
            )
            for first, second in (texts, texts[::-1])
        ]
        ab, ba = await asyncio.gather(*(self._model.choose(prompt, CHOICES) for prompt in prompts))
        score = (_share(ab[0], ab[1]) + _share(ba[1], ba[0])) / 2
        choice: Literal[1, 2] | None = None if score == 0.5 else 1 if score > 0.5 else 2
        return Preference(choice, scores=(score, 1 - score), usage=self._cost(prompts))

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Grade:
        if stage == "reasoning":
            asked = check_of(question, context, candidate.text, self._fmt)
        else:
            hint, text = earlier(stage, context, self._fmt), shown(candidate.text, stage, self._fmt)
            asked = Prompt.of(part_check_prompt(stage, question_text(question), hint, text), question.images)
        prompt = replace(asked, prefix=VERDICT)
        correct, incorrect = await self._model.choose(prompt, VERDICTS)
        return Grade(_share(correct, incorrect), usage=self._cost([prompt]))

    def _cost(self, prompts: Sequence[Prompt]) -> Usage:
        tokens = sum(map(self._model.count_tokens, prompts))
        return Usage(prompt_tokens=tokens, model_calls=len(prompts), usd=self._model.price(tokens, 0))


def _share(x: float, y: float) -> float:
    """exp(x) / (exp(x) + exp(y)), a half if neither is possible; the two shares add up to 1 exactly."""
    if x == y:
        return 0.5
    return 1 / (1 + math.exp(y - x)) if x > y else 1 - _share(y, x)
