"""Stage-level beam search only where it is called for: on questions about which the first answers disagree.

That samples which agree are mostly right is what self-consistency builds on (arXiv 2203.11171); here
agreement says where a search has something to decide.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import propose
from llava_cot.search.methods.majority import ballot
from llava_cot.search.methods.stage_beam import by_stages
from llava_cot.search.search import OnEvent, Recorder

FIRST = 2  # the fewest that can disagree


async def adaptive_stage_beam(
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
    """Sample `FIRST` whole answers and keep the first if all say the same; else search with `n` a stage.

    If `n` is less than `FIRST`, so many are sampled first. Without an answer nothing agrees.
    """
    record = Recorder("adaptive-stage-beam", question, model, judge, n, sampling, fmt, on_event)
    record.start("answer")
    settings = replace(sampling, seed=rng.getrandbits(63))
    continuations = await propose(record, model, min(FIRST, n), settings)
    candidates = [record.add(continuation) for continuation in continuations]
    ballots = {ballot(candidate.text, fmt) for candidate in candidates}
    if len(ballots) == 1 and "" not in ballots:
        record.keep(candidates[0])
    else:
        await by_stages(record, model, judge, n, sampling, rng)
    return record.finish()
