"""Stage-wise beam search, a relative of stage-beam in version 6 of the paper (arXiv 2411.10440).

M candidates for a stage, the best of them by their scores go on, each with its share of the M candidates for
the next. `stage-beam` keeps one, and compares instead. Knows no concrete judge.
"""

from __future__ import annotations

import random

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.search import OnEvent, Recorder
from llava_cot.search.tree import Node, grow, select


async def stage_wise_beam(
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
    """Keep the better half of `n` candidates a stage, and the best at the end.

    Each has at most `sampling.max_tokens`. One that the model ended, or that is stages ahead, is graded as it
    stands and keeps its place until it is beaten.
    """
    if judge is None:
        raise ValueError("a judge is needed to choose among several candidates")
    record = Recorder("stage-wise-beam", question, model, judge, n, sampling, fmt, on_event)
    kept, width = [Node()], max(1, n // 2)
    for at in range(len(fmt.stages)):
        grown = await grow(record, model, kept, n // len(kept), at, sampling, rng)
        kept = await select(record, judge, grown, 1 if at == len(fmt.stages) - 1 else width, rng)
    [best] = kept
    assert best.candidate is not None
    record.follow(best.candidate)
    return record.finish()
