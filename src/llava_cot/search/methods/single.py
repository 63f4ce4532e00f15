"""One sample: the model answers all stages in one pass. What every search is compared with."""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import propose
from llava_cot.search.search import OnEvent, Recorder


async def single(
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
    """Sample one whole answer of at most `sampling.max_tokens`, streamed as it is written."""
    record = Recorder("single", question, model, None, n, sampling, fmt, on_event)
    record.start("answer")
    [continuation] = await propose(
        record, model, 1, replace(sampling, seed=rng.getrandbits(63)), on_text=record.delta
    )
    record.keep(record.add(continuation))
    return record.finish()
