"""The plots of a benchmark: score over tokens, time and N, and by skill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from llava_cot.evaluation.report.arms import Arm, ArmCost, arm_label, cost_of, families
from llava_cot.evaluation.report.document import (
    BarGroup,
    BarPlot,
    LinePlot,
    PlotLine,
    PlotPoint,
    ReportPlot,
    amount,
    interval,
    number,
)
from llava_cot.evaluation.report.score_tables import ArmScore, SkillScores

_MOST_BARS = 96  # of a plot; the table has the rest
_NUMBERS = "The numbers at the points are N, or the budget where a search has one."
_SINGLE = "The single pass is N = 1 of every search."


def benchmark_plots(
    stem: str, arms: Sequence[Arm], scores: Mapping[Arm, ArmScore], skills: Sequence[SkillScores]
) -> Iterator[ReportPlot]:
    """Yield the plots of one benchmark; `stem` begins the names of their files."""
    benchmark = arms[0].benchmark
    costs = {arm: cost for arm in arms if (cost := cost_of(arm)) is not None}
    timed = all(cost.seconds is not None for cost in costs.values())  # one axis shows one kind of seconds

    def over(
        what: Callable[[ArmCost], float | None], title: str, axis: str, file: str
    ) -> Iterator[ReportPlot]:
        found = {arm: x for arm, cost in costs.items() if (x := what(cost))}
        if found:
            yield LinePlot(
                name=f"{stem}-{file}",
                title=title,
                alt=f"{benchmark}: {title}",
                lines=_lines(arms, scores, found, lambda arm: f"{amount(found[arm])} {axis}", labels=True),
                x_name=axis,
                note=f"{_NUMBERS} {_SINGLE}",
            )

    yield from over(lambda cost: cost.written, "Score by tokens", "tokens written a question", "tokens")
    seconds = "seconds of the run a question" if timed else "seconds from a question's start to its end"
    yield from over(
        lambda cost: cost.seconds if timed else cost.in_flight, "Score by time", seconds, "seconds"
    )
    counts = {arm: float(arm.n) for arm in arms if arm.budget is None}
    if len(set(counts.values())) > 1:
        yield LinePlot(
            name=f"{stem}-n",
            title="Score by N",
            alt=f"{benchmark}: Score by N",
            lines=_lines(list(counts), scores, counts, lambda arm: f"N = {arm.n}", labels=False),
            x_name="N",
            counts=True,
            note=_SINGLE,
        )
    if skills:
        shown = skills[: max(1, _MOST_BARS // len(arms))]
        notes = [f"Of {arms[0].headline_names[0]}."] if len(arms[0].headline_names) > 1 else []
        notes += [f"The {len(shown)} hardest of {len(skills)} skills."] if len(shown) < len(skills) else []
        yield BarPlot(
            name=f"{stem}-skills",
            title="Score by skill",
            alt=f"{benchmark}: Score by skill",
            groups=tuple(BarGroup(skill.name or "none named", skill.scores) for skill in shown),
            series=tuple(arm_label(arm, arms) for arm in arms),
            note=" ".join(notes),
        )


def _lines(
    arms: Sequence[Arm],
    scores: Mapping[Arm, ArmScore],
    places: Mapping[Arm, float],
    place: Callable[[Arm], str],
    *,
    labels: bool,
) -> tuple[PlotLine, ...]:
    """A line for each family; `places` are the x of the arms, and `place` says what x is in a tooltip."""

    def point(arm: Arm) -> PlotPoint:
        score = scores[arm].score
        tooltip = f"{arm_label(arm, arms)}: {number(score.value)} ({interval(score)}), {place(arm)}"
        label = str(arm.budget or arm.n) if labels and arm.n > 1 else ""
        return PlotPoint(places[arm], score, label, tooltip)

    lines = (
        PlotLine(name, tuple(point(arm) for arm in members if arm in places))
        for name, members in families(arms)
    )
    return tuple(line for line in lines if line.points)
