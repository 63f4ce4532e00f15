"""Statistics of reports: means with 95% intervals over the questions, paired differences and p-values.

Units of one key, such as one question under several seeds, are averaged first.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal, TypeAlias

import numpy as np

from llava_cot.errors import DataError, missing_package
from llava_cot.evaluation.types import Metric, Unit

_Array: TypeAlias = "np.ndarray[Any, np.dtype[np.float64]]"
_Values: TypeAlias = dict[str, tuple[str, float]]  # by key: cluster, mean over the units of the key

DRAWS = 2000  # of the bootstrap: chance then moves a limit by about 3% of its distance from the mean
FLIPS = 10_000  # of a permutation test with too many permutations to try them all
_ALL_FLIPS = 13  # up to so many clusters that differ, all 2 ** 13 permutations are tried
_CELLS = 1_000_000  # of an array that is drawn at once
_SEED = 0
_NOTHING = 1e-9
_Z = NormalDist().inv_cdf(0.975)


@dataclass(frozen=True)
class MeanEstimate:
    """A mean and its 95% interval, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference(MeanEstimate):
    """The second mean minus the first, with its 95% interval, in percentage points."""

    p: float  # two-sided
    test: Literal["McNemar", "sign flip"]
    won: int  # keys on which the second is better
    lost: int
    count: int  # keys that both have


def check_scipy() -> None:
    """Raise DataError if scipy, which the statistics need, is not installed."""
    if importlib.util.find_spec("scipy") is None:
        raise DataError(missing_package("statistics", "scipy", extra="eval"))


def mean_with_interval(units: Sequence[Unit]) -> MeanEstimate:
    """Return the mean of units, of one run or of several seeds. Raises ValueError where there are none.

    The interval is Wilson's where clusters have one size and each is all right or all wrong, since such a
    cluster is one draw; else the percentiles of a bootstrap over clusters. Where all units agree the
    bootstrap would have no width, and Wilson's over clusters is used. A single cluster with anything in
    between says nothing: 0 to 100.
    """
    return _mean(*_table([_by_key(units)]))


def share_with_interval(parts: Mapping[str, tuple[float, float]]) -> MeanEstimate:
    """Return the share that all parts make of all wholes, each a (part, whole) of one cluster.

    The interval is as for `mean_with_interval`. Raises ValueError where all wholes are 0.
    """
    known = [pair for pair in parts.values() if pair[1]]
    if not known:
        raise ValueError("there is nothing to take a share of; at least one whole must not be 0")
    sums, counts = np.array(known, dtype=np.float64).T[:, :, None]
    return _mean(sums, counts)


def _mean(sums: _Array, counts: _Array) -> MeanEstimate:
    """Return the mean of one group, by the sums and counts of its clusters: (clusters, 1)."""
    value = float(sums.sum() / counts.sum())
    shares = sums / counts
    if np.isin(shares, (0, 1)).all() and (np.ptp(counts) == 0 or np.ptp(shares) == 0):
        return _percent(value, *wilson(int(shares.sum()), len(shares)))
    if len(shares) == 1:
        return _percent(value, 0, 1)
    return _percent(value, *_limits(_bootstrap(sums, counts)))


def headline(metrics: Sequence[Metric]) -> MeanEstimate:
    """Return the mean of the metrics' means. Metrics of one name are one metric under several seeds.

    The bootstrap draws clusters for all metrics together: units of different metrics are about the same
    questions where their clusters have the same name. Raises ValueError where there are no metrics.
    """
    groups = list(_by_name(metrics).values())
    if len(groups) == 1:
        return mean_with_interval(groups[0])
    sums, counts = _table([_by_key(units) for units in groups])
    value = float((sums.sum(axis=0) / counts.sum(axis=0)).mean())
    draws = _bootstrap(sums, counts)
    if np.ptp(draws) < _NOTHING:  # all agree: as wide as the metrics by themselves
        each = [mean_with_interval(units) for units in groups]
        return MeanEstimate(100 * value, min(one.low for one in each), max(one.high for one in each))
    return _percent(value, *_limits(draws))


def wilson(right: int, count: int) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share of `count` draws."""
    low, high = _stats().binomtest(right, count).proportion_ci(0.95, "wilson")
    return float(low), float(high)


def paired(a: Sequence[Unit], b: Sequence[Unit]) -> PairedDifference:
    """Return how much better `b` is than `a`, over the keys that both have.

    Where every unit is 0 or 1 and a cluster by itself: McNemar's exact test, and the interval of Agresti and
    Min (2005: half a pair added to each cell), which also holds where few pairs differ. Else a permutation
    test that exchanges the two in whole clusters, and a bootstrap over clusters.

    Raises ValueError where they share no key.
    """
    return paired_headline([Metric("", tuple(a))], [Metric("", tuple(b))])


def paired_headline(a: Sequence[Metric], b: Sequence[Metric]) -> PairedDifference:
    """As `paired`, for the mean of several metrics; `won`, `lost` and `count` are over the units of all."""
    first, second = _by_name(a), _by_name(b)
    if first.keys() != second.keys():
        raise ValueError(
            f"metrics are compared by name, and these are not the same: {sorted(first)}, {sorted(second)}"
        )
    differences: list[_Values] = []
    plain = len(first) == 1
    for name, units in first.items():
        before, after = _by_key(units), _by_key(second[name])
        shared = {key: (before[key], after[key]) for key in before if key in after}
        if not shared:
            raise ValueError(f"the two runs share no question of {name or 'the metric'}; nothing to compare")
        differences.append({key: (x[0], y[1] - x[1]) for key, (x, y) in shared.items()})
        plain &= all(x[1] in (0, 1) and y[1] in (0, 1) for x, y in shared.values())
        plain &= len({x[0] for x, _ in shared.values()}) == len(shared)
    each = [value for group in differences for _, value in group.values()]
    won, lost = sum(value > 0 for value in each), sum(value < 0 for value in each)
    sums, counts = _table(differences)
    value = float((sums.sum(axis=0) / counts.sum(axis=0)).mean())
    test: Literal["McNemar", "sign flip"] = "McNemar" if plain else "sign flip"
    if plain:
        (low, high), p = _agresti_min(won, lost, len(each)), mcnemar(won, lost)
    else:
        if len(sums) == 1:
            low, high = -1.0, 1.0
        elif won or lost:
            low, high = _limits(_bootstrap(sums, counts))
        else:
            low, high = _agresti_min(0, 0, len(sums))
        p = sign_flip((sums / counts.sum(axis=0)).mean(axis=1))
    return PairedDifference(100 * value, 100 * low, 100 * high, p, test, won, lost, len(each))


def mcnemar(won: int, lost: int) -> float:
    """Return the exact two-sided p of a split of the pairs that differ, under even chances."""
    return float(_stats().binomtest(won, won + lost).pvalue) if won or lost else 1.0


def sign_flip(differences: Sequence[float] | _Array) -> float:
    """Return the two-sided p of a sum of independent differences that might as well have the other sign.

    Exact for up to 13 that are not 0; else by 10,000 draws, the observed one counted among them.

    scipy's `permutation_test` gives the same p where it is exact. Its draws are others, which would change
    the p-values of reports by chance, and took 10 times as long (3.3 against 0.33 s for 3,000 differences).
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
    far, block = 0, max(1, _CELLS // len(values))
    for start in range(0, FLIPS, block):
        flips = rng.integers(0, 2, (min(block, FLIPS - start), len(values)))
        far += int((np.abs(values.sum() - 2 * (flips @ values)) >= least).sum())
    return (far + 1) / (FLIPS + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Return the p-values of several comparisons, adjusted by Holm's method, in the order given.

    statsmodels' `multipletests` does the same, at the price of 150 MB of packages (pandas, formulaic).
    """
    order = np.argsort(ps)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, np.sort(ps) * np.arange(len(ps), 0, -1)))
    return [float(p) for p in adjusted]


def _stats() -> Any:
    """Import scipy's statistics, which takes about a second, when they are needed. Raises DataError."""
    check_scipy()
    from scipy import stats

    return stats


def _by_key(units: Sequence[Unit]) -> _Values:
    if not units:
        raise ValueError("there is nothing to average; a score needs at least one question")
    groups: dict[str, list[Unit]] = {}
    for unit in units:
        groups.setdefault(unit.key, []).append(unit)
    return {
        key: (same[-1].cluster, sum(one.value for one in same) / len(same)) for key, same in groups.items()
    }


def _by_name(metrics: Sequence[Metric]) -> dict[str, list[Unit]]:
    if not metrics:
        raise ValueError("there is no metric to average; a headline needs at least one")
    groups: dict[str, list[Unit]] = {}
    for metric in metrics:
        groups.setdefault(metric.name, []).extend(metric.units)
    return groups


def _table(groups: Sequence[Mapping[str, tuple[str, float]]]) -> tuple[_Array, _Array]:
    """Return the sums and counts of the values of each cluster in each group: (clusters, groups)."""
    clusters = dict.fromkeys(cluster for group in groups for cluster, _ in group.values())
    rows = {cluster: row for row, cluster in enumerate(clusters)}
    sums, counts = np.zeros((2, len(rows), len(groups)))
    for column, group in enumerate(groups):
        for cluster, value in group.values():
            sums[rows[cluster], column] += value
            counts[rows[cluster], column] += 1
    return sums, counts


def _bootstrap(sums: _Array, counts: _Array) -> _Array:
    """Draw clusters anew and return the means over groups of their means, without those of an empty group."""
    if len(sums) == 1:  # every draw is the same; scipy refuses
        only: _Array = (sums / counts).mean(axis=1)
        return only

    def statistic(drawn: np.ndarray[Any, np.dtype[np.intp]], axis: int = -1) -> _Array:
        means: _Array = (sums[drawn].sum(axis=-2) / counts[drawn].sum(axis=-2)).mean(axis=-1)
        return means

    with np.errstate(invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about scipy's own interval, which is not used
        found = _stats().bootstrap(
            (np.arange(len(sums)),),
            statistic,
            n_resamples=DRAWS,
            batch=max(1, _CELLS // sums.size),
            vectorized=True,
            method="percentile",
            rng=np.random.default_rng(_SEED),
        )
    draws: _Array = found.bootstrap_distribution
    return draws[np.isfinite(draws)]


def _limits(draws: _Array) -> tuple[float, float]:
    low, high = np.percentile(draws, (2.5, 97.5))
    return float(low), float(high)


def _agresti_min(won: int, lost: int, count: int) -> tuple[float, float]:
    """Return the interval of a difference of paired shares."""
    total = count + 2
    middle = (won - lost) / total
    half = _Z * sqrt(max(0.0, (won + lost + 1) / total - middle * middle) / total)
    return max(-1.0, middle - half), min(1.0, middle + half)


def _percent(value: float, low: float, high: float) -> MeanEstimate:
    return MeanEstimate(100 * value, 100 * low, 100 * high)
