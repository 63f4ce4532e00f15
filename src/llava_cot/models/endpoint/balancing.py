"""One model behind several servers, which share its calls.

Owns what must be the same of all, and what becomes of a call that fails at one. Which server a call goes to
is `balance.py`'s subject, how it is asked `endpoint.py`'s.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf
from typing import TypeVar

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import ConstraintKind, Continuation, OnText, Prompt, Sampling
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Price, Provider
from llava_cot.models.endpoint.http import (
    ATTEMPTS,
    LONGEST_RETRY_AFTER,
    RequestRefused,
    RetriesExhausted,
    pause,
)
from llava_cot.models.endpoint.replies import StreamedText
from llava_cot.models.recent import Recent

_T = TypeVar("_T")
# A wrong key and an address or model that is not there: another server may do better.
_SERVERS_FAULT = (401, 403, 404)


class BalancedModel:
    """A model as `llava_cot.models.base.Model` has it, behind servers that give the same to the same request.

    A call goes to the server where it should take the least time, or to the one that has its picture from
    earlier calls. One that fails there goes to another at once, twelve times in all, and the server rests
    for a while. What the servers can do is what each of them can.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        name: str | None,
        prices: dict[str, Price],
        *,
        fresh: bool = False,
    ) -> None:
        with ExitStack() as opened:
            self._models: list[EndpointModel] = []
            for provider in providers:
                model = EndpointModel(provider, name, prices, fresh=fresh, attempts=1)
                opened.callback(model.close)
                self._models.append(model)
            _make_alike(self._models)
            opened.pop_all()
        self.name = self._models[0].name
        self._balance = LoadBalancer(len(self._models))

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        if on_text is None:
            return await self._somewhere(prompt, lambda model: model.sample(prompt, n, sampling))
        told = StreamedText(on_text)

        def streamed(model: EndpointModel) -> Awaitable[list[Continuation]]:
            text = ""

            def add(piece: str) -> None:
                nonlocal text
                text += piece
                told.tell(text)

            return model.sample(prompt, n, sampling, add)

        samples = await self._somewhere(prompt, streamed)
        if not told.tell(samples[0].text):
            raise ModelFailure(
                "a server failed in the middle of an answer, which came out otherwise at another; ask again"
            )
        return samples

    @property
    def sampling_options(self) -> tuple[str, ...]:
        return self._models[0].sampling_options

    @property
    def constraints(self) -> tuple[ConstraintKind, ...]:
        return self._models[0].constraints

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        return await self._somewhere(prompt, lambda model: model.choose(prompt, options))

    async def _somewhere(self, prompt: Prompt, call: Callable[[EndpointModel], Awaitable[_T]]) -> _T:
        about, reasons = _subject(prompt), dict[int, str]()
        failed_at, rounds = set[int](), 0
        for _ in range(ATTEMPTS):
            turn = await self._turn(about, failed_at)
            try:
                result = await call(self._models[turn.number])
            except ModelError as error:
                if not self._may_do_better(turn, error):
                    raise
                reasons[turn.number] = str(error)
            except BaseException:
                self._balance.dropped(turn)
                raise
            else:
                self._balance.done(turn)
                return result
            failed_at.add(turn.number)
            if len(failed_at) == len(self._models):
                await asyncio.sleep(pause(rounds))
                failed_at, rounds = set(), rounds + 1
        whys = "; ".join((self._balance.troubles() | reasons).values())
        raise ModelFailure(f"{ATTEMPTS} attempts at {len(self._models)} servers failed: {whys}")

    def _may_do_better(self, turn: Assignment, error: ModelError) -> bool:
        """Whether another server may do what this one did not; and what is learnt of this one."""
        refusal = error.status if isinstance(error, RequestRefused) else None
        if isinstance(error, ModelFailure) or refusal in _SERVERS_FAULT:
            after = error.after if isinstance(error, RetriesExhausted) else 0.0
            self._balance.failed(turn, str(error), after)
            return True
        if refusal is None:
            self._balance.dropped(turn)
        else:
            self._balance.done(turn, timed=False)
        return False

    async def _turn(self, about: Hashable, failed_at: set[int]) -> Assignment:
        while not isinstance(turn := self._balance.take(about, failed_at), Assignment):
            await asyncio.sleep(turn)
        return turn

    def count_tokens(self, prompt: Prompt) -> int:
        """What the server told that was asked to choose after it; 0 of any other prompt."""
        return next(filter(None, (model.count_tokens(prompt) for model in self._models)), 0)

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return self._models[0].price(prompt_tokens, completion_tokens)

    def describe(self) -> str:
        """Each server, its model and what is used of what they can do, a line each."""
        return "\n\n".join(model.describe() for model in self._models)

    def close(self) -> None:
        """Close all connections; what is running fails. The model cannot be used again."""
        for model in self._models:
            model.close()


def _subject(prompt: Prompt) -> Hashable:
    """What calls about one question have in common: the pictures, or the text if there are none."""
    first = prompt.messages[0]
    return tuple(image.sha256 for image in first.images) or first.text


def _make_alike(models: Sequence[EndpointModel]) -> None:
    """Have all servers asked in one way, as far as what comes of it depends on that.

    Raises ModelError where they have other models, or where what one of them cannot do would tell which
    server answered.
    """
    first = models[0]
    for other in models[1:]:
        pair = f"{first.url} and {other.url}"
        if other.name != first.name:
            raise ModelError(
                f"{pair} have different models, {first.name} and {other.name}; servers that share the calls "
                "must have the same one (--model-name)"
            )
        if other.capabilities.prefix != first.capabilities.prefix:
            raise ModelError(
                f"{pair} continue an answer in different ways ({first.capabilities.prefix}, "
                f"{other.capabilities.prefix}), so that samples would depend on the server; use servers of "
                "one kind, or set prefix in endpoints.yaml"
            )
        if other.capabilities.seed != first.capabilities.seed:
            raise ModelError(
                f"one of {pair} takes a seed and the other does not, so that no run could be repeated; use "
                "servers of one kind"
            )
    can = [model.capabilities for model in models]
    for model in models:
        model.capabilities = replace(
            model.capabilities,
            many=all(one.many for one in can),
            stops=all(one.stops for one in can),
            top_logprobs=min(one.top_logprobs for one in can),
            # Each is asked in its own way, and the replies have the same form.
            json_schema="none"
            if any(one.json_schema == "none" for one in can)
            else model.capabilities.json_schema,
        )


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
class Assignment:
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


class LoadBalancer:
    def __init__(self, servers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = [_Server() for _ in range(servers)]
        self._homes: Recent[Hashable, int] = Recent(_HOMES)
        self._clock = clock
        self._lock = threading.Lock()

    def take(self, about: Hashable, avoid: Collection[int] = ()) -> Assignment | float:
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

    def done(self, turn: Assignment, timed: bool = True) -> None:
        """The server answered, if only to refuse the call, which then is not `timed`."""
        with self._lock:
            server, now = self._back(turn)
            server.failures, server.on_trial, server.heard = 0, False, now
            if timed:
                server.calls += 1
                newest = max(_NEWEST, 1 / server.calls)
                server.seconds += newest * (now - turn.began - server.seconds)

    def failed(self, turn: Assignment, why: str, after: float = 0.0) -> None:
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

    def dropped(self, turn: Assignment) -> None:
        """The call ended without a word from the server."""
        with self._lock:
            self._back(turn)

    def _turn(self, number: int, now: float, about: Hashable, trial: bool = False) -> Assignment:
        self._servers[number].in_flight += 1
        self._servers[number].on_trial = trial
        return Assignment(number, now, about, trial)

    def _back(self, turn: Assignment) -> tuple[_Server, float]:
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
