"""One model behind several servers: which of them takes a call, and what happens when one fails."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from math import inf
from typing import TypeVar

from cachetools import LRUCache

from llava_cot.core.stages import StageFormat
from llava_cot.errors import (
    ModelError,
    ModelFailure,
    ModelRefusal,
    ModelUnavailable,
    ServerFailure,
    ServerRefusal,
)
from llava_cot.models.base import Continuation, OnText, Prompt, Sampling
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Price, Provider
from llava_cot.models.endpoint.http import ATTEMPTS, LONGEST_RETRY_AFTER, pause
from llava_cot.models.endpoint.prompts import OPTION_FIELDS
from llava_cot.models.endpoint.replies import StreamedText

_T = TypeVar("_T")
# A wrong key, and an address or model that does not exist: another server may do better.
_FAULT_OF_SERVER = (401, 403, 404)
_NEWEST = 0.1  # weight of the newest call in the mean of their seconds, from the tenth on
_HOMES = 4096  # questions whose server is remembered
# A question stays with its server while that has fewer than _FEW calls, which it runs in one batch, or while
# a call takes at most _BUSIER times as long there as on the best server.
_FEW, _BUSIER = 8, 2.0
_FIRST_REST, _LONGEST_REST = 1.0, 60.0  # seconds without calls, after the first failure and after many
# After so many failures in a row (15 seconds of rest, and the attempts between), a server is not restarting.
_GONE = 5
_CHECK_AGAIN = 0.05  # seconds, while another call tries a server that has failed


@dataclass(frozen=True)
class Assignment:
    """A call that server `number` takes; a trial if that has failed and is tried again."""

    number: int
    began: float
    about: Hashable
    trial: bool = False


@dataclass
class _Server:
    in_flight: int = 0
    calls: int = 0
    seconds: float = 0.0  # mean of a call, weighted towards the later ones
    failures: int = 0  # in a row
    why: str = ""
    failed_at: Hashable = None  # what the last failure was about
    rests_until: float = 0.0
    on_trial: bool = False
    heard: float = -inf  # time of the last news of it


class LoadBalancer:
    """Assigns calls to servers, by how busy and how fast these are. May be used from any thread."""

    def __init__(self, servers: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = [_Server() for _ in range(servers)]
        self._homes: LRUCache[Hashable, int] = LRUCache(_HOMES)
        self._clock = clock
        self._lock = threading.Lock()

    def take(self, about: Hashable, avoid: Collection[int] = ()) -> Assignment | float:
        """Assign a call, which ends by `done`, `failed` or `dropped`.

        Args:
            about: Calls about the same thing stay together as far as that costs little.
            avoid: Servers to take only if there is no other.

        Returns:
            The assignment, or in how many seconds to try again, if all servers rest.

        Raises:
            ModelFailure: All servers are gone.
        """
        with self._lock:
            now = self._clock()
            due = self._due(now)
            well = [i for i, server in enumerate(self._servers) if not server.failures]
            if trials := [i for i in due if i not in avoid] or ([] if well else due):
                return self._assign(trials[0], now, about, trial=True)
            if not well:
                if all(server.failures >= _GONE for server in self._servers):
                    reasons = "; ".join(server.why for server in self._servers)
                    raise ModelFailure(f"none of the {len(self._servers)} servers answers: {reasons}")
                ends = [server.rests_until - now for server in self._servers if not server.on_trial]
                return max(min([*ends, 1.0]), _CHECK_AGAIN)
            choice = [i for i in well if i not in avoid] or well
            best = min(choice, key=self._wait)
            home = self._homes.get(about, best)
            few = self._servers[home].in_flight < _FEW
            if home in choice and (few or self._wait(home) <= _BUSIER * self._wait(best)):
                best = home
            self._homes[about] = best
            return self._assign(best, now, about)

    def done(self, call: Assignment, timed: bool = True) -> None:
        """The server answered. If it refused the call, that is not `timed`."""
        with self._lock:
            server, now = self._end(call)
            server.failures, server.on_trial, server.heard = 0, False, now
            if timed:
                server.calls += 1
                newest = max(_NEWEST, 1 / server.calls)
                server.seconds += newest * (now - call.began - server.seconds)

    def failed(self, call: Assignment, why: str, after: float = 0.0) -> None:
        """The server failed, and asks for `after` seconds without calls.

        If other calls were answered since this one began, or the server rests already, this is no news. A
        question that fails twice in a row may be at fault itself, and counts once.
        """
        with self._lock:
            server, now = self._end(call)
            server.why = why
            if not call.trial and not after and call.began <= server.heard:
                return
            server.failures += 0 if server.failures and server.failed_at == call.about else 1
            server.failed_at = call.about
            if after > LONGEST_RETRY_AFTER:
                server.failures = max(server.failures, _GONE)
            rest = min(_FIRST_REST * 2.0 ** (server.failures - 1), _LONGEST_REST)
            server.rests_until, server.heard = now + max(rest, after), now

    def dropped(self, call: Assignment) -> None:
        """The call ended without a reply of the server."""
        with self._lock:
            self._end(call)

    def troubles(self) -> dict[int, str]:
        """Why servers rest, or are on trial."""
        with self._lock:
            return {i: server.why for i, server in enumerate(self._servers) if server.failures}

    def _assign(self, number: int, now: float, about: Hashable, trial: bool = False) -> Assignment:
        self._servers[number].in_flight += 1
        self._servers[number].on_trial = trial
        return Assignment(number, now, about, trial)

    def _end(self, call: Assignment) -> tuple[_Server, float]:
        server = self._servers[call.number]
        server.in_flight -= 1
        if call.trial:
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
        """How long one more call takes: as long as all its calls, one after the other.

        A server that has not answered yet counts as fast as the fastest.
        """
        server = self._servers[number]
        fastest = min((s.seconds for s in self._servers if s.calls), default=1.0)
        return (server.in_flight + 1) * (server.seconds if server.calls else fastest)


class BalancedModel:
    """A model behind several servers that answer alike, as a `llava_cot.models.base.Model`.

    A call goes to the server that should answer first, or to the one that has its images from earlier calls.
    If it fails there, it goes to another server at once, twelve times in all, and the failed server rests. A
    capability is used if all servers have it. `name`, `prices` and `fresh` are those of `EndpointModel`.
    Raises ModelError if a server cannot be used, or if they are not alike.
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
            _align(self._models)
            opened.pop_all()
        first = self._models[0]  # in all of these, the others are like it
        self.name, self.price = first.name, first.price
        self.constraints, self.sampling_options = first.constraints, first.sampling_options
        self.logprobs, self.ignored_sampling = first.logprobs, first.ignored_sampling
        self.scores_texts = first.scores_texts
        self.continues_prefix = first.continues_prefix
        self.continues_thinking, self.thinks = first.continues_thinking, first.thinks
        self._balancer = LoadBalancer(len(self._models))

    def writes_stages(self, fmt: StageFormat) -> bool | None:
        return self._models[0].writes_stages(fmt)

    def remember_stages(self, fmt: StageFormat, trained: bool) -> None:
        for model in self._models:
            model.remember_stages(fmt, trained)

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        if on_text is None:
            return await self._somewhere(prompt, lambda model: model.sample(prompt, n, sampling))
        streamed = StreamedText(on_text)

        def attempt(model: EndpointModel) -> Awaitable[list[Continuation]]:
            text = ""

            def add(piece: str) -> None:
                nonlocal text
                text += piece
                streamed.send(text)

            return model.sample(prompt, n, sampling, add)

        samples = await self._somewhere(prompt, attempt)
        if not streamed.send(samples[0].text):
            raise ModelFailure(
                "a server failed in the middle of an answer, and another one gave a different answer; "
                "ask again"
            )
        return samples

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        return await self._somewhere(prompt, lambda model: model.choose(prompt, options))

    async def _somewhere(self, prompt: Prompt, attempt: Callable[[EndpointModel], Awaitable[_T]]) -> _T:
        about, reasons, unavailable = _subject(prompt), dict[int, str](), set[int]()
        failed_at, rounds = set[int](), 0
        for _ in range(ATTEMPTS):
            call = await self._take(about, failed_at)
            try:
                result = await attempt(self._models[call.number])
            except ModelError as error:
                if not self._try_another(call, error):
                    raise
                reasons[call.number] = str(error)
                if isinstance(error, ModelUnavailable):
                    unavailable.add(call.number)
                    if len(unavailable) == len(self._models):
                        raise ModelUnavailable("; ".join(reasons.values()), error.status) from None
            except BaseException:
                self._balancer.dropped(call)
                raise
            else:
                self._balancer.done(call)
                return result
            failed_at.add(call.number)
            if len(failed_at) == len(self._models):
                await asyncio.sleep(pause(rounds))
                failed_at, rounds = set(), rounds + 1
        whys = "; ".join((self._balancer.troubles() | reasons).values())
        raise ModelFailure(f"{ATTEMPTS} attempts at {len(self._models)} servers failed: {whys}")

    async def _take(self, about: Hashable, failed_at: set[int]) -> Assignment:
        while not isinstance(call := self._balancer.take(about, failed_at), Assignment):
            await asyncio.sleep(call)
        return call

    def _try_another(self, call: Assignment, error: ModelError) -> bool:
        """Whether another server may answer what this one did not. Reports the error to the balancer."""
        refusal = error.status if isinstance(error, ServerRefusal) else None
        if isinstance(error, ModelFailure | ModelUnavailable) or refusal in _FAULT_OF_SERVER:
            after = error.after if isinstance(error, ServerFailure) else 0.0
            self._balancer.failed(call, str(error), after)
            return True
        if refusal is None and not isinstance(error, ModelRefusal):
            self._balancer.dropped(call)
        else:
            self._balancer.done(call, timed=False)
        return False

    def count_tokens(self, prompt: Prompt) -> int:
        """The length that a server reported for a prompt of `choose`; 0 for any other."""
        return next(filter(None, (model.count_tokens(prompt) for model in self._models)), 0)

    def describe(self) -> str:
        """Each server, its model and which of its capabilities are used, one line each."""
        return "\n\n".join(model.describe() for model in self._models)

    def close(self) -> None:
        """Close all connections; what is running fails. The model cannot be used again."""
        for model in self._models:
            model.close()


def _subject(prompt: Prompt) -> Hashable:
    """What calls about one question have in common: the images, or the text if there are none."""
    first = prompt.messages[0]
    return tuple(image.sha256 for image in first.images) or first.text


def _align(models: Sequence[EndpointModel]) -> None:
    """Limit all models to the capabilities that each of them has.

    Raises ModelError if they have different models, or differ in a way that shows which server answered.
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
    options = set.intersection(*({*one.sampling_options} for one in can))
    names = {name for option in options for name in OPTION_FIELDS[option]}
    for model in models:
        own = model.capabilities
        model.capabilities = replace(
            own,
            thinking_prefix="none" if not all(one.continues_thinking for one in can) else own.thinking_prefix,
            many=all(one.many for one in can),
            stops=all(one.stops for one in can),
            top_logprobs=min(one.top_logprobs for one in can),
            choice_tokens=max(one.choice_tokens for one in can),
            prompt_logprobs=all(one.prompt_logprobs for one in can),
            randomness=tuple(name for name in own.randomness if all(name in one.randomness for one in can)),
            # Each gets its own field, and the replies match the same schema.
            json_schema="none" if any(one.json_schema == "none" for one in can) else own.json_schema,
            option_fields=tuple(name for name in own.option_fields if name in names),
        )
