"""Scores beside one another: the table of all benchmarks, and each arm against its baseline.

Owns which figures are compared, and the adjustment for how many comparisons there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llava_cot.evaluation.report.arms import Arm, named, on
from llava_cot.evaluation.report.document import (
    Cell,
    CellMark,
    ReportTable,
    cells,
    interval,
    limits,
    number,
    p_value,
    share,
    signed,
)
from llava_cot.evaluation.report.paper import Reported
from llava_cot.evaluation.statistics import Estimate, PairedDifference, headline, holm, paired_headline

_SURE = 0.05
NOTE = (
    "In percent, with 95% intervals, which are those of the questions: what would change if others like "
    "them were asked. Several seeds are averaged question by question. A question on which the model failed "
    "counts as wrong."
)
PAIRED = (
    "The difference from the baseline ({names}) is in percentage points over the same questions, with its "
    "95% interval; p is of McNemar's exact test where each question is right or wrong under one seed, else "
    "of a permutation test that flips signs, adjusted by Holm's method for the {count} of a benchmark."
)


@dataclass(frozen=True)
class Row:
    """An arm's figure; `difference` from the baseline with its adjusted p, None for the baseline itself."""

    arm: Arm
    figure: Estimate
    difference: PairedDifference | None = None
    p: float | None = None

    @property
    def mark(self) -> CellMark:
        if self.difference is None or self.p is None:
            return "baseline"
        if self.p >= _SURE:
            return ""
        return "better" if self.difference.value > 0 else "worse"


def compare(arms: Sequence[Arm], baselines: Mapping[Arm, Arm]) -> dict[Arm, Row]:
    """The rows of all arms; p-values are adjusted within each benchmark."""
    rows = {arm: Row(arm, headline(arm.headline)) for arm in arms}
    for benchmark in dict.fromkeys(arm.benchmark for arm in arms):
        pairs = [(arm, baselines[arm]) for arm in on(arms, benchmark) if arm in baselines]
        found = [paired_headline(base.headline, arm.headline) for arm, base in pairs]
        adjusted = holm([difference.p for difference in found])
        for (arm, _), difference, p in zip(pairs, found, adjusted, strict=True):
            rows[arm] = Row(arm, rows[arm].figure, difference, p)
    return rows


def scores_table(rows: Mapping[Arm, Row], reported: Sequence[Reported]) -> ReportTable:
    """A line for each model and method, a column for each benchmark, and the paper's below."""
    benchmarks = list(dict.fromkeys(arm.benchmark for arm in rows))
    found = {(arm.model, arm.method, arm.benchmark): row for arm, row in rows.items()}
    lines = []
    for model, method in dict.fromkeys((arm.model, arm.method) for arm in rows):
        ours = [found.get((model, method, benchmark)) for benchmark in benchmarks]
        mean = _mean([None if row is None else row.figure.value for row in ours])
        lines.append((Cell(method, model), *(_score(row) for row in ours), *mean))
    for one in reported:
        values = [one.scores.get(benchmark) for benchmark in benchmarks]
        shown = [Cell("–" if value is None else number(value), mark="reported") for value in values]
        mean = _mean(values, "reported")
        lines.append((Cell(one.method, f"{one.model}, {one.source}", "reported"), *shown, *mean))
    several = ("mean",) if len(benchmarks) > 1 else ()
    return ReportTable("Benchmarks by methods", ("method", *benchmarks, *several), tuple(lines), note=NOTE)


def _mean(values: Sequence[float | None], mark: CellMark = "") -> tuple[Cell, ...]:
    """Of several benchmarks, where there is a figure for all."""
    known = [value for value in values if value is not None]
    if len(values) < 2:
        return ()
    return (Cell(number(sum(known) / len(known)) if len(known) == len(values) else "–", mark=mark),)


def _score(row: Row | None) -> Cell:
    if row is None:
        return Cell("–")
    return Cell(number(row.figure.value), interval(row.figure), row.mark)


def differences_table(
    arms: Sequence[Arm], rows: Mapping[Arm, Row], baselines: Mapping[Arm, Arm]
) -> ReportTable:
    """The arms of one benchmark against their baselines."""
    lines = []
    for arm in arms:
        row = rows[arm]
        line = [named(arm), _score(row)]
        if row.difference is None or row.p is None:
            line += [Cell("baseline", mark="baseline"), *cells("–", "–", "–")]
        else:
            found = row.difference
            line += [
                Cell(signed(found.value), limits(found), row.mark),
                Cell(p_value(row.p), f"{p_value(found.p)} unadjusted, {found.test}"),
                Cell(share(found.won, found.count), f"{found.won:,} of {found.count:,}"),
                Cell(share(found.lost, found.count), f"{found.lost:,} of {found.count:,}"),
            ]
        line.append(Cell(str(len(arm.settings))))
        lines.append(tuple(line))
    used = dict.fromkeys(
        f"{base.model} {base.method}" for base in (baselines.get(arm) for arm in arms) if base
    )
    count = sum(arm in baselines for arm in arms)
    head = ("method", "score", "difference", "p", "better on", "worse on", "seeds")
    note = PAIRED.format(names=", ".join(used), count=f"{count} comparisons") if used else ""
    return ReportTable("Against the baseline", head, tuple(lines), note=note)


def metrics_table(arms: Sequence[Arm]) -> ReportTable | None:
    """The metrics whose mean is the figure, where they are several."""
    names = arms[0].named
    if len(names) < 2:
        return None
    lines = []
    for arm in arms:
        figures = [headline([metric for metric in arm.metrics if metric.name == name]) for name in names]
        shown = [Cell(number(figure.value), interval(figure)) for figure in figures]
        lines.append((named(arm), *shown))
    return ReportTable("Metrics", ("method", *names), tuple(lines), note="The score is their mean.")
