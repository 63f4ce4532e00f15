"""Majority voting that stops once the majority is stable (adaptive-consistency, arXiv 2305.11860).

Only the two most frequent answers count: with a and b votes and a uniform prior, the first one's share of
their votes in the long run is distributed as Beta(a + 1, b + 1). The majority is stable if that share is
above one half with probability `STABLE`.
"""

from __future__ import annotations

from collections import Counter

from llava_cot.core.trace import Candidate
from llava_cot.search.methods.base import method
from llava_cot.search.methods.majority import ballot, elect
from llava_cot.search.search import Search

STABLE = 0.95  # the paper's threshold


@method("adaptive-majority")
async def adaptive_majority(search: Search) -> None:
    """Sample whole answers until their majority is stable, at most n, and keep as `majority` does.

    They are the first ones that `majority` samples with the same seed. Each step samples the fewest answers
    that could make the majority stable, so that none is sampled that one at a time would not have been.
    """
    candidates: list[Candidate] = []
    votes = Counter[str]()
    search.begin("answer")
    while count := min(needed(votes), search.n - len(candidates)):
        added = await search.more(count)
        ballots = (ballot(candidate.text, search.question, search.fmt) for candidate in added)
        votes.update(filter(None, ballots))
        candidates += added
    search.keep(elect(candidates, search.question, search.fmt, search.rng))


def needed(votes: Counter[str]) -> int:
    """The fewest further votes that could make the majority stable; 0 if it is."""
    a, b = ([count for _, count in votes.most_common(2)] + [0, 0])[:2]
    more = 0
    while stability(a + more, b) < STABLE:
        more += 1
    return more


def stability(a: int, b: int) -> float:
    """The probability that X > 1/2, where X is distributed as Beta(a + 1, b + 1); exact.

    It equals the probability of at most `a` heads in a + b + 1 tosses of a fair coin.
    """
    tosses = a + b + 1
    ways = tail = 1
    for heads in range(a):
        ways = ways * (tosses - heads) // (heads + 1)  # ways to have one head more
        tail += ways
    return tail / (1 << tosses)
