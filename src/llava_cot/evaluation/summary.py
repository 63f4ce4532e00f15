"""A summary of runs: one row for each benchmark, model and method, over all its seeds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from llava_cot.evaluation.report.arms import Arm, arms_of, cost_of
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.statistics import MeanEstimate, headline
from llava_cot.evaluation.types import RunKey


@dataclass(frozen=True)
class SummaryRow:
    """The summary of a model and method on a benchmark."""

    benchmark: str
    model: str
    method: str
    seeds: int
    questions: int  # under each seed
    score: MeanEstimate | None  # None where there is nothing to average
    tokens: float  # new tokens a question, on average over the answers; so are calls, seconds and usd
    calls: float
    seconds: float
    usd: float | None
    failed: int  # questions on which the model failed, over all seeds
    unsettled: int  # answers that could not be scored, over all seeds


def summarize(results: RunResults, runs: Collection[RunKey]) -> list[SummaryRow]:
    """Return a row for each benchmark, model and method among the runs, in their order."""
    return [_row(arm) for arm in arms_of(results, runs)] if runs else []


def _row(arm: Arm) -> SummaryRow:
    cost = cost_of(arm)
    prices = [result.usage.usd for result in arm.answered if result.usage.usd is not None]
    scored = arm.headline and all(metric.units for metric in arm.headline)
    return SummaryRow(
        benchmark=arm.benchmark,
        model=arm.model,
        method=arm.method,
        seeds=len(arm.keys),
        questions=len(arm.results) // len(arm.keys),
        score=headline(arm.headline) if scored else None,
        tokens=cost.written if cost else 0.0,
        calls=cost.calls if cost else 0.0,
        seconds=(cost.seconds or 0.0) if cost else 0.0,
        usd=sum(prices) / len(arm.answered) if prices else None,
        failed=len(arm.results) - len(arm.answered),
        unsettled=sum(result.score.by == "unsettled" for result in arm.results),
    )
