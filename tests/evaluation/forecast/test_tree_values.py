"""The estimators, against a model whose tree of outcomes is fully known."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from math import comb, sqrt
from statistics import fmean, stdev

import known_tree
import pytest
from known_tree import FMT, RIGHT, beam_value, chances, draw, value, whole_value

from llava_cot.core.trace import Candidate
from llava_cot.evaluation.forecast.candidate_tree import PoolCandidate, PoolNode
from llava_cot.evaluation.forecast.tree_values import (
    gain_from_here,
    gain_here,
    oracle_gain,
    over_prefixes,
    plain_value,
    right_wrong_pairs,
)
from llava_cot.evaluation.forecast.winners import (
    NodeJudgment,
    even_weights,
    vote_weights,
    weights_by_scores,
)

QUESTIONS = 800
SAMPLES = 6


def path_of(node: PoolNode) -> tuple[str, ...]:
    return tuple(one.text for one in node.path)


def sampled(rng: random.Random, samples: int, branches: int, completions: int) -> PoolNode:
    """A tree of random candidates."""

    def outcome(path: tuple[str, ...]) -> float:
        while len(path) < len(FMT.names):
            path = (*path, draw(path, rng))
        return float(path[-1] == RIGHT)

    def node(path: tuple[Candidate, ...]) -> PoolNode:
        texts = tuple(one.text for one in path)
        stage = FMT.names[len(path)]
        found = []
        for number in range(samples):
            candidate = Candidate(id=0, parent=None, round=0, stage=stage, text=draw(texts, rng))
            ends = len(path) == len(FMT.names) - 1
            outcomes = [outcome((*texts, candidate.text)) for _ in range(1 if ends else completions)]
            below = node((*path, candidate)) if number < branches and not ends else None
            found.append(PoolCandidate(candidate, tuple(outcomes), ends, below))
        return PoolNode(stage, path, tuple(found), branches)

    return node(())


@cache
def trees(branches: int) -> list[PoolNode]:
    rng = random.Random(branches)
    return [sampled(rng, SAMPLES, branches, 3) for _ in range(QUESTIONS)]


def wise(path: tuple[str, ...]) -> float:
    """Knows good looks from bad ones, draws two thoughts, and half knows the answers."""
    return {"good": 2, "fair": 1, "sound": 3, "odd": 3, RIGHT: 1}.get(path[-1], 0)


def foolish(path: tuple[str, ...]) -> float:
    return -value(path)


def ideal(path: tuple[str, ...]) -> float:
    return value(path)


def by(scores: Callable[[tuple[str, ...]], float], n: int) -> Callable[[PoolNode], list[float]]:
    def weights(node: PoolNode) -> list[float]:
        path = path_of(node)
        return weights_by_scores([scores((*path, one.text)) for one in node.candidates], n)

    return weights


def assert_mean(values: list[float], truth: float) -> None:
    """Within four standard errors of the truth."""
    error = stdev(values) / sqrt(len(values))
    assert fmean(values) == pytest.approx(truth, abs=4 * error + 1e-9)
    assert error < 0.04


@pytest.mark.parametrize("branches", [1, 2])
@pytest.mark.parametrize(("n", "scores"), [(1, wise), (2, foolish), (4, ideal), (6, wise)])
def test_a_beam_is_estimated_without_bias(scores: known_tree.Scores, n: int, branches: int) -> None:
    gains = [gain_from_here(tree, by(scores, n)) for tree in trees(branches)]
    if n == 1:
        # What is gained by choosing among one is not 0 for each question: texts share their completions.
        assert fmean(gains) == pytest.approx(0, abs=0.02)
    assert_mean(gains, beam_value(n, scores) - value())


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_choice_at_one_stage_alone(at: int) -> None:
    gains = [
        over_prefixes(tree, FMT.names[at], lambda node: gain_here(node, by(wise, 4))) for tree in trees(2)
    ]
    assert_mean(gains, beam_value(4, wise, stages=(at,)) - value())


@pytest.mark.parametrize("at", [0, 1, 2])
def test_an_oracle_lies_between_its_bounds(at: int) -> None:
    bounds = [
        [over_prefixes(tree, FMT.names[at], lambda node, i=i: oracle_gain(node, 4)[i]) for tree in trees(2)]  # type: ignore[misc]
        for i in (0, 1)
    ]
    truth = beam_value(4, ideal, stages=(at,)) - value()
    least, most = map(fmean, bounds)
    assert least - 0.02 < truth < most + 0.02
    if at == 2:  # an answer is right or wrong for certain
        assert least == pytest.approx(most)
        assert_mean(bounds[0], truth)


def test_plain_samples() -> None:
    assert_mean([plain_value(tree) for tree in trees(1)], value())


def whole(rng: random.Random, count: int) -> PoolNode:
    found = []
    for _ in range(count):
        path: tuple[str, ...] = ()
        while chances(path):
            path = (*path, draw(path, rng))
        candidate = Candidate(id=0, parent=None, round=0, stage="answer", text=" ".join(path))
        found.append(PoolCandidate(candidate, (float(path[-1] == RIGHT),), True))
    return PoolNode("answer", (), tuple(found))


@pytest.mark.parametrize("n", [2, 5])
def test_best_of_n_pass_at_n_and_majority(n: int) -> None:
    rng = random.Random(n)
    nodes = [whole(rng, 7) for _ in range(QUESTIONS)]

    def judged(text: str) -> float:
        return value(tuple(text.split())[:2])  # knows thoughts, not answers

    def over(weights: Callable[[PoolNode], list[float]]) -> list[float]:
        return [
            sum(weight * one.value for weight, one in zip(weights(node), node.candidates, strict=True))
            for node in nodes
        ]

    def scores(path: tuple[str, ...]) -> float:
        return value(path[:2])

    best = over(lambda node: weights_by_scores([judged(one.text) for one in node.candidates], n))
    assert_mean(best, whole_value(n, scores))
    right = value()
    one_right = over(lambda node: weights_by_scores([one.value for one in node.candidates], n))
    assert_mean(one_right, 1 - (1 - right) ** n)
    majority = over(lambda node: vote_weights([one.text.split()[-1] for one in node.candidates], n))
    ways = [comb(n, k) * right**k * (1 - right) ** (n - k) for k in range(n + 1)]
    assert_mean(majority, sum(way * (k > n / 2) + way * (k == n / 2) / 2 for k, way in enumerate(ways)))


def test_a_vote_that_is_weighted_keeps_the_best_scored_of_the_elected() -> None:
    weights = vote_weights(["a", "b", "b", ""], 4, [0.9, 0.4, 0.7, 1.0], probability=True)
    assert weights == [0, 0, 1, 0]
    assert vote_weights(["a", "b", "b", ""], 4, [0.9, 0.2, 0.3, 1.0], probability=True) == [1, 0, 0, 0]
    assert vote_weights(["", ""], 2) == [0.5, 0.5]


def test_even_choice_forgets_how_often_a_text_was_drawn() -> None:
    rng = random.Random(5)
    nodes = [whole(rng, 5) for _ in range(300)]
    for node in nodes[:20]:
        assert sum(even_weights(node, 3)) == pytest.approx(1)
    same = PoolNode("answer", (), (nodes[0].candidates[0],) * 3 + (nodes[1].candidates[0],))
    if same.candidates[0].text != same.candidates[3].text:
        assert even_weights(same, 4) == pytest.approx([1 / 6] * 3 + [1 / 2])


def test_pairs_of_a_right_and_a_wrong_text() -> None:
    def made(text: str, *outcomes: float) -> PoolCandidate:
        return PoolCandidate(
            Candidate(id=0, parent=None, round=0, stage="look", text=text), outcomes, ends=False
        )

    node = PoolNode(
        "look", (), (made("a", 1, 1), made("b", 0, 0), made("c", 1, 0), made(" a", 1, 1), made("d", 0, 0))
    )
    assert list(right_wrong_pairs(node, NodeJudgment((2, 1, 5, 2, 3)))) == [1, 0]
    assert list(right_wrong_pairs(node, NodeJudgment((2, 2, 5, 2, 1)))) == [0.5, 1]
    compared = NodeJudgment(None, {}, ((1, 3, 0.0), (0, 1, 0.5), (2, 4, 1.0)))
    assert list(right_wrong_pairs(node, compared)) == [0.75]
