"""The server's metrics for Prometheus; docs/reference/http-api.md lists them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llava_cot.models.base import Model
from llava_cot.server.api_errors import api_error
from llava_cot.server.queue import RequestQueue
from llava_cot.server.schemas import UsageReply

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500)
_OUTCOMES = {429: "full", 504: "timeout"}


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
            "llava_cot_answer_seconds",
            "Seconds from request to answer",
            buckets=_SECONDS,
            registry=registry,
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
