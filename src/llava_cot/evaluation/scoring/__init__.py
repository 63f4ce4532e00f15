"""Scoring rules, one file each, and the accuracy metric that most of them share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from llava_cot.evaluation.types import BenchmarkItem, Metric, ScoredItem, Unit

_INTRODUCTION = re.compile(
    r"(?:the\s+)?(?:(?:extracted|final)\s+)?(?:answer|word|letter|verdict)\s*(?:is|:|=)+\s*", re.IGNORECASE
)
_CATEGORIES = {"finer": "finer skill", "depth": "depth"}  # besides the skill: keys of an item's `extra`


class AccuracyRule:
    """The part of a scoring rule that most share: the score is the mean over all questions."""

    headline: tuple[str, ...] = ("accuracy",)

    def metrics(self, scored: Sequence[ScoredItem]) -> list[Metric]:
        return accuracy(scored)


def plain_reply(reply: str) -> str:
    """A scorer's reply without Markdown's marks and the words before its answer, such as "Answer:"."""
    text = re.sub("[*`]", "", reply).strip()
    return _INTRODUCTION.sub("", text, count=1).strip().strip('"')


def accuracy(scored: Sequence[ScoredItem], name: str = "accuracy") -> list[Metric]:
    """Average over all questions, with units by skill and, where there are any, by finer skill and depth."""
    return _metrics(name, [(one.item, unit_of(one)) for one in scored])


def accuracy_of_groups(groups: Mapping[str, Sequence[ScoredItem]], name: str) -> list[Metric]:
    """As `accuracy`, with a unit for each group, which counts if all its questions are right.

    The first question stands for its group.
    """
    units = []
    for key, group in groups.items():
        item, right = group[0].item, all(one.score.value == 1 for one in group)
        units.append((item, Unit(key, float(right), item.skill, _cluster(item))))
    return _metrics(name, units)


def group_by(scored: Sequence[ScoredItem], by: str) -> dict[str, list[ScoredItem]]:
    """Group questions by what their `extra` has under a name."""
    groups: dict[str, list[ScoredItem]] = {}
    for one in scored:
        groups.setdefault(str(one.item.extra[by]), []).append(one)
    return groups


def unit_of(scored: ScoredItem) -> Unit:
    """Return the unit of one question; its cluster is its own id if it stands alone."""
    item = scored.item
    return Unit(item.id, scored.score.value, item.skill, _cluster(item))


def _cluster(item: BenchmarkItem) -> str:
    return str(item.extra.get("cluster", item.id))


def _metrics(name: str, units: Sequence[tuple[BenchmarkItem, Unit]]) -> list[Metric]:
    found = [Metric(name, tuple(unit for _, unit in units))]
    for key, what in _CATEGORIES.items():
        by = tuple(replace(unit, skill=str(item.extra.get(key, ""))) for item, unit in units)
        if any(unit.skill for unit in by):
            found.append(Metric(f"{name} by {what}", by))
    return found
