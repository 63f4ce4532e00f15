"""The pieces of a reproduction, several at once, each in a process and a folder of its own.

Owns the processes: one thread each, since two engines of one thread do more than one of two. Each can be
broken off and gone on with, as any run of `llava-cot eval`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from llava_cot.evaluation.benchmarks import open_benchmark
from llava_cot.evaluation.opening import entries
from llava_cot.evaluation.plan import EvalPlan
from llava_cot.evaluation.reproduce.tasks import Task
from llava_cot.evaluation.run import EvalOutcome, EvalProgress, evaluate
from llava_cot.models.base import Sampling
from llava_cot.scenes.items import make_items
from llava_cot.search.request import parse_spec
from llava_cot.search.resources import Example, ResourceSpec

_LOOK_SECONDS = 0.5
_SHOWN = 2  # worked examples before a question
OnAnswers = Callable[[int, int], None]  # so many answers, of how many


@dataclass(frozen=True)
class Common:
    """What all pieces share: the first `limit` questions of a benchmark, at most so many tokens a sample."""

    folder: Path
    benchmark: str
    limit: int
    max_tokens: int


def run_task(
    common: Common,
    task: Task,
    tell: Callable[[int], None],
    on_interrupt: Callable[[], None] = lambda: None,
) -> EvalOutcome:
    """One piece, in this process; what is answered already is told too. Raises what `evaluate` does."""
    specs = tuple(parse_spec(method) for method in task.methods)
    resources = ResourceSpec(
        reasoner=task.reasoner,
        examples=_worked() if task.examples else (),
        model_options={"device": "auto", "dtype": "auto"},
    )
    plan = EvalPlan(
        benchmarks=(open_benchmark(common.benchmark),),
        models=entries(
            [task.model], model_name=None, at_once=None, device="auto", dtype="auto", known=resources.opened
        ),
        specs=specs,
        seeds=(task.seed,),
        limit=common.limit,
        way=task.way,
        sampling=Sampling(max_tokens=common.max_tokens),
        resources=resources,
    )

    def on_progress(progress: EvalProgress) -> None:
        tell(progress.done)

    return evaluate(common.folder / task.name, plan, on_progress=on_progress, on_interrupt=on_interrupt)


def _worked() -> tuple[Example, ...]:
    """Scenes that mini was trained on, and how it is right to think about them."""
    return tuple(
        Example(
            item.ask(), f"{item.stages['caption']} {item.stages['reasoning']} The answer is {item.answer}."
        )
        for item in make_items("train", 0, _SHOWN)
    )


def run_tasks(common: Common, tasks: Sequence[Task], processes: int, tell: OnAnswers) -> list[EvalOutcome]:
    """All pieces, in so many processes at once, or in this one if it is one.

    Raises what a piece raises, once those that were begun have stopped.
    """
    expected = sum(len(task.methods) for task in tasks) * common.limit
    if processes > 1:
        return _side_by_side(common, tasks, processes, lambda counts: tell(sum(counts), expected))
    counts = [0] * len(tasks)
    ended = []
    for number, task in enumerate(tasks):

        def count(done: int, number: int = number) -> None:
            counts[number] = done
            tell(sum(counts), expected)

        ended.append(run_task(common, task, count))
    return ended


def _side_by_side(
    common: Common, tasks: Sequence[Task], processes: int, tell: Callable[[Sequence[int]], None]
) -> list[EvalOutcome]:
    context = get_context("spawn")
    counts: Any = context.Array("l", len(tasks))
    stop: Any = context.Value("b", False)
    with ProcessPoolExecutor(processes, context, _begin, (counts, stop, os.getpid())) as pool:
        jobs = [pool.submit(_piece, common, task, number) for number, task in enumerate(tasks)]
        left = set(jobs)
        try:
            while left:
                ready, left = wait(left, _LOOK_SECONDS, FIRST_COMPLETED)
                tell(counts[:])
                for job in ready:
                    job.result()
        except BaseException:
            stop.value = True
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [job.result() for job in jobs]


# Of a process in the pool: where it counts, whether all is to end, and the process that it belongs to.
_counts: Any
_stop: Any
_parent: int


def _begin(counts: Any, stop: Any, parent: int) -> None:
    global _counts, _stop, _parent
    _counts, _stop, _parent = counts, stop, parent
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported


def _piece(common: Common, task: Task, number: int) -> EvalOutcome:
    interrupted = False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True

    def count(done: int) -> None:
        _counts[number] = done
        if os.getppid() != _parent:  # killed; whoever goes on finds the folder free
            os._exit(1)
        if _stop.value and not interrupted:  # a terminal interrupts all processes, a signal only the first
            signal.raise_signal(signal.SIGINT)

    if _stop.value:  # taken from the queue before that
        raise KeyboardInterrupt
    return run_task(common, task, count, interrupt)
