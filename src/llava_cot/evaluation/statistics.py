"""Statistics of reports: means with 95% intervals, paired differences and their p-values.

Owns the arithmetic over the units of metrics. Knows no benchmark, model or file.

Whose uncertainty an interval is: that of the questions, as if they had been drawn from many like them. Units
of one key, such as one question under several seeds, are averaged first, so that the noise of sampling is in
the interval as far as it is left in these averages. What all questions of a seed have in common, such as a
model trained anew, is not in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np

from llava_cot.evaluation.types import Metric, Unit

_Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
_Values: TypeAlias = dict[
    str, tuple[str, float]
]  # by key: the cluster, and the mean over the units of the key

DRAWS = 2000  # of the bootstrap: chance then moves a limit by about 3% of its distance from the mean
FLIPS = 10_000  # of a permutation test where there are too many to try all of them: p is then above 0.0001
_ALL_FLIPS = 13  # so many clusters differ at most where all the 2 ** 13 are tried
_CELLS = 1_000_000  # of an array that is drawn at once
_SEED = 0
_NOTHING = 1e-9
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class Estimate:
    """A mean and its 95% interval, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """The second mean less the first, and its 95% interval, in percentage points, over `count` shared keys.

    `won` and `lost` count the keys on which the second is better and worse. `p` is two-sided, by `test`.
    """

    value: float
    low: float
    high: float
    p: float
    test: Literal["McNemar", "sign flip"]
    won: int
    lost: int
    count: int


def mean_with_interval(units: Sequence[Unit]) -> Estimate:
    """The mean of units, of one run or of several seeds. Raises ValueError where there are none.

    Wilson's interval where clusters are of one size and each is all right or all wrong, since such a cluster
    is one draw; else the percentiles of a bootstrap over clusters. The bootstrap has no width where all units
    agree: Wilson's, over clusters, stands there too. Of a single cluster with anything between nothing is
    known: 0 to 100.
    """
    sums, counts = _table([_by_key(units)])
    value = float(sums.sum() / counts.sum())
    shares = sums / counts
    if np.isin(shares, (0, 1)).all() and (np.ptp(counts) == 0 or np.ptp(shares) == 0):
        return _percent(value, *wilson(float(shares.sum()), len(shares)))
    if len(shares) == 1:
        return _percent(value, 0, 1)
    return _percent(value, *_limits(_bootstrap(sums, counts)))


def headline(metrics: Sequence[Metric]) -> Estimate:
    """The mean of the metrics' means; metrics of one name are one metric under several seeds.

    The bootstrap draws clusters for all metrics together: units of different metrics are about the same
    questions where their clusters have the same name. Raises ValueError where there are none.
    """
    groups = list(_by_name(metrics).values())
    if len(groups) == 1:
        return mean_with_interval(groups[0])
    sums, counts = _table([_by_key(units) for units in groups])
    value = float((sums.sum(axis=0) / counts.sum(axis=0)).mean())
    draws = _bootstrap(sums, counts)
    if np.ptp(draws) < _NOTHING:  # all agree: as wide as the metrics by themselves
        each = [mean_with_interval(units) for units in groups]
        return Estimate(100 * value, min(figure.low for figure in each), max(figure.high for figure in each))
    return _percent(value, *_limits(draws))


def wilson(right: float, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a share of `count` draws."""
    share, z2 = right / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return (0.0 if right == 0 else middle - half), (1.0 if right == count else middle + half)


def paired(a: Sequence[Unit], b: Sequence[Unit]) -> PairedDifference:
    """How much better `b` is than `a`, over the keys that both have. Raises ValueError where there are none.

    Where every unit is 0 or 1 and a cluster by itself: McNemar's exact test, and the interval of Agresti and
    Min (2005: half a pair added to each cell), which also holds where few pairs differ. Else a permutation
    test that exchanges the two in whole clusters, and a bootstrap over clusters.
    """
    return paired_headline([Metric("", tuple(a))], [Metric("", tuple(b))])


def paired_headline(a: Sequence[Metric], b: Sequence[Metric]) -> PairedDifference:
    """The same for the mean of several metrics; `won`, `lost` and `count` are over the units of all."""
    ours, theirs = _by_name(a), _by_name(b)
    if ours.keys() != theirs.keys():
        raise ValueError(
            f"metrics are compared by name, and these are not the same: {sorted(ours)}, {sorted(theirs)}"
        )
    differences: list[_Values] = []
    plain = len(ours) == 1
    for name, units in ours.items():
        first, second = _by_key(units), _by_key(theirs[name])
        shared = {key: (first[key], second[key]) for key in first if key in second}
        if not shared:
            raise ValueError(f"the two runs share no question of {name or 'the metric'}; nothing to compare")
        differences.append({key: (x[0], y[1] - x[1]) for key, (x, y) in shared.items()})
        plain &= all(x[1] in (0, 1) and y[1] in (0, 1) for x, y in shared.values())
        plain &= len({x[0] for x, _ in shared.values()}) == len(shared)
    each = [value for group in differences for _, value in group.values()]
    won, lost = sum(value > 0 for value in each), sum(value < 0 for value in each)
    sums, counts = _table(differences)
    value = float((sums.sum(axis=0) / counts.sum(axis=0)).mean())
    if plain:
        limits, p = _agresti_min(won, lost, len(each)), mcnemar(won, lost)
        return _difference(value, limits, p, "McNemar", won, lost, len(each))
    if len(sums) == 1:
        limits = -1.0, 1.0
    elif won or lost:
        limits = _limits(_bootstrap(sums, counts))
    else:
        limits = _agresti_min(0, 0, len(sums))
    p = sign_flip((sums / counts.sum(axis=0)).mean(axis=1))
    return _difference(value, limits, p, "sign flip", won, lost, len(each))


def mcnemar(won: int, lost: int) -> float:
    """The exact two-sided p of a split of pairs that differ, under even chances."""
    count, term, tail = won + lost, 1, 0
    for i in range(min(won, lost) + 1):
        tail += term
        term = term * (count - i) // (i + 1)  # the number of ways to choose i + 1
    return float(min(1, 2 * tail / 2**count))


def sign_flip(differences: Sequence[float] | _Array) -> float:
    """The two-sided p of a sum of independent differences, if each might as well have the other sign.

    Exact for up to 13 that are not 0; else by 10,000 draws, the observed one counted among them.
    """
    values = np.asarray(differences, dtype=np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    # Sums in another order differ in the last digits.
    least = abs(values.sum()) - _NOTHING * np.abs(values).sum()
    if len(values) <= _ALL_FLIPS:
        flips = (np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1
        return float((np.abs(values.sum() - 2 * (flips @ values)) >= least).mean())
    rng = np.random.default_rng(_SEED)
    far = sum(
        int((np.abs(values.sum() - 2 * (rng.integers(0, 2, (size, len(values))) @ values)) >= least).sum())
        for size in _blocks(FLIPS, len(values))
    )
    return (far + 1) / (FLIPS + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values of several comparisons, adjusted by Holm's method; in the order given."""
    adjusted, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = least
    return adjusted


def _by_key(units: Sequence[Unit]) -> _Values:
    if not units:
        raise ValueError("there is nothing to take the mean of; a figure needs at least one question")
    values: dict[str, list[float]] = {}
    clusters: dict[str, str] = {}
    for unit in units:
        values.setdefault(unit.key, []).append(unit.value)
        clusters[unit.key] = unit.cluster
    return {key: (clusters[key], sum(found) / len(found)) for key, found in values.items()}


def _by_name(metrics: Sequence[Metric]) -> dict[str, list[Unit]]:
    if not metrics:
        raise ValueError("there is no metric to take the mean of; a headline names at least one")
    groups: dict[str, list[Unit]] = {}
    for metric in metrics:
        groups.setdefault(metric.name, []).extend(metric.units)
    return groups


def _table(groups: Sequence[Mapping[str, tuple[str, float]]]) -> tuple[_Array, _Array]:
    """Of each cluster and each group the sum of its values, and how many they are: (clusters, groups)."""
    rows: dict[str, int] = {}
    for group in groups:
        for cluster, _ in group.values():
            rows.setdefault(cluster, len(rows))
    sums, counts = np.zeros((len(rows), len(groups))), np.zeros((len(rows), len(groups)))
    for column, group in enumerate(groups):
        for cluster, value in group.values():
            sums[rows[cluster], column] += value
            counts[rows[cluster], column] += 1
    return sums, counts


def _bootstrap(sums: _Array, counts: _Array) -> _Array:
    """The mean over groups of their means, of clusters drawn anew; draws that leave a group empty are left
    out."""
    rng, found = np.random.default_rng(_SEED), []
    for size in _blocks(DRAWS, sums.size):
        drawn = rng.integers(0, len(sums), (size, len(sums)))
        with np.errstate(invalid="ignore"):
            found.append((sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)).mean(axis=1))
    draws: _Array = np.concatenate(found)
    whole: _Array = draws[np.isfinite(draws)]
    return whole


def _blocks(count: int, width: int) -> Iterator[int]:
    """`count` rows of a width, in pieces that fit into memory."""
    most = max(1, _CELLS // max(1, width))
    for begun in range(0, count, most):
        yield min(most, count - begun)


def _limits(draws: _Array) -> tuple[float, float]:
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def _agresti_min(won: int, lost: int, count: int) -> tuple[float, float]:
    """The interval of a difference of paired shares."""
    total = count + 2
    middle = (won - lost) / total
    half = _Z * sqrt(max(0.0, (won + lost + 1) / total - middle * middle) / total)
    return max(-1.0, middle - half), min(1.0, middle + half)


def _percent(value: float, low: float, high: float) -> Estimate:
    return Estimate(100 * value, 100 * low, 100 * high)


def _difference(
    value: float,
    limits: tuple[float, float],
    p: float,
    test: Literal["McNemar", "sign flip"],
    won: int,
    lost: int,
    count: int,
) -> PairedDifference:
    return PairedDifference(100 * value, 100 * limits[0], 100 * limits[1], p, test, won, lost, count)
