"""The judge that uses a reward model: a network trained to give an answer a number."""

from __future__ import annotations

from llava_cot.core.question import Question, question_text
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Prompt, RewardModel
from llava_cot.search.judges.base import Judge, JudgeScore, judge
from llava_cot.search.judges.steps import combine, split_steps


@judge("reward", uses="reward model", prompted=True, steps=True)
class RewardJudge(Judge):
    """Prefers the higher reward, in the reward model's units.

    The reward model gets the question with its images, and the whole answer so far with the candidate at its
    end, tags included: it knows no stages, and reads an unfinished answer as an answer. Of the numbers that a
    process reward model gives to steps, the last counts, or by `--step-scores` the least or the mean. Where
    `step_end` is set in the judge prompts, it gets the paragraphs of the stages, each with that at its end.
    """

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        model = self.setup.model
        assert isinstance(model, RewardModel)
        prompt = Prompt.of(question_text(question), question.images)
        answer, end = (context + candidate.text).strip(), self.setup.prompts.step_end
        if end:
            answer = "".join(step + end for step in split_steps(answer, self.setup.fmt))
        reward = await model.reward(prompt, answer)
        usage = Usage(prompt_tokens=reward.prompt_tokens, model_calls=1, usd=reward.usd)
        if not reward.steps:
            return JudgeScore(reward.value, usage=usage)
        reply = f"Steps: {', '.join(f'{value:.2f}' for value in reward.steps)}."
        return JudgeScore(combine(reward.steps, self.setup.step_scores or "last"), reply, usage)
