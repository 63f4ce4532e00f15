"""The parts of a report, independent of Markdown and HTML, and how numbers are written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from llava_cot.evaluation.statistics import MeanEstimate

CellMark: TypeAlias = Literal["", "baseline", "better", "worse", "best", "reported"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and a smaller line below it."""

    text: str
    below: str = ""
    mark: CellMark = ""


@dataclass(frozen=True)
class ReportTable:
    """A table. The first `names` columns say what a row is; the others hold numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = 1
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ReportPlot:
    """A plot, with a heading above it and a note below."""

    name: str  # of its file, without the suffix
    title: str
    alt: str  # for those who cannot see it
    note: str = ""


@dataclass(frozen=True)
class PlotPoint:
    """A point of a line: `x` is above 0, `label` stands next to it, `tooltip` appears over it."""

    x: float
    y: MeanEstimate
    label: str = ""
    tooltip: str = ""


@dataclass(frozen=True)
class PlotLine:
    """A line of a plot, with its name in the legend."""

    name: str
    points: tuple[PlotPoint, ...]


@dataclass(frozen=True, kw_only=True)
class LinePlot(ReportPlot):
    """Scores with intervals over `x_name`, on a logarithmic axis, or a linear one.

    With `counts`, ticks are at the points.
    """

    lines: tuple[PlotLine, ...]
    x_name: str
    counts: bool = False
    linear: bool = False


@dataclass(frozen=True)
class BarGroup:
    """The scores of one group, in the order of the plot's series; None where there is no bar."""

    name: str
    scores: tuple[MeanEstimate | None, ...]


@dataclass(frozen=True, kw_only=True)
class BarPlot(ReportPlot):
    """Scores with intervals as bars in groups, such as methods by skill."""

    groups: tuple[BarGroup, ...]
    series: tuple[str, ...]


@dataclass(frozen=True)
class ReportSection:
    """A section: a heading, and tables, plots and sentences in order."""

    title: str
    parts: tuple[ReportTable | ReportPlot | str, ...]


def cells(*texts: str) -> tuple[Cell, ...]:
    return tuple(Cell(text) for text in texts)


def score_cell(score: MeanEstimate, mark: CellMark = "") -> Cell:
    """Return a cell with a score and its interval: "53.0" over "50.1 to 55.9"."""
    return Cell(number(score.value), interval(score), mark)


def share_cells(parts: Iterable[int], whole: int) -> tuple[Cell, ...]:
    """Return a cell for each part, with its percentage over its number."""
    return tuple(Cell(share(part, whole), f"{part:,}") for part in parts)


def interval(estimate: MeanEstimate) -> str:
    """Write the limits: "50.1 to 55.9"."""
    return f"{number(estimate.low)} to {number(estimate.high)}"


def signed_interval(difference: MeanEstimate) -> str:
    """Write the limits of a difference: "−0.2 to +1.8"."""
    return f"{signed(difference.low)} to {signed(difference.high)}"


def number(value: float) -> str:
    """Write a number with one decimal and a true minus sign; never "−0.0"."""
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def signed(value: float) -> str:
    """Write a number with its sign: "+1.8"."""
    text = number(value)
    return text if text.startswith("−") or text == "0.0" else f"+{text}"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def share(part: float, whole: float) -> str:
    """Write a percentage: "12.5%"; "–" where `whole` is 0."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def amount(value: float | None) -> str:
    """Write a quantity with about three digits: "1,234", "12.3", "0.0123"; "–" if it is unknown."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
