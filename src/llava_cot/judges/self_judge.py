"""The paper's judge: the model itself, asked in words.

Section 3.2 of arXiv 2411.10440. It samples as the candidates were sampled, explains itself and
chooses; at the reasoning stage it is first asked of each text alone, without the image, whether it is
correct given the caption.
"""

from __future__ import annotations

from dataclasses import replace

from llava_cot.judges.base import Judge, Opinion, Preference, cost, earlier, shown
from llava_cot.judges.prompts import check_prompt, judge_prompt, parse_check, parse_choice
from llava_cot.models.base import Continuation, Model, Prompt, Sampling
from llava_cot.prompting import question_text
from llava_cot.question import Question
from llava_cot.stages import StageFormat
from llava_cot.trace import Candidate

# Tokens of one reply: several times what the sentence asked for takes. The published script allows
# 2,048, which a judge that rambles uses up.
REPLY_TOKENS = 256


class SelfJudge(Judge):
    """Asks the model which response it prefers, in a reply of at most `reply_tokens`."""

    name = "self"

    def __init__(
        self, model: Model, fmt: StageFormat, sampling: Sampling, reply_tokens: int = REPLY_TOKENS
    ) -> None:
        self._model = model
        self._fmt = fmt
        self._sampling = replace(sampling, max_tokens=reply_tokens, stop=())

    async def check(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Opinion | None:
        if stage != "reasoning":
            return None
        caption = earlier(stage, context, self._fmt).get("caption")
        text = check_prompt(question_text(question), caption, shown(candidate, stage, self._fmt))
        reply = await self._ask(Prompt.of(text), seed)
        return Opinion(parse_check(reply.text), reply.text, cost(reply))

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        text = judge_prompt(
            stage,
            question_text(question),
            earlier(stage, context, self._fmt),
            shown(a, stage, self._fmt),
            shown(b, stage, self._fmt),
        )
        reply = await self._ask(Prompt.of(text, question.images), seed)
        return Preference(parse_choice(reply.text), reply.text, usage=cost(reply))

    async def _ask(self, prompt: Prompt, seed: int) -> Continuation:
        [reply] = await self._model.sample(prompt, 1, replace(self._sampling, seed=seed))
        return reply
