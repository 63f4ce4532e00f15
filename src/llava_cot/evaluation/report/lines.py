"""A drawing of scores with their intervals over something that grows, a line for each series.

Owns the layout; `lines.svg.j2` has the shapes, `plots.css` the colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from llava_cot.evaluation.report import report_templates as templates
from llava_cot.evaluation.report.scale import WIDTH, count_axis, legend, log_axis, percent_axis
from llava_cot.evaluation.statistics import Estimate

_LEFT, _RIGHT, _TOP, _PLOT, _BELOW = 52, 16, 12, 250, 44


@dataclass(frozen=True)
class Point:
    """`x` is above 0; `label` stands beside the point, `told` is read at it."""

    x: float
    y: Estimate
    label: str = ""
    told: str = ""


@dataclass(frozen=True)
class Line:
    name: str
    points: tuple[Point, ...]


def line_plot(lines: Sequence[Line], *, title: str, x_name: str, counts: bool = False) -> Markup:
    """Scores in percent over `x_name`, on a logarithmic axis; with ticks at the points if x are `counts`.

    Raises ValueError where there is no point.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError("a plot needs at least one point")
    entries, height = legend([line.name for line in lines], WIDTH - _LEFT - _RIGHT)
    top = _TOP + height
    make = count_axis if counts else log_axis
    return templates.render(
        "lines.svg.j2",
        lines=lines,
        entries=entries,
        x=make([point.x for point in points], _LEFT, WIDTH - _RIGHT),
        y=percent_axis([limit for p in points for limit in (p.y.low, p.y.high)], top + _PLOT, top),
        title=title,
        x_name=x_name,
        width=WIDTH,
        height=round(top + _PLOT + _BELOW),
        left=_LEFT,
        top=_TOP,
    )
