"""The request queue: a limited number of requests is answered at a time, and a limited number waits."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llava_cot.server.api_errors import ApiError

_MAX_RETRY_AFTER = 60  # seconds
_SMOOTHING = 0.9  # weight of the past in the running mean of answer times


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
