"""A judge that knows the truth and errs at a known rate, to see how good a judge must be for a search to pay.

Its errors depend on its own seed and on the texts, so that it says the same of a pair each time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate
from llava_cot.models.base import seed_of
from llava_cot.search.judges.base import JudgeScore, JudgeSetup, Preference, judge
from llava_cot.search.judges.verifier import VerifierJudge

NAME = "noisy-oracle"
PERCENTS = (0, 10, 20, 30, 40, 50)


class NoisyOracle(VerifierJudge):
    """Prefers what the verifier does not, for this share of the pairs that the verifier decides.

    Scores are the verifier's plus normal noise: of two that differ by 1, as right and wrong do, the same
    share has the other order. At a half the verifier's scores do not count at all.

    Args:
        setup: As for any judge.
        errors: The share, from 0 to 0.5.
        seed: Of its errors.
    """

    name = NAME
    probability = False

    def __init__(self, setup: JudgeSetup | None = None, *, errors: float = 0.0, seed: int = 0) -> None:
        if not 0 <= errors <= 0.5:
            raise ValueError(f"the share of errors is {errors}; give a number from 0 to 0.5")
        super().__init__(setup)
        self.errors, self._seed = errors, seed

    async def prefer(
        self, question: Question, stage: str, context: str, a: Candidate, b: Candidate, *, seed: int
    ) -> Preference:
        found = await super().prefer(question, stage, context, a, b, seed=seed)
        texts = sorted((a.text.strip(), b.text.strip()))
        if found.choice is None or self._rng(question, stage, context, *texts).random() >= self.errors:
            return found
        return replace(found, choice=2 if found.choice == 1 else 1)

    async def score(
        self, question: Question, stage: str, context: str, candidate: Candidate, *, seed: int
    ) -> JudgeScore:
        truth = await super().score(question, stage, context, candidate, seed=seed)
        noise = self._rng(question, stage, context, candidate.text.strip()).gauss()
        scale = noise_scale(self.errors)
        return JudgeScore(noise if math.isinf(scale) else truth.value + scale * noise)

    def _rng(self, question: Question, *texts: str) -> random.Random:
        return random.Random(seed_of(self._seed, question.id or question.text, *texts))


def noise_scale(errors: float) -> float:
    """The deviation of noise on two scores that differ by 1, with which their order is wrong so often."""
    if errors == 0:
        return 0.0
    if errors == 0.5:
        return math.inf
    return -1 / (math.sqrt(2) * NormalDist().inv_cdf(errors))


def register_noisy_oracles(percents: Sequence[int] = PERCENTS, seed: int = 0) -> list[str]:
    """Make noisy oracles known as judges, so that specs can name them: `noisy-oracle-PERCENT`, returned."""
    names = []
    for percent in percents:

        class AtRate(NoisyOracle):
            def __init__(self, setup: JudgeSetup | None = None, errors: float = percent / 100) -> None:
                super().__init__(setup, errors=errors, seed=seed)

        names.append(f"{NAME}-{percent}")
        judge(names[-1])(AtRate)
    return names
