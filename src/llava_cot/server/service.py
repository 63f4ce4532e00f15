"""Answering one request: its place in line, its pictures, its choices, and the end of it all if nobody waits.

Owns the time limit and the cancelling. Knows no route; of HTTP, only that a client may go away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from starlette.requests import Request

from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model
from llava_cot.search import ask as search
from llava_cot.search.resources import Resources
from llava_cot.search.search import OnEvent
from llava_cot.server.api_errors import CLIENT_GONE, ApiError
from llava_cot.server.chat_reply import usage
from llava_cot.server.chat_request import ChatQuestion
from llava_cot.server.metrics import Metrics
from llava_cot.server.queue import RequestQueue
from llava_cot.server.trace_store import TraceStore

_T = TypeVar("_T")


@dataclass(frozen=True)
class ServerSettings:
    """How a server answers. `at_once` and `line` bound its requests, `seconds` the time of each."""

    fmt: StageFormat = LLAVA_COT
    at_once: int = 64
    line: int = 256
    seconds: float = 600.0
    raw: bool = False
    allow_urls: bool = False
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise ValueError(f"{self.at_once} questions at once are none; give at least 1")
        if self.line < 0:
            raise ValueError(f"the line has room for {self.line}; give 0 or more")
        if not 0 < self.seconds < float("inf"):
            raise ValueError(f"the time limit is {self.seconds:g} seconds; give more than 0")


@dataclass(frozen=True)
class Service:
    """A model, what methods have besides it, and what stands before it."""

    model: Model
    settings: ServerSettings
    queue: RequestQueue
    metrics: Metrics
    traces: TraceStore
    resources: Resources


def make_service(model: Model, settings: ServerSettings, resources: Resources) -> Service:
    queue = RequestQueue(settings.at_once, settings.line)
    return Service(model, settings, queue, Metrics(model, queue), TraceStore(), resources)


async def answer(service: Service, asked: ChatQuestion, listeners: Sequence[OnEvent | None]) -> list[Trace]:
    """A trace for each choice, each of which has a listener. Raises ApiError or ValueError."""
    limit = service.settings.seconds
    with service.metrics.question():
        try:
            async with asyncio.timeout(limit), service.queue.place():
                question = await asked.question()
                traces = await _together(
                    search.answer(
                        asked.request.with_seed(asked.request.sampling.seed + index),
                        service.model,
                        question,
                        service.resources.fitting(asked.request.method, asked.request.judge_name),
                        listener,
                    )
                    for index, listener in enumerate(listeners)
                )
        except TimeoutError:
            # OpenAI's client would ask twice more, in vain and at the cost of the others.
            raise ApiError(
                504,
                f"there was no answer within {limit:g} seconds; ask for fewer candidates or tokens",
                code="timeout",
                headers={"x-should-retry": "false"},
            ) from None
    service.metrics.spent(usage(traces))
    return traces


async def _together(work: Any) -> list[Trace]:
    """All of it, or the first failure, after which the rest is stopped."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def unless_gone(http: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """What comes of the work, which is stopped when the client goes away."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_gone(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(CLIENT_GONE, "the client went away")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
