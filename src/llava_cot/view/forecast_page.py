"""What `llava-cot plan` shows: tables in Markdown, and a plot of score over tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llava_cot.core.wording import one_line
from llava_cot.evaluation.forecast.forecast import Forecast, MethodForecast
from llava_cot.evaluation.forecast.question_forecast import EVEN
from llava_cot.evaluation.report.document import (
    LinePlot,
    PlotLine,
    PlotPoint,
    amount,
    interval,
    number,
    signed,
    signed_interval,
)
from llava_cot.evaluation.statistics import MeanEstimate
from llava_cot.search.methods.base import METHODS
from llava_cot.search.request import parse_spec


def method_table(forecast: Forecast) -> Iterator[str]:
    """The expected score and cost of each method, as lines of a Markdown table."""
    priced = any(one.usd is not None for one in forecast.methods)
    heads = ["method", "score, %", "95% interval", "over one sample", "95% interval", "tokens", "seconds"]
    yield _row([*heads, *(["$"] if priced else [])])
    yield _row(["---", *["---:"] * (len(heads) - 1 + priced)])
    for one in forecast.methods:
        cells = [one.spec, number(one.score.value), interval(one.score)]
        cells += ["", ""] if one.spec == "single" else [signed(one.gain.value), signed_interval(one.gain)]
        cells += [f"{one.tokens:,.0f}", amount(one.seconds)]
        yield _row([*cells, *([f"{one.usd or 0:.5f}"] if priced else [])])
    for n, ceiling in forecast.one_of.items():
        cells = [f"one of {n} is right", number(ceiling.value), interval(ceiling), "", "", "", ""]
        yield _row([*cells, *([""] if priced else [])])


def stage_table(forecast: Forecast) -> Iterator[str]:
    """What an oracle and each judge gain at each stage alone, and the pairs that judges order rightly."""
    judges = list(dict.fromkeys(one.judge for one in forecast.judges))
    found = {(one.judge, one.stage): one for one in forecast.judges}
    heads = [f"of {forecast.n} at the stage", "oracle gains"]
    for judge in judges:
        heads += (
            [f"{judge} gains"] if judge == EVEN else [f"{judge} gains", f"{judge} orders rightly", "pairs"]
        )
    yield _row(heads)
    yield _row(["---", *["---:"] * (len(heads) - 1)])
    for oracle in forecast.oracles:
        cells = [
            oracle.stage,
            _between(oracle.least, oracle.most),
        ]
        for judge in judges:
            one = found[judge, oracle.stage]
            cells.append(f"{signed(one.gain.value)} ({signed_interval(one.gain)})")
            if judge != EVEN:
                cells.append(
                    "–" if one.ordered is None else f"{number(one.ordered.value)}% ({interval(one.ordered)})"
                )
                cells.append(f"{one.pairs:,}")
        yield _row(cells)


def _between(least: MeanEstimate, most: MeanEstimate) -> str:
    low, high = signed(least.value), signed(max(least.value, most.value))
    return low if low == high else f"{low} to {high}"


def forecast_plot(forecast: Forecast) -> LinePlot:
    """Expected score over tokens: a line for each method with its judge, over N from one sample on."""
    single = forecast.method("single")
    families: dict[str, list[MethodForecast]] = {}
    for one in forecast.methods:
        families.setdefault(_family(one.spec), []).append(one)
    lines = []
    for name, members in families.items():
        if name == "single":
            continue
        shown = members if name == "greedy" else [single, *members]
        lines.append(PlotLine(name, tuple(_point(one) for one in sorted(shown, key=lambda one: one.tokens))))
    return LinePlot(
        name="plan",
        title="Expected score by tokens",
        alt="Expected score by tokens",
        lines=tuple(lines),
        x_name="tokens written a question",
        note=f"Estimated from {forecast.questions:,} questions; the numbers are N. Bars: 95% intervals.",
    )


def _family(spec: str) -> str:
    read = parse_spec(spec)
    if METHODS[read.method].single:
        return spec
    judge = "" if read.judge is None else f"@{read.judge}"
    return f"{METHODS[read.method].short}{judge}"


def _point(one: MethodForecast) -> PlotPoint:
    label = "greedy" if one.spec == "greedy" else str(parse_spec(one.spec).n)
    tooltip = f"{one.spec}: {number(one.score.value)} ({interval(one.score)}), {one.tokens:,.0f} tokens"
    return PlotPoint(max(1.0, one.tokens), one.score, label, tooltip)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(one_line(cell).replace("|", "\\|") for cell in cells) + " |"
