"""Plots: axes that hold their values, and drawings that are whole."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.evaluation.report.bars import Group, bar_plot
from llava_cot.evaluation.report.lines import Line, Point, line_plot
from llava_cot.evaluation.report.scale import WIDTH, Axis, count_axis, legend, log_axis, percent_axis
from llava_cot.evaluation.report.write import alone
from llava_cot.evaluation.statistics import Estimate

HOSTILE = '"><script>alert(1)</script>\x00\ud800'
SHOWN = '"><script>alert(1)</script>\ufffd?'
positive = st.floats(1e-6, 1e9)
percent = st.floats(0, 100)


def holds(axis: Axis, values: list[float], most: int) -> None:
    """All values are on the axis, in their order, and its ticks are few, in order and apart."""
    places = [axis(value) for value in sorted(values)]
    assert all(min(axis.start, axis.end) <= place <= max(axis.start, axis.end) for place in places)
    assert places == sorted(places, reverse=axis.start > axis.end)
    ticks = [value for value, _ in axis.ticks]
    assert 1 <= len(ticks) <= most
    assert all(a < b for a, b in pairwise(ticks))
    assert all(axis.low <= tick <= axis.high for tick in ticks)


@given(st.lists(percent, min_size=1), st.booleans())
def test_percent_axes(values: list[float], zero: bool) -> None:
    axis = percent_axis(values, 300, 10, zero=zero)
    holds(axis, values, 8)
    assert 0 <= axis.low <= min(values) and max(values) <= axis.high <= 100
    assert len(axis.ticks) >= 2
    assert axis.low == 0 or not zero


@given(st.lists(positive, min_size=1))
def test_logarithmic_axes(values: list[float]) -> None:
    axis = log_axis(values, 50, 500)
    holds(axis, values, 17)
    assert len(axis.ticks) >= 2
    assert axis(axis.low) == 50 and axis(axis.high) == 500


@given(st.lists(st.integers(1, 1000).map(float), min_size=1))
def test_axes_of_counts_have_ticks_at_the_counts(values: list[float]) -> None:
    axis = count_axis(values, 50, 500)
    holds(axis, values, 40)
    assert {tick for tick, _ in axis.ticks} <= set(values)
    assert all(axis(b) - axis(a) > 13 for (a, _), (b, _) in pairwise(axis.ticks))


@given(st.lists(st.text(max_size=200), max_size=20))
def test_legends_stay_within_their_width(names: list[str]) -> None:
    entries, height = legend(names, 400)
    assert [entry.series for entry in entries] == list(range(len(names)))
    assert all(entry.x + 38 + 6.7 * len(entry.text) <= 401 for entry in entries)
    assert all(entry.y < height for entry in entries)
    assert len({(entry.x, entry.y) for entry in entries}) == len(entries)


def test_a_plot_of_lines_is_whole_and_escaped() -> None:
    points = tuple(Point(x, Estimate(50 + x, 40 + x, 60 + x), str(x), HOSTILE) for x in (1, 2, 10))
    drawn = line_plot(
        [Line(HOSTILE, points), *(Line(f"{n}", points[:1]) for n in range(9))], title=HOSTILE, x_name="N"
    )
    root = ET.fromstring(alone(drawn))
    assert root.get("aria-label") == SHOWN
    assert "script" not in {element.tag.rpartition("}")[2] for element in root.iter()}
    lines = root.findall(".//{*}polyline")
    assert [len(line.get("points", "").split()) for line in lines] == [3]
    assert len(root.findall(".//{*}g[@class='rp-point']")) == 3 + 9
    assert (
        len(root.findall(".//{*}g[@class='rp-0 rp-dashed']")) == 2
    )  # the ninth series: in the legend, and drawn


def test_a_plot_of_bars_is_whole_and_in_proportion() -> None:
    groups = [Group(f"{n} {HOSTILE}", (Estimate(20, 10, 30), None, Estimate(80, 70, 100))) for n in range(2)]
    root = ET.fromstring(alone(bar_plot(groups, ["a", "b", "c"], title="Bars")))
    bars = [float(bar.get("width", "")) for bar in root.findall(".//{*}rect[@class='rp-bar']")][3:]
    assert len(bars) == 4
    assert bars[1] / bars[0] == pytest.approx(4, rel=0.01)
    assert max(bars) < WIDTH


def test_plots_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one point"):
        line_plot([], title="", x_name="")
    with pytest.raises(ValueError, match="at least one bar"):
        bar_plot([Group("a", (None,))], ["a"], title="")
