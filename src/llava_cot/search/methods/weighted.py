"""Voting over whole answers in which a judge's scores are the weights.

Verifier-weighted voting (arXiv 2206.02336, section 3) and best-of-N weighted (arXiv 2408.03314, section 5.1)
are this one rule: the answer whose candidates' scores add up to most, however few they are.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from llava_cot.core.question import Question
from llava_cot.core.stages import StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, Sampling
from llava_cot.search.grading import grade
from llava_cot.search.judges.base import Judge
from llava_cot.search.methods.base import propose
from llava_cot.search.methods.majority import ballot
from llava_cot.search.search import OnEvent, Recorder


async def weighted_best_of_n(
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
    """Sample `n` whole answers, grade each, and keep the best of those that give the elected answer.

    A sample without an answer does not vote; where none has one, the best scored is kept. Ties between
    answers are settled by `rng`, of equals with one answer the first is kept.
    """
    if judge is None:
        raise ValueError("a judge is needed to weigh answers")
    record = Recorder("weighted-best-of-n", question, model, judge, n, sampling, fmt, on_event)
    record.start("answer")
    continuations = await propose(record, model, n, replace(sampling, seed=rng.getrandbits(63)))
    candidates = [record.add(continuation) for continuation in continuations]
    values = await grade(record, judge, candidates, rng)
    ballots = [ballot(candidate.text, fmt) for candidate in candidates]
    elected = elect(ballots, values if judge.probability else softmax(values), rng)
    electors = [i for i in range(n) if ballots[i] == elected]
    record.keep(candidates[max(electors, key=values.__getitem__)])
    return record.finish()


def elect(ballots: Sequence[str], weights: Sequence[float], rng: random.Random) -> str:
    """The ballot with the greatest sum of weights, one of them by `rng` if several have it; "" if all are."""
    sums = {
        answer: math.fsum(weight for cast, weight in zip(ballots, weights, strict=True) if cast == answer)
        for answer in dict.fromkeys(filter(None, ballots))
    }
    most = max(sums.values(), default=0.0)
    return rng.choice([answer for answer, total in sums.items() if total == most] or [""])


def softmax(scores: Sequence[float]) -> list[float]:
    """Scores without bounds as weights from 0 to 1, which add up to 1.

    Reward models are trained so that exp(a) : exp(b) are the odds of one answer being better than another
    (Bradley and Terry), so this is the probability of each to be the best of them. It depends on differences
    alone: a sum of raw scores would, for negative ones, count every further vote against its answer.
    """
    highest = max(scores)
    if math.isinf(highest):
        return [float(score == highest) for score in scores]
    shares = [math.exp(score - highest) for score in scores]
    return [share / math.fsum(shares) for share in shares]
