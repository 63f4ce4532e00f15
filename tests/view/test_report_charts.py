"""Plots: SVG that is whole, escaped, the same each time, and without styles that a page forbids."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llava_cot.errors import DataError
from llava_cot.evaluation.report.document import BarGroup, BarPlot, LinePlot, PlotLine, PlotPoint
from llava_cot.evaluation.statistics import MeanEstimate
from llava_cot.view.report_charts import STYLE, WIDTH, draw, draw_file

HOSTILE = '"><script>alert(1)</script>\x00\ud800'
SHOWN = '"><script>alert(1)</script>\ufffd?'


def line_plot(lines: list[PlotLine], **more: Any) -> LinePlot:
    return LinePlot(name="p", title="T", alt=more.pop("alt", "A"), lines=tuple(lines), x_name="N", **more)


def bar_plot(groups: list[BarGroup], series: tuple[str, ...]) -> BarPlot:
    return BarPlot(name="p", title="T", alt="Bars", groups=tuple(groups), series=series)


def texts(root: ET.Element, tag: str) -> list[str]:
    return [element.text or "" for element in root.iter() if element.tag.rpartition("}")[2] == tag]


def test_a_plot_of_lines_is_whole_and_escaped() -> None:
    points = tuple(PlotPoint(x, MeanEstimate(50 + x, 40 + x, 60 + x), f"at {x}", HOSTILE) for x in (1, 2, 10))
    others = [PlotLine(f"$n_{n}$", points[:1]) for n in range(9)]
    root = ET.fromstring(draw_file(line_plot([PlotLine(f"_{HOSTILE}", points), *others], alt=HOSTILE)))
    assert root.get("aria-label") == SHOWN and root.get("role") == "img"
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
    assert texts(root, "title") == [SHOWN] + [SHOWN] * (3 + 9)  # of the plot, and a tooltip for each point
    shown = [text.strip() for text in texts(root, "text")]
    assert f"_{SHOWN}" in shown and "$n_8$" in shown  # the legend has all series
    assert {"at 1", "at 2", "at 10", "N", "score, %"} <= set(shown)
    assert any(element.get("stroke-dasharray") for element in root.iter())  # the ninth series


def test_a_plot_of_bars_is_whole_and_in_proportion() -> None:
    scores = (MeanEstimate(20, 10, 30), None, MeanEstimate(80, 70, 100))
    groups = [BarGroup(f"{n} {HOSTILE}", scores) for n in range(2)]
    root = ET.fromstring(draw_file(bar_plot(groups, ("a", "b", "c"))))
    tooltips = texts(root, "title")[1:]
    assert tooltips[:2] == [f"a, 0 {SHOWN}: 20.0 (10.0 to 30.0)", f"c, 0 {SHOWN}: 80.0 (70.0 to 100.0)"]
    assert len(tooltips) == 4
    widths = []
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        if len(group) and group[0].tag.endswith("title"):
            path = next(one for one in group if one.tag.endswith("path")).get("d", "").split()
            xs = [float(x) for command, x in pairwise(path) if command in "ML"]
            widths.append(max(xs) - min(xs))
    assert widths[1] / widths[0] == pytest.approx(4, rel=0.01) and max(widths) < WIDTH


@pytest.mark.parametrize("linear", [True, False])
def test_an_axis_is_linear_or_logarithmic(linear: bool) -> None:
    points = tuple(PlotPoint(x, MeanEstimate(50, 40, 60)) for x in (50.0, 100.0))
    root = ET.fromstring(draw_file(line_plot([PlotLine("a", points)], linear=linear)))
    shown = [text.strip() for text in texts(root, "text")]
    assert {"50", "100"} <= set(shown) and ({"60", "70", "80", "90"} <= set(shown)) == linear


def test_a_page_may_hold_several() -> None:
    points = (PlotPoint(1, MeanEstimate(50, 40, 60)),)
    drawn = [str(draw(line_plot([PlotLine("a", points)], counts=counts))) for counts in (True, False)]
    drawn.append(
        str(draw(LinePlot(name="q", title="T", alt="A", lines=(PlotLine("a", points),), x_name="N")))
    )
    assert not any("style" in one or "<?xml" in one or "metadata" in one for one in drawn)
    roots = [ET.fromstring(one) for one in drawn]
    ids = [{element.get("id") for element in root.iter()} - {None} for root in roots]
    assert ids[1].isdisjoint(ids[2])  # the names of plots are in them
    for root, known in zip(roots, ids, strict=True):
        used = {element.get("href", "#")[1:] for element in root.iter() if element.get("href")}
        assert used and used <= known


def test_the_same_plot_is_the_same_text_and_has_its_dark_colors() -> None:
    plot = line_plot([PlotLine("a", (PlotPoint(3, MeanEstimate(50, 40, 60)),))])
    first = draw(plot)
    draw.cache_clear()
    assert draw(plot) == first
    used = {element.get("stroke") for element in ET.fromstring(str(first)).iter()} - {None, "none"}
    assert used and all(f'[stroke="{color}"]' in STYLE for color in used)
    assert "prefers-color-scheme: dark" in draw_file(plot)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.floats(1e-6, 1e9), st.floats(0, 100), st.floats(0, 50)), min_size=1, max_size=8),
    st.lists(st.text(max_size=200), min_size=1, max_size=3),
)
def test_any_values_and_names_can_be_drawn(found: list[tuple[float, float, float]], names: list[str]) -> None:
    points = tuple(PlotPoint(x, MeanEstimate(y, max(0, y - d), min(100, y + d))) for x, y, d in found)
    root = ET.fromstring(draw_file(line_plot([PlotLine(name, points) for name in names])))
    assert root.get("viewBox", "").startswith(f"0 0 {WIDTH} ")


def test_plots_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        draw(line_plot([]))
    with pytest.raises(ValueError, match="at least one bar"):
        draw(bar_plot([BarGroup("a", (None,))], ("a",)))


def test_without_matplotlib_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(DataError, match=r"plots needs matplotlib.* -c constraints.txt -e '\.\[eval\]'"):
        draw(line_plot([PlotLine("a", (PlotPoint(5, MeanEstimate(50, 40, 60)),))]))
