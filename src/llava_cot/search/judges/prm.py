"""The judge by a generative process reward model, which answers each step with a sign for right or wrong."""

from __future__ import annotations

import asyncio

from cachetools import LRUCache

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Prompt
from llava_cot.search.judges.base import Judge, JudgeScore, JudgeSetup, judge, share
from llava_cot.search.judges.steps import combine, split_steps
from llava_cot.search.verifier_prompts import step_turns

_STEPS = 4096  # whose scores are remembered


@judge("prm", uses="model", probability=True, prompted=True, logprobs=True, steps=True)
class ProcessRewardJudge(Judge):
    """Prefers the higher probability of "+" against "-" as the reply to its steps (VisualPRM, 2503.10291).

    The steps are the paragraphs of all stages so far, a turn each, and every earlier one was answered by "+".
    The score is the mean over them, or by `--step-scores` that of the worst or of the last step.
    """

    def __init__(self, setup: JudgeSetup | None = None) -> None:
        super().__init__(setup)
        self._scores: LRUCache[Prompt, float] = LRUCache(_STEPS)

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        prompts, how = self.setup.prompts, self.setup.step_scores or "mean"
        steps = split_steps(context + candidate.text, self.setup.fmt) or [""]
        messages = step_turns(prompts, question, steps)
        turns = [at for at, message in enumerate(messages, 1) if message.role == "user"]
        waiting = [Prompt(messages[:at]) for at in (turns[-1:] if how == "last" else turns)]
        new = [prompt for prompt in waiting if prompt not in self._scores]
        found = await asyncio.gather(*(self.model.choose(prompt, prompts.signs) for prompt in new))
        known = {prompt: share(right, wrong) for prompt, (right, wrong) in zip(new, found, strict=True)}
        scores = [known[one] if one in known else self._scores[one] for one in waiting]
        self._scores.update(known)
        tokens = sum(map(self.model.count_tokens, new))
        usage = Usage(prompt_tokens=tokens, model_calls=len(new), usd=self.model.price(tokens, 0))
        reply = f"Steps: {', '.join(f'{score:.2f}' for score in scores)}."
        return JudgeScore(combine(scores, how), reply, usage)
