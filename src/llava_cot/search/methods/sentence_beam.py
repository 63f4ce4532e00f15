"""Sentence-level beam search: the judge keeps one of N next sentences, until the answer ends.

Section 4.3 of arXiv 2411.10440 compares it with the stage-level search.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import SENTENCE, StageFormat, last_closed
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import propose
from llava_cot.search.search import OnEvent, Recorder
from llava_cot.search.tournament import tournament

# White space must follow: the point of 3.14 ends no sentence. A model drops that white space when it
# stops there, and the next sentence begins with it.
SENTENCE_ENDS = tuple(mark + space for mark in ".!?" for space in (" ", "\n"))


async def sentence_beam(
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
    """Keep the winner of `n` next sentences, again and again; the end of a stage ends a sentence too.

    Here `sampling.max_tokens` is for the whole answer, and bounds the number of rounds.
    """
    record = Recorder("sentence-beam", question, model, judge, n, sampling, fmt, on_event)
    stops = (*SENTENCE_ENDS, *fmt.closing_tags)
    left = sampling.max_tokens
    while left > 0:
        record.start(SENTENCE)
        settings = replace(sampling, max_tokens=left, stop=stops, seed=rng.getrandbits(63))
        continuations = await propose(record, model, n, settings)
        candidates = [record.add(continuation) for continuation in continuations]
        best = await tournament(record, judge, candidates, rng)
        record.keep(best)
        left -= max(1, best.completion_tokens)
        if best.finish == "eos" or last_closed(record.text, fmt) == len(fmt.stages) - 1:
            break
    return record.finish()
