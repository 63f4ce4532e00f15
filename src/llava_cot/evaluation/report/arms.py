"""What is compared: arms, each a model and a method on a benchmark, its seeds joined.

Owns the grouping of settings, families of methods over N, and the choice of a baseline. Knows no figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from llava_cot.errors import DataError
from llava_cot.evaluation.report.document import Cell
from llava_cot.evaluation.results import QuestionResult, RunKey, RunResults
from llava_cot.evaluation.types import Metric
from llava_cot.search.methods import METHODS
from llava_cot.search.request import GREEDY, Spec, parse_spec

_ONE = ("single", GREEDY)  # what draws one answer


@dataclass(frozen=True, eq=False)
class Arm:
    """`runs` are the results of each seed, in the benchmark's order; `metrics` are those of all seeds, and
    `named` says which of them are the headline. `beside` is what the method had besides the model."""

    settings: tuple[RunKey, ...]
    runs: tuple[Sequence[QuestionResult], ...]
    metrics: tuple[Metric, ...]
    named: tuple[str, ...]
    beside: Mapping[str, str] = field(default_factory=dict)

    @property
    def benchmark(self) -> str:
        return self.settings[0].benchmark

    @property
    def model(self) -> str:
        return self.settings[0].model

    @property
    def method(self) -> str:
        return self.settings[0].method

    @property
    def headline(self) -> tuple[Metric, ...]:
        return tuple(metric for metric in self.metrics if metric.name in self.named)

    @property
    def family(self) -> str:
        """The method without what grows in it, which is N, or the budget: "stage-beam", "best-of@logits",
        "stage-beam-8-within"."""
        spec = self.spec
        if spec is None or METHODS[spec.method].single:
            return self.method
        name, at, judge = self.method.partition("@")
        grows = f"-{spec.n}" if spec.budget is None else f"-{spec.budget}"
        return name.removesuffix(grows) + at + judge

    @property
    def n(self) -> int:
        """The most candidates: of a stage, a sentence or an answer, as the method has it."""
        return 1 if self.spec is None else self.spec.n

    @property
    def budget(self) -> int | None:
        return None if self.spec is None else self.spec.budget

    @cached_property
    def spec(self) -> Spec | None:
        """None for a method that this version does not know."""
        try:
            return parse_spec(self.method)
        except ValueError:
            return None

    @cached_property
    def results(self) -> tuple[QuestionResult, ...]:
        """Of all seeds."""
        return tuple(result for run in self.runs for result in run)

    @cached_property
    def answered(self) -> tuple[QuestionResult, ...]:
        """Those that the model did not fail on."""
        return tuple(result for result in self.results if result.failure is None)

    @cached_property
    def by_id(self) -> tuple[dict[str, QuestionResult], ...]:
        """The results of each seed, by the question's id."""
        return tuple({result.item: result for result in run} for run in self.runs)

    @cached_property
    def values(self) -> dict[str, float]:
        """The score of each question, the mean over the seeds."""
        count = len(self.runs)
        return {
            same[0].item: sum(result.score.value for result in same) / count
            for same in zip(*self.runs, strict=True)
        }


def arms_of(results: RunResults) -> list[Arm]:
    """In the order of the settings; the same settings under several seeds are one arm.

    Raises DataError where there are none.
    """
    groups: dict[tuple[str, str, str], list[RunKey]] = {}
    for setting in results.settings:
        groups.setdefault((setting.benchmark, setting.model, setting.method), []).append(setting)
    if not groups:
        raise DataError("no question has been answered here yet; `llava-cot eval` answers them")
    return [_arm(results, tuple(settings)) for settings in groups.values()]


def _arm(results: RunResults, settings: tuple[RunKey, ...]) -> Arm:
    metrics = tuple(metric for setting in settings for metric in results.metrics(setting))
    runs = tuple(results.results(setting) for setting in settings)
    return Arm(
        settings,
        runs,
        metrics,
        tuple(results.headline(settings[0].benchmark)),
        results.beside(settings[0]),
    )


def baselines(arms: Sequence[Arm], spec: str | None) -> dict[Arm, Arm]:
    """The arm that each is compared with; none for a baseline itself.

    `spec` names a method (compared within each model), a model (with the same method of that model), or both,
    as in "MODEL:METHOD". By default it is `single`, or else the first method there is. Raises DataError for
    one that was not run.
    """
    methods = list(dict.fromkeys(arm.method for arm in arms))
    if spec is None:
        spec = "single" if "single" in methods else methods[0]
    found = {}
    for arm in arms:
        base = next((other for other in arms if _is_baseline(other, arm, spec)), None)
        if base is not None and base is not arm:
            found[arm] = base
    if not any(_fits(arm, spec) for arm in arms):
        models = list(dict.fromkeys(arm.model for arm in arms))
        raise DataError(
            f"there is no {spec!r} to compare with; --baseline takes a method ({', '.join(methods)}), "
            f"a model ({', '.join(models)}) or MODEL:METHOD"
        )
    return found


def _fits(arm: Arm, spec: str) -> bool:
    return spec in (arm.method, arm.model, f"{arm.model}:{arm.method}")


def _is_baseline(other: Arm, arm: Arm, spec: str) -> bool:
    if other.benchmark != arm.benchmark:
        return False
    if spec == other.method:
        return other.model == arm.model
    if spec == other.model:
        return other.method == arm.method
    return spec == f"{other.model}:{other.method}"


def on(arms: Sequence[Arm], benchmark: str) -> list[Arm]:
    return [arm for arm in arms if arm.benchmark == benchmark]


def named(arm: Arm) -> Cell:
    """What begins an arm's line in a table."""
    return Cell(arm.method, arm.model)


def label(arm: Arm, arms: Sequence[Arm]) -> str:
    """What an arm is called among others: by its method alone where all are of one model."""
    return arm.method if len({other.model for other in arms}) == 1 else f"{arm.model} · {arm.method}"


def families(arms: Sequence[Arm]) -> Iterator[tuple[str, list[Arm]]]:
    """The arms of one benchmark by model and family, over rising N or budget.

    `single` is N = 1 of every search of its model: it stands first in each family that has no N = 1 of its
    own. By itself it comes last, so that it is drawn above the others.
    """
    several = len({arm.model for arm in arms}) > 1
    groups: dict[tuple[str, str], list[Arm]] = {}
    for arm in arms:
        groups.setdefault((arm.model, arm.family), []).append(arm)
    for (model, family), members in sorted(groups.items(), key=lambda group: group[0][1] == "single"):
        single = groups.get((model, "single"), [])
        if family not in _ONE and all(arm.n > 1 for arm in members):
            members = [*single, *members]
        yield (
            f"{model} · {family}" if several else family,
            sorted(members, key=lambda arm: (arm.n, arm.budget or 0)),
        )
