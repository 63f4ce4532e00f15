"""Arms, which a report compares: a model and a method on a benchmark, with all its seeds."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llava_cot.errors import DataError
from llava_cot.evaluation.report.document import Cell
from llava_cot.evaluation.results import QuestionResult, RunResults
from llava_cot.evaluation.statistics import MeanEstimate, headline
from llava_cot.evaluation.types import Metric, RunKey
from llava_cot.search.methods import METHODS
from llava_cot.search.methods.base import GREEDY
from llava_cot.search.request import Spec, parse_spec

_ONE_ANSWER = ("single", GREEDY)


@dataclass(frozen=True, eq=False)
class Arm:
    """A model and a method on a benchmark."""

    keys: tuple[RunKey, ...]  # its runs, one a seed
    runs: tuple[Sequence[QuestionResult], ...]  # their results, in the benchmark's order
    metrics: tuple[Metric, ...]  # of all seeds
    headline_names: tuple[str, ...]  # of the metrics that are the benchmark's score
    resources: Mapping[str, str] = field(default_factory=dict)  # besides the model, by option

    @property
    def benchmark(self) -> str:
        return self.keys[0].benchmark

    @property
    def model(self) -> str:
        return self.keys[0].model

    @property
    def method(self) -> str:
        return self.keys[0].method

    @property
    def headline(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.name in self.headline_names)

    @property
    def family(self) -> str:
        """The method without its N, or budget: "stage-beam", "best-of@logits", "stage-beam-8-within"."""
        spec = self.spec
        if spec is None or METHODS[spec.method].single:
            return self.method
        name, at, judge = self.method.partition("@")
        varying = f"-{spec.n}" if spec.budget is None else f"-{spec.budget}"
        return name.removesuffix(varying) + at + judge

    @property
    def n(self) -> int:
        """The method's N: the most candidates of a stage, a sentence or an answer."""
        return 1 if self.spec is None else self.spec.n

    @property
    def budget(self) -> int | None:
        return None if self.spec is None else self.spec.budget

    @cached_property
    def spec(self) -> Spec | None:
        """None for a method that is not known here."""
        try:
            return parse_spec(self.method)
        except ValueError:
            return None

    @cached_property
    def results(self) -> tuple[QuestionResult, ...]:
        """The results of all seeds."""
        return tuple(result for run in self.runs for result in run)

    @cached_property
    def answered(self) -> tuple[QuestionResult, ...]:
        """Those on which the model did not fail."""
        return tuple(result for result in self.results if result.failure is None)

    @cached_property
    def by_seed(self) -> dict[int, dict[str, QuestionResult]]:
        """The results by the seed, and by the question's id."""
        results = ({result.item: result for result in run} for run in self.runs)
        return {key.seed: run for key, run in zip(self.keys, results, strict=True)}

    @cached_property
    def values(self) -> dict[str, float]:
        """The score of each question, averaged over the seeds."""
        count = len(self.runs)
        return {
            same[0].item: sum(result.score.value for result in same) / count
            for same in zip(*self.runs, strict=True)
        }


def arms_of(results: RunResults, runs: Collection[RunKey] | None = None) -> list[Arm]:
    """Join the runs that differ only in their seed, all or these. Raises DataError if there are none."""
    groups: dict[tuple[str, str, str], list[RunKey]] = {}
    for key in results.runs if runs is None else runs:
        groups.setdefault(key[:3], []).append(key)
    if not groups:
        raise DataError("no question has been answered here yet; `llava-cot eval` answers them")
    return [
        Arm(
            keys=tuple(keys),
            runs=tuple(results.results(key) for key in keys),
            metrics=tuple(metric for key in keys for metric in results.metrics(key)),
            headline_names=tuple(results.headline(keys[0].benchmark)),
            resources=results.resources(keys[0]),
        )
        for keys in groups.values()
    ]


def baselines(arms: Sequence[Arm], spec: str | None) -> dict[Arm, Arm]:
    """Return the arm that each arm is compared with; a baseline itself has none.

    Args:
        arms: All arms.
        spec: A method (compared within each model), a model (with the same method of that model), or both as
            in "MODEL:METHOD". By default `single`, or else the first method.

    Raises:
        DataError: for one that was not run.
    """
    methods = list(dict.fromkeys(arm.method for arm in arms))
    if spec is None:
        spec = "single" if "single" in methods else methods[0]
    found = {}
    for arm in arms:
        base = next((other for other in arms if _is_baseline(other, arm, spec)), None)
        if base is not None and base is not arm:
            found[arm] = base
    if not any(spec in (arm.method, arm.model, f"{arm.model}:{arm.method}") for arm in arms):
        models = list(dict.fromkeys(arm.model for arm in arms))
        raise DataError(
            f"there is no {spec!r} to compare with; --baseline takes a method ({', '.join(methods)}), "
            f"a model ({', '.join(models)}) or MODEL:METHOD"
        )
    return found


def _is_baseline(other: Arm, arm: Arm, spec: str) -> bool:
    if other.benchmark != arm.benchmark:
        return False
    if spec == other.method:
        return other.model == arm.model
    if spec == other.model:
        return other.method == arm.method
    return spec == f"{other.model}:{other.method}"


def arms_on(arms: Sequence[Arm], benchmark: str) -> list[Arm]:
    return [arm for arm in arms if arm.benchmark == benchmark]


def name_cell(arm: Arm) -> Cell:
    """Return the first cell of an arm's row."""
    return Cell(arm.method, arm.model)


def arm_label(arm: Arm, arms: Sequence[Arm]) -> str:
    """Name an arm among others: by its method alone where all have one model."""
    return arm.method if len({other.model for other in arms}) == 1 else f"{arm.model} · {arm.method}"


def families(arms: Sequence[Arm]) -> Iterator[tuple[str, list[Arm]]]:
    """Yield the arms of one benchmark by model and family, in the order of N or budget.

    `single` is N = 1 of every search of its model: it comes first in each family that has no N = 1. By itself
    it comes last, so that it is drawn above the others.
    """
    several = len({arm.model for arm in arms}) > 1
    groups: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.model, arm.family), []).append(arm)
    for (model, family), members in sorted(groups.items(), key=lambda group: group[0][1] == "single"):
        single = groups.get((model, "single"), [])
        if family not in _ONE_ANSWER and all(arm.n > 1 for arm in members):
            members = [*single, *members]
        yield (
            f"{model} · {family}" if several else family,
            sorted(members, key=lambda arm: (arm.n, arm.budget or 0)),
        )


@dataclass(frozen=True)
class ArmCost:
    """Means a question, over the questions that the model answered, since a failure's cost is unknown."""

    written: float  # new tokens
    read: float  # prompt tokens
    calls: float
    seconds: float | None  # of the run, divided among the questions in flight; None where not measured
    in_flight: float  # seconds from a question's start to its end
    usd: float | None
    candidates: float | None = None  # None where they were not counted


def cost_of(arm: Arm) -> ArmCost | None:
    """Return the cost of an arm, None where no question was answered."""
    found = arm.answered
    if not found:
        return None
    count, usages = len(found), [result.usage for result in found]
    wall = sum(result.wall for result in found)
    counted = [result.candidates for result in found if result.candidates is not None]
    priced = [usage.usd for usage in usages if usage.usd is not None]
    return ArmCost(
        written=sum(usage.completion_tokens for usage in usages) / count,
        read=sum(usage.prompt_tokens for usage in usages) / count,
        calls=sum(usage.model_calls for usage in usages) / count,
        seconds=wall / count if wall else None,
        in_flight=sum(usage.seconds for usage in usages) / count,
        usd=sum(priced) / len(priced) if priced else None,
        candidates=sum(counted) / len(counted) if counted else None,
    )


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
    rows = []
    for arm in arms_of(results, runs) if runs else ():
        cost = cost_of(arm)
        prices = [result.usage.usd for result in arm.answered if result.usage.usd is not None]
        scored = arm.headline and all(metric.units for metric in arm.headline)
        rows.append(
            SummaryRow(
                *arm.keys[0][:3],
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
        )
    return rows
