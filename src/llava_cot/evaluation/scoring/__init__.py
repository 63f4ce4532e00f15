"""Scoring rules, one file each, and the accuracy metric that most of them share."""

from __future__ import annotations

from collections.abc import Sequence

from llava_cot.evaluation.types import BenchmarkItem, Metric, ScoredItem, Unit


class AccuracyRule:
    """The part of a scoring rule that most share: the score is the mean over all questions."""

    headline: tuple[str, ...] = ("accuracy",)

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return accuracy(scored)


def accuracy(scored: Sequence[ScoredItem], name: str = "accuracy") -> list[Metric]:
    """Average over all questions, with units by skill and, where there are any, by finer skill."""
    return _metrics(name, [(one.item, one.item.id, one.score.value) for one in scored])


def accuracy_of_groups(groups: Sequence[Sequence[ScoredItem]], by: str, name: str) -> list[Metric]:
    """As `accuracy`, with a unit for each group, which counts if all its questions are right.

    `by` is the name in `extra` that has a group's key; the first question stands for its group.
    """
    return _metrics(
        name,
        [
            (group[0].item, str(group[0].item.extra[by]), float(all(one.score.value == 1 for one in group)))
            for group in groups
        ],
    )


def group_by(scored: Sequence[ScoredItem], by: str) -> list[list[ScoredItem]]:
    """Group questions by what their `extra` has under a name."""
    groups: dict[str, list[ScoredItem]] = {}
    for one in scored:
        groups.setdefault(str(one.item.extra[by]), []).append(one)
    return list(groups.values())


def cluster_of(item: BenchmarkItem) -> str:
    """Return the name of the item's cluster: its own id if it stands alone."""
    return str(item.extra.get("cluster", item.id))


def _metrics(name: str, units: Sequence[tuple[BenchmarkItem, str, float]]) -> list[Metric]:
    def metric(name: str, skills: Sequence[str]) -> Metric:
        named = zip(units, skills, strict=True)
        return Metric(
            name, tuple(Unit(key, value, skill, cluster_of(item)) for (item, key, value), skill in named)
        )

    found = [metric(name, [item.skill for item, _, _ in units])]
    finer = [str(item.extra.get("finer", "")) for item, _, _ in units]
    return [*found, metric(f"{name} by finer skill", finer)] if any(finer) else found
