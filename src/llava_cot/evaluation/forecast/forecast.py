"""The forecast for a benchmark: the score and cost of each method, with intervals over the questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from llava_cot.evaluation.forecast.forecast_plan import ForecastPlan
from llava_cot.evaluation.forecast.pool_results import PoolResults
from llava_cot.evaluation.forecast.question_forecast import (
    EVEN,
    JUDGE_CALLS,
    JUDGE_READ,
    JUDGE_USD,
    JUDGE_WRITTEN,
    READ,
    WHOLE,
    WRITTEN,
    QuestionForecast,
)
from llava_cot.evaluation.forecast.tree_values import Costs
from llava_cot.evaluation.statistics import MeanEstimate, PairedDifference, mean_with_interval, paired
from llava_cot.evaluation.types import Unit
from llava_cot.models.endpoint.config import Price
from llava_cot.search.request import parse_spec


@dataclass(frozen=True)
class MethodForecast:
    """What a method is expected to score and to cost a question.

    Attributes:
        spec: As for `llava-cot eval`.
        score: In percent.
        gain: Over one sample, in percentage points.
        over_baseline: Over the better one of one sample and the greedy answer.
        tokens: Written by candidates and judges.
        seconds: While other questions are in flight, as here.
        usd: None where nothing has a price.
    """

    spec: str
    score: MeanEstimate
    gain: PairedDifference
    over_baseline: PairedDifference
    tokens: float
    seconds: float
    usd: float | None


@dataclass(frozen=True)
class JudgeAtStage:
    """What a judge does at one stage: its gain there alone, and how it orders right and wrong."""

    judge: str
    stage: str
    gain: MeanEstimate
    ordered: MeanEstimate | None  # None where it compared no such pair
    pairs: int


@dataclass(frozen=True)
class OracleAtStage:
    """What an oracle gains at one stage alone, at least and at most."""

    stage: str
    least: MeanEstimate
    most: MeanEstimate


@dataclass(frozen=True)
class Forecast:
    """The forecast for a model on a benchmark.

    Attributes:
        questions: How many there were.
        baseline: The better one of one sample and the greedy answer, by its spec.
        methods: One sample and the greedy answer first.
        one_of: By N, the chance that one of N whole answers is right: a ceiling for any choice among them.
        n: The number of candidates for which stages are reported.
        oracles, judges: By stage; the last is that of whole answers.
    """

    questions: int
    baseline: str
    methods: tuple[MethodForecast, ...]
    one_of: dict[int, MeanEstimate]
    n: int
    oracles: tuple[OracleAtStage, ...]
    judges: tuple[JudgeAtStage, ...]

    def method(self, spec: str) -> MethodForecast:
        """The forecast of a method by its spec."""
        return next(one for one in self.methods if one.spec == spec)


def make_forecast(plan: ForecastPlan, results: PoolResults, price: Price | None) -> Forecast:
    """Put the estimates of all questions together."""
    found = [one.forecast for one in results.questions]
    clusters = [(one.item.id, str(one.item.extra.get("cluster", one.item.id))) for one in results.questions]

    def units(value: Callable[[QuestionForecast], float]) -> list[Unit]:
        return [
            Unit(key, value(one), "", cluster) for one, (key, cluster) in zip(found, clusters, strict=True)
        ]

    def score_of(spec: str) -> list[Unit]:
        return units(lambda one: one.single + one.gains[spec])

    single, greedy = score_of("single"), score_of("greedy")
    mean = {name: mean_with_interval(of).value for name, of in (("single", single), ("greedy", greedy))}
    baseline = max(mean, key=mean.__getitem__)
    base = single if baseline == "single" else greedy
    methods = []
    for spec in found[0].gains:
        costs = np.mean([one.costs[spec] for one in found], axis=0)
        judge = parse_spec(spec).judge
        scores = score_of(spec)
        methods.append(
            MethodForecast(
                spec,
                _mean(scores),
                paired(single, scores),
                paired(base, scores),
                float(costs[WRITTEN] + costs[JUDGE_WRITTEN]),
                float(
                    costs[WRITTEN] * results.seconds_a_token
                    + costs[JUDGE_CALLS] * results.judge_seconds.get(judge or "", 0.0)
                ),
                _usd(costs, price),
            )
        )
    n = plan.ns[-1]

    def oracle(stage: str) -> OracleAtStage:
        bounds = [units(lambda one, i=i: one.oracles[stage, n][i]) for i in (0, 1)]  # type: ignore[misc]
        return OracleAtStage(stage, *map(_difference, bounds))

    def judged(judge: str, stage: str) -> JudgeAtStage:
        gain = _difference(units(lambda one: one.stage_gains[judge, stage, n]))
        pairs = [one.pairs.get((judge, stage), []) for one in found]
        return JudgeAtStage(judge, stage, gain, _ordered(pairs, clusters), sum(map(len, pairs)))

    stages = (*plan.fmt.names, WHOLE)
    return Forecast(
        len(found),
        baseline,
        tuple(methods),
        {count: _mean(units(lambda one, count=count: one.one_of[count])) for count in plan.ns},  # type: ignore[misc]
        n,
        tuple(map(oracle, stages)),
        tuple(judged(judge, stage) for judge in (*plan.requests, EVEN) for stage in stages),
    )


def _mean(units: Sequence[Unit]) -> MeanEstimate:
    """The mean score, of estimates that may each lie outside 0 to 1."""
    found = mean_with_interval(units)
    value, low, high = (min(100.0, max(0.0, one)) for one in (found.value, found.low, found.high))
    return MeanEstimate(value, low, high)


def _difference(units: Sequence[Unit]) -> MeanEstimate:
    """The mean of differences."""
    return paired([Unit(one.key, 0.0, "", one.cluster) for one in units], units)


def _ordered(pairs: Sequence[Sequence[float]], clusters: Sequence[tuple[str, str]]) -> MeanEstimate | None:
    """The share of pairs that a judge orders rightly, in percent; questions are drawn, not pairs."""
    units = [
        Unit(f"{key} {number}", share, "", cluster)
        for of_question, (key, cluster) in zip(pairs, clusters, strict=True)
        for number, share in enumerate(of_question)
    ]
    return mean_with_interval(units) if units else None


def _usd(costs: Costs, price: Price | None) -> float | None:
    """What a question costs in US dollars; a judge that has no price of its own costs as the model does."""
    judging = float(costs[JUDGE_USD])
    if price is None:
        return judging or None

    def priced(read: int, written: int) -> float:
        return float(costs[read] * price.input + costs[written] * price.output) / 1e6

    return priced(READ, WRITTEN) + (judging or priced(JUDGE_READ, JUDGE_WRITTEN))
