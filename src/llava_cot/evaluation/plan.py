"""What an evaluation runs: benchmarks, models, methods, seeds and sampling."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import product
from typing import Any

from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Trace
from llava_cot.evaluation.scorer import AnswerSource
from llava_cot.evaluation.types import Benchmark, RunKey
from llava_cot.models.base import Model, Sampling
from llava_cot.models.registry import open_model
from llava_cot.search.ask import answer, prepare
from llava_cot.search.request import Request, Spec, StagingOptions
from llava_cot.search.resources import Resources, ResourceSpec, absolute

# Questions in flight by default. A local model's batches get no faster beyond the first number; a server's
# request queue should never be empty.
LOCAL_AT_ONCE, SERVER_AT_ONCE = 64, 256
_NAMED = re.compile(r"([A-Za-z0-9][\w.-]*)=(.+)", re.DOTALL)

# Answers a question by a request with the resources, as `answer` does once it has its model.
AnswerFunction = Callable[[Question, Request, Resources], Awaitable[Trace]]


@dataclass(frozen=True)
class PlannedModel:
    """A model of a plan.

    `open` opens it, calls the argument with it where it is in this process, and gives the function that
    answers, and how many questions to have in flight.
    """

    name: str  # in reports
    spec: str  # what it is, whatever the current folder
    open: Callable[[Callable[[Model], None]], AbstractContextManager[tuple[AnswerFunction, int]]]


@dataclass(frozen=True)
class EvalPlan:
    """All runs of an evaluation: every benchmark, model, method and seed."""

    benchmarks: tuple[Benchmark, ...]
    models: tuple[PlannedModel, ...]
    specs: tuple[Spec, ...]
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None  # the first questions of each benchmark; None for all
    answer_source: AnswerSource = "conclusion"  # which part of a text is scored
    fmt: StageFormat = LLAVA_COT
    staging: StagingOptions = field(default_factory=StagingOptions)
    sampling: Sampling = field(default_factory=Sampling)
    resources: ResourceSpec = field(default_factory=ResourceSpec)  # of methods and judges

    @cached_property
    def requests(self) -> dict[Spec, Request]:
        """The request of each spec, except for its seed. Raises RequestError."""
        return {
            spec: spec.request(self.sampling, self.fmt, self.resources, self.staging) for spec in self.specs
        }

    def check(self, resources: Resources, model: Model) -> None:
        """Raise ModelError if a model ignores a sampling option of the requests."""
        for request in self.requests.values():
            prepare(request, model, resources)

    def runs(self, model: str) -> Iterator[tuple[RunKey, Benchmark, Spec]]:
        """Yield all runs of one model, in order."""
        for benchmark, spec, seed in product(self.benchmarks, self.specs, self.seeds):
            yield RunKey(benchmark.name, model, spec.name, seed), benchmark, spec


def plan_models(
    models: Sequence[str],
    *,
    model_name: str | None,
    at_once: int | None,
    hardware: Mapping[str, Any] | None = None,
    ray: str | None = None,
    known: Mapping[str, Model] | None = None,
    adapters: Sequence[str] = (),
    merge: bool = True,
    trust_remote_code: bool = False,
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> tuple[PlannedModel, ...]:
    """Read models as the command line names them: MODEL, or NAME=MODEL.

    Args:
        models: Their names.
        model_name: As for `open_model`.
        hardware: Options of `open_model`, such as the device.
        at_once: Questions in flight; None for the kind of model's default.
        ray: The address of a Ray cluster whose workers open the models.
        known: Models that are open, or will be, by their names; these are not opened again.
        adapters, merge, trust_remote_code: As for `open_model`; for one model, in this process.
        chat_template_kwargs: As for `open_model`, for every model.

    Raises:
        ValueError: for two models of one name, and options that do not go together.
    """
    if ray is not None and model_name is not None:
        raise ValueError("--model-name is for servers and --ray for local models; leave one of them out")
    if trust_remote_code and (ray is not None or len(models) > 1):
        raise ValueError("--trust-remote-code is for one --model in this process; name one, without --ray")
    if chat_template_kwargs and ray is not None:
        raise ValueError("--chat-template-kwargs is for models in this process; leave --ray out")
    if adapters and (ray is not None or len(models) > 1):
        raise ValueError(
            "--adapter is for one --model in this process; name the folders of adapters as models"
        )

    options = hardware or {}

    @contextmanager
    def here(spec: str, check: Callable[[Model], None]) -> Iterator[tuple[AnswerFunction, int]]:
        from llava_cot.models.endpoint.balancing import BalancedModel
        from llava_cot.models.endpoint.client import EndpointModel

        with ExitStack() as stack:
            own = model_name is not None or bool(adapters or chat_template_kwargs)
            model = None if own else (known or {}).get(spec)
            if model is None:
                in_flight = at_once or SERVER_AT_ONCE
                opened = open_model(
                    spec, model_name=model_name, adapters=adapters, merge=merge,
                    trust_remote_code=trust_remote_code, in_flight=in_flight,
                    chat_template_kwargs=chat_template_kwargs, **options,
                )  # fmt: skip
                model = stack.enter_context(closing(opened))
            check(model)
            served = isinstance(model, EndpointModel | BalancedModel)
            yield (
                lambda question, request, resources: answer(request, model, question, resources),
                at_once or (SERVER_AT_ONCE if served else LOCAL_AT_ONCE),
            )

    @contextmanager
    def on_cluster(spec: str, check: Callable[[Model], None]) -> Iterator[tuple[AnswerFunction, int]]:
        from llava_cot.evaluation.cluster import Cluster

        # Ray writes about calls that it repeats to standard output, which is for results.
        with (
            redirect_stdout(sys.stderr),
            closing(Cluster(ray or "", spec, **options)) as cluster,
        ):
            yield cluster.answer, at_once or LOCAL_AT_ONCE * cluster.workers

    found = []
    for text in models:
        named = _NAMED.fullmatch(text)
        name, spec = (named[1], named[2]) if named else (text, text)
        what = absolute(spec) + (f" {model_name}" if model_name else "")
        what += "".join(f" with {absolute(adapter)}" for adapter in adapters)
        what += f" with {json.dumps(chat_template_kwargs)}" if chat_template_kwargs else ""
        found.append(PlannedModel(name, what, partial(here if ray is None else on_cluster, spec)))
    names = [model.name for model in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two models have the name {name}; give each its own, as in NAME=MODEL")
    return tuple(found)
