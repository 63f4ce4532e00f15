"""A judge without words: how likely the model is to name each response.

The prompt of the self-judge with its reply begun for it, so that one forward pass scores "1" against
"2". Both orders are asked, which takes out the preference for a position.
"""

from __future__ import annotations

import asyncio
import math
from typing import Literal

from llava_cot.judges.base import Judge, Preference, earlier, shown
from llava_cot.judges.prompts import CHOICE, CHOICES, judge_prompt
from llava_cot.models.base import Model, Prompt
from llava_cot.prompting import question_text
from llava_cot.question import Question
from llava_cot.stages import StageFormat
from llava_cot.trace import Candidate, Usage


class LogitsJudge(Judge):
    """Prefers the response with the higher probability; `scores` are the two probabilities."""

    name = "logits"

    def __init__(self, model: Model, fmt: StageFormat) -> None:
        self._model = model
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
        tokens = sum(map(self._model.count_tokens, prompts))
        usage = Usage(prompt_tokens=tokens, model_calls=len(prompts), usd=self._model.price(tokens, 0))
        return Preference(choice, scores=(score, 1 - score), usage=usage)


def _share(x: float, y: float) -> float:
    """exp(x) / (exp(x) + exp(y)), a half if neither is possible; the two shares add up to 1 exactly."""
    if x == y:
        return 0.5
    return 1 / (1 + math.exp(y - x)) if x > y else 1 - _share(y, x)
