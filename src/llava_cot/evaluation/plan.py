"""What is to be run: benchmarks, models, methods, seeds, and how. Values alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property

from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Trace
from llava_cot.evaluation.answers import AnswerSource
from llava_cot.evaluation.results import RunKey
from llava_cot.evaluation.types import Benchmark
from llava_cot.models.base import Sampling, seed_of
from llava_cot.search.request import Request, Spec
from llava_cot.search.resources import ResourceSpec

# Answers a question by a request, as `answer` does once it has its model.
AnswerFunction = Callable[..., Awaitable[Trace]]


@dataclass(frozen=True)
class PlannedModel:
    """A model of a plan. `name` is what reports call it, `spec` what it is; `open` gives the way to ask it,
    for as long as it is needed, and how many questions it likes at once."""

    name: str
    spec: str
    open: Callable[[], AbstractContextManager[tuple[AnswerFunction, int]]]


@dataclass(frozen=True)
class EvalPlan:
    """`limit` is how many questions of each benchmark are asked, the first ones; None for all. `resources` is
    what the methods and judges have besides the models."""

    benchmarks: tuple[Benchmark, ...]
    models: tuple[PlannedModel, ...]
    specs: tuple[Spec, ...]
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    way: AnswerSource = "conclusion"
    fmt: StageFormat = LLAVA_COT
    sampling: Sampling = field(default_factory=Sampling)
    resources: ResourceSpec = field(default_factory=ResourceSpec)

    @cached_property
    def requests(self) -> dict[Spec, Request]:
        """The request of each spec, but for its seed. Raises RequestError."""
        return {spec: spec.request(self.sampling, self.fmt, self.resources) for spec in self.specs}

    def settings(self, model: str) -> Iterator[tuple[RunKey, Benchmark, Spec]]:
        """All that is asked of one model, in order."""
        for benchmark in self.benchmarks:
            for spec in self.specs:
                for seed in self.seeds:
                    yield RunKey(benchmark.name, model, spec.name, seed), benchmark, spec


def question_seed(seed: int, item: str) -> int:
    """The seed with which `ask` gives the same trace. It depends on nothing else that is asked."""
    return seed_of(seed, item)
