"""From the scores of questions to figures: units, and which of them belong together.

Owns what most rules share. Knows no rule. Of an item's `extra` it reads `cluster`, the name of the group of
questions that are not independent (those about one picture), and `finer`, a skill within its skill.
"""

from __future__ import annotations

from collections.abc import Sequence

from llava_cot.evaluation.types import BenchmarkItem, Metric, ScoredItem, Unit


def cluster(item: BenchmarkItem) -> str:
    """The group of questions that an item belongs to; its own id if it stands alone."""
    return str(item.extra.get("cluster", item.id))


def finer(item: BenchmarkItem) -> str:
    return str(item.extra.get("finer", ""))


def accuracy(scored: Sequence[ScoredItem], name: str = "accuracy") -> list[Metric]:
    """The mean over all questions by skill and, where skills are divided further, by these divisions."""
    return by_skills(name, [(one.item, one.item.id, one.score.value) for one in scored])


def by_skills(name: str, counted: Sequence[tuple[BenchmarkItem, str, float]]) -> list[Metric]:
    """What `accuracy` gives, of units given as the item that stands for each, its key and its value."""
    found = [Metric(name, tuple(Unit(key, value, item.skill, cluster(item)) for item, key, value in counted))]
    if any(finer(item) for item, _, _ in counted):
        units = tuple(Unit(key, value, finer(item), cluster(item)) for item, key, value in counted)
        found.append(Metric(f"{name} by finer skill", units))
    return found
