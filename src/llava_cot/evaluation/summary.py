"""A summary of runs: one row for each benchmark, model and method, over all its seeds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.statistics import MeanEstimate, headline
from llava_cot.evaluation.types import RunKey


@dataclass(frozen=True)
class SummaryRow:
    """The summary of a model and method on a benchmark.

    Attributes:
        seeds: How many seeds were run.
        questions: How many questions there are under each.
        score: The benchmark's score; None where there is nothing to average.
        tokens: New tokens a question, on average over the answers; likewise `calls`, `seconds` and `usd`.
        failed: Questions on which the model failed, over all seeds.
        unsettled: Answers that could not be scored, over all seeds.
    """

    benchmark: str
    model: str
    method: str
    seeds: int
    questions: int
    score: MeanEstimate | None
    tokens: float
    calls: float
    seconds: float
    usd: float | None
    failed: int
    unsettled: int


def summarize(results: RunResults, runs: Iterable[RunKey]) -> list[SummaryRow]:
    """Return a row for each benchmark, model and method among the runs, in their order."""
    groups: dict[tuple[str, str, str], list[RunKey]] = {}
    for run in runs:
        groups.setdefault((run.benchmark, run.model, run.method), []).append(run)
    return [_row(results, group) for group in groups.values()]


def _row(results: RunResults, runs: list[RunKey]) -> SummaryRow:
    one = runs[0]
    found = [result for run in runs for result in results.results(run)]
    answered = [result for result in found if result.failure is None]
    count = max(1, len(answered))
    names = results.headline(one.benchmark)
    metrics = [metric for run in runs for metric in results.metrics(run) if metric.name in names]
    prices = [result.usage.usd for result in answered if result.usage.usd is not None]
    return SummaryRow(
        one.benchmark,
        one.model,
        one.method,
        len(runs),
        len(found) // len(runs),
        headline(metrics) if metrics and all(metric.units for metric in metrics) else None,
        sum(result.usage.completion_tokens for result in answered) / count,
        sum(result.usage.model_calls for result in answered) / count,
        sum(result.wall for result in answered) / count,
        sum(prices) / count if prices else None,
        len(found) - len(answered),
        sum(result.score.by == "unsettled" for result in found),
    )
