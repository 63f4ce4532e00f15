"""The line before the model: so many questions at once, so many waiting, no more.

Owns the bounds. Knows nothing of questions.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from llava_cot.server.api_errors import ApiError

_LONGEST_RETRY = 60  # seconds; further ahead nothing is known
_MEMORY = 0.9  # how much the mean of what questions take keeps of its past


class RequestQueue:
    """`running` questions at once at most, and `waiting` more in line, first come first served."""

    def __init__(self, at_once: int, length: int) -> None:
        self.running = 0
        self.waiting = 0
        self._at_once, self._length = at_once, length
        self._turn = asyncio.Semaphore(at_once)
        self._seconds = 1.0  # that a question takes, on average

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it. Raises ApiError at once where the line is full."""
        if self._turn.locked() and self.waiting >= self._length:
            raise ApiError(
                429,
                f"{self.running} questions are being answered and {self.waiting} wait; try again later",
                code="queue_full",
                headers={"Retry-After": str(self._retry())},
            )
        self.waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        began = time.perf_counter()
        try:
            yield
            self._seconds = _MEMORY * self._seconds + (1 - _MEMORY) * (time.perf_counter() - began)
        finally:
            self.running -= 1
            self._turn.release()

    def _retry(self) -> int:
        """Seconds until the line will have moved on by its length, about."""
        wait = self._seconds * (self.waiting + 1) / self._at_once
        return max(1, min(_LONGEST_RETRY, math.ceil(wait)))
