"""The judge without words: how likely the model is to name each response, or to call one correct."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from llava_cot.core.question import Question, question_text
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Prompt
from llava_cot.search.judges.base import Judge, JudgeScore, Preference, earlier, judge, share, shown
from llava_cot.search.judges.self_judge import check_prompt


@judge("logits", uses="model", probability=True, prompted=True, logprobs=True)
class LogitsJudge(Judge):
    """Prefers the response with the higher probability; `scores` are the two probabilities.

    The prompts are the self-judge's with the reply begun, so that one forward pass scores "1" against "2", or
    "correct" against "incorrect". Duels are scored in both orders, which removes the preference for a
    position. A candidate's own score is the probability of "correct" in the paper's check at the reasoning
    stage (without the image, given the caption), elsewhere in a check of the same form with the images.
    """

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        fmt, prompts = self.setup.fmt, self.setup.prompts
        hint, text = earlier(stage, context, fmt), question_text(question)
        texts = (shown(a.text, stage, fmt), shown(b.text, stage, fmt))
        duels = [
            Prompt.of(prompts.duel(stage, text, hint, first, second), question.images, prompts.choice)
            for first, second in (texts, texts[::-1])
        ]
        ab, ba = await asyncio.gather(*(self.model.choose(duel, prompts.choices) for duel in duels))
        score = (share(ab[0], ab[1]) + share(ba[1], ba[0])) / 2
        choice: Literal[1, 2] | None = None if score == 0.5 else 1 if score > 0.5 else 2
        return Preference(choice, scores=(score, 1 - score), usage=self._cost(duels))

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        fmt, prompts = self.setup.fmt, self.setup.prompts
        if stage == "reasoning":
            check = check_prompt(question, context, candidate.text, fmt, prompts)
        else:
            hint, text = earlier(stage, context, fmt), shown(candidate.text, stage, fmt)
            check = Prompt.of(prompts.part_check(stage, question_text(question), hint, text), question.images)
        prompt = replace(check, prefix=prompts.verdict)
        correct, incorrect = await self.model.choose(prompt, prompts.verdicts)
        return JudgeScore(share(correct, incorrect), usage=self._cost([prompt]))

    def _cost(self, prompts: Sequence[Prompt]) -> Usage:
        tokens = sum(map(self.model.count_tokens, prompts))
        return Usage(prompt_tokens=tokens, model_calls=len(prompts), usd=self.model.price(tokens, 0))
