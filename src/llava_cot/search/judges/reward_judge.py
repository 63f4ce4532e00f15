"""The judge that uses a reward model: a network trained to give an answer a number."""

from __future__ import annotations

from llava_cot.core.question import Question, question_text
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Prompt, RewardModel
from llava_cot.search.judges.base import Judge, JudgeScore, judge


@judge("reward", uses="reward model")
class RewardJudge(Judge):
    """Prefers the higher reward, in the reward model's units.

    The reward model gets the question with its images, and the whole answer so far with the candidate at its
    end, tags included: it knows no stages, and reads an unfinished answer as an answer.
    """

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        model = self.setup.model
        assert isinstance(model, RewardModel)
        prompt = Prompt.of(question_text(question), question.images)
        reward = await model.reward(prompt, (context + candidate.text).strip())
        usage = Usage(prompt_tokens=reward.prompt_tokens, model_calls=1, usd=reward.usd)
        return JudgeScore(reward.value, usage=usage)
