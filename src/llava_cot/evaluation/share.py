"""Time that is divided among what runs together. Knows nothing of what that is."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter


class Share:
    """A clock whose second is divided evenly among all that run: their shares add up to the time in which
    anything ran."""

    def __init__(self, now: Callable[[], float] = perf_counter) -> None:
        self._now, self._at = now, now()
        self._running, self._each = 0, 0.0

    def begin(self) -> float:
        """One more runs; give what this returns to `end`."""
        self._tick()
        self._running += 1
        return self._each

    def end(self, begun: float) -> float:
        """One has ended; its share in seconds."""
        self._tick()
        self._running -= 1
        return self._each - begun

    def _tick(self) -> None:
        now = self._now()
        if self._running:
            self._each += (now - self._at) / self._running
        self._at = now
