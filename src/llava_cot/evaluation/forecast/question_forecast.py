"""What one question's pool says of every method: its gain over one sample, and its cost.

The gain of a method is measured against the plain samples of the same part of the pool (whole answers, or
the tree), so that both have the same luck; the score of one sample is the mean over all answers of the
pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from llava_cot.core.trace import Usage
from llava_cot.evaluation.forecast.candidate_tree import PoolNode, QuestionPool
from llava_cot.evaluation.forecast.tree_values import (
    COSTS,
    Costs,
    gain_from_here,
    gain_here,
    oracle_gain,
    over_prefixes,
    right_wrong_pairs,
    sum_over_stages,
)
from llava_cot.evaluation.forecast.winners import (
    NodeJudgment,
    even_weights,
    mean_different,
    vote_weights,
    weights_by_scores,
)
from llava_cot.search.request import Spec

WHOLE = "whole answers"  # among the stages; a format may have a stage of the name "answer"
EVEN = "even choice"  # among different texts: what a judge does that knows nothing

# The numbers of a cost, in this order.
WRITTEN, READ, CALLS, JUDGE_WRITTEN, JUDGE_READ, JUDGE_CALLS, JUDGE_USD = range(COSTS)


@dataclass(frozen=True)
class GreedyAnswer:
    """The greedy answer: its score, and what it wrote."""

    score: float
    written: int


@dataclass
class QuestionForecast:
    """What the pool of a question says.

    Attributes:
        single: The score of one sample.
        greedy: The score of the greedy answer.
        gains: By a method's spec, its score less that of one sample.
        costs: By a method's spec.
        one_of: By N, the chance that one of N whole answers is right (pass@N).
        oracles: By stage and N, the gain of an oracle there: at least, and at most.
        stage_gains: By judge, stage and N, the gain of this judge there alone.
        pairs: By judge and stage, for each right and wrong pair whether the judge orders it rightly.
    """

    single: float
    greedy: float
    gains: dict[str, float] = field(default_factory=dict)
    costs: dict[str, Costs] = field(default_factory=dict)
    one_of: dict[int, float] = field(default_factory=dict)
    oracles: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    stage_gains: dict[tuple[str, str, int], float] = field(default_factory=dict)
    pairs: dict[tuple[str, str], list[float]] = field(default_factory=dict)


def forecast_question(
    pool: QuestionPool,
    greedy: GreedyAnswer,
    judgments: Mapping[str, Sequence[NodeJudgment]],
    stages: Sequence[str],
    ns: Sequence[int],
    prompt_tokens: float,
) -> QuestionForecast:
    """Estimate all methods for one question.

    Args:
        pool: Its pool.
        greedy: Its greedy answer.
        judgments: By judge, what it found at `nodes_of(pool)`.
        stages: The names of the stages.
        ns: The numbers of candidates.
        prompt_tokens: The length of the question with its pictures.
    """
    sampled = [one.outcomes for node in (pool.answers, pool.tree) for one in node.candidates]
    found = QuestionForecast(fmean(score for outcomes in sampled for score in outcomes), greedy.score)
    reading = _Reading(prompt_tokens)
    one_answer = reading.samples(pool.answers, 1)
    found.gains["single"], found.costs["single"] = 0.0, one_answer
    found.gains["greedy"] = greedy.score - found.single
    found.costs["greedy"] = one_answer.copy()
    found.costs["greedy"][WRITTEN] = greedy.written
    for n in ns:
        _add_without_judge(found, pool, stages, n, reading)
    for judge, of_nodes in judgments.items():
        nodes = nodes_of(pool)
        by_node = {id(node): one for node, one in zip(nodes, of_nodes, strict=True)}
        for node, one in zip(nodes, of_nodes, strict=True):
            stage = WHOLE if node is pool.answers else node.stage
            found.pairs.setdefault((judge, stage), []).extend(right_wrong_pairs(node, one))
        for n in ns:
            _add_judge(found, pool, judge, by_node, stages, n, reading)
    return found


def nodes_of(pool: QuestionPool) -> list[PoolNode]:
    """The nodes that a judge looks at: the whole answers, then those of the tree."""
    return [pool.answers, *pool.tree.nodes()]


def _add_without_judge(
    found: QuestionForecast, pool: QuestionPool, stages: Sequence[str], n: int, reading: _Reading
) -> None:
    answers, tree = pool.answers, pool.tree
    values = [one.value for one in answers.candidates]
    found.one_of[n] = sum(
        weight * value for weight, value in zip(weights_by_scores(values, n), values, strict=True)
    )
    votes = vote_weights(pool.ballots, n)
    _add(found, Spec("majority", n), gain_here(answers, lambda node: votes), reading.samples(answers, n))
    for stage in stages:
        least = over_prefixes(tree, stage, lambda node: oracle_gain(node, n)[0])
        most = over_prefixes(tree, stage, lambda node: oracle_gain(node, n)[1])
        found.oracles[stage, n] = least, most
    found.oracles[WHOLE, n] = oracle_gain(answers, n)
    _stage_gains(found, EVEN, pool, stages, n, lambda node: even_weights(node, n))


def _add_judge(
    found: QuestionForecast,
    pool: QuestionPool,
    judge: str,
    by_node: Mapping[int, NodeJudgment],
    stages: Sequence[str],
    n: int,
    reading: _Reading,
) -> None:
    def weights(node: PoolNode) -> list[float]:
        return by_node[id(node)].weights(node, n)

    def cost(node: PoolNode) -> Costs:
        return reading.samples(node, n) + _tournament_cost(node, by_node[id(node)], n)

    answers, tree = pool.answers, pool.tree
    _add(found, Spec("best-of-n", n, judge), gain_here(answers, weights), cost(answers))
    _add(
        found,
        Spec("stage-beam", n, judge),
        gain_from_here(tree, weights),
        sum_over_stages(tree, cost, weights),
    )
    whole = by_node[id(answers)]
    if whole.scores is not None:
        votes = vote_weights(pool.ballots, n, whole.scores, whole.probability)
        scoring = mean_different(answers, n, compared=False) * _judging(whole.spent.get(1))
        weighted = gain_here(answers, lambda node: votes)
        _add(found, Spec("weighted-best-of-n", n, judge), weighted, reading.samples(answers, n) + scoring)
    _stage_gains(found, judge, pool, stages, n, weights)


def _add(found: QuestionForecast, spec: Spec, gain: float, cost: Costs) -> None:
    found.gains[spec.name], found.costs[spec.name] = gain, cost


def _stage_gains(
    found: QuestionForecast,
    judge: str,
    pool: QuestionPool,
    stages: Sequence[str],
    n: int,
    weights: Callable[[PoolNode], Sequence[float]],
) -> None:
    for stage in stages:
        found.stage_gains[judge, stage, n] = over_prefixes(
            pool.tree, stage, lambda node: gain_here(node, weights)
        )
    found.stage_gains[judge, WHOLE, n] = gain_here(pool.answers, weights)


@dataclass(frozen=True)
class _Reading:
    """What samples cost: each reads the prompt and its prefix."""

    prompt_tokens: float

    def samples(self, node: PoolNode, n: int) -> Costs:
        """The cost of N candidates of a node."""
        costs = np.zeros(COSTS)
        costs[WRITTEN] = n * fmean(one.candidate.completion_tokens for one in node.candidates)
        costs[READ] = n * (self.prompt_tokens + sum(one.completion_tokens for one in node.path))
        costs[CALLS] = n
        return costs


def _tournament_cost(node: PoolNode, judgment: NodeJudgment, n: int) -> Costs:
    """The cost of the judge in a tournament of N; one that goes by scores scores each different text once."""
    if judgment.scores is None:
        return _judging(judgment.spent[n])
    return mean_different(node, n, compared=True) * _judging(judgment.spent.get(1))


def _judging(usage: Usage | None) -> Costs:
    costs = np.zeros(COSTS)
    if usage is not None:
        costs[JUDGE_WRITTEN], costs[JUDGE_READ] = usage.completion_tokens, usage.prompt_tokens
        costs[JUDGE_CALLS], costs[JUDGE_USD] = usage.model_calls, usage.usd or 0.0
    return costs
