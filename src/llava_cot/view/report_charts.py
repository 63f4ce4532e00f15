"""Plots of a report as SVG, drawn by matplotlib.

matplotlib writes colors into `style` attributes, which the page's content security policy forbids. Here they
become attributes (`fill="#0b6e74"`), and `STYLE` has the dark colors for these.
"""

from __future__ import annotations

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from markupsafe import Markup

from llava_cot.core.wording import writable
from llava_cot.errors import needs_extra
from llava_cot.evaluation.report.document import BarPlot, LinePlot, ReportPlot, interval, number
from llava_cot.evaluation.statistics import MeanEstimate

WIDTH = 560  # of a plot, in its own units; pages scale it
_INK, _FAINT, _RULE = ("#1b1f27", "#e6e9ef"), ("#5d6675", "#9aa4b5"), ("#dfe3ea", "#303845")
_PAPER = "#1a1f28"  # dark
_SERIES = (  # light and dark; further series have these again, dashed or hatched
    ("#0b6e74", "#4cc3ca"), ("#c4541a", "#f0925c"), ("#5b4bb3", "#a99cf5"), ("#a8357f", "#ec84c2"),
    ("#4b7a1e", "#9ccf63"), ("#2463b5", "#74aef7"), ("#8a6a00", "#dcb94a"), ("#6b7280", "#a9b3c3"),
)  # fmt: skip
_MARKERS = "os^D"
_LETTER = 6.5  # the width of a letter of the legend, at most, on average
_PLOT, _TOP, _BELOW, _LINE = 260, 12, 44, 18  # heights: of lines, above, of the axis, of a legend's line
_BAR, _NAME, _GAP = 13, 20, 12  # heights of a bar, of a group's name, between groups
_SVG = "{http://www.w3.org/2000/svg}"
_HREF = "{http://www.w3.org/1999/xlink}href"
_SETTINGS: Any = {
    "font.size": 10.5, "font.family": "sans-serif", "text.parse_math": False, "svg.fonttype": "none",
    "svg.hashsalt": "llava-cot", "text.color": _INK[0], "axes.edgecolor": _FAINT[0],
    "axes.labelcolor": _FAINT[0], "xtick.color": _FAINT[0], "ytick.color": _FAINT[0],
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "grid.color": _RULE[0], "figure.constrained_layout.h_pad": 0.06,
}  # fmt: skip

STYLE = (
    '.rp-plot text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }\n'
    "@media (prefers-color-scheme: dark) {\n"
    + "".join(
        f'.rp-plot [fill="{light}"] {{ fill: {dark}; }} .rp-plot [stroke="{light}"] {{ stroke: {dark}; }}\n'
        for light, dark in (_INK, _FAINT, _RULE, *_SERIES)
    )
    + "}\n"
)
_FILE_STYLE = (
    ".rp-plot { background: #fff; }\n"
    f"@media (prefers-color-scheme: dark) {{ .rp-plot {{ background: {_PAPER}; }} }}\n"
)


@lru_cache(maxsize=64)  # a report needs each twice
def draw(plot: ReportPlot) -> Markup:
    """Draw a plot as an `<svg>` element, for a page that has `STYLE`. The same plot gives the same text.

    Raises ValueError for a plot without points or bars, and DataError if matplotlib is not installed.
    """
    with needs_extra("plots", "eval"):
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    with rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the viewer's font draws the text
        figure = Figure(layout="constrained", dpi=72)
        FigureCanvasSVG(figure)
        if isinstance(plot, LinePlot):
            tooltips = _draw_lines(figure, plot)
        elif isinstance(plot, BarPlot):
            tooltips = _draw_bars(figure, plot)
        else:
            raise TypeError(f"no drawing is known for {type(plot).__name__}")
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True)
    return Markup(ET.tostring(_adapt(file.getvalue(), plot, tooltips), encoding="unicode"))


def draw_file(plot: ReportPlot) -> str:
    """Draw a plot as an SVG file, with its style. Raises as `draw` does."""
    return str(draw(plot)).replace("</title>", f"</title><style>{STYLE}{_FILE_STYLE}</style>", 1)


def _draw_lines(figure: Any, plot: LinePlot) -> dict[str, str]:
    """Draw scores over x. Returns the tooltips by the group id of their point."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    points = [point for line in plot.lines for point in line.points]
    if not points:
        raise ValueError("a plot needs at least one point")
    axes, handles = figure.subplots(), []
    tooltips: dict[str, str] = {}
    for series, line in enumerate(plot.lines):
        look = _look(series)
        xs, ys = [point.x for point in line.points], [point.y.value for point in line.points]
        dashes = (0, (5, 3)) if look["again"] else "-"
        errors = _errors([point.y for point in line.points])
        axes.errorbar(
            xs, ys, errors, fmt="none", ecolor=look["color"], elinewidth=1.25, capsize=3.5, alpha=0.55
        )
        axes.plot(xs, ys, color=look["color"], linewidth=2, linestyle=dashes)
        style = {"color": look["color"], "marker": look["marker"], "markersize": 7, "markeredgewidth": 0}
        handles.append(axes.plot([], [], linewidth=2, linestyle=dashes, **style)[0])
        for point in line.points:
            id = f"point-{len(tooltips)}"
            tooltips[id] = writable(point.tooltip)
            axes.plot([point.x], [point.y.value], linestyle="", gid=id, zorder=3, **style)
            axes.annotate(
                writable(point.label), (point.x, point.y.value), (6, 5), textcoords="offset points",
                fontsize=9, color=_FAINT[0],
            )  # fmt: skip
    if not plot.linear:
        spread = 1.12 if plot.counts else 1.25
        axes.set_xscale("log")
        axes.set_xlim(min(point.x for point in points) / spread, max(point.x for point in points) * spread)
        counts = FixedLocator(sorted({point.x for point in points}))
        axes.xaxis.set_major_locator(counts if plot.counts else LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    ticks = _percent_ticks([limit for point in points for limit in (point.y.low, point.y.high)])
    axes.set_yticks(ticks)
    axes.set_ylim(ticks[0], ticks[-1])
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(writable(plot.x_name))
    axes.set_ylabel("score, %")
    rows = _legend(figure, handles, [line.name for line in plot.lines])
    figure.set_size_inches(WIDTH / 72, (_TOP + rows * _LINE + _PLOT + _BELOW) / 72)
    return tooltips


def _draw_bars(figure: Any, plot: BarPlot) -> dict[str, str]:
    """Draw bars in groups, lying, so that names can be long. Returns the tooltips by the id of their bar."""
    limits = [score.high for group in plot.groups for score in group.scores if score is not None]
    if not limits:
        raise ValueError("a plot needs at least one bar")
    axes, handles, y = figure.subplots(), {}, 0.0
    tooltips: dict[str, str] = {}
    for group in plot.groups:
        axes.annotate(
            writable(group.name), (0, y + _NAME - 6), (4, 0), textcoords="offset points", fontweight="bold"
        )
        y += _NAME
        for series, score in enumerate(group.scores):
            if score is None:
                continue
            id, middle, look = f"bar-{len(tooltips)}", y + _BAR / 2, _look(series)
            alpha = 0.45 if look["again"] else 0.8
            tooltips[id] = writable(
                f"{plot.series[series]}, {group.name}: {number(score.value)} ({interval(score)})"
            )
            handles[series] = axes.barh(middle, score.value, _BAR - 2, color=look["color"], alpha=alpha)[0]
            handles[series].set_gid(id)
            axes.errorbar(
                [score.value], [middle], xerr=_errors([score]), fmt="none", ecolor=_INK[0], elinewidth=1,
                capsize=2.5, alpha=0.7,
            )  # fmt: skip
            axes.annotate(
                number(score.value), (score.high, middle), (5, 0), textcoords="offset points", va="center",
                fontsize=9, color=_FAINT[0],
            )  # fmt: skip
            y += _BAR
        y += _GAP
    ticks = _percent_ticks([0, *limits])
    axes.set_xticks(ticks)
    axes.set_xlim(0, ticks[-1])
    axes.set_ylim(y, 0)
    axes.set_yticks([])
    axes.grid(axis="x")
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("score, %")
    shown = sorted(handles)
    rows = _legend(figure, [handles[series] for series in shown], [plot.series[series] for series in shown])
    figure.set_size_inches(WIDTH / 72, (_TOP + rows * _LINE + y + _BELOW) / 72)
    return tooltips


def _look(series: int) -> dict[str, Any]:
    return {
        "color": _SERIES[series % len(_SERIES)][0],
        "marker": _MARKERS[series % len(_MARKERS)],
        "again": series >= len(_SERIES),
    }


def _errors(scores: Sequence[MeanEstimate]) -> list[list[float]]:
    return [
        [max(0.0, one.value - one.low) for one in scores],
        [max(0.0, one.high - one.value) for one in scores],
    ]


def _legend(figure: Any, handles: Sequence[Any], names: Sequence[str]) -> int:
    """Put a legend above the plot. Returns how many lines it has."""
    texts = [writable(name) for name in names]
    texts = [text if len(text) <= 70 else f"{text[:69]}…" for text in texts]
    columns = max(1, int(WIDTH / (_LETTER * max(map(len, texts)) + 48)))
    # A label that begins with "_" would be left out.
    labels = [f" {text}" if text.startswith("_") else text for text in texts]
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, frameon=False, borderpad=0)
    return -(-len(texts) // columns)


def _percent_ticks(values: Sequence[float]) -> list[float]:
    """Round ticks around the values, within 0 and 100."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(6, steps=[1, 2, 5, 10], integer=True).tick_values(min(values), max(values))
    return sorted({min(100.0, max(0.0, float(tick))) for tick in ticks})


def _adapt(svg: str, plot: ReportPlot, tooltips: dict[str, str]) -> ET.Element:
    """Turn matplotlib's SVG into one that a page can hold: no styles, ids of its own, titles."""
    ET.register_namespace("", _SVG[1:-1])
    root = ET.fromstring(svg)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style") or (
                child.tag == f"{_SVG}defs" and not len(child)
            ):
                parent.remove(child)
    used = set(re.findall(r"#([\w.-]+)", " ".join(v for e in root.iter() for v in e.attrib.values())))
    for element in root.iter():
        for name, value in _declarations(element.attrib.pop("style", "")):
            element.set(name, value)
        id = element.attrib.pop("id", "")
        if id in tooltips:
            element.insert(0, _title(tooltips[id]))
        if id in used:
            element.set("id", f"{plot.name}-{id}")
        if (href := element.attrib.pop(_HREF, None)) is not None:
            element.set("href", f"#{plot.name}-{href[1:]}")
        if (clip := element.get("clip-path")) is not None:
            element.set("clip-path", clip.replace("#", f"#{plot.name}-"))
    for shape in root.iterfind(f".//{_SVG}defs/{_SVG}path"):  # `use` has the colors, which can then be dark
        for name in ("fill", "stroke"):
            shape.attrib.pop(name, None)
    alt = writable(plot.alt)
    box = root.get("viewBox", "")
    root.attrib.clear()
    root.attrib.update({"class": "rp-plot", "role": "img", "viewBox": box, "aria-label": alt})
    root.insert(0, _title(alt))
    return root


def _declarations(style: str) -> list[tuple[str, str]]:
    """The declarations of a style that are attributes of SVG, too."""
    found = []
    for name, _, value in (part.strip().partition(":") for part in style.split(";") if part.strip()):
        if name == "font":
            size = re.search(r"([\d.]+)px", value)
            found += [("font-size", size[1])] if size else []
            found += [("font-weight", "bold")] if re.search(r"\b(bold|[6-9]00)\b", value) else []
        elif name != "font-family":
            found.append((name, value.strip()))
    return found


def _title(text: str) -> ET.Element:
    element = ET.Element(f"{_SVG}title")
    element.text = text
    return element


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:.3g}"
