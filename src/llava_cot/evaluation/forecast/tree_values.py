"""Values of searches over a tree of candidates, without new samples: the estimators.

At a node let candidates j = 1..M have outcomes m_j (the mean score of their completions, of which none had
a part in choosing them) and let w_j be the chance that a method keeps j. A search at this stage alone, with
one sample of all that follows, has the expected score sum(w_j m_j), and gains that less the mean of m_j
over plain sampling.

A search over all stages also gains later: after it keeps j, the value is m_j + d_j, where d_j is the gain
of the search over the stages below j. That is known for the first `branches` candidates only, which are
random ones. Its sum over all j is estimated with each known d_j divided by the chance that its text is
among those (Horvitz and Thompson 1952):

    V(node) = sum_j w_j m_j + sum_{texts g that are continued} (sum_{j in g} w_j) / q_g * d_g
    q_g = 1 - C(M - n_g, branches) / C(M, branches) for a text of n_g copies
    d_g = V(node below) - the mean of m over the candidates of the node below

so that V has no bias: its expectation is the score of a search that samples anew. It may lie outside 0 to 1
for one question. An oracle keeps the candidate that ends right most often. Chosen and scored by the same
completions it looks better than it is; chosen by all completions but one and scored by that one, it is what
a judge gains that has seen one completion less: the truth lies between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import comb
from statistics import fmean
from typing import Any, TypeAlias

import numpy as np

from llava_cot.evaluation.forecast.candidate_tree import PoolNode
from llava_cot.evaluation.forecast.winners import NodeJudgment, Weights, weights_by_scores

COSTS = 7  # numbers that make up a cost: see `question_forecast`
Costs: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"


def plain_value(node: PoolNode) -> float:
    """The expected score of one sample of all that follows."""
    return fmean(one.value for one in node.candidates)


def text_values(node: PoolNode) -> list[float]:
    """The value of each candidate, by the completions of all candidates with its text."""
    values = [0.0] * len(node.candidates)
    for members in node.groups.values():
        value = fmean(node.candidates[i].value for i in members)
        for i in members:
            values[i] = value
    return values


def gain_here(node: PoolNode, weights: Weights) -> float:
    """The gain of a choice at this node alone."""
    chances = zip(weights(node), text_values(node), strict=True)
    return sum(weight * value for weight, value in chances) - plain_value(node)


def gain_from_here(node: PoolNode, weights: Weights) -> float:
    """The gain of a choice at this node and at all below it, over one sample of all that follows."""
    gain = gain_here(node, weights)
    for weight, continued in _continued(node, weights(node)):
        gain += weight * fmean(
            0.0 if below is None else gain_from_here(below, weights) for below in continued
        )
    return gain


def _continued(node: PoolNode, chances: Sequence[float]) -> Iterator[tuple[float, list[PoolNode | None]]]:
    """For each text that is continued: its chance to be kept over that to be continued; what follows it."""
    count = len(node.candidates)
    for members in node.groups.values():
        chosen = sum(chances[i] for i in members)
        continued = [node.candidates[i].node for i in members if i < node.branches]
        if continued and chosen:
            known = 1 - comb(count - len(members), node.branches) / comb(count, node.branches)
            yield chosen / known, continued


def over_prefixes(node: PoolNode, stage: str, of: Callable[[PoolNode], float]) -> float:
    """The mean of a quantity over the sampled prefixes of a stage; 0 for one that does not come to it."""
    if node.stage == stage:
        return of(node)
    below = (one.node for one in node.candidates[: node.branches])
    return fmean(0.0 if one is None else over_prefixes(one, stage, of) for one in below)


def sum_over_stages(node: PoolNode, of: Callable[[PoolNode], Costs], weights: Weights) -> Costs:
    """The sum of costs of nodes along an answer.

    What follows is the mean over the prefixes that are continued, weighted as in `gain_from_here`, but by
    weights that add up to 1: costs differ less between prefixes than such weights do between questions.
    """

    def below(nodes: Sequence[PoolNode | None]) -> Costs:
        sums = [sum_over_stages(one, of, weights) for one in nodes if one is not None]
        return sum(sums, np.zeros(COSTS)) / max(1, len(nodes))

    continued = list(_continued(node, weights(node)))
    if continued:
        total = sum(weight for weight, _ in continued)
        later = sum((weight / total * below(nodes) for weight, nodes in continued), np.zeros(COSTS))
    else:  # none of those that are continued is ever kept
        later = below([one.node for one in node.candidates[: node.branches]])
    return of(node) + later


def oracle_gain(node: PoolNode, n: int) -> tuple[float, float]:
    """The gain of an oracle over N at this node alone: at least, and at most, in expectation."""
    groups = list(node.groups.values())
    most = gain_here(node, lambda node: weights_by_scores(text_values(node), n))
    rounds = max(len(one.outcomes) for one in node.candidates)
    least = 0.0
    for left_out in range(rounds):
        seen, scored = [0.0] * len(node.candidates), [0.0] * len(node.candidates)
        for members in groups:
            outcomes = [_split(node.candidates[i].outcomes, left_out) for i in members]
            for i in members:
                seen[i] = fmean(value for others, _ in outcomes for value in others)
                scored[i] = fmean(one for _, one in outcomes)
        chances = weights_by_scores(seen, n)
        least += sum(chance * score for chance, score in zip(chances, scored, strict=True)) / rounds
    return least - plain_value(node), most


def _split(outcomes: Sequence[float], left_out: int) -> tuple[Sequence[float], float]:
    """The outcomes without one, and that one; a candidate that ends the answer has a single one."""
    if len(outcomes) == 1:
        return outcomes, outcomes[0]
    return [*outcomes[:left_out], *outcomes[left_out + 1 :]], outcomes[left_out]


def right_wrong_pairs(node: PoolNode, judgment: NodeJudgment) -> Iterator[float]:
    """For each right and wrong text that a judge compared: 1 if it orders them rightly, a half for a draw.

    A text is right if all of its completions are, and wrong if none is.
    """
    values = text_values(node)
    groups = list(node.groups.values())
    right = [members for members in groups if values[members[0]] == 1]
    wrong = [members for members in groups if values[members[0]] == 0]
    for good in right:
        for bad in wrong:
            share = judgment.order(node, good, bad)
            if share is not None:
                yield share
