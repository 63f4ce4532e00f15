"""Tables of scores: all benchmarks by method, each arm against its baseline, metrics, and scores by skill."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from llava_cot.evaluation.report.arms import Arm, arm_label, arms_on, name_cell
from llava_cot.evaluation.report.document import (
    Cell,
    CellMark,
    ReportTable,
    cells,
    number,
    p_value,
    score_cell,
    share,
    signed,
    signed_interval,
)
from llava_cot.evaluation.statistics import (
    MeanEstimate,
    PairedDifference,
    headline,
    holm,
    mean_with_interval,
    paired_headline,
)
from llava_cot.evaluation.types import Unit

_SIGNIFICANT = 0.05
_SOURCE = "as reported (arXiv 2411.10440, {source})"
_NOTE = (
    "In percent, with 95% intervals over the questions: how the score would vary if others like them were "
    "asked. Several seeds are averaged question by question. A question on which the model failed counts as "
    "wrong."
)
_PAIRED = (
    "The difference from the baseline ({names}) is in percentage points over the same questions, with its "
    "95% interval; p is of McNemar's exact test where each question is right or wrong under one seed, else "
    "of a permutation test that flips signs, adjusted by Holm's method for the {count} of a benchmark."
)


@dataclass(frozen=True)
class ArmScore:
    """An arm's score, and if there is a baseline the difference from it, with its adjusted `p`."""

    score: MeanEstimate
    baseline: Arm | None = None
    difference: PairedDifference | None = None
    p: float = 1.0

    @property
    def mark(self) -> CellMark:
        if self.difference is None:
            return "baseline"
        if self.p >= _SIGNIFICANT:
            return ""
        return "better" if self.difference.value > 0 else "worse"


def arm_scores(arms: Sequence[Arm], baselines: Mapping[Arm, Arm]) -> dict[Arm, ArmScore]:
    """Score all arms; p-values are adjusted within each benchmark."""
    found = {arm: ArmScore(headline(arm.headline)) for arm in arms}
    for benchmark in dict.fromkeys(arm.benchmark for arm in arms):
        pairs = [(arm, baselines[arm]) for arm in arms_on(arms, benchmark) if arm in baselines]
        differences = [paired_headline(base.headline, arm.headline) for arm, base in pairs]
        adjusted = holm([difference.p for difference in differences])
        for (arm, base), difference, p in zip(pairs, differences, adjusted, strict=True):
            found[arm] = ArmScore(found[arm].score, base, difference, p)
    return found


def scores_table(scores: Mapping[Arm, ArmScore], paper: Sequence[PaperResult]) -> ReportTable:
    """A row for each model and method, a column for each benchmark, and the paper's results below."""
    benchmarks = list(dict.fromkeys(arm.benchmark for arm in scores))
    by_name = {(arm.model, arm.method, arm.benchmark): one for arm, one in scores.items()}
    rows = []
    for model, method in dict.fromkeys((arm.model, arm.method) for arm in scores):
        ours = [by_name.get((model, method, benchmark)) for benchmark in benchmarks]
        mean = _mean([None if one is None else one.score.value for one in ours])
        shown = (Cell("–") if one is None else score_cell(one.score, one.mark) for one in ours)
        rows.append((Cell(method, model), *shown, *mean))
    for result in paper:
        values = [result.scores.get(benchmark) for benchmark in benchmarks]
        shown = (Cell("–" if value is None else number(value), mark="reported") for value in values)
        name = Cell(result.method, f"{result.model}, {result.source}", "reported")
        rows.append((name, *shown, *_mean(values, "reported")))
    several = ("mean",) if len(benchmarks) > 1 else ()
    return ReportTable("Benchmarks by methods", ("method", *benchmarks, *several), tuple(rows), note=_NOTE)


def _mean(values: Sequence[float | None], mark: CellMark = "") -> tuple[Cell, ...]:
    """The mean of several benchmarks, where all have a score."""
    known = [value for value in values if value is not None]
    if len(values) < 2:
        return ()
    return (Cell(number(sum(known) / len(known)) if len(known) == len(values) else "–", mark=mark),)


def differences_table(arms: Sequence[Arm], scores: Mapping[Arm, ArmScore]) -> ReportTable:
    """The arms of one benchmark against their baselines."""
    rows = []
    for arm in arms:
        one, found = scores[arm], scores[arm].difference
        row = [name_cell(arm), score_cell(one.score, one.mark)]
        if found is None:
            row += [Cell("baseline", mark="baseline"), *cells("–", "–", "–")]
        else:
            row += [
                Cell(signed(found.value), signed_interval(found), one.mark),
                Cell(p_value(one.p), f"{p_value(found.p)} unadjusted, {found.test}"),
                Cell(share(found.won, found.count), f"{found.won:,} of {found.count:,}"),
                Cell(share(found.lost, found.count), f"{found.lost:,} of {found.count:,}"),
            ]
        rows.append((*row, Cell(str(len(arm.keys)))))
    used = [base for arm in arms if (base := scores[arm].baseline)]
    names = ", ".join(dict.fromkeys(f"{base.model} {base.method}" for base in used))
    head = ("method", "score", "difference", "p", "better on", "worse on", "seeds")
    note = _PAIRED.format(names=names, count=f"{len(used)} comparisons") if used else ""
    return ReportTable("Against the baseline", head, tuple(rows), note=note)


def metrics_table(arms: Sequence[Arm]) -> ReportTable | None:
    """The metrics whose mean is the score, where there are several."""
    names = arms[0].headline_names
    if len(names) < 2:
        return None
    rows = []
    for arm in arms:
        scores = [headline([metric for metric in arm.metrics if metric.name == name]) for name in names]
        rows.append((name_cell(arm), *map(score_cell, scores)))
    return ReportTable("Metrics", ("method", *names), tuple(rows), note="The score is their mean.")


@dataclass(frozen=True)
class SkillScores:
    """The scores of one skill, in the order of the arms; None where an arm has no such question."""

    name: str
    count: int
    scores: tuple[MeanEstimate | None, ...]

    @property
    def mean(self) -> float:
        """Over the arms."""
        known = [score.value for score in self.scores if score is not None]
        return sum(known) / len(known)


def skill_scores(arms: Sequence[Arm], metric: str) -> list[SkillScores]:
    """Return a metric by skill, the hardest for these arms first, or numbers in order; nothing for one."""
    by_arm: list[dict[str, list[Unit]]] = []
    for arm in arms:
        groups: dict[str, list[Unit]] = {}
        for unit in (unit for one in arm.metrics if one.name == metric for unit in one.units):
            groups.setdefault(unit.skill, []).append(unit)
        by_arm.append(groups)
    names = dict.fromkeys(name for groups in by_arm for name in groups)
    if len(names) < 2:
        return []
    skills = [
        SkillScores(
            name,
            max(len({unit.key for unit in groups[name]}) for groups in by_arm if name in groups),
            tuple(mean_with_interval(groups[name]) if name in groups else None for groups in by_arm),
        )
        for name in names
    ]
    if all(name.isdecimal() for name in names):
        return sorted(skills, key=lambda skill: int(skill.name))
    return sorted(skills, key=lambda skill: skill.mean)


def skills_table(
    metric: str, arms: Sequence[Arm], skills: Sequence[SkillScores], paper: Sequence[PaperResult]
) -> ReportTable:
    """A row for each skill, a column for each arm and each of the paper's results."""
    rows = []
    for skill in skills:
        known = {score.value for score in skill.scores if score is not None}
        best = max(known) if len(known) > 1 else None
        ours = (
            Cell("–") if one is None else score_cell(one, "best" if one.value == best else "")
            for one in skill.scores
        )
        reported = (
            Cell(number(one.scores[skill.name]) if skill.name in one.scores else "–", mark="reported")
            for one in paper
        )
        rows.append((*cells(skill.name or "none named", f"{skill.count:,}"), *ours, *reported))
    labels = (arm_label(arm, arms) for arm in arms)
    head = (*labels, *(f"{one.model} · {one.method}, reported" for one in paper))
    numbered = all(skill.name.isdecimal() for skill in skills)
    note = "" if numbered else "The hardest first, by the mean over the methods. "
    note += "The best of each in bold type."
    for source in dict.fromkeys(one.source for one in paper):
        note += f" In italics: {source}."
    return ReportTable(f"By skill: {metric}", ("skill", "units", *head), tuple(rows), note=note)


@dataclass(frozen=True)
class PaperResult:
    """A row of the paper, in percent; `scores` by benchmark, or by skill."""

    model: str
    method: str
    source: str
    scores: Mapping[str, float]


def paper_results(benchmarks: Sequence[str]) -> list[PaperResult]:
    """Return the paper's results on these benchmarks; a row that has none of them is left out."""
    return [row for table in _tables("results") for row in _rows(table, benchmarks)]


def paper_skills(benchmark: str) -> list[PaperResult]:
    """Return the paper's results on a benchmark by skill."""
    tables = [table for table in _tables("skills") if table["benchmark"] == benchmark]
    return [row for table in tables for row in _rows(table, table["columns"])]


def _tables(kind: str) -> Any:
    text = files("llava_cot.evaluation.report").joinpath("paper.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)[kind]


def _rows(table: Any, columns: Sequence[str]) -> Iterator[PaperResult]:
    for row in table["rows"]:
        values = zip(table["columns"], row["scores"], strict=True)
        scores = {name: value for name, value in values if name in columns and value is not None}
        if scores:
            yield PaperResult(row["model"], row["method"], _SOURCE.format(source=table["source"]), scores)
