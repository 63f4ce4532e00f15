"""Scores by skill, the hardest first; and what else a benchmark reports beside its headline.

Owns the grouping of units by skill. A skill is what the benchmark divides its questions by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llava_cot.evaluation.report.arms import Arm, label
from llava_cot.evaluation.report.document import Cell, ReportTable, cells, interval, number
from llava_cot.evaluation.report.paper import Reported
from llava_cot.evaluation.statistics import Estimate, mean_with_interval
from llava_cot.evaluation.types import Unit


@dataclass(frozen=True)
class Skill:
    """`figures` are in the order of the arms, None where an arm has no such question."""

    name: str
    count: int
    figures: tuple[Estimate | None, ...]

    @property
    def mean(self) -> float:
        """Over the arms."""
        known = [figure.value for figure in self.figures if figure is not None]
        return sum(known) / len(known)


def skills_of(arms: Sequence[Arm], metric: str) -> list[Skill]:
    """The skills of one metric of a benchmark, the hardest for these arms first; empty if it has but one."""
    by_arm = [
        _by_skill([unit for one in arm.metrics if one.name == metric for unit in one.units]) for arm in arms
    ]
    names = dict.fromkeys(name for found in by_arm for name in found)
    if len(names) < 2:
        return []
    skills = [
        Skill(
            name,
            max(len({unit.key for unit in found[name]}) for found in by_arm if name in found),
            tuple(mean_with_interval(found[name]) if name in found else None for found in by_arm),
        )
        for name in names
    ]
    return sorted(skills, key=lambda skill: skill.mean)


def skills_table(
    metric: str, arms: Sequence[Arm], skills: Sequence[Skill], paper: Sequence[Reported]
) -> ReportTable:
    lines = []
    for skill in skills:
        known = {figure.value for figure in skill.figures if figure is not None}
        best = max(known) if len(known) > 1 else None
        lines.append(
            (
                *cells(skill.name or "none named", f"{skill.count:,}"),
                *(_cell(figure, best) for figure in skill.figures),
                *(_reported(one.scores, skill.name) for one in paper),
            )
        )
    head = (*(label(arm, arms) for arm in arms), *(f"{one.model} · {one.method}, reported" for one in paper))
    note = "The hardest first, by the mean over the methods; the best of each in bold type."
    for source in dict.fromkeys(one.source for one in paper):
        note += f" In italics: {source}."
    return ReportTable(f"By skill: {metric}", ("skill", "units", *head), tuple(lines), note=note)


def _by_skill(units: Sequence[Unit]) -> dict[str, list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        found.setdefault(unit.skill, []).append(unit)
    return found


def _cell(figure: Estimate | None, best: float | None) -> Cell:
    if figure is None:
        return Cell("–")
    return Cell(number(figure.value), interval(figure), "best" if figure.value == best else "")


def _reported(scores: Mapping[str, float], skill: str) -> Cell:
    return Cell(number(scores[skill]) if skill in scores else "–", mark="reported")
