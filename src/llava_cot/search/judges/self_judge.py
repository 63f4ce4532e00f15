"""The paper's judge: the model itself, in words (arXiv 2411.10440, section 3.2)."""

from __future__ import annotations

from dataclasses import replace

from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate
from llava_cot.models.base import Continuation, Prompt, check_sampling
from llava_cot.search.judge_prompts import JudgePrompts, default_prompts
from llava_cot.search.judges.base import Judge, JudgeSetup, Opinion, Preference, cost, earlier, judge, shown

# The most tokens of one reply: several times what the requested sentence takes. The published script allows
# 2,048, which a rambling judge uses up.
REPLY_TOKENS = 256


def duel_prompt(
    question: Question,
    stage: str,
    context: str,
    a: str,
    b: str,
    fmt: StageFormat,
    prompts: JudgePrompts | None = None,
) -> Prompt:
    """The prompt that asks the model to choose between two candidates' texts, `a` being response 1."""
    hint, prompts = earlier(stage, context, fmt), prompts or default_prompts()
    text = prompts.duel(stage, question_text(question), hint, shown(a, stage, fmt), shown(b, stage, fmt))
    return Prompt.of(text, question.images)


def check_prompt(
    question: Question, context: str, candidate: str, fmt: StageFormat, prompts: JudgePrompts | None = None
) -> Prompt:
    """The prompt that asks the model whether one candidate at the reasoning stage is correct."""
    caption = earlier("reasoning", context, fmt).get("caption")
    reasoning = shown(candidate, "reasoning", fmt)
    text = (prompts or default_prompts()).reasoning_check(question_text(question), caption, reasoning)
    return Prompt.of(text)


@judge("self", uses="model", prompted=True)
class SelfJudge(Judge):
    """Asks the model which response it prefers.

    It samples as the candidates were sampled, explains itself and chooses. At the reasoning stage each text
    is first checked alone, without the image, for being correct given the caption.
    """

    def __init__(self, setup: JudgeSetup | None = None, reply_tokens: int = REPLY_TOKENS) -> None:
        super().__init__(setup)
        self._sampling = replace(self.setup.sampling, max_tokens=reply_tokens, stop=())
        if self.setup.model is not None:
            check_sampling(self.model, self.model.name, self._sampling)

    async def check(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> Opinion | None:
        if stage != "reasoning":
            return None
        setup = self.setup
        reply = await self._reply(
            check_prompt(question, context, candidate.text, setup.fmt, setup.prompts), seed
        )
        return Opinion(setup.prompts.parse_check(reply.text), reply.text, cost(reply))

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        setup = self.setup
        prompt = duel_prompt(question, stage, context, a.text, b.text, setup.fmt, setup.prompts)
        reply = await self._reply(prompt, seed)
        return Preference(setup.prompts.parse_choice(reply.text), reply.text, usage=cost(reply))

    async def _reply(self, prompt: Prompt, seed: int) -> Continuation:
        [reply] = await self.model.sample(prompt, 1, replace(self._sampling, seed=seed))
        return reply
