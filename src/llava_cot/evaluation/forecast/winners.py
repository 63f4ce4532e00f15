"""Which of N random candidates of a prefix a judge keeps, computed from more candidates than N.

All M candidates of a node are alike distributed and independent, so that any N of them are what a search
with N candidates would have sampled. The weight of a candidate is the chance that it is among N random ones
and is kept; the mean over all choices of N out of M is the estimate with the least variance (a
U-statistic).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations
from math import comb

from llava_cot.core.trace import Usage
from llava_cot.evaluation.forecast.candidate_tree import PoolNode
from llava_cot.search.methods.weighted import softmax

_MOST_SUBSETS = 500  # that are tried where the choices of N out of M are more


@dataclass(frozen=True)
class NodeJudgment:
    """What a judge found at a node.

    Attributes:
        scores: Of each candidate; None for a judge that compares candidates.
        winners: For such a judge: by N, which of N random candidates won a tournament.
        duels: Pairs of random candidates that it compared: the first, the second, and the share of the first,
            1 if it won, 0 if it lost, and a half if the judge chose neither.
        spent: The cost of one score, or by N of one tournament.
        probability: Its scores can be added up as votes.
    """

    scores: tuple[float, ...] | None = None
    winners: Mapping[int, int] = field(default_factory=dict)
    duels: tuple[tuple[int, int, float], ...] = ()
    spent: Mapping[int, Usage] = field(default_factory=dict)
    probability: bool = False

    def weights(self, node: PoolNode, n: int) -> list[float]:
        """The chance of each candidate of the node to be kept of N."""
        if self.scores is not None:
            return weights_by_scores(self.scores, n)
        weights = [0.0] * len(node.candidates)
        weights[self.winners[n]] = 1.0
        return weights

    def order(self, node: PoolNode, first: Sequence[int], second: Sequence[int]) -> float | None:
        """The share of the first of two texts in this judge's eyes; None if it did not compare them."""
        if self.scores is not None:
            x, y = self.scores[first[0]], self.scores[second[0]]
            return 0.5 if x == y else float(x > y)
        found = [share for a, b, share in self.duels if a in first and b in second]
        found += [1 - share for a, b, share in self.duels if a in second and b in first]
        return sum(found) / len(found) if found else None


def weights_by_scores(scores: Sequence[float], n: int) -> list[float]:
    """The chance of each candidate to be among N random ones and to have the highest score there.

    Candidates of one score have equal chances, as in a tournament in which the seed settles draws.
    """
    count = len(scores)
    ways = comb(count, n)
    tied = Counter(scores)
    found: dict[float, float] = {}
    better = 0
    for score in sorted(tied, reverse=True):
        with_it = comb(count - better, n) - comb(count - better - tied[score], n)
        found[score] = with_it / ways / tied[score]
        better += tied[score]
    return [found[score] for score in scores]


def even_weights(node: PoolNode, n: int) -> list[float]:
    """The chances where one of the different texts among N is kept at random: a judge that knows nothing.

    It is below one sample, since it forgets how often each text was drawn.
    """
    texts = [one.text for one in node.candidates]
    weights = [0.0] * len(texts)
    chosen = subsets(len(texts), n)
    for subset in chosen:
        counts = Counter(texts[i] for i in subset)
        for i in subset:
            weights[i] += 1 / (len(counts) * counts[texts[i]] * len(chosen))
    return weights


def vote_weights(
    ballots: Sequence[str], n: int, scores: Sequence[float] | None = None, probability: bool = False
) -> list[float]:
    """The chance of each whole answer to be kept by a majority vote of N, or by one weighted by scores.

    As in `majority`, the first of those with the elected ballot is kept, and as in `weighted-best-of-n` the
    one with the highest score.
    """
    weights = [0.0] * len(ballots)
    chosen = subsets(len(ballots), n)
    for subset in chosen:
        if scores is None:
            votes = [1.0] * n
        else:
            cast = [scores[i] for i in subset]
            votes = cast if probability else softmax(cast)
        sums: dict[str, float] = {}
        for i, vote in zip(subset, votes, strict=True):
            if ballots[i]:
                sums[ballots[i]] = sums.get(ballots[i], 0.0) + vote
        most = max(sums.values(), default=0.0)
        elected = [one for one, total in sums.items() if abs(total - most) < 1e-12] or [""]
        for one in elected:
            electors = [i for i in subset if ballots[i] == one]
            if scores is not None:
                best = max(scores[i] for i in electors)
                electors = [i for i in electors if scores[i] == best]
            for i in electors:
                weights[i] += 1 / (len(chosen) * len(elected) * len(electors))
    return weights


@cache
def subsets(count: int, n: int) -> tuple[tuple[int, ...], ...]:
    """All choices of N out of so many, or some at random where there are too many."""
    if comb(count, n) <= _MOST_SUBSETS:
        return tuple(combinations(range(count), n))
    rng = random.Random(count * n)
    return tuple(tuple(rng.sample(range(count), n)) for _ in range(_MOST_SUBSETS))


def mean_different(node: PoolNode, n: int, *, compared: bool) -> float:
    """How many different texts N random candidates have; with `compared`, none where all are the same."""
    texts = [one.text for one in node.candidates]
    counts = [len({texts[i] for i in subset}) for subset in subsets(len(texts), n)]
    return sum(count for count in counts if count > 1 or not compared) / len(counts)


Weights = Callable[[PoolNode], Sequence[float]]
