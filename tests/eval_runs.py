"""Small benchmarks and models by script: what tests of runs are made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image
from teachers import staged

from llava_cot.core.question import Question
from llava_cot.core.trace import Trace, Usage
from llava_cot.data.record import Picture
from llava_cot.evaluation.benchmarks import RULES
from llava_cot.evaluation.plan import AnswerFunction, EvalPlan, PlannedModel
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.run import EvalOutcome, evaluate
from llava_cot.evaluation.types import Benchmark, BenchmarkItem, RunKey
from llava_cot.models.base import Continuation, Model, OnText, Prompt, Sampling
from llava_cot.models.scripted import Script, ScriptedModel
from llava_cot.search.ask import answer
from llava_cot.search.request import Request, parse_spec
from llava_cot.search.resources import Resources

Failing = Callable[[Prompt], Exception | None]


def numbers(
    count: int, folder: Path | None = None, *, name: str = "numbers", rule: str = "exact", right: str = "{}"
) -> Benchmark:
    """Questions for numbers, two of them about one picture if a folder is given; `right` is the reference."""
    items = []
    for i in range(count):
        pictures: tuple[Picture, ...] = ()
        if folder is not None:
            file = folder / f"{i // 2}.png"
            Image.new("RGB", (4, 4), (i // 2, 0, 0)).save(file)
            pictures = (Picture(file.name, file),)
        skill = "odd" if i % 2 else "even"
        items.append(
            BenchmarkItem(f"{name}/{i}", f"Which number is {i}?", (), right.format(i), pictures, skill)
        )
    return Benchmark(name, name.title(), "", lambda: iter(items), RULES[rule], "Made up.")


def number(prompt: Prompt) -> str:
    return prompt.messages[0].text.split()[-1].rstrip("?")


def unsure(prompt: Prompt, rng: random.Random) -> str:
    """The right number two times in three, by the seed; what is left of it, where some is written."""
    return staged(rng.choice((number(prompt), number(prompt), "no")))[len(prompt.prefix) :]


class Moody(ScriptedModel):
    """A scripted model that fails where `failing` says so; every try is in `tries`."""

    def __init__(self, script: Script = unsure, failing: Failing = lambda prompt: None) -> None:
        super().__init__(script, ids=False)  # they depend on what else was said
        self.failing, self.tries = failing, 0

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        self.tries += 1
        error = self.failing(prompt)
        if error is not None:
            raise error
        return await super().sample(prompt, n, sampling, on_text)


async def answer_by(model: Model, question: Question, request: Request, resources: Resources) -> Trace:
    return await answer(request, model, question, resources)


def entry(model: Model, name: str = "scripted", spec: str | None = None, at_once: int = 8) -> PlannedModel:
    @contextmanager
    def opened(check: Callable[[Model], None]) -> Iterator[tuple[AnswerFunction, int]]:
        check(model)
        yield partial(answer_by, model), at_once

    return PlannedModel(name, spec or name, opened)


def plan(
    benchmarks: Sequence[Benchmark] | Benchmark, model: Model | PlannedModel, *specs: str, **others: Any
) -> EvalPlan:
    return EvalPlan(
        benchmarks=(benchmarks,) if isinstance(benchmarks, Benchmark) else tuple(benchmarks),
        models=(model if isinstance(model, PlannedModel) else entry(model),),
        specs=tuple(map(parse_spec, specs or ("single",))),
        **others,
    )


def run(folder: Path, *given: Any, scorer: Model | None = None, **others: Any) -> EvalOutcome:
    return evaluate(folder, plan(*given, **others), scorer=scorer)


def untimed(trace: Trace | None) -> Trace | None:
    """The trace without what differs from run to run."""
    if trace is None:
        return None
    return trace.model_copy(update={"usage": trace.usage.model_copy(update={"seconds": 0.0})})


def contents(folder: Path) -> dict[RunKey, dict[str, Any]]:
    """All that the runs of a folder found, but for times."""
    with RunResults([folder]) as results:
        return {
            setting: {
                found.item: (
                    replace(found, wall=0.0, usage=found.usage + Usage(seconds=-found.usage.seconds)),
                    untimed(results.trace(setting, found.item)),
                )
                for found in results.results(setting)
            }
            for setting in results.runs
        }
