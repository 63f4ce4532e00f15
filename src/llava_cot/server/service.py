"""A model behind a server: its settings, its queue, its traces, and answering one request."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cachetools import FIFOCache
from starlette.requests import Request

from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Trace
from llava_cot.models.base import Model
from llava_cot.search import ask as search
from llava_cot.search.resources import Resources
from llava_cot.search.search import OnEvent
from llava_cot.server.api_errors import CLIENT_GONE, ApiError
from llava_cot.server.chat_reply import total_usage
from llava_cot.server.chat_request import ChatQuestion
from llava_cot.server.metrics import Metrics
from llava_cot.server.queue import RequestQueue

_MAX_TRACE_BYTES = 64_000_000  # of all kept traces together

_T = TypeVar("_T")


@dataclass(frozen=True)
class ServerSettings:
    """How a server answers.

    Attributes:
        fmt: The stage format.
        max_running: Requests answered at the same time.
        max_waiting: Requests that wait; others are refused.
        time_limit: Seconds for one request, waiting included.
        raw: Reply with the tagged text instead of the conclusion.
        allow_urls: Load pictures from public http(s) URLs.
        api_key: The key that clients must send, if any.
    """

    fmt: StageFormat = LLAVA_COT
    max_running: int = 64
    max_waiting: int = 256
    time_limit: float = 600.0
    raw: bool = False
    allow_urls: bool = False
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.max_running < 1:
            raise ValueError(f"{self.max_running} requests at once are too few; give at least 1")
        if self.max_waiting < 0:
            raise ValueError(f"{self.max_waiting} requests cannot wait; give 0 or more")
        if not 0 < self.time_limit < float("inf"):
            raise ValueError(f"the time limit is {self.time_limit:g} seconds; give more than 0")


class TraceStore:
    """The newest traces as JSON, in memory, by ids that cannot be guessed."""

    def __init__(self) -> None:
        self._traces: FIFOCache[str, bytes] = FIFOCache(_MAX_TRACE_BYTES, getsizeof=len)

    def add(self, trace: Trace) -> str:
        """Keep a trace; returns its id. A trace that is larger than the store is not kept."""
        id = secrets.token_urlsafe(16)
        with suppress(ValueError):
            self._traces[id] = trace.model_dump_json().encode()
        return id

    def find(self, id: str) -> bytes:
        """The trace's JSON. Raises ApiError if it is not there."""
        data = self._traces.get(id)
        if data is None:
            raise ApiError(
                404, "there is no such trace (any more); the server keeps the newest ones while it runs"
            )
        return data


@dataclass(frozen=True)
class Service:
    """What a running server consists of."""

    model: Model
    resources: Resources
    settings: ServerSettings
    queue: RequestQueue
    metrics: Metrics
    traces: TraceStore

    @classmethod
    def of(cls, model: Model, resources: Resources, settings: ServerSettings) -> Service:
        """A service that has answered nothing yet."""
        queue = RequestQueue(settings.max_running, settings.max_waiting)
        return cls(model, resources, settings, queue, Metrics(model, queue), TraceStore())

    async def answer(self, question: ChatQuestion, listeners: Sequence[OnEvent | None]) -> list[Trace]:
        """Wait for a slot, load the pictures, and answer a request.

        Args:
            question: The checked request.
            listeners: Called with the events of a choice's search; one for each choice.

        Returns:
            One trace for each choice.

        Raises:
            ApiError, ValueError: There is no answer.
        """
        limit = self.settings.time_limit
        request = question.request
        resources = self.resources.fitting(request.method, request.judge_name)
        with self.metrics.question():
            try:
                async with asyncio.timeout(limit), self.queue.slot():
                    loaded = await question.load()
                    traces = await _gather(
                        search.answer(
                            request.with_seed(request.sampling.seed + index),
                            self.model, loaded, resources, listener,
                        )
                        for index, listener in enumerate(listeners)
                    )  # fmt: skip
            except TimeoutError:
                # Without the header, OpenAI's client would retry twice, which takes as long each time.
                raise ApiError(
                    504,
                    f"there was no answer within {limit:g} seconds; request fewer candidates or tokens",
                    code="timeout",
                    headers={"x-should-retry": "false"},
                ) from None
        self.metrics.spent(total_usage(traces))
        return traces


async def _gather(work: Any) -> list[Trace]:
    """Run all; the first failure cancels the rest and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in tasks]


async def cancel_on_disconnect(http: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Wait for the work, and cancel it if the client disconnects. Raises ApiError then."""
    task = asyncio.create_task(work)
    gone = asyncio.create_task(_disconnected(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(CLIENT_GONE, "the client disconnected")
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _disconnected(http: Request) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
