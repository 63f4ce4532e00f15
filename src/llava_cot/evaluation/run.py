"""Runs of methods over benchmarks: every question under every setting once, kept and scored as it comes.

Owns the order, the failures and what is owed. What the store keeps is in `kept.py`, how an
answer is scored in `scores.py`. Knows no benchmark, model or method by name.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from llava_cot.core.trace import Trace
from llava_cot.data.schedule import ImagePool, run_interruptible
from llava_cot.data.store import Store, check_store_folder
from llava_cot.errors import DataError, ModelError
from llava_cot.evaluation.kept import (
    check_method,
    check_model,
    keep_benchmark,
    keep_method,
    keep_model,
    keep_trace,
    key_of,
    questions,
    read_key,
    setting_key,
    settings,
)
from llava_cot.evaluation.plan import AnswerFunction, EvalPlan, PlannedModel, question_seed
from llava_cot.evaluation.results import RunKey
from llava_cot.evaluation.scorer import insist
from llava_cot.evaluation.scores import Scores
from llava_cot.evaluation.share import Share
from llava_cot.evaluation.types import BenchmarkItem, ScoringRule
from llava_cot.models.base import Model
from llava_cot.search.request import Spec
from llava_cot.search.resources import Resources

_SCORED_AT_ONCE = 64


@dataclass(frozen=True)
class EvalProgress:
    """How far a run is. `done` counts answered questions, those of earlier runs among them, `fresh` the ones
    of this run, `failed` its failures. `mean` is the score so far under `setting`, the last answer's."""

    done: int
    total: int
    fresh: int = 0
    failed: int = 0
    setting: RunKey | None = None
    mean: float = 0.0
    usd: float = 0.0


@dataclass(frozen=True)
class EvalOutcome:
    """How many questions `failed`, and how many answers a scorer failed to score (`unscored`), the last for
    the reason `why`. `gave_up` names the models that could do nothing any more."""

    failed: int
    unscored: int
    why: str | None
    gave_up: tuple[str, ...]


def evaluate(
    folder: Path,
    plan: EvalPlan,
    *,
    scorer: Model | None = None,
    on_progress: Callable[[EvalProgress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> EvalOutcome:
    """Answer and score what the folder does not have yet.

    Traces, scores and a scorer's replies are kept as they come, so that a run which is broken off in whatever
    way goes on where it was. A model's failure on a question is tried twice more, then kept, and tried again
    in the next run. Raises ValueError (DataError, ModelError, StoreError), OSError, and KeyboardInterrupt
    after a Ctrl-C once what was asked has been answered.
    """
    check_store_folder(folder)
    with Store(folder) as store:
        ids = _prepare(store, plan)
        scores = Scores(store, plan.fmt, scorer)
        asyncio.run(_settle(scores, on_progress, on_interrupt))
        run = _Run(store, plan, ids, scores, on_progress, on_interrupt)
        gave_up = []
        owing = [entry for entry in plan.models if run.owes(entry)]
        with plan.resources.open() if owing else nullcontext(Resources()) as resources:
            for entry in owing:
                with entry.open() as (answer, at_once):
                    if asyncio.run(run.answer(entry, answer, at_once, resources)):
                        gave_up.append(entry.name)
        return EvalOutcome(run.failed, scores.failed, run.why or scores.why, tuple(gave_up))


def _prepare(store: Store, plan: EvalPlan) -> dict[str, list[str]]:
    """The ids of the questions, by benchmark. Raises ValueError if the plan does not fit the folder."""
    store.match_settings(settings(plan.fmt, plan.sampling, plan.limit))
    for entry in plan.models:
        check_model(store, entry.name, entry.spec, plan.way)
    for spec in plan.specs:
        check_method(store, spec.name, plan.resources.describe(spec.method, spec.judge))
    names = [benchmark.name for benchmark in plan.benchmarks]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two benchmarks are called {name}; give each its own folder of runs")
    return {b.name: keep_benchmark(store, b, plan.limit) for b in plan.benchmarks}


async def _settle(
    scores: Scores, on_progress: Callable[[EvalProgress], None], on_interrupt: Callable[[], None]
) -> None:
    """Score what is owed from earlier runs, of all the folder."""
    owed, done = scores.owed(), 0

    async def one(key: str) -> str | None:
        nonlocal done
        trouble = await scores.again(key)
        done += 1
        on_progress(EvalProgress(done, len(owed), done, usd=scores.usd))
        return trouble

    await run_interruptible(owed, one, _SCORED_AT_ONCE, lambda: False, on_interrupt)


@dataclass(frozen=True)
class _Job:
    key: str
    setting: RunKey
    spec: Spec
    item: BenchmarkItem
    rule: ScoringRule


class _Run:
    """A plan and a store: what of the one is in the other, and how far the rest is."""

    def __init__(
        self,
        store: Store,
        plan: EvalPlan,
        ids: Mapping[str, Sequence[str]],
        scores: Scores,
        on_progress: Callable[[EvalProgress], None],
        on_interrupt: Callable[[], None],
    ) -> None:
        self.failed = 0
        self.why: str | None = None
        self._store, self._plan, self._ids, self._scores = store, plan, ids, scores
        self._tell, self._on_interrupt = on_progress, on_interrupt
        self._share = Share()
        self._answered = set(store.keys("trace"))
        self._means: dict[RunKey, list[float]] = defaultdict(lambda: [0.0, 0.0])  # sum, count
        self._usd = 0.0
        for key, kept in store.items("score"):
            self._count(read_key(key)[0], kept["value"])
            self._usd += kept["usage"]["usd"] or 0.0
        asked = {setting for entry in plan.models for setting, _, _ in plan.settings(entry.name)}
        self._total = sum(len(ids[setting.benchmark]) for setting in asked)
        self._done = sum(read_key(key)[0] in asked for key in self._answered)
        self._fresh = 0

    def owes(self, entry: PlannedModel) -> bool:
        return next(self._owed(entry), None) is not None

    async def answer(
        self, entry: PlannedModel, answer: AnswerFunction, at_once: int, resources: Resources
    ) -> bool:
        """Ask a model all that it owes; whether it could do nothing any more."""
        keep_model(self._store, entry.name, entry.spec, self._plan.way)
        for setting, _, spec in self._plan.settings(entry.name):
            keep_method(self._store, spec.name, self._plan.resources.describe(spec.method, spec.judge))
            self._store.put(setting_key(setting), "setting", None)
        room = ImagePool()  # belongs to this event loop
        why = await run_interruptible(
            self._owed(entry),
            lambda job: self._one(
                job, partial(answer, resources=resources.fitting(job.spec.method, job.spec.judge)), room
            ),
            at_once,
            lambda: False,
            self._on_interrupt,
        )
        return why is not None

    def _owed(self, entry: PlannedModel) -> Iterator[_Job]:
        for setting, benchmark, spec in self._plan.settings(entry.name):
            if all(key_of(setting, id) in self._answered for id in self._ids[benchmark.name]):
                continue  # without reading the benchmark once more
            for item in questions(benchmark, self._plan.limit):
                key = key_of(setting, item.id)
                if key not in self._answered:
                    yield _Job(key, setting, spec, item, benchmark.rule)

    async def _one(self, job: _Job, answer: AnswerFunction, room: ImagePool) -> str | None:
        """Ask and score one question; what a model could not do, if that was so."""
        begun = self._share.begin()
        try:
            trace = await insist(lambda: self._ask(job, answer, room))
        except (ValueError, OSError) as error:  # the question's pictures, too, may be at fault
            self.why = f"{job.item.id}: {error}"
            self.failed += 1
            self._store.put(job.key, "failure", str(error))
            self._count(job.setting, 0.0)
            self._progress(job.setting)
            return self.why if isinstance(error, ModelError) else None
        finally:
            wall = self._share.end(begun)
        keep_trace(self._store, job.key, trace, wall)
        self._answered.add(job.key)
        self._done += 1
        self._fresh += 1
        self._usd += trace.usage.usd or 0.0
        found = await self._scores.first(job.key, job.item, job.rule, trace, wall)
        self._count(job.setting, found.value)
        self._progress(job.setting)
        return None

    async def _ask(self, job: _Job, answer: AnswerFunction, room: ImagePool) -> Trace:
        request = self._plan.requests[job.spec].with_seed(question_seed(job.setting.seed, job.item.id))
        async with room.open(job.item.pictures) as images:
            return await answer(job.item.about(await images()), request)

    def _count(self, setting: RunKey, value: float) -> None:
        mean = self._means[setting]
        mean[0] += value
        mean[1] += 1

    def _progress(self, setting: RunKey) -> None:
        value, count = self._means[setting]
        usd = self._usd + self._scores.usd
        self._tell(
            EvalProgress(self._done, self._total, self._fresh, self.failed, setting, value / count, usd)
        )
