"""From values to places on a drawing: linear and logarithmic axes, their ticks, and legends in lines.

Owns the arithmetic that all plots share. Lengths are in units of the drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

WIDTH = 560
SERIES = 8  # so many colours and signs; further series have them again, dashed
_STEPS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7))  # of ticks within a power of ten, coarse to fine
_LETTER = 6.7  # the width of a letter of the plots' text, at most, on average
_SIGN = 38  # of a legend's entry, with the room around it
_LINE = 20


@dataclass(frozen=True)
class Axis:
    """`low` and `high` are values at `start` and `end`, which are places."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        if self.log:
            part = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        else:
            part = (value - self.low) / (self.high - self.low)
        return round(self.start + part * (self.end - self.start), 1)


def percent_axis(values: Sequence[float], start: float, end: float, *, zero: bool = False) -> Axis:
    """About the values, within 0 to 100; from 0 on if `zero`."""
    low, high = 0.0 if zero else max(0.0, min(values)), min(100.0, max(values))
    step = next(step for step in (1, 2, 5, 10, 20) if (high - low) / step <= 6 or step == 20)
    low = floor(low / step) * step
    high = min(100, max(ceil(high / step) * step, low + step))
    low = min(low, high - step)
    ticks = tuple((float(tick), str(tick)) for tick in range(int(low), int(high) + 1, step))
    return Axis(low, high, start, end, ticks)


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """About values above 0, with a few ticks at round numbers."""
    low, high = min(values) / 1.25, max(values) * 1.25
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    found = [low, high]
    for steps in _STEPS:
        ticks = [step * 10.0**power for power in powers for step in steps]
        inside = [tick for tick in ticks if low <= tick <= high]
        if len(inside) >= 2:
            found = inside
        if len(inside) >= 3:
            break
    return Axis(low, high, start, end, tuple((tick, _short(tick)) for tick in found), log=True)


def count_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """About counts, on a logarithmic axis with a tick at each that there is room for."""
    low, high = min(values) / 1.12, max(values) * 1.12
    axis = Axis(low, high, start, end, (), log=True)
    ticks: list[tuple[float, str]] = []
    for value in sorted(set(values)):
        if not ticks or axis(value) - axis(ticks[-1][0]) >= 2 * _LETTER:
            ticks.append((value, f"{value:g}"))
    return Axis(low, high, start, end, tuple(ticks), log=True)


@dataclass(frozen=True)
class PlannedModel:
    """An entry of a legend; `x` and `y` are where its sign stands, from the legend's top left."""

    series: int
    text: str
    x: float
    y: float


def legend(names: Sequence[str], width: float) -> tuple[list[PlannedModel], float]:
    """The entries, in as many lines as they take, and the height of all."""
    entries: list[PlannedModel] = []
    x = y = 0.0
    for series, name in enumerate(names):
        text = clipped(name, width - _SIGN)
        wide = _SIGN + _LETTER * len(text)
        if x and x + wide > width:
            x, y = 0.0, y + _LINE
        entries.append(PlannedModel(series, text, round(x, 1), y))
        x += wide
    return entries, y + _LINE


def clipped(text: str, width: float) -> str:
    """As much of a text as fits."""
    most = max(1, int(width / _LETTER))
    return text if len(text) <= most else text[: most - 1] + "…"


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:.3g}"
