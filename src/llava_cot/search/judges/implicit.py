"""The judge by an implicit reward: how much likelier a trained model finds a text than its reference does.

A model that was trained by outcomes against a reference (`objective: implicit` or `dpo`) is a process reward
model: the log-ratio of the two, summed over the tokens so far, is its reward (arXiv 2412.01981).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from cachetools import LRUCache

from llava_cot.core.question import Question, question_text
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate, Usage
from llava_cot.models.base import Model, Prompt
from llava_cot.search.judges.base import Judge, JudgeScore, JudgeSetup, judge

_TEXTS = 4096  # whose rewards are remembered


@judge("implicit", uses="model", logprobs=True, reference=True)
class ImplicitJudge(Judge):
    """Prefers the higher log p(text) of the judge model minus that of the reference, in nats.

    A score is of the whole answer so far, so that candidates on different paths can be compared; between
    candidates of one path it is a matter of their own tokens, and only these are computed: what the context
    is worth is remembered from when it was a candidate. With `likelihood_weight` w, w times the reference's
    own log-probability is added.
    """

    def __init__(self, setup: JudgeSetup | None = None) -> None:
        super().__init__(setup)
        self._rewards: LRUCache[Prompt, float] = LRUCache(_TEXTS)
        if self.setup.model is not None:
            self.model_name = f"{self.model.name} / {self.reference.name}"
            if self.setup.likelihood_weight:  # a calibration is for one weight
                self.model_name += f" + {self.setup.likelihood_weight:g} likelihood"

    @property
    def reference(self) -> Model:
        """The model to which the judge model is compared."""
        assert self.setup.reference is not None
        return self.setup.reference

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        fmt, weight = self.setup.fmt, self.setup.likelihood_weight
        thinking = (fmt.opening_tags[0], fmt.closing_tags[0]) if fmt.thinking else None
        empty = replace(Prompt.of(question_text(question), question.images), thinking=thinking)
        whole = replace(empty, prefix=_as_written(context + candidate.text, fmt))
        before = replace(empty, prefix=_as_written(context, fmt))
        if before not in self._rewards or not whole.prefix.startswith(before.prefix):
            before = empty
        text = whole.prefix.removeprefix(before.prefix)
        reward, usage = self._rewards.get(before, 0.0), Usage()
        if text.strip():
            factors = [(self.model, 1.0)]
            if weight != 1:  # with 1, the reference cancels out
                factors.append((self.reference, weight - 1))
            found = await asyncio.gather(*(one.choose(before, [text]) for one, _ in factors))
            for (one, factor), [logprob] in zip(factors, found, strict=True):
                reward += factor * logprob
                usage += _cost(one, whole)
            # Further digits depend on what shared the forward passes.
            reward = round(reward, 3) + 0.0  # never -0.0
        self._rewards[whole] = reward
        return JudgeScore(reward, usage=usage)


def _as_written(text: str, fmt: StageFormat) -> str:
    """An answer, or its beginning, as a model writes it.

    One that thinks begins after the tag that opens its thinking, and its answer has no tags.
    """
    if not fmt.thinking:
        return text
    thought, close, answer = text.removeprefix(fmt.opening_tags[0]).partition(fmt.closing_tags[0])
    return thought + close + answer.replace(fmt.opening_tags[1], "").replace(fmt.closing_tags[1], "")


def _cost(model: Model, whole: Prompt) -> Usage:
    tokens = model.count_tokens(whole)
    return Usage(prompt_tokens=tokens, model_calls=1, usd=model.price(tokens, 0))
