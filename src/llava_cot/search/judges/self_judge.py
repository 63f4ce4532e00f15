"""The paper's judge: the model itself, asked in words.

Section 3.2 of arXiv 2411.10440. It samples as the candidates were sampled, explains itself and
chooses; at the reasoning stage it is first asked of each text alone, without the image, whether it is
correct given the caption.
"""

from __future__ import annotations

from dataclasses import replace

from llava_cot.core.prompting import question_text
from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate
from llava_cot.models.base import Continuation, Model, Prompt, Sampling
from llava_cot.search.judges.base import Judge, Opinion, Preference, cost, earlier, shown
from llava_cot.search.judges.judge_prompts import check_prompt, judge_prompt, parse_check, parse_choice

# Tokens of one reply: several times what the sentence asked for takes. The published script allows
# 2,048, which a judge that rambles uses up.
REPLY_TOKENS = 256


def duel_of(question: Question, stage: str, context: str, a: str, b: str, fmt: StageFormat) -> Prompt:
    """How the model is asked to choose between two candidates' texts, `a` being response 1."""
    hint, asked = earlier(stage, context, fmt), question_text(question)
    text = judge_prompt(stage, asked, hint, shown(a, stage, fmt), shown(b, stage, fmt))
    return Prompt.of(text, question.images)


def check_of(question: Question, context: str, candidate: str, fmt: StageFormat) -> Prompt:
    """How the model is asked whether one candidate at the reasoning stage is correct."""
    caption = earlier("reasoning", context, fmt).get("caption")
    return Prompt.of(check_prompt(question_text(question), caption, shown(candidate, "reasoning", fmt)))


class SelfJudge(Judge):
    """Asks the model which response it prefers, in a reply of at most `reply_tokens`."""

    name = "self"

    def __init__(
        self, model: Model, fmt: StageFormat, sampling: Sampling, reply_tokens: int = REPLY_TOKENS
    ) -> None:
        self._model = model
        self.model_name = model.name
        self._fmt = fmt
        self._sampling = replace(sampling, max_tokens=reply_tokens, stop=())

    async def check(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Opinion | None:
        if stage != "reasoning":
            return None
        reply = await self._ask(check_of(question, context, candidate.text, self._fmt), seed)
        return Opinion(parse_check(reply.text), reply.text, cost(reply))

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        reply = await self._ask(duel_of(question, stage, context, a.text, b.text, self._fmt), seed)
        return Preference(parse_choice(reply.text), reply.text, usage=cost(reply))

    async def _ask(self, prompt: Prompt, seed: int) -> Continuation:
        [reply] = await self._model.sample(prompt, 1, replace(self._sampling, seed=seed))
        return reply
