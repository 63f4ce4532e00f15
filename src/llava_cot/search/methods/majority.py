"""Majority voting over whole answers (self-consistency, arXiv 2203.11171): no judge at all.

Voting at the same number of samples is what any judged method has to beat.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat, parse
from llava_cot.core.trace import Candidate, Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.budget import proposing
from llava_cot.search.judges.base import Judge
from llava_cot.search.search import OnEvent, Recorder


async def majority(
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
    """Sample `n` whole answers, or as many as a `budget` pays for, and keep the one that is elected."""
    record = Recorder("majority", question, model, None, n, sampling, fmt, on_event, budget)
    record.start("answer")
    settings = replace(sampling, seed=rng.getrandbits(63))
    continuations = await proposing(budget)(record, model, n, settings)
    candidates = [record.add(continuation) for continuation in continuations]
    record.keep(elect(candidates, fmt, rng))
    return record.finish()


def elect(candidates: Sequence[Candidate], fmt: StageFormat, rng: random.Random) -> Candidate:
    """The first that has the most frequent extracted answer.

    A sample without an answer does not vote. Ties, and a vote that nobody casts, are settled by `rng`.
    """
    ballots = [ballot(candidate.text, fmt) for candidate in candidates]
    votes = Counter(filter(None, ballots))
    if not votes:
        return rng.choice(candidates)
    most = max(votes.values())
    elected = rng.choice([answer for answer, count in votes.items() if count == most])
    return candidates[ballots.index(elected)]


def ballot(text: str, fmt: StageFormat) -> str:
    """The extracted answer, less case, spacing and punctuation at its end; empty if there is none."""
    answer = parse(text, fmt).answer or ""
    return " ".join(answer.casefold().split()).rstrip(" .,;:!")
