"""A judge by self-consistency: a candidate is good if the answers that follow from it agree."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from llava_cot import Candidate, Judge, JudgeScore, Prompt, Question, Usage, judge
from llava_cot.core.answer_matching import normal
from llava_cot.core.question import question_text
from llava_cot.core.stages import parse
from llava_cot.search.judges.base import cost

SAMPLES = 4


@judge("consistency", uses="model", probability=True)
class ConsistencyJudge(Judge):
    """Scores a candidate by the share of sampled conclusions that agree with its own.

    They continue the stages before the conclusion. If the candidate has no conclusion yet, they continue the
    candidate, and the score is the share of the most frequent conclusion.
    """

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        fmt, text = self.setup.fmt, context + candidate.text
        before = text.partition(fmt.stage(fmt.final).open)[0]
        prompt = Prompt.of(question_text(question), question.images, before)
        samples = await self.model.sample(prompt, SAMPLES, replace(self.setup.sampling, seed=seed))
        conclusions = [normal(parse(before + sample.text, fmt).answer or "") for sample in samples]
        [(common, _)] = Counter(conclusions).most_common(1)
        own = parse(text, fmt).conclusion
        chosen = common if own is None else normal(own)
        return JudgeScore(
            conclusions.count(chosen) / SAMPLES,
            f"Sampled conclusions: {', '.join(conclusions)}.",
            sum(map(cost, samples), Usage()),
        )
