"""A model behind a server: its settings, queue, metrics and traces, and answering one request."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from cachetools import FIFOCache
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.requests import Request

from llava_cot.core.images import ImageLimits
from llava_cot.core.question import Question
from llava_cot.core.stages import LLAVA_COT, StageFormat
from llava_cot.core.trace import Trace
from llava_cot.data.schedule import ImagePool
from llava_cot.models.base import Model
from llava_cot.search import ask as search
from llava_cot.search.request import StagingOptions
from llava_cot.search.resources import Resources
from llava_cot.search.search import OnEvent
from llava_cot.server.api_errors import CLIENT_GONE, ApiError, api_error
from llava_cot.server.chat_reply import total_usage
from llava_cot.server.chat_request import ChatQuestion
from llava_cot.server.schemas import UsageReply

_MAX_TRACE_BYTES = 64_000_000  # of all kept traces together
_T = TypeVar("_T")
_MAX_RETRY_AFTER = 60  # seconds
_SMOOTHING = 0.9  # weight of the past in the running mean of answer times
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
_OUTCOMES = {429: "full", 504: "timeout"}


@dataclass(frozen=True)
class ServerSettings:
    """How a server answers."""

    fmt: StageFormat = LLAVA_COT
    staging: StagingOptions = field(default_factory=StagingOptions)
    max_running: int = 64  # requests answered at the same time
    max_waiting: int = 256  # requests that wait; others are refused
    time_limit: float = 600.0  # seconds for one request, waiting included
    raw: bool = False  # reply with the tagged text instead of the conclusion
    allow_urls: bool = False  # load pictures from public http(s) URLs
    api_key: str | None = field(default=None, repr=False)  # what clients must send
    # Names by which clients may address it, besides those of this machine; "*" is any.
    allowed_hosts: tuple[str, ...] = ()

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


class RequestQueue:
    """Runs up to `max_running` requests; up to `max_waiting` more wait, first come first served."""

    def __init__(self, max_running: int, max_waiting: int) -> None:
        self.running = 0
        self.waiting = 0
        self._max_running, self._max_waiting = max_running, max_waiting
        self._slots = asyncio.Semaphore(max_running)
        self._mean_seconds = 1.0  # of one request

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it. Raises ApiError at once if the queue is full."""
        if self._slots.locked() and self.waiting >= self._max_waiting:
            raise ApiError(
                429,
                f"{self.running} questions are being answered and {self.waiting} wait; try again later",
                code="queue_full",
                headers={"Retry-After": str(self._retry_after())},
            )
        self.waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        began = time.perf_counter()
        try:
            yield
            seconds = time.perf_counter() - began
            self._mean_seconds = _SMOOTHING * self._mean_seconds + (1 - _SMOOTHING) * seconds
        finally:
            self.running -= 1
            self._slots.release()

    def _retry_after(self) -> int:
        """An estimate of the seconds until all requests that wait now are answered."""
        seconds = self._mean_seconds * (self.waiting + 1) / self._max_running
        return max(1, min(_MAX_RETRY_AFTER, math.ceil(seconds)))


class Metrics:
    """The metrics of one server."""

    def __init__(self, model: Model, queue: RequestQueue) -> None:
        self._registry = registry = CollectorRegistry()
        self._questions = Counter(
            "llava_cot_questions", "Well-formed requests for an answer", ["outcome"], registry=registry
        )
        self._tokens = Counter(
            "llava_cot_tokens", "Tokens of all candidates and duels", ["kind"], registry=registry
        )
        self._seconds = Histogram(
            "llava_cot_answer_seconds", "Seconds from request to answer", buckets=_SECONDS, registry=registry
        )
        running = Gauge("llava_cot_running", "Requests being answered", registry=registry)
        running.set_function(lambda: queue.running)
        waiting = Gauge("llava_cot_waiting", "Requests in the queue", registry=registry)
        waiting.set_function(lambda: queue.waiting)
        registry.register(_EngineStats(model))
        ProcessCollector(registry=registry)

    @contextmanager
    def question(self) -> Iterator[None]:
        """Count the outcome and the time of the question that is answered inside."""
        began, outcome = time.perf_counter(), "answered"
        try:
            yield
            self._seconds.observe(time.perf_counter() - began)
        except asyncio.CancelledError:
            outcome = "gone"
            raise
        except Exception as error:
            status = api_error(error).status_code
            outcome = _OUTCOMES.get(status, "refused" if status < 500 else "failed")
            raise
        finally:
            self._questions.labels(outcome).inc()

    def spent(self, usage: UsageReply) -> None:
        """Count the tokens of an answer."""
        self._tokens.labels("prompt").inc(usage.prompt_tokens)
        self._tokens.labels("completion").inc(usage.completion_tokens)

    def text(self) -> bytes:
        """All metrics in Prometheus' format."""
        return generate_latest(self._registry)


class _EngineStats(Collector):
    """The counters of a local model's engine; nothing for other models."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def collect(self) -> Iterator[Metric]:
        stats = getattr(self._model, "stats", None)
        if stats is None:
            return
        for name, value in asdict(stats).items():
            description = f"The engine's {name.replace('_', ' ')}"
            yield CounterMetricFamily(f"llava_cot_engine_{name}", description, value=value)
        nbytes = getattr(self._model, "cache_bytes", 0)
        yield GaugeMetricFamily("llava_cot_engine_cache_bytes", "Memory of the engine's caches", value=nbytes)


@dataclass(frozen=True)
class Service:
    """What a running server consists of."""

    model: Model
    resources: Resources
    settings: ServerSettings
    queue: RequestQueue
    metrics: Metrics
    traces: TraceStore
    images: ImagePool

    @classmethod
    def of(cls, model: Model, resources: Resources, settings: ServerSettings) -> Service:
        """A service that has answered nothing yet."""
        queue = RequestQueue(settings.max_running, settings.max_waiting)
        # The pictures of a request may have as many pixels as a single one.
        images = ImagePool(each=ImageLimits().max_pixels, at_once=settings.max_running)
        return cls(model, resources, settings, queue, Metrics(model, queue), TraceStore(), images)

    async def answer(self, question: ChatQuestion, listeners: Sequence[OnEvent | None]) -> list[Trace]:
        """Wait for a slot, load the pictures, and answer a request, with one trace for each choice.

        Each listener is called with the events of one choice's search. Raises ApiError or ValueError if there
        is no answer.
        """
        limit = self.settings.time_limit
        request = question.request
        resources = self.resources.fitting(request.method, request.judge_name)
        with self.metrics.question():
            try:
                async with (
                    asyncio.timeout(limit),
                    self.queue.slot(),
                    self.images.open(question.pictures) as images,
                ):
                    loaded = Question(question.text, await images())
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
