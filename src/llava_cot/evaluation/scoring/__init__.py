"""Scoring rules, one file each, and the accuracy metric that most of them share."""

from __future__ import annotations

from collections.abc import Sequence

from llava_cot.evaluation.types import BenchmarkItem, Metric, ScoredItem, Unit


def accuracy(scored: Sequence[ScoredItem], name: str = "accuracy") -> list[Metric]:
    """Average over all questions, with units by skill and, where there are any, by finer skill."""
    return accuracy_of([(one.item, one.item.id, one.score.value) for one in scored], name)


def accuracy_of(units: Sequence[tuple[BenchmarkItem, str, float]], name: str) -> list[Metric]:
    """As `accuracy`, for units given as (an item that stands for the unit, its key, its value)."""
    metrics = [Metric(name, tuple(Unit(key, v, item.skill, cluster_of(item)) for item, key, v in units))]
    finer = [str(item.extra.get("finer", "")) for item, _, _ in units]
    if any(finer):
        by_finer = zip(units, finer, strict=True)
        found = tuple(Unit(key, value, skill, cluster_of(item)) for (item, key, value), skill in by_finer)
        metrics.append(Metric(f"{name} by finer skill", found))
    return metrics


def cluster_of(item: BenchmarkItem) -> str:
    """Return the name of the item's cluster: its own id if it stands alone."""
    return str(item.extra.get("cluster", item.id))
