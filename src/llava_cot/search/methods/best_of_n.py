"""Best of N: whole answers, the judge's tournament between them."""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.budget import proposing
from llava_cot.search.judges.base import Judge
from llava_cot.search.search import OnEvent, Recorder
from llava_cot.search.tournament import tournament


async def best_of_n(
    question: Question,
    model: Model,
    judge: Judge | None,
    *,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    fmt: StageFormat,
    on_event: OnEvent | None = None,
    budget: int | None = None,
) -> Trace:
    """Sample `n` whole answers of at most `sampling.max_tokens` each and keep the tournament's winner.

    Within a `budget` they are as many as it pays for.
    """
    record = Recorder("best-of-n", question, model, judge, n, sampling, fmt, on_event, budget)
    record.start("answer")
    settings = replace(sampling, seed=rng.getrandbits(63))
    continuations = await proposing(budget)(record, model, n, settings)
    candidates = [record.add(continuation) for continuation in continuations]
    record.keep(await tournament(record, judge, candidates, rng))
    return record.finish()
