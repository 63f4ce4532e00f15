"""The contents of a report, in order: the scores on all benchmarks, then each benchmark by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from llava_cot.core.wording import plural
from llava_cot.evaluation.report import outcome_tables, score_tables
from llava_cot.evaluation.report.arms import Arm, arms_on
from llava_cot.evaluation.report.document import ReportPlot, ReportSection, ReportTable
from llava_cot.evaluation.report.paper import paper_results, paper_skills
from llava_cot.evaluation.report.plots import benchmark_plots
from llava_cot.evaluation.results import describe_resources

_REASONS = 3
_PAPER = (
    "Rows marked as reported are the paper's own (arXiv 2411.10440): other runs, of other models, without "
    "intervals, and of the splits that the paper used (MMBench 1.1 test, MathVista testmini). No test "
    "compares them with these runs."
)


def contents(
    arms: Sequence[Arm],
    baselines: Mapping[Arm, Arm],
    decided: Mapping[Arm, Counter[str]],
    notes: Mapping[str, str],
    *,
    paper: bool,
) -> list[ReportSection]:
    """Return the sections of a report.

    Args:
        arms: What is reported on.
        baselines: The arm that each arm is compared with.
        decided: How each arm's duels were decided.
        notes: The sentence to show with each benchmark.
        paper: Whether to show the paper's own results.
    """
    benchmarks = list(dict.fromkeys(arm.benchmark for arm in arms))
    scores = score_tables.arm_scores(arms, baselines)
    reported = paper_results(benchmarks) if paper else []
    first: list[str | ReportTable] = [score_tables.scores_table(scores, reported)]
    if paper:
        first.append(_PAPER if reported else "The paper reports none of these benchmarks.")
    first += _resources(arms)
    first += _missing(arms)
    sections = [ReportSection("Scores", tuple(first))]
    for number, benchmark in enumerate(benchmarks):
        stem = f"{number + 1}-{re.sub(r'[^a-z0-9]+', '-', benchmark.lower()).strip('-')}"
        parts = _benchmark(stem, arms_on(arms, benchmark), scores, baselines, decided, paper)
        note = (notes[benchmark],) if notes.get(benchmark) else ()
        sections.append(ReportSection(benchmark, (*note, *parts)))
    return sections


def _resources(arms: Sequence[Arm]) -> Iterator[str]:
    """Say what methods had besides the model: a reasoner, a judge model, examples, a calibration."""
    found = {arm.method: describe_resources(arm.resources) for arm in arms if arm.resources}
    if found:
        yield f"Besides the model, {'; '.join(f'{name} had {had}' for name, had in found.items())}."


def _missing(arms: Sequence[Arm]) -> Iterator[str]:
    """Say how many answers are missing and why, the most frequent reasons first."""
    why = Counter(result.failure for arm in arms for result in arm.results if result.failure is not None)
    if why:
        total = sum(len(arm.results) for arm in arms)
        reasons = "; ".join(f"{reason} ({count:,})" for reason, count in why.most_common(_REASONS))
        more = f"; {plural(len(why) - _REASONS, 'other reason')}" if len(why) > _REASONS else ""
        yield (
            f"Answers that are missing and count as wrong: {why.total():,} of {total:,} (the tables of cost "
            f"say under which method). Why: {reasons}{more}."
        )


def _benchmark(
    stem: str,
    arms: Sequence[Arm],
    scores: Mapping[Arm, score_tables.ArmScore],
    baselines: Mapping[Arm, Arm],
    decided: Mapping[Arm, Counter[str]],
    paper: bool,
) -> Iterator[ReportTable | ReportPlot]:
    names = list(dict.fromkeys(metric.name for metric in arms[0].metrics))
    skills = {name: found for name in names if (found := score_tables.skill_scores(arms, name))}
    main = arms[0].headline_names[0]
    yield score_tables.differences_table(arms, scores, baselines)
    yield from _if(score_tables.metrics_table(arms))
    yield from benchmark_plots(stem, arms, scores, skills.get(main, []))
    yield outcome_tables.costs_table(arms)
    for name, found in skills.items():
        reported = paper_skills(arms[0].benchmark) if paper and name == main else []
        yield score_tables.skills_table(name, arms, found, reported)
    if len(arms) > 1:
        if any(arm in baselines for arm in arms):
            yield outcome_tables.agreement_table(arms, baselines)
        yield outcome_tables.reach_table(arms)
    yield from _if(outcome_tables.oracle_table(arms))
    yield outcome_tables.format_table(arms)
    yield outcome_tables.scored_by_table(arms)
    yield from _if(outcome_tables.duels_table(arms, decided))


def _if(table: ReportTable | None) -> Iterator[ReportTable]:
    if table is not None:
        yield table
