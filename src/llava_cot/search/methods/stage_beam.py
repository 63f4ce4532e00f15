"""Stage-level beam search, the method of the paper (arXiv 2411.10440, section 3.2).

N candidates for a stage, a tournament, the winner is the prefix of the next stage.
"""

from __future__ import annotations

import random
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, last_closed, validate
from llava_cot.core.trace import Trace
from llava_cot.models.base import Continuation, Finish, Model, Sampling
from llava_cot.search.budget import proposing
from llava_cot.search.judges.base import Judge
from llava_cot.search.search import OnEvent, Recorder
from llava_cot.search.tournament import tournament


async def stage_beam(
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
    """Search stage by stage; each candidate of a stage has at most `sampling.max_tokens`.

    Within a `budget` a stage has at most `n` candidates, as `budget.py` has it.
    """
    record = Recorder("stage-beam", question, model, judge, n, sampling, fmt, on_event, budget)
    await by_stages(record, model, judge, n, sampling, rng, budget)
    return record.finish()


async def by_stages(
    record: Recorder,
    model: Model,
    judge: Judge | None,
    n: int,
    sampling: Sampling,
    rng: random.Random,
    budget: int | None = None,
) -> None:
    """Search for an answer, of which nothing is kept yet, and keep the winner of each stage.

    A candidate ends with the closing tag of its stage or of a later one, so a skipped stage is seen,
    and the search goes on after the last stage that was closed. One that the model ended is a whole
    answer as it stands: if it wins, the search ends. One that ran out of tokens has its stage closed
    for it; if it opened none, it too ends the search.
    """
    fmt, propose = record.fmt, proposing(budget)
    at = 0
    while at < len(fmt.stages):
        stage = fmt.stages[at]
        record.start(stage.name)
        settings = replace(sampling, stop=fmt.closing_tags[at:], seed=rng.getrandbits(63))
        continuations = await propose(record, model, n, settings)
        candidates = [record.add(close_cut(c, stage.name, fmt)) for c in continuations]
        best = await tournament(record, judge, candidates, rng)
        record.keep(best)
        at = next_stage(at, best.text, best.finish, fmt)


def next_stage(at: int, text: str, finish: Finish, fmt: StageFormat) -> int:
    """The index of the stage after a candidate for stage `at`; past the last one if it ends the answer."""
    closed = last_closed(text, fmt)
    return len(fmt.stages) if finish == "eos" or closed is None else max(at, closed) + 1


def close_cut(continuation: Continuation, stage: str, fmt: StageFormat) -> Continuation:
    """Close the stage in which a continuation ran out of tokens, `stage` if that is open.

    Its ids are given up, since they no longer are its text: what follows is sampled from the text.
    """
    if continuation.finish != "length":
        return continuation
    opened = [found.stage for found in validate(continuation.text, fmt) if found.kind == "unclosed"]
    if not opened:
        return continuation
    close = fmt.stage(stage if stage in opened else opened[-1] or stage).close
    text = _without_part_of(close, continuation.text.rstrip())
    return replace(continuation, text=text + close, tokens=())


def _without_part_of(tag: str, text: str) -> str:
    """The text less the beginning of the tag, if it ends with that."""
    for length in range(len(tag) - 1, 0, -1):
        if text.lower().endswith(tag[:length].lower()):
            return text[:-length].rstrip()
    return text
