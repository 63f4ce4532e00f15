"""What a report consists of, before it is Markdown or HTML: sections of tables, plots and sentences.

Owns the shapes, and how figures are written in words. Knows no run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from markupsafe import Markup

from llava_cot.evaluation.statistics import Estimate, PairedDifference

CellMark: TypeAlias = Literal["", "baseline", "better", "worse", "best", "reported"]


@dataclass(frozen=True)
class Cell:
    """One place of a table: what is read first, and what stands below it in small."""

    text: str
    below: str = ""
    mark: CellMark = ""


@dataclass(frozen=True)
class ReportTable:
    """`names` is how many columns, from the left, say what the row is; the others are figures."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    names: int = 1
    note: str = ""


@dataclass(frozen=True)
class ReportPlot:
    """A drawing for a page that has its style, under the name of a file for those that have not."""

    name: str
    title: str
    svg: Markup
    note: str = ""


@dataclass(frozen=True)
class ReportSection:
    title: str
    parts: tuple[ReportTable | ReportPlot | str, ...]


def cells(*texts: str) -> tuple[Cell, ...]:
    return tuple(Cell(text) for text in texts)


def interval(figure: Estimate | PairedDifference) -> str:
    """The limits, such as "50.1 to 55.9"."""
    return f"{number(figure.low)} to {number(figure.high)}"


def number(value: float) -> str:
    """With one decimal and a true minus sign; never "−0.0"."""
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", "−")


def signed(value: float) -> str:
    text = number(value)
    return text if text.startswith("−") or text == "0.0" else f"+{text}"


def limits(found: PairedDifference | Estimate) -> str:
    """The limits of a difference, such as "−0.2 to +1.8"."""
    return f"{signed(found.low)} to {signed(found.high)}"


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def share(part: float, whole: float) -> str:
    """A percentage, such as "12.5%"; "–" of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def amount(value: float | None) -> str:
    """A quantity a question, with about three digits: "1,234", "12.3", "0.0123"; "–" if it is not known."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
