"""Running an evaluation: every question of every run once, stored and scored as its answer arrives."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from time import perf_counter

from llava_cot.core.trace import Trace, WarningKind
from llava_cot.data.schedule import ImagePool, run_interruptible
from llava_cot.data.store import STORE_FILE, check_store_folder
from llava_cot.errors import ModelError, ModelRefusal, ModelUnavailable
from llava_cot.evaluation.eval_folder import EvalFolder, read_trace_key, trace_key
from llava_cot.evaluation.plan import AnswerFunction, EvalPlan, PlannedModel
from llava_cot.evaluation.scorer import FolderScores, retry
from llava_cot.evaluation.types import BenchmarkItem, RunKey, ScoringRule
from llava_cot.models.base import Model, optional_sampling, seed_of
from llava_cot.search.request import Spec
from llava_cot.search.resources import Resources

_SCORED_AT_ONCE = 64


@dataclass(frozen=True)
class EvalProgress:
    """The progress of an evaluation."""

    done: int  # answered questions, those of earlier processes included
    total: int
    new: int = 0  # questions answered by this process
    failed: int = 0  # questions on which the model failed
    run: RunKey | None = None  # of the last answer
    mean: float = 0.0  # score of that run so far
    usd: float = 0.0  # cost of answers and scorer replies


@dataclass(frozen=True)
class EvalOutcome:
    """What is missing at the end of an evaluation."""

    failed: int  # questions on which a model failed
    unscored: int  # answers on which the scorer failed
    last_error: str | None
    # Models that got no more questions, each with the reason: they failed too often in a row, or their server
    # refuses all requests.
    abandoned: Mapping[str, str]
    scorer_unavailable: str | None = None  # why the scorer's server refuses all requests, if it does
    # What the folder's runs of this plan lack ("missing", "not scored"), by reason.
    left_out: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    warned: Mapping[WarningKind, int] = field(default_factory=dict)  # their answers with warnings, by kind


def evaluate(
    folder: Path,
    plan: EvalPlan,
    *,
    scorer: Model | None = None,
    on_progress: Callable[[EvalProgress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> EvalOutcome:
    """Answer and score what the folder does not have yet.

    Traces, scores and a scorer's replies are stored as they arrive, so that an interrupted run can be
    resumed. Where a model fails on a question it is asked twice more; then the failure is stored, and the
    next run asks again. If a server refuses all requests (its quota, the key, the model), its model gets no
    more questions; if it is the scorer's server, no model does.

    Args:
        folder: The run folder; made if it is not there.
        plan: What to run.
        scorer: The model for answers that text comparison does not decide.
        on_progress: Called after each answer.
        on_interrupt: Called at the first Ctrl-C; questions in flight are still answered.

    Raises:
        ValueError: (DataError, ModelError, StoreError) for a plan that does not fit the folder, or a model
            that cannot be opened.
        OSError: if the folder cannot be written.
        KeyboardInterrupt: after a Ctrl-C, once the questions in flight are answered.
    """
    check_store_folder(folder)
    if optional_sampling(plan.sampling) and not (folder / STORE_FILE).is_file():
        # The folder will be bound to these options, so every model must honor them.
        with plan.resources.open() as resources:
            for model in plan.models:
                with model.open(partial(plan.check, resources)):
                    pass
    with EvalFolder(folder) as opened:
        opened.check(plan)
        ids = {one.name: opened.add_benchmark(one, plan.limit) for one in plan.benchmarks}
        scores = FolderScores(opened, plan.fmt, scorer)
        asyncio.run(_score_pending(scores, on_progress, on_interrupt))
        run = _Evaluation(opened, plan, ids, scores, on_progress, on_interrupt)
        abandoned = {}
        pending = [model for model in plan.models if next(run.pending(model), None)]
        if scores.unavailable is not None:
            pending = []
        with plan.resources.open() if pending else nullcontext(Resources()) as resources:
            for model in pending:
                with model.open(partial(plan.check, resources)) as (answer, at_once):
                    reason = asyncio.run(run.answer_all(model, answer, at_once, resources))
                if scores.unavailable is not None:
                    break
                if reason is not None:
                    abandoned[model.name] = reason
        scorer_given_up = {} if scores.unavailable is None else {"the scorer": scores.unavailable}
        opened.write_left_out(abandoned | scorer_given_up)
        last_error = run.last_error or scores.last_error
        left_out = opened.left_out(run.runs)
        return EvalOutcome(
            run.failed, scores.failed, last_error, abandoned, scores.unavailable, left_out,
            opened.warned(run.runs),
        )  # fmt: skip


async def _score_pending(
    scores: FolderScores, on_progress: Callable[[EvalProgress], None], on_interrupt: Callable[[], None]
) -> None:
    """Score what earlier runs left, in all of the folder."""
    pending, done = scores.pending(), 0

    async def score(key: str) -> str | None:
        nonlocal done
        error = await scores.score_pending(key)
        done += 1
        on_progress(EvalProgress(done, len(pending), done, usd=scores.usd))
        return error

    await run_interruptible(
        pending, score, _SCORED_AT_ONCE, lambda: scores.unavailable is not None, on_interrupt
    )


@dataclass(frozen=True)
class _PendingQuestion:
    key: str
    run: RunKey
    spec: Spec
    item: BenchmarkItem
    rule: ScoringRule


class _Evaluation:
    """A plan over a folder: which questions are pending, and the progress."""

    def __init__(
        self,
        folder: EvalFolder,
        plan: EvalPlan,
        ids: Mapping[str, Sequence[str]],
        scores: FolderScores,
        on_progress: Callable[[EvalProgress], None],
        on_interrupt: Callable[[], None],
    ) -> None:
        self.failed = 0
        self.last_error: str | None = None
        self._folder, self._plan, self._ids, self._scores = folder, plan, ids, scores
        self._on_progress, self._on_interrupt = on_progress, on_interrupt
        self._clock = SharedClock()
        self._answered = set(folder.keys("trace"))
        self._means: dict[RunKey, tuple[float, int]] = defaultdict(lambda: (0.0, 0))  # sum, count
        self._usd = 0.0
        for key, row in folder.items("score"):
            self._count(read_trace_key(key)[0], row["value"])
            self._usd += row["usage"]["usd"] or 0.0
        self.runs = {run for model in plan.models for run, _, _ in plan.runs(model.name)}
        self._total = sum(len(ids[run.benchmark]) for run in self.runs)
        self._done = sum(read_trace_key(key)[0] in self.runs for key in self._answered)
        self._new = 0

    async def answer_all(
        self, model: PlannedModel, answer: AnswerFunction, at_once: int, resources: Resources
    ) -> str | None:
        """Answer all pending questions of a model. Returns why it was given up, if it was."""
        plan = self._plan
        for run, _, spec in plan.runs(model.name):
            described = plan.resources.describe(spec.method, spec.judge)
            self._folder.add_run(run, model.spec, plan.answer_source, described)
        pool = ImagePool()  # belongs to this event loop

        async def ask(question: _PendingQuestion) -> Trace:
            spec, seed = question.spec, seed_of(question.run.seed, question.item.id)
            async with pool.open(question.item.pictures) as images:
                loaded = question.item.question(await images())
                request = plan.requests[spec].with_seed(seed)
                return await answer(loaded, request, resources.fitting(spec.method, spec.judge))

        work = partial(self._answer, ask=ask)
        return await run_interruptible(
            self.pending(model),
            work,
            at_once,
            lambda: self._scores.unavailable is not None,
            self._on_interrupt,
        )

    def pending(self, model: PlannedModel) -> Iterator[_PendingQuestion]:
        for run, benchmark, spec in self._plan.runs(model.name):
            if all(trace_key(run, id) in self._answered for id in self._ids[benchmark.name]):
                continue  # without reading the benchmark once more
            for item in islice(benchmark.items(), self._plan.limit):
                key = trace_key(run, item.id)
                if key not in self._answered:
                    yield _PendingQuestion(key, run, spec, item, benchmark.rule)

    async def _answer(
        self, question: _PendingQuestion, ask: Callable[[_PendingQuestion], Awaitable[Trace]]
    ) -> str | None:
        """Answer and score one question. Returns the model's error, if it failed."""
        started = self._clock.start()
        try:
            trace = await retry(lambda: ask(question))
        except ModelUnavailable:  # no failure of the question, which stays pending
            raise
        except (ValueError, OSError) as error:  # the question's pictures may be unreadable, too
            self.last_error = f"{question.item.id}: {error}"
            self.failed += 1
            self._folder.put(question.key, "failure", str(error))
            self._report(question.run, 0.0)
            of_model = isinstance(error, ModelError) and not isinstance(error, ModelRefusal)
            return self.last_error if of_model else None
        finally:
            wall = self._clock.stop(started)
        self._folder.add_trace(question.key, trace, wall)
        self._answered.add(question.key)
        self._done += 1
        self._new += 1
        self._usd += trace.usage.usd or 0.0
        score = await self._scores.score_new(question.key, question.item, question.rule, trace, wall)
        self._report(question.run, score.value)
        return None

    def _count(self, run: RunKey, value: float) -> None:
        total, count = self._means[run]
        self._means[run] = total + value, count + 1

    def _report(self, run: RunKey, value: float) -> None:
        self._count(run, value)
        total, count = self._means[run]
        usd = self._usd + self._scores.usd
        self._on_progress(
            EvalProgress(self._done, self._total, self._new, self.failed, run, total / count, usd)
        )


class SharedClock:
    """A clock that divides each second evenly among the work in progress.

    The times of all work add up to the time in which there was any.
    """

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now, self._last = now, now()
        self._running, self._each = 0, 0.0

    def start(self) -> float:
        """Start a piece of work. Pass what this returns to `stop`."""
        self._tick()
        self._running += 1
        return self._each

    def stop(self, started: float) -> float:
        """Stop a piece of work and return its seconds."""
        self._tick()
        self._running -= 1
        return self._each - started

    def _tick(self) -> None:
        now = self._now()
        if self._running:
            self._each += (now - self._last) / self._running
        self._last = now
