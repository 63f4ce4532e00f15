"""Majority voting that stops once the majority is stable (adaptive-consistency, arXiv 2305.11860).

Looks at the two most frequent answers alone: if these have a and b votes, and nothing was known before, then
the share that the first would get of all their votes in the long run is distributed as Beta(a + 1, b + 1).
It is stable if that share is above a half with probability `STABLE`.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Candidate, Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import propose
from llava_cot.search.methods.majority import ballot, elect
from llava_cot.search.search import OnEvent, Recorder

STABLE = 0.95  # as the paper has it


async def adaptive_majority(
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
    """Sample whole answers until their majority is stable, at most `n`, and keep as `majority` does.

    They are the first ones that `majority` samples under the same seed. They come in steps of as many as
    are needed at least, so that none is sampled that one at a time would not have been.
    """
    record = Recorder("adaptive-majority", question, model, None, n, sampling, fmt, on_event)
    record.start("answer")
    settings = replace(sampling, seed=rng.getrandbits(63))
    candidates: list[Candidate] = []
    votes = Counter[str]()
    while more := min(needed(votes), n - len(candidates)):
        continuations = await propose(record, model, more, replace(settings, first=len(candidates)))
        added = [record.add(continuation) for continuation in continuations]
        votes.update(filter(None, (ballot(candidate.text, fmt) for candidate in added)))
        candidates += added
    record.keep(elect(candidates, fmt, rng))
    return record.finish()


def needed(votes: Counter[str]) -> int:
    """How many votes more it takes at least until the majority is stable; 0 if it is."""
    a, b = ([count for _, count in votes.most_common(2)] + [0, 0])[:2]
    more = 0
    while stability(a + more, b) < STABLE:
        more += 1
    return more


def stability(a: int, b: int) -> float:
    """The probability that X > 1/2, where X is distributed as Beta(a + 1, b + 1); exact.

    It is that of at most a heads among a + b + 1 tosses of a fair coin.
    """
    tosses = a + b + 1
    ways = tail = 1
    for heads in range(a):
        ways = ways * (tosses - heads) // (heads + 1)  # to have one head more
        tail += ways
    return tail / (1 << tosses)
