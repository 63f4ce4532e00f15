"""The contents of a report, in order: the scores on all benchmarks, then each benchmark by itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from llava_cot.core.wording import plural
from llava_cot.evaluation.report import outcome_tables, score_tables
from llava_cot.evaluation.report.arms import Arm, arm_label, arms_on, cost_of, families
from llava_cot.evaluation.report.document import (
    BarGroup,
    BarPlot,
    LinePlot,
    PlotLine,
    PlotPoint,
    ReportPlot,
    ReportSection,
    ReportTable,
    amount,
    interval,
    number,
)
from llava_cot.evaluation.report.judging import ArmJudging, judges_table
from llava_cot.evaluation.report.score_tables import ArmScore, SkillScores, paper_results, paper_skills
from llava_cot.evaluation.results import describe_resources

_REASONS = 3
_MOST_BARS = 96  # of a plot; the table has the rest
_NUMBERS = "The numbers at the points are N, or the budget where a search has one."
_SINGLE = "The single pass is N = 1 of every search."
_PAPER = (
    "Rows marked as reported are the paper's own (arXiv 2411.10440): other runs, of other models, without "
    "intervals, and of the splits that the paper used (MMBench 1.1 test, MathVista testmini). No test "
    "compares them with these runs."
)


def contents(
    arms: Sequence[Arm],
    baselines: Mapping[Arm, Arm],
    judging: Mapping[Arm, ArmJudging],
    notes: Mapping[str, str],
    *,
    paper: bool,
) -> list[ReportSection]:
    """Return the sections of a report.

    `baselines` has the arm that each arm is compared with, `judging` what each arm's traces say of its
    judge, and `notes` the sentence to show with each benchmark. With `paper` the paper's own results are
    shown.
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
    for place, benchmark in enumerate(benchmarks, 1):
        stem = f"{place}-{re.sub(r'[^a-z0-9]+', '-', benchmark.lower()).strip('-')}"
        parts = _benchmark(stem, arms_on(arms, benchmark), scores, judging, paper)
        note = (notes[benchmark],) if notes.get(benchmark) else ()
        sections.append(ReportSection(benchmark, (*note, *(part for part in parts if part is not None))))
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
    scores: Mapping[Arm, ArmScore],
    judging: Mapping[Arm, ArmJudging],
    paper: bool,
) -> Iterator[ReportTable | ReportPlot | None]:
    names = list(dict.fromkeys(metric.name for metric in arms[0].metrics))
    skills = {name: found for name in names if (found := score_tables.skill_scores(arms, name))}
    main = arms[0].headline_names[0]
    yield score_tables.differences_table(arms, scores)
    yield score_tables.metrics_table(arms)
    yield from _plots(stem, arms, scores, skills.get(main, []))
    yield outcome_tables.costs_table(arms)
    for name, found in skills.items():
        reported = paper_skills(arms[0].benchmark) if paper and name == main else []
        yield score_tables.skills_table(name, arms, found, reported)
    if len(arms) > 1:
        if baselines := {arm: base for arm in arms if (base := scores[arm].baseline)}:
            yield outcome_tables.agreement_table(baselines, arms)
        yield outcome_tables.reach_table(arms)
    yield outcome_tables.oracle_table(arms, judging)
    yield judges_table(arms, judging)
    yield outcome_tables.format_table(arms)
    yield outcome_tables.warnings_table(arms)
    yield outcome_tables.scored_by_table(arms)
    yield outcome_tables.duels_table(arms, judging)


def _plots(
    stem: str, arms: Sequence[Arm], scores: Mapping[Arm, ArmScore], skills: Sequence[SkillScores]
) -> Iterator[ReportPlot]:
    """Yield the plots of one benchmark; `stem` begins the names of their files."""
    costs = {arm: cost for arm in arms if (cost := cost_of(arm)) is not None}
    tokens = {arm: cost.written for arm, cost in costs.items() if cost.written}
    if tokens:
        yield _line_plot(
            f"{stem}-tokens", "Score by tokens", "tokens written a question", arms, scores, tokens
        )
    timed = all(cost.seconds is not None for cost in costs.values())  # one axis shows one kind of seconds
    seconds = {arm: x for arm, cost in costs.items() if (x := cost.seconds if timed else cost.in_flight)}
    if seconds:
        axis = "seconds of the run a question" if timed else "seconds from a question's start to its end"
        yield _line_plot(f"{stem}-seconds", "Score by time", axis, arms, scores, seconds)
    counts = {arm: float(arm.n) for arm in arms if arm.budget is None}
    if len(set(counts.values())) > 1:
        yield _line_plot(f"{stem}-n", "Score by N", "N", list(counts), scores, counts, counts=True)
    if skills:
        shown = skills[: max(1, _MOST_BARS // len(arms))]
        notes = [f"Of {arms[0].headline_names[0]}."] if len(arms[0].headline_names) > 1 else []
        notes += [f"The {len(shown)} hardest of {len(skills)} skills."] if len(shown) < len(skills) else []
        yield BarPlot(
            name=f"{stem}-skills",
            title="Score by skill",
            alt=f"{arms[0].benchmark}: Score by skill",
            groups=tuple(BarGroup(skill.name or "none named", skill.scores) for skill in shown),
            series=tuple(arm_label(arm, arms) for arm in arms),
            note=" ".join(notes),
        )


def _line_plot(
    name: str,
    title: str,
    x_name: str,
    arms: Sequence[Arm],
    scores: Mapping[Arm, ArmScore],
    xs: Mapping[Arm, float],
    counts: bool = False,
) -> LinePlot:
    """Return a plot of the arms that have an x, a line for each family; with `counts` x is N."""

    def point(arm: Arm) -> PlotPoint:
        score = scores[arm].score
        x = f"N = {arm.n}" if counts else f"{amount(xs[arm])} {x_name}"
        tooltip = f"{arm_label(arm, arms)}: {number(score.value)} ({interval(score)}), {x}"
        label = "" if counts or arm.n == 1 else str(arm.budget or arm.n)
        return PlotPoint(xs[arm], score, label, tooltip)

    lines = (
        PlotLine(family, tuple(point(arm) for arm in members if arm in xs))
        for family, members in families(arms)
    )
    return LinePlot(
        name=name,
        title=title,
        alt=f"{arms[0].benchmark}: {title}",
        lines=tuple(line for line in lines if line.points),
        x_name=x_name,
        counts=counts,
        note=_SINGLE if counts else f"{_NUMBERS} {_SINGLE}",
    )
