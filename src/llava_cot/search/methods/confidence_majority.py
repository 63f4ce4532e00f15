"""Voting weighted by the model's own confidence, with an early stop (DeepConf, arXiv 2508.15260).

The confidence of an answer is the geometric mean of its tokens' probabilities. The paper takes the k most
likely tokens at each place instead, which not every model gives, and thousands of tokens an answer, of which
it can take the least confident part; the answers here are short.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llava_cot.core.trace import Candidate
from llava_cot.errors import ModelError
from llava_cot.search.judges.likelihood import count_tokens
from llava_cot.search.methods.base import method
from llava_cot.search.methods.majority import ballot
from llava_cot.search.methods.weighted import elect_weighted, weight_by_answer
from llava_cot.search.search import Search

SHARE = 0.95  # of the weight, at which the leading answer has won: the paper's threshold
FIRST = 4  # votes before that is looked at; the paper warms up with 16 samples of up to 512


@method("confidence-majority", n=8, logprobs=True)
async def confidence_majority(search: Search) -> None:
    """Sample up to n whole answers, until one has nearly all weight; keep the most confident that gives it.

    They are the first ones that `majority` samples with the same seed. Each step samples the fewest answers
    after which one could have won. Samples without an answer do not vote; `rng` settles ties.
    """
    candidates: list[Candidate] = []
    ballots: list[str] = []
    weights: list[float] = []
    search.begin("answer")
    while count := min(needed(ballots, weights), search.n - len(candidates)):
        candidates += await search.more(count)
        ballots = [ballot(candidate.text, search.question, search.fmt) for candidate in candidates]
        weights = [confidence(candidate) for candidate in candidates]
    elected = elect_weighted(ballots, weights, search.rng)
    electors = [i for i in range(len(candidates)) if ballots[i] == elected]
    search.keep(candidates[max(electors, key=weights.__getitem__)])


def needed(ballots: Sequence[str], weights: Sequence[float]) -> int:
    """The fewest further votes, of a weight up to 1, after which an answer could have won; 0 if one has."""
    votes = weight_by_answer(ballots, weights)
    cast = sum(map(bool, ballots))
    if cast < FIRST:
        return FIRST - cast
    total, leading = math.fsum(votes.values()), max(votes.values())
    more = 0
    while leading + more < SHARE * (total + more):
        more += 1
    return more


def confidence(candidate: Candidate) -> float:
    """The geometric mean of the probabilities of its tokens. Raises ModelError where they are not known."""
    if candidate.logprob is None:
        raise ModelError(
            "the method confidence-majority needs log-probabilities, which this model does not give; "
            "choose majority"
        )
    return math.exp(candidate.logprob / count_tokens(candidate))
