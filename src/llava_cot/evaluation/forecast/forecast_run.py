"""Sampling and judging the pools of a benchmark's questions, stored as they arrive.

A later run in the same folder adds questions or judges, and samples nothing again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from llava_cot.core.question import Question
from llava_cot.data.schedule import ImagePool, run_interruptible
from llava_cot.errors import ModelError, ModelUnavailable
from llava_cot.evaluation.forecast.candidate_tree import PoolNode, sample_pool
from llava_cot.evaluation.forecast.forecast_plan import (
    JUDGMENTS,
    ForecastFolder,
    ForecastPlan,
    stored_pool,
)
from llava_cot.evaluation.forecast.node_judging import judge_node
from llava_cot.evaluation.forecast.question_forecast import nodes_of
from llava_cot.evaluation.run import SharedClock
from llava_cot.evaluation.scorer import retry
from llava_cot.evaluation.types import BenchmarkItem
from llava_cot.models.base import Model, seed_of
from llava_cot.search.ask import answer, prepare
from llava_cot.search.resources import Resources
from llava_cot.search.search import Search


async def sample_and_judge(
    folder: ForecastFolder,
    plan: ForecastPlan,
    model: Model,
    resources: Resources,
    at_once: int,
    on_progress: Callable[[int], None] = lambda done: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> str | None:
    """Sample and judge what the folder does not have yet. Returns the last error if questions failed.

    Args:
        folder: The folder, which must fit the plan (`match_settings`).
        plan: What to sample and judge.
        model: The model.
        resources: What judges may use besides.
        at_once: The most questions in flight.
        on_progress: Called with the number of questions done.
        on_interrupt: Called at the first Ctrl-C; questions in flight are still finished.

    Raises:
        ModelError: The model or a judge cannot do what is asked, or failed on 20 questions in a row.
        KeyboardInterrupt: After a Ctrl-C.
    """
    images, clocks = ImagePool(), {"pool": SharedClock(), "judgment": SharedClock()}
    judges = {name: prepare(request, model, resources) for name, request in plan.requests.items()}
    error: str | None = None
    done = 0

    async def timed(kind: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        started, wall = clocks[kind].start(), 0.0
        try:
            found = await retry(work)
        finally:
            wall = clocks[kind].stop(started)
        return {**found, "wall": wall}

    async def complete(item: BenchmarkItem) -> None:
        """Sample and judge what a question lacks."""
        entry = folder.get(item.id, "pool")
        missing = [name for name in judges if folder.get(plan.judgment_key(item, name), "judgment") is None]
        if entry is not None and not missing:
            return
        async with images.open(item.pictures) as loaded:
            question = item.question(await loaded())
            if entry is None:
                entry = await timed("pool", lambda: _sample(plan, model, question))
                folder.put(item.id, "pool", entry)
            nodes = nodes_of(stored_pool(plan, item, entry)) if missing else []
            for name in missing:
                judge, seed = judges[name], seed_of(plan.request.sampling.seed, item.id)
                assert judge is not None
                work = partial(
                    _judge,
                    nodes,
                    judge,
                    plan.requests[name].with_seed(seed),
                    model,
                    question,
                    resources,
                    plan.ns,
                )
                folder.put(plan.judgment_key(item, name), "judgment", await timed("judgment", work))

    async def one(item: BenchmarkItem) -> str | None:
        nonlocal error, done
        try:
            await complete(item)
        except ModelUnavailable:
            raise
        except (ValueError, OSError) as failure:
            error = f"{item.id}: {failure}"
            return error if isinstance(failure, ModelError) else None
        finally:
            done += 1
            on_progress(done)
        return None

    reason = await run_interruptible(plan.items(), one, at_once, lambda: False, on_interrupt)
    if reason is not None:
        raise ModelError(reason)
    return error


async def _judge(nodes: Sequence[PoolNode], *given: Any) -> dict[str, Any]:
    found = await asyncio.gather(*(judge_node(node, *given) for node in nodes))
    return {"nodes": JUDGMENTS.dump_python(list(found), mode="json")}


async def _sample(plan: ForecastPlan, model: Model, question: Question) -> dict[str, Any]:
    seeded = plan.request.with_seed(seed_of(plan.request.sampling.seed, question.id))
    single = replace(seeded, method="single", n=1, judge=None)
    search = Search(single, model, question)
    rounds = await sample_pool(search, plan.sizes)
    greedy = await answer(
        replace(single, sampling=replace(single.sampling, temperature=0.0)), model, question
    )
    without_data = {"question": {"images": {"__all__": {"data"}}}}
    return {
        "trace": search.so_far().model_dump(mode="json", exclude=without_data),
        "rounds": list(rounds),
        "greedy": greedy.text,
        "greedy_tokens": greedy.usage.completion_tokens,
    }
