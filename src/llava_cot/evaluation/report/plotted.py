"""Which plots a benchmark gets, and the points on them.

Owns the choice of what is drawn over what. How it is drawn is `lines.py`'s and `bars.py`'s subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from llava_cot.evaluation.report.arms import Arm, families, label
from llava_cot.evaluation.report.bars import Group, bar_plot
from llava_cot.evaluation.report.compared import Row
from llava_cot.evaluation.report.costs import Cost, cost_of
from llava_cot.evaluation.report.document import ReportPlot, amount, interval, number
from llava_cot.evaluation.report.lines import Line, Point, line_plot
from llava_cot.evaluation.report.skills import Skill

_MOST = 96  # bars of a plot; the table has the rest
_NUMBERS = "The numbers at the points are N, or the budget where a search keeps to one."
_SINGLE = "The single pass is N = 1 of every search."


def plots_of(
    stem: str, arms: Sequence[Arm], rows: Mapping[Arm, Row], skills: Sequence[Skill]
) -> Iterator[ReportPlot]:
    """The plots of one benchmark; `stem` begins the names of their files."""
    name = arms[0].benchmark
    costs = {arm: cost for arm in arms if (cost := cost_of(arm)) is not None}

    def over(what: Callable[[Cost], float | None], title: str, axis: str, file: str) -> Iterator[ReportPlot]:
        found = {arm: x for arm, cost in costs.items() if (x := what(cost))}
        if found:
            lines = _lines(arms, rows, found, lambda arm: f"{amount(found[arm])} {axis}", numbered=True)
            drawn = line_plot(lines, title=f"{name}: {title}", x_name=axis)
            yield ReportPlot(f"{stem}-{file}", title, drawn, f"{_NUMBERS} {_SINGLE}")

    yield from over(lambda cost: cost.written, "Score by tokens", "tokens written a question", "tokens")
    yield from over(_seconds(costs), "Score by time", _seconds_name(costs), "seconds")
    counts = {arm: float(arm.n) for arm in arms if arm.budget is None}
    if len(set(counts.values())) > 1:
        lines = _lines(list(counts), rows, counts, lambda arm: f"N = {arm.n}", numbered=False)
        drawn = line_plot(lines, title=f"{name}: Score by N", x_name="N", counts=True)
        yield ReportPlot(f"{stem}-n", "Score by N", drawn, _SINGLE)
    if skills:
        shown = skills[: max(1, _MOST // len(arms))]
        groups = [Group(skill.name or "none named", skill.figures) for skill in shown]
        drawn = bar_plot(groups, [label(arm, arms) for arm in arms], title=f"{name}: Score by skill")
        notes = [f"Of {arms[0].named[0]}."] if len(arms[0].named) > 1 else []
        notes += [f"The {len(shown)} hardest of {len(skills)} skills."] if len(shown) < len(skills) else []
        yield ReportPlot(f"{stem}-skills", "Score by skill", drawn, " ".join(notes))


def _seconds(costs: Mapping[Arm, Cost]) -> Callable[[Cost], float | None]:
    """The run's time if it is known of all, so that one axis has one kind."""
    clocked = all(cost.seconds is not None for cost in costs.values())
    return (lambda cost: cost.seconds) if clocked else (lambda cost: cost.in_flight)


def _seconds_name(costs: Mapping[Arm, Cost]) -> str:
    clocked = all(cost.seconds is not None for cost in costs.values())
    return "seconds of the run a question" if clocked else "seconds from a question's start to its end"


def _lines(
    arms: Sequence[Arm],
    rows: Mapping[Arm, Row],
    places: Mapping[Arm, float],
    told: Callable[[Arm], str],
    *,
    numbered: bool,
) -> list[Line]:
    def read(arm: Arm) -> str:
        figure = rows[arm].figure
        return f"{label(arm, arms)}: {number(figure.value)} ({interval(figure)}), {told(arm)}"

    found = []
    for name, members in families(arms):
        points = [
            Point(
                places[arm],
                rows[arm].figure,
                str(arm.budget or arm.n) if numbered and arm.n > 1 else "",
                read(arm),
            )
            for arm in members
            if arm in places
        ]
        if points:
            found.append(Line(name, tuple(points)))
    return found
