"""Best of N that stops as soon as the judge is sure of a candidate.

What a candidate is worth must be known before there is another to compare it with, and sure must mean the
same of every question: the judge's scores are probabilities. A reward model's have no such scale.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate, Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.grading import grade
from llava_cot.search.judges.base import Grade, Judge
from llava_cot.search.methods.base import propose
from llava_cot.search.search import OnEvent, Recorder

# All further candidates together can add no more to the probability of being right than what is missing from
# 1: here a tenth. If the judge is calibrated, so many of the answers that are kept early are right at least.
SURE = 0.9


async def adaptive_best_of_n(
    question: Question,
    model: Model,
    judge: Judge | None,
    *,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    fmt: StageFormat,
    on_event: OnEvent | None = None,
) -> Trace:
    """Sample whole answers one after another, until the judge is sure of one or there are `n`; keep the best.

    They are the first ones that `best-of-n` samples under the same seed. Of equal scores the first is kept.
    """
    if judge is None:
        raise ValueError("a judge is needed to choose among several candidates")
    record = Recorder("adaptive-best-of-n", question, model, judge, n, sampling, fmt, on_event)
    record.start("answer")
    settings = replace(sampling, seed=rng.getrandbits(63))
    candidates: list[Candidate] = []
    scores: list[float] = []
    known: dict[str, Grade] = {}
    while len(candidates) < n and max(scores, default=0.0) < SURE:
        [continuation] = await propose(record, model, 1, replace(settings, first=len(candidates)))
        candidates.append(record.add(continuation))
        scores += await grade(record, judge, candidates[-1:], rng, known)
    record.keep(candidates[scores.index(max(scores))])
    return record.finish()
