"""Statistics, against brute force and what is known in closed form."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import comb, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.errors import DataError
from llava_cot.evaluation import statistics
from llava_cot.evaluation.statistics import (
    MeanEstimate,
    headline,
    holm,
    mcnemar,
    mean_with_interval,
    paired,
    paired_headline,
    sign_flip,
    wilson,
)
from llava_cot.evaluation.types import Metric, Unit


def units(values: list[float], clusters: list[str] | None = None, prefix: str = "q") -> tuple[Unit, ...]:
    """A unit a value, each its own cluster unless told otherwise."""
    names = [f"{prefix}{i}" for i in range(len(values))]
    owned = zip(names, values, clusters or names, strict=True)
    return tuple(Unit(name, value, "", cluster) for name, value, cluster in owned)


def half(figure: MeanEstimate) -> float:
    return (figure.high - figure.low) / 2


def test_wilson_holds_its_limits_by_their_definition() -> None:
    """A limit p is where the observed share is 1.96 standard errors of p away."""
    for right, count in ((1, 10), (5, 10), (37, 100), (999, 1000)):
        for limit in wilson(right, count):
            errors = (right / count - limit) / sqrt(limit * (1 - limit) / count)
            assert abs(errors) == pytest.approx(1.959964, abs=1e-5)
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1


@pytest.mark.parametrize("count", [20, 100])
def test_wilson_covers_the_truth_in_95_of_100_runs(count: int) -> None:
    """By adding up the probability of every outcome whose interval holds the truth."""
    covered = []
    for truth in np.linspace(0.05, 0.95, 91):
        inside = (
            comb(count, right) * truth**right * (1 - truth) ** (count - right)
            for right in range(count + 1)
            if wilson(right, count)[0] <= truth <= wilson(right, count)[1]
        )
        covered.append(sum(inside))
    assert np.mean(covered) == pytest.approx(0.95, abs=0.01)
    assert min(covered) > 0.90


def test_right_and_wrong_questions_have_wilsons_interval() -> None:
    low, high = wilson(3, 4)
    assert mean_with_interval(units([1, 0, 1, 1])) == MeanEstimate(75, 100 * low, 100 * high)


def test_questions_that_always_go_together_count_as_one() -> None:
    doubled = units([1, 1, 0, 0, 1, 1, 1, 1], list("aabbccdd"))
    assert mean_with_interval(doubled) == mean_with_interval(units([1, 0, 1, 1]))


def test_all_right_is_not_known_to_the_last_digit() -> None:
    figure = mean_with_interval(units([1] * 5, list("aabcc")))
    assert (figure.low, figure.high) == (100 * wilson(3, 3)[0], 100)


def test_of_one_group_of_questions_nothing_is_known() -> None:
    assert mean_with_interval(units([1, 0, 0, 0], list("aaaa"))) == MeanEstimate(25, 0, 100)


def test_bootstrap_has_the_analytic_standard_error() -> None:
    values = list(np.random.default_rng(0).random(500))
    error = np.std(values) / sqrt(500)
    assert half(mean_with_interval(units(values))) == pytest.approx(100 * 1.96 * error, rel=0.06)


def test_clusters_that_agree_widen_the_interval() -> None:
    """Clusters of one size: the error is that of the mean of the clusters' means."""
    rng = np.random.default_rng(1)
    share = rng.random(200)
    values = [float(rng.random() < share[i // 5]) for i in range(1000)]
    figure = mean_with_interval(units(values, [str(i // 5) for i in range(1000)]))
    error = np.std(np.reshape(values, (200, 5)).mean(axis=1)) / sqrt(200)
    assert half(figure) == pytest.approx(100 * 1.96 * error, rel=0.06)
    assert half(figure) > 1.2 * half(mean_with_interval(units(values)))


def test_seeds_of_one_question_are_averaged_first() -> None:
    runs = [[1.0, 0, 1, 0, 1], [1, 1, 1, 0, 0], [1, 0, 1, 0, 1]]
    together = [unit for run in runs for unit in units(run)]
    averaged = units(list(np.mean(runs, axis=0)))
    assert mean_with_interval(together) == mean_with_interval(averaged)
    same = units([1.0, 0, 1, 0]) * 10  # ten seeds that agree are worth no more than one
    assert mean_with_interval(same) == mean_with_interval(units([1.0, 0, 1, 0]))


def test_headline_is_the_mean_of_means_and_draws_questions_together() -> None:
    rng = np.random.default_rng(2)
    first = [float(x) for x in rng.random(400)]
    a, b = Metric("a", units(first)), Metric("b", units([1 - 0.9 * x for x in first]))
    figure = headline([a, b])
    assert figure.value == pytest.approx(50 + 5 * np.mean(first))
    error = np.std(first) / sqrt(400)  # of which a twentieth is left: what one loses the other wins
    assert half(figure) == pytest.approx(100 * 1.96 * error / 20, rel=0.06)
    apart = headline([a, Metric("b", units([1 - x for x in first], prefix="r"))])
    assert half(apart) == pytest.approx(
        100 * 1.96 * error / sqrt(2), rel=0.12
    )  # their numbers vary too, a little
    uneven = headline([Metric("a", units([1.0] * 9 + [0])), Metric("b", units([0.0, 1]))])
    assert uneven.value == pytest.approx(70)


def test_headline_of_one_metric_is_that_metric() -> None:
    metric = Metric("overall", units([1, 0, 1, 1]))
    assert headline([metric]) == mean_with_interval(metric.units)
    assert headline([metric, metric]) == mean_with_interval(metric.units)  # two seeds
    full = headline([Metric("a", units([1] * 4)), Metric("b", units([1] * 2))])
    assert (full.value, full.low, full.high) == (100, 100 * wilson(2, 2)[0], 100)


def test_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one question"):
        mean_with_interval([])
    with pytest.raises(ValueError, match="at least one"):
        headline([])
    with pytest.raises(ValueError, match="share no question"):
        paired(units([1]), units([1], prefix="r"))
    with pytest.raises(ValueError, match="by name"):
        paired_headline([Metric("a", units([1]))], [Metric("b", units([1]))])


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 5), (8, 2), (0, 12), (130, 90)])
def test_mcnemar_adds_up_all_splits_that_are_no_likelier(won: int, lost: int) -> None:
    count = won + lost
    ways = [comb(count, i) for i in range(count + 1)]
    assert mcnemar(won, lost) == pytest.approx(
        float(Fraction(sum(w for w in ways if w <= ways[won]), 2**count))
    )


def test_mcnemar_of_many_pairs_does_not_overflow() -> None:
    assert mcnemar(20_000, 20_200) == pytest.approx(0.3208, abs=0.002)  # by the normal approximation
    assert mcnemar(20_000, 0) == 0


@given(st.lists(st.integers(-10, 10).map(lambda x: x / 10), max_size=8))
def test_sign_flip_tries_all_signs(values: list[float]) -> None:
    tenths = [round(10 * value) for value in values]
    sums = [
        abs(sum(s * v for s, v in zip(signs, tenths, strict=True)))
        for signs in product((1, -1), repeat=len(tenths))
    ]
    assert sign_flip(values) == pytest.approx(sum(s >= abs(sum(tenths)) for s in sums) / len(sums))


def test_sign_flip_by_draws_is_close_to_all_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(np.random.default_rng(3).normal(0.3, 1, 12))
    exact = sign_flip(values)
    assert 0.05 < exact < 0.9
    monkeypatch.setattr(statistics, "_ALL_FLIPS", 0)
    assert sign_flip(values) == pytest.approx(exact, abs=0.02)
    ones = [1.0] * 40 + [-1.0] * 20
    assert sign_flip(ones) == pytest.approx(mcnemar(40, 20), abs=0.004)


def test_pairs_of_right_and_wrong() -> None:
    a, b = [1.0] * 60 + [0] * 40, [1.0] * 55 + [0] * 5 + [1] * 20 + [0] * 20
    found = paired(units(a), units(b))
    assert (found.won, found.lost, found.count, found.test) == (20, 5, 100, "McNemar")
    assert found.value == pytest.approx(15)
    assert found.p == mcnemar(20, 5)
    error = sqrt(25 - 15**2 / 100) / 100  # Wald's, close at such a size
    assert (found.high - found.low) / 2 == pytest.approx(100 * 1.96 * error, rel=0.03)
    back = paired(units(b), units(a))
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_interval_of_pairs_covers_the_truth() -> None:
    """Every outcome of 25 pairs of which a fifth is won and a tenth lost, by its probability."""
    count, win, lose, covered = 25, 0.2, 0.1, 0.0
    for won in range(count + 1):
        for lost in range(count + 1 - won):
            low, high = statistics._agresti_min(won, lost, count)
            if low <= win - lose <= high:
                ways = comb(count, won) * comb(count - won, lost)
                covered += ways * win**won * lose**lost * (1 - win - lose) ** (count - won - lost)
    assert 0.93 < covered < 0.98


def test_pairs_of_grades_and_of_clusters_are_exchanged_whole() -> None:
    rng = np.random.default_rng(4)
    a = [float(x) for x in rng.random(10)]
    b = [min(1.0, x + 0.05 * rng.random()) for x in a]
    graded = paired(units(a), units(b))
    assert (graded.test, graded.won, graded.p) == ("sign flip", 10, 2 / 2**10)
    assert 0 < graded.low < graded.value < graded.high
    clusters = list("aaaaabbbbb")
    right = paired(units([0.0] * 10, clusters), units([1.0] * 10, clusters))
    assert (right.test, right.p) == ("sign flip", 0.5)  # two clusters, four ways, two as far


def test_pairs_over_shared_questions_alone_and_over_seeds() -> None:
    assert paired(units([1, 0, 1]), units([1, 1])).count == 2
    a = units([1.0, 0, 0, 1]) + units([0.0, 0, 0, 1])
    found = paired(a, units([1.0, 1, 0, 1]))
    assert found.value == pytest.approx(37.5)
    assert (found.won, found.lost, found.test) == (2, 0, "sign flip")
    assert found.p == 0.5


def test_pairs_that_do_not_differ_are_not_known_to_be_the_same() -> None:
    for values in ([1.0, 0, 1, 0, 1], [0.5, 0.3, 0, 1, 1]):
        found = paired(units(values), units(values))
        assert (found.value, found.p) == (0, 1)
        assert found.low < -10 and found.high > 10


def test_paired_headline_is_the_difference_of_headlines() -> None:
    rng = np.random.default_rng(5)
    first, second = ([float(x < 0.5) for x in rng.random(300)] for _ in range(2))
    a = [Metric("x", units(first)), Metric("y", units(first[:100]))]
    b = [Metric("x", units(second)), Metric("y", units(second[:100]))]
    found = paired_headline(a, b)
    assert found.value == pytest.approx(headline(b).value - headline(a).value)
    assert found.count == 400
    assert found.low < found.value < found.high
    alone = paired_headline(a[:1], b[:1])
    assert alone == paired(a[0].units, b[0].units)


def test_holm_by_hand_and_in_order() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_as_the_step_down_procedure_does(ps: list[float]) -> None:
    adjusted = holm(ps)
    for level in (0.01, 0.05, 0.2, 0.5):
        rejected = set()
        for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
            if (len(ps) - rank) * ps[i] > level:
                break
            rejected.add(i)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 3)), min_size=1, max_size=12))
def test_the_mean_is_in_its_interval(drawn: list[tuple[int, int]]) -> None:
    figure = mean_with_interval(units([v / 10 for v, _ in drawn], [str(c) for _, c in drawn]))
    assert 0 <= figure.low <= figure.value + 1e-9 and figure.value - 1e-9 <= figure.high <= 100 + 1e-9
    assert figure.value == pytest.approx(10 * sum(v for v, _ in drawn) / len(drawn))


def test_without_scipy_the_error_has_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        DataError, match=r"statistics needs scipy.*pip install -c constraints.txt -e '\.\[eval\]'"
    ):
        statistics.check_scipy()
