"""Which of several servers a call goes to.

Owns what is known of each: how much it has to do, how long a call takes there, whether it fails. Knows no
model, no HTTP and no waiting. May be used from any thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass
from math import inf

from llava_cot.errors import ModelFailure
from llava_cot.models.endpoint.wire import LONGEST_RETRY_AFTER
from llava_cot.models.recent import Recent

_NEWEST = 0.1  # what the newest call counts in the mean of their seconds, once there are ten
_HOMES = 4096  # questions whose server is remembered
# A question stays with its server while that has no more than so many calls, which it runs in one batch, or
# while it would take no longer than so many times what the best one takes.
_FEW, _BUSIER = 8, 2.0
_FIRST_REST, _LONGEST_REST = 1.0, 60.0  # seconds without calls, after the first failure and after many
# So many failures in a row are taken for more than a restart: 15 seconds of rest, and the attempts between.
_GONE = 5
_LOOK_AGAIN = 0.05  # seconds, while another call tries a server that has failed


@dataclass(frozen=True)
class Turn:
    """One call at server `number`; a trial if that has failed and is tried again."""

    number: int
    began: float
    about: Hashable
    trial: bool = False


@dataclass
class _Server:
    in_flight: int = 0
    calls: int = 0
    seconds: float = 0.0  # the mean of a call, the later ones counting more
    failures: int = 0  # in a row
    why: str = ""
    failed_at: Hashable = None  # what the last failure was about
    rests_until: float = 0.0
    on_trial: bool = False
    heard: float = -inf  # when something was last learnt of it


class Balance:
    def __init__(self, servers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = [_Server() for _ in range(servers)]
        self._homes: Recent[Hashable, int] = Recent(_HOMES)
        self._clock = clock
        self._lock = threading.Lock()

    def take(self, about: Hashable, avoid: Collection[int] = ()) -> Turn | float:
        """A turn for a call, or in how many seconds to ask again, since all servers rest.

        The turn must be given back by one of the methods below. Calls `about` the same thing stay together
        as far as that costs little; servers to `avoid` are taken only if there is no other. Raises
        ModelFailure if all are gone.
        """
        with self._lock:
            now = self._clock()
            if all(server.failures >= _GONE for server in self._servers) and not self._due(now):
                reasons = "; ".join(server.why for server in self._servers)
                raise ModelFailure(f"none of the {len(self._servers)} servers answers: {reasons}")
            for i in self._due(now):
                if i not in avoid:
                    return self._turn(i, now, about, trial=True)
            well = [i for i, server in enumerate(self._servers) if not server.failures]
            choice = [i for i in well if i not in avoid] or well
            if not choice:
                if due := self._due(now):
                    return self._turn(due[0], now, about, trial=True)
                ends = [server.rests_until - now for server in self._servers if not server.on_trial]
                return max(min([*ends, 1.0]), _LOOK_AGAIN)
            best = min(choice, key=self._wait)
            home = self._homes.get(about)
            if home is not None and home in choice:
                few = self._servers[home].in_flight < _FEW
                if few or self._wait(home) <= _BUSIER * self._wait(best):
                    best = home
            self._homes.put(about, best)
            return self._turn(best, now, about)

    def done(self, turn: Turn, timed: bool = True) -> None:
        """The server answered, if only to refuse the call, which then is not `timed`."""
        with self._lock:
            server, now = self._back(turn)
            server.failures, server.on_trial, server.heard = 0, False, now
            if timed:
                server.calls += 1
                newest = max(_NEWEST, 1 / server.calls)
                server.seconds += newest * (now - turn.began - server.seconds)

    def failed(self, turn: Turn, why: str, after: float = 0.0) -> None:
        """The server failed, and asks to be left alone for so many seconds.

        If others have been answered since the call began, or the server rests already, this says nothing new.
        A question that fails twice in a row may be at fault itself, and counts once.
        """
        with self._lock:
            server, now = self._back(turn)
            server.why = why
            if not turn.trial and not after and turn.began <= server.heard:
                return
            server.failures += 0 if server.failures and server.failed_at == turn.about else 1
            server.failed_at = turn.about
            if after > LONGEST_RETRY_AFTER:
                server.failures = max(server.failures, _GONE)
            rest = min(_FIRST_REST * 2.0 ** (server.failures - 1), _LONGEST_REST)
            server.rests_until, server.heard = now + max(rest, after), now

    def troubles(self) -> dict[int, str]:
        """Why servers rest, or are on trial."""
        with self._lock:
            return {i: server.why for i, server in enumerate(self._servers) if server.failures}

    def dropped(self, turn: Turn) -> None:
        """The call ended without a word from the server."""
        with self._lock:
            self._back(turn)

    def _turn(self, number: int, now: float, about: Hashable, trial: bool = False) -> Turn:
        self._servers[number].in_flight += 1
        self._servers[number].on_trial = trial
        return Turn(number, now, about, trial)

    def _back(self, turn: Turn) -> tuple[_Server, float]:
        server = self._servers[turn.number]
        server.in_flight -= 1
        if turn.trial:
            server.on_trial = False
        return server, self._clock()

    def _due(self, now: float) -> list[int]:
        """Servers that failed, and have rested."""
        return [
            i
            for i, server in enumerate(self._servers)
            if server.failures and not server.on_trial and now >= server.rests_until
        ]

    def _wait(self, number: int) -> float:
        """How long a call more would take: as long as so many calls, one after the other.

        A server that has not answered yet is taken to be as fast as the fastest.
        """
        server = self._servers[number]
        fastest = min((s.seconds for s in self._servers if s.calls), default=1.0)
        return (server.in_flight + 1) * (server.seconds if server.calls else fastest)
