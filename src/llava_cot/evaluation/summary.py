"""Runs in a few figures: a line for each benchmark, model and method, over all its seeds.

Owns what a line has. Intervals are the subject of `figures.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llava_cot.evaluation.results import RunKey, RunResults
from llava_cot.evaluation.statistics import Estimate, headline


@dataclass(frozen=True)
class SummaryRow:
    """`score` is the benchmark's figure with its interval, None where there is nothing to take the mean of.

    `questions` is how many there are under each seed. The others are means over the answers: new tokens,
    calls, seconds and US dollars of a question. `failed` and `unsettled` are counts over all seeds.
    """

    benchmark: str
    model: str
    method: str
    seeds: int
    questions: int
    score: Estimate | None
    tokens: float
    calls: float
    seconds: float
    usd: float | None
    failed: int
    unsettled: int


def summarize(results: RunResults, settings: Iterable[RunKey]) -> list[SummaryRow]:
    """A line for each benchmark, model and method among the settings, in their order."""
    groups: dict[tuple[str, str, str], list[RunKey]] = {}
    for setting in settings:
        groups.setdefault((setting.benchmark, setting.model, setting.method), []).append(setting)
    return [_line(results, group) for group in groups.values()]


def _line(results: RunResults, settings: list[RunKey]) -> SummaryRow:
    one = settings[0]
    found = [result for setting in settings for result in results.results(setting)]
    answered = [result for result in found if result.failure is None]
    count = max(1, len(answered))
    names = results.headline(one.benchmark)
    metrics = [metric for setting in settings for metric in results.metrics(setting) if metric.name in names]
    prices = [result.usage.usd for result in answered if result.usage.usd is not None]
    return SummaryRow(
        one.benchmark,
        one.model,
        one.method,
        len(settings),
        len(found) // len(settings),
        headline(metrics) if metrics and all(metric.units for metric in metrics) else None,
        sum(result.usage.completion_tokens for result in answered) / count,
        sum(result.usage.model_calls for result in answered) / count,
        sum(result.wall for result in answered) / count,
        sum(prices) / count if prices else None,
        len(found) - len(answered),
        sum(result.score.by == "unsettled" for result in found),
    )
