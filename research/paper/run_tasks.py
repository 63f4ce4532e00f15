"""Running the tasks of a reproduction, several at once, each in a process and a folder of its own.

Each process has one thread, since two engines with one thread do more than one with two. A task can be
interrupted and resumed, as any run of `llava-cot train` and `llava-cot eval`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from llava_cot.evaluation.benchmarks import SCENES, open_benchmark
from llava_cot.evaluation.calibrate import make_calibration, sample_scores
from llava_cot.evaluation.plan import LOCAL_AT_ONCE, EvalPlan, plan_models
from llava_cot.evaluation.run import EvalOutcome, EvalProgress, evaluate
from llava_cot.models.base import Sampling
from llava_cot.scenes.items import make_items
from llava_cot.search.ask import make_judge
from llava_cot.search.calibration import load_calibration
from llava_cot.search.request import make_request, parse_spec
from llava_cot.search.resources import Example, ResourceSpec
from research.paper.noisy_oracle import NAME as NOISY_ORACLE
from research.paper.noisy_oracle import register_noisy_oracles
from research.paper.sizes import CALIBRATION_QUESTIONS, LEAST_CALIBRATION_QUESTIONS
from research.paper.tasks import ReproductionTask

CALIBRATION = "implicit.json"  # in the folder of a reproduction
_JUDGE, _STAGE = "implicit", "reasoning"
_POLL_SECONDS = 0.5
_EXAMPLES = 2  # shown before a question
_Task = TypeVar("_Task")
_Outcome = TypeVar("_Outcome")
OnDone = Callable[[int], None]  # steps or answers so far, those of earlier runs included
# Runs one task: the second argument gets what is done, the third is called at a first interrupt.
Run = Callable[[_Task, OnDone, Callable[[], None]], _Outcome]


@dataclass(frozen=True)
class ReproductionSettings:
    """What all tasks share: the first `limit` questions of a benchmark, at most `max_tokens` a sample."""

    folder: Path
    benchmark: str
    limit: int
    max_tokens: int


def answer_questions(
    settings: ReproductionSettings,
    task: ReproductionTask,
    on_done: OnDone,
    on_interrupt: Callable[[], None] = lambda: None,
) -> EvalOutcome:
    """Answer the questions of one task in this process. Raises as `evaluate` does."""
    if any(NOISY_ORACLE in method for method in task.methods):
        register_noisy_oracles()
    calibrated = task.judge_model is not None
    resources = ResourceSpec(
        reasoner=task.reasoner,
        judge_model=task.judge_model,
        examples=_solved_scenes() if task.examples else (),
        calibration=load_calibration(settings.folder / CALIBRATION) if calibrated else None,
    )
    plan = EvalPlan(
        benchmarks=(open_benchmark(settings.benchmark),),
        models=plan_models([task.model], model_name=None, at_once=None, known=resources.opened),
        specs=tuple(parse_spec(method) for method in task.methods),
        seeds=(task.seed,),
        limit=settings.limit,
        answer_source=task.answer_source,
        sampling=Sampling(max_tokens=settings.max_tokens),
        resources=resources,
    )

    def on_progress(progress: EvalProgress) -> None:
        on_done(progress.done)

    return evaluate(settings.folder / task.name, plan, on_progress=on_progress, on_interrupt=on_interrupt)


def calibrate(settings: ReproductionSettings, model: str, judge_model: str, on_done: OnDone) -> None:
    """Measure how the judge implicit scores reasonings, as SWIRES needs it, unless that is known.

    The questions are those of another split, where the benchmark has one. Raises ModelError or DataError.
    """
    file = settings.folder / CALIBRATION
    if file.is_file():
        return
    # Of very few, too few may have a reasoning to score.
    count = min(max(settings.limit, LEAST_CALIBRATION_QUESTIONS), CALIBRATION_QUESTIONS)
    known = settings.benchmark in SCENES
    items = open_benchmark(f"{settings.benchmark}:validation" if known else settings.benchmark).items()
    spec, sampling = ResourceSpec(judge_model=judge_model), Sampling(max_tokens=settings.max_tokens)
    request = make_request("best-of-n", n=1, judge=_JUDGE, sampling=sampling, resources=spec)
    with spec.open_with(model, None) as (opened, ready):
        judge = make_judge(_JUDGE, opened, request, ready)
        scored = sample_scores(
            request, opened, judge, islice(items, count),
            stage=_STAGE, at_once=LOCAL_AT_ONCE, on_progress=on_done,
        )  # fmt: skip
        found = make_calibration(
            asyncio.run(scored), _JUDGE, _STAGE, model=opened.name, judge_model=judge.model_name
        )
    found.save(file)


def _solved_scenes() -> tuple[Example, ...]:
    """Return scenes that mini was trained on, with the right reasoning."""
    return tuple(
        Example(
            item.ask(), f"{item.stages['caption']} {item.stages['reasoning']} The answer is {item.answer}."
        )
        for item in make_items("train", 0, _EXAMPLES, "hard")
    )


def run_tasks(
    run: Run[_Task, _Outcome], tasks: Sequence[_Task], processes: int, on_done: OnDone
) -> list[_Outcome]:
    """Run all tasks, in this process if `processes` is 1, else in so many at once.

    Args:
        run: Runs one task; with several processes, a function that can be pickled.
        on_done: Called with the steps or answers of all tasks so far.

    Raises:
        Whatever a task raises, once the running ones have stopped.
    """
    if processes > 1:
        return _side_by_side(run, tasks, processes, lambda counts: on_done(sum(counts)))
    counts = [0] * len(tasks)
    outcomes = []
    for number, task in enumerate(tasks):

        def count(done: int, number: int = number) -> None:
            counts[number] = done
            on_done(sum(counts))

        outcomes.append(run(task, count, lambda: None))
    return outcomes


def _side_by_side(
    run: Run[_Task, _Outcome],
    tasks: Sequence[_Task],
    processes: int,
    on_counts: Callable[[Sequence[int]], None],
) -> list[_Outcome]:
    context = get_context("spawn")
    counts: Any = context.Array("l", len(tasks))
    stop: Any = context.Value("b", False)
    with ProcessPoolExecutor(processes, context, _start_process, (counts, stop, os.getpid())) as pool:
        futures = [pool.submit(_run_in_pool, run, task, number) for number, task in enumerate(tasks)]
        left = set(futures)
        try:
            while left:
                ready, left = wait(left, _POLL_SECONDS, FIRST_COMPLETED)
                on_counts(counts[:])
                for future in ready:
                    future.result()
        except BaseException:
            stop.value = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in futures]


# In a process of the pool: where it counts, whether all are to stop, and the process that started it.
_counts: Any
_stop: Any
_parent: int


def _start_process(counts: Any, stop: Any, parent: int) -> None:
    global _counts, _stop, _parent
    _counts, _stop, _parent = counts, stop, parent
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported


def _run_in_pool(run: Run[_Task, _Outcome], task: _Task, number: int) -> _Outcome:
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True

    def count(done: int) -> None:
        _counts[number] = done
        if os.getppid() != _parent:  # it was killed; free the folder for the next run
            os._exit(1)
        if _stop.value and not interrupted:  # a terminal interrupts all processes, a signal only the first
            signal.raise_signal(signal.SIGINT)

    if _stop.value:  # taken from the queue before that
        raise KeyboardInterrupt
    return run(task, count, interrupt)
