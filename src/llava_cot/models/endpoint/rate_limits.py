"""The rate limits of one server: requests in flight, and requests and tokens in any minute."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

MINUTE = 60.0


@dataclass
class SentRequest:
    """A request of the last minute; `tokens` is a guess until the server reports its usage."""

    at: float
    tokens: int


class RateLimits:
    """Limits of one server: requests in flight, and requests and tokens in any minute (None: no limit).

    Lives in one event loop.
    """

    def __init__(
        self, in_flight: int, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> None:
        self._slots = asyncio.Semaphore(in_flight)
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._sent: deque[SentRequest] = deque()
        self._turn = asyncio.Lock()  # first come, first served

    @asynccontextmanager
    async def request(self, tokens: int) -> AsyncIterator[SentRequest]:
        """Wait for a place for one request of about `tokens` tokens, and hold it."""
        async with self._slots:
            sent = SentRequest(time.monotonic(), tokens)
            if self._requests is not None or self._tokens is not None:
                async with self._turn:
                    while (wait := self._wait(tokens)) > 0:
                        await asyncio.sleep(wait)
                    sent.at = time.monotonic()
                    self._sent.append(sent)
            yield sent

    def _wait(self, tokens: int) -> float:
        """Seconds until it is worth checking again; 0 if there is room now."""
        now = time.monotonic()
        while self._sent and self._sent[0].at <= now - MINUTE:
            self._sent.popleft()
        if not self._sent:
            return 0.0  # a request that alone exceeds the limit would wait forever
        full = self._requests is not None and len(self._sent) >= self._requests
        if not full and self._tokens is not None:
            full = sum(sent.tokens for sent in self._sent) + tokens > self._tokens
        return max(self._sent[0].at + MINUTE - now, 0.001) if full else 0.0
