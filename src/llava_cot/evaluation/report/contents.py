"""What a report says, in order: the scores of all benchmarks, then each benchmark by itself.

Owns the order, and what is said of runs that are not whole. Knows neither Markdown nor HTML.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from llava_cot.core.wording import plural
from llava_cot.evaluation.report import agreement, compared, costs, faults, skills
from llava_cot.evaluation.report.arms import Arm, on
from llava_cot.evaluation.report.document import ReportPlot, ReportSection, ReportTable
from llava_cot.evaluation.report.paper import reported, reported_skills
from llava_cot.evaluation.report.plotted import plots_of
from llava_cot.evaluation.results import listed

_REASONS = 3
_PAPER = (
    "Rows marked as reported are the paper's own (arXiv 2411.10440): other runs, of other models, without "
    "intervals, and of the splits that the paper took (MMBench 1.1 test, MathVista testmini). Nothing was "
    "tested against them."
)


def contents(
    arms: Sequence[Arm],
    baselines: Mapping[Arm, Arm],
    decided: Mapping[Arm, Counter[str]],
    notes: Mapping[str, str],
    *,
    paper: bool,
) -> list[ReportSection]:
    """The sections. `decided` says what settled each arm's duels, `notes` what belongs beside a benchmark."""
    benchmarks = list(dict.fromkeys(arm.benchmark for arm in arms))
    rows = compared.compare(arms, baselines)
    lines = reported(benchmarks) if paper else []
    first: list[str | ReportTable] = [compared.scores_table(rows, lines)]
    if lines:
        first.append(_PAPER)
    elif paper:
        first.append("The paper reports none of these benchmarks.")
    first += _beside(arms)
    first += _wanting(arms)
    sections = [ReportSection("Scores", tuple(first))]
    for number, benchmark in enumerate(benchmarks):
        stem = f"{number + 1}-{re.sub(r'[^a-z0-9]+', '-', benchmark.lower()).strip('-')}"
        parts = _benchmark(stem, on(arms, benchmark), rows, baselines, decided, paper)
        note = (notes[benchmark],) if notes.get(benchmark) else ()
        sections.append(ReportSection(benchmark, (*note, *parts)))
    return sections


def _beside(arms: Sequence[Arm]) -> Iterator[str]:
    """What methods had besides the model: another model that reasons or judges, examples, a calibration."""
    told = {arm.method: arm.beside for arm in arms if arm.beside}
    if told:
        yield f"Besides the model, {'; '.join(f'{name} had {listed(had)}' for name, had in told.items())}."


def _wanting(arms: Sequence[Arm]) -> Iterator[str]:
    """That answers are missing, and the reasons, the most frequent first."""
    why = Counter(result.failure for arm in arms for result in arm.results if result.failure is not None)
    if why:
        asked = sum(len(arm.results) for arm in arms)
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in why.most_common(_REASONS))
        more = f"; {plural(len(why) - _REASONS, 'other reason')}" if len(why) > _REASONS else ""
        yield (
            f"Answers that are missing and count as wrong: {why.total():,} of {asked:,} (the tables of cost "
            f"say under which method). Why: {reasons}{more}."
        )


def _benchmark(
    stem: str,
    arms: Sequence[Arm],
    rows: Mapping[Arm, compared.Row],
    baselines: Mapping[Arm, Arm],
    decided: Mapping[Arm, Counter[str]],
    paper: bool,
) -> Iterator[ReportTable | ReportPlot]:
    names = list(dict.fromkeys(metric.name for metric in arms[0].metrics))
    by_metric = {name: found for name in names if (found := skills.skills_of(arms, name))}
    headline = by_metric.get(arms[0].named[0], [])
    yield compared.differences_table(arms, rows, baselines)
    yield from _if(compared.metrics_table(arms))
    yield from plots_of(stem, arms, rows, headline)
    yield costs.costs_table(arms)
    for name, found in by_metric.items():
        ours = name == arms[0].named[0]
        yield skills.skills_table(
            name, arms, found, reported_skills(arms[0].benchmark) if paper and ours else []
        )
    if len(arms) > 1:
        if any(arm in baselines for arm in arms):
            yield agreement.agreement_table(arms, baselines)
        yield agreement.reach_table(arms)
    yield from _if(agreement.oracle_table(arms))
    yield faults.format_table(arms)
    yield faults.settled_table(arms)
    yield from _if(faults.duels_table(arms, decided))


def _if(table: ReportTable | None) -> Iterator[ReportTable]:
    if table is not None:
        yield table
