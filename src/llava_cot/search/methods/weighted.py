"""Voting over whole answers, weighted by a judge's scores.

Verifier-weighted voting (arXiv 2206.02336, section 3) and best-of-N weighted (arXiv 2408.03314, section 5.1)
are the same rule: keep the answer whose candidates' scores have the largest sum.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from llava_cot.search.methods.base import method
from llava_cot.search.methods.majority import ballot
from llava_cot.search.search import Search


@method("weighted-best-of-n", judge="logits", scores=True)
async def weighted_best_of_n(search: Search) -> None:
    """Sample n whole answers, score each, and keep the best of those that give the elected answer.

    A sample without an answer does not vote; if none has one, the best scored is kept. `rng` settles ties
    between answers; of equal candidates with one answer the first is kept.
    """
    candidates = await search.sample("answer")
    values = await search.scores(candidates)
    ballots = [ballot(candidate.text, search.question, search.fmt) for candidate in candidates]
    weights = values if search.judge.probability else softmax(values)
    elected = elect_weighted(ballots, weights, search.rng)
    electors = [i for i in range(len(candidates)) if ballots[i] == elected]
    search.keep(candidates[max(electors, key=values.__getitem__)])


def elect_weighted(ballots: Sequence[str], weights: Sequence[float], rng: random.Random) -> str:
    """The ballot with the greatest sum of weights, a tie settled by `rng`; "" if all are empty."""
    sums = weight_by_answer(ballots, weights)
    most = max(sums.values(), default=0.0)
    return rng.choice([answer for answer, total in sums.items() if total == most] or [""])


def weight_by_answer(ballots: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """The sum of the weights of each answer; the empty ballot is none."""
    return {
        answer: math.fsum(weight for cast, weight in zip(ballots, weights, strict=True) if cast == answer)
        for answer in dict.fromkeys(filter(None, ballots))
    }


def softmax(scores: Sequence[float]) -> list[float]:
    """Unbounded scores as weights from 0 to 1 that add up to 1.

    Reward models are trained so that exp(a) : exp(b) are the odds of one answer being better than another
    (Bradley and Terry), so this is the probability of each to be the best. It depends on differences alone:
    in a sum of raw scores, every further vote would count against its answer where scores are negative.
    """
    highest = max(scores)
    if math.isinf(highest):
        return [float(score == highest) for score in scores]
    shares = [math.exp(score - highest) for score in scores]
    return [share / math.fsum(shares) for share in shares]
