"""A drawing of scores with their intervals as bars in groups, such as methods by skill.

Owns the layout; `bars.svg.j2` has the shapes, `plots.css` the colours. Bars lie, so that names can be long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from llava_cot.evaluation.report import report_templates as templates
from llava_cot.evaluation.report.scale import WIDTH, clipped, legend, percent_axis
from llava_cot.evaluation.statistics import Estimate

_RIGHT, _TOP, _BELOW, _NAME, _GAP = 40, 12, 40, 20, 12


@dataclass(frozen=True)
class Group:
    """`figures` are in the order of the series; None is left out."""

    name: str
    figures: tuple[Estimate | None, ...]


def bar_plot(groups: Sequence[Group], series: Sequence[str], *, title: str) -> Markup:
    """Scores in percent, from 0 on. Raises ValueError where there is no figure."""
    limits = [figure.high for group in groups for figure in group.figures if figure is not None]
    if not limits:
        raise ValueError("a plot needs at least one bar")
    entries, height = legend(series, WIDTH - _RIGHT)
    thick = 13 if len(series) <= 6 else 12
    top = _TOP + height
    placed, y = [], top
    for group in groups:
        bars = [(i, figure) for i, figure in enumerate(group.figures) if figure is not None]
        name = clipped(group.name, WIDTH)
        placed.append((name, y, [(i, figure, y + _NAME + n * thick) for n, (i, figure) in enumerate(bars)]))
        y += _NAME + len(bars) * thick + _GAP
    return templates.render(
        "bars.svg.j2",
        groups=placed,
        series=series,
        entries=entries,
        x=percent_axis(limits, 2, WIDTH - _RIGHT, zero=True),
        title=title,
        width=WIDTH,
        height=round(y + _BELOW),
        top=_TOP,
        plot_top=top,
        bottom=y,
        thick=thick - 2,
    )
