"""6. How do the other ways of reasoning and selecting compare, those that the paper stands beside?

Owns the order in which they are shown: by score. What an adaptive budget pays is `budgets.py`'s subject.
"""

from __future__ import annotations

from llava_cot.evaluation.report.arms import Arm
from llava_cot.evaluation.report.bars import Group, bar_plot
from llava_cot.evaluation.report.costs import cost_of
from llava_cot.evaluation.report.document import (
    Cell,
    ReportPlot,
    ReportSection,
    ReportTable,
    amount,
    interval,
    limits,
    number,
    signed,
)
from llava_cot.evaluation.reproduce.findings import NOTE, Arms, units
from llava_cot.evaluation.reproduce.tasks import NEIGHBOURS
from llava_cot.evaluation.statistics import mean_with_interval, paired

BESIDE = ("single", "stage-beam-4")  # what they stand beside: one pass, and the paper's method


def neighbours(arms: Arms) -> ReportSection | None:
    """The section on all of them that were asked, of any model; None if none was."""
    names = {method for piece in NEIGHBOURS for method in piece.methods}
    shown = [arm for (_, method), arm in arms.items() if method in names]
    if not shown:
        return None
    shown += [arm for (model, method), arm in arms.items() if method in BESIDE and model == shown[0].model]
    figures = sorted(
        ((mean_with_interval(units(arm)), arm) for arm in shown), key=lambda pair: -pair[0].value
    )
    rows = [
        (
            Cell(arm.method),
            Cell(arm.model),
            Cell(number(figure.value), interval(figure)),
            *(_against(arms.get((arm.model, method)), arm) for method in BESIDE),
            *_cost(arm),
        )
        for figure, arm in figures
    ]
    head = (
        "method",
        "model",
        "score",
        *(f"against {method}" for method in BESIDE),
        "calls",
        "tokens written",
    )
    table = ReportTable("All of them, by score", head, tuple(rows), names=2, note=NOTE)
    named = [
        Group(arm.method if arm.model == shown[0].model else f"{arm.method} ({arm.model})", (figure,))
        for figure, arm in figures
    ]
    drawn = bar_plot(named, ("score",), title="Score by method")
    said = [
        f"{arm.method} of {arm.model}: {number(figure.value)} ({interval(figure)})."
        for figure, arm in figures
    ]
    return ReportSection(
        "6. How do the neighbours compare?",
        (*said, ReportPlot("reproduce-neighbours", "Score by method, with 95% intervals", drawn), table),
    )


def _against(base: Arm | None, arm: Arm) -> Cell:
    if base is None or base is arm:
        return Cell("–")
    found = paired(units(base), units(arm))
    return Cell(signed(found.value), limits(found))


def _cost(arm: Arm) -> tuple[Cell, Cell]:
    cost = cost_of(arm)
    if cost is None:  # no question was answered
        return Cell("–"), Cell("–")
    return Cell(amount(cost.calls)), Cell(amount(cost.written))
