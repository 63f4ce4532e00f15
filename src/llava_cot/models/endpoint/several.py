"""One model behind several servers, which share its calls.

Owns what must be the same of all, and what becomes of a call that fails at one. Which server a call goes to
is `balance.py`'s subject, how it is asked `endpoint.py`'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TypeVar

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import ConstraintKind, Continuation, OnText, Prompt, Sampling
from llava_cot.models.endpoint.balance import Balance, Turn
from llava_cot.models.endpoint.client import EndpointModel
from llava_cot.models.endpoint.config import Price, Provider
from llava_cot.models.endpoint.replies import Told
from llava_cot.models.endpoint.wire import ATTEMPTS, GaveUp, Refused, pause

_T = TypeVar("_T")
# A wrong key and an address or model that is not there: another server may do better.
_SERVERS_FAULT = (401, 403, 404)


class SeveralModel:
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
        self._balance = Balance(len(self._models))

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        if on_text is None:
            return await self._somewhere(prompt, lambda model: model.sample(prompt, n, sampling))
        told = Told(on_text)

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

    def _may_do_better(self, turn: Turn, error: ModelError) -> bool:
        """Whether another server may do what this one did not; and what is learnt of this one."""
        refusal = error.status if isinstance(error, Refused) else None
        if isinstance(error, ModelFailure) or refusal in _SERVERS_FAULT:
            after = error.after if isinstance(error, GaveUp) else 0.0
            self._balance.failed(turn, str(error), after)
            return True
        if refusal is None:
            self._balance.dropped(turn)
        else:
            self._balance.done(turn, timed=False)
        return False

    async def _turn(self, about: Hashable, failed_at: set[int]) -> Turn:
        while not isinstance(turn := self._balance.take(about, failed_at), Turn):
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
        if other.abilities.prefix != first.abilities.prefix:
            raise ModelError(
                f"{pair} go on with an answer in different ways ({first.abilities.prefix}, "
                f"{other.abilities.prefix}), so that samples would depend on the server; use servers of one "
                "kind, or set prefix in endpoints.yaml"
            )
        if other.abilities.seed != first.abilities.seed:
            raise ModelError(
                f"one of {pair} takes a seed and the other does not, so that no run could be repeated; use "
                "servers of one kind"
            )
    can = [model.abilities for model in models]
    for model in models:
        model.abilities = replace(
            model.abilities,
            many=all(one.many for one in can),
            stops=all(one.stops for one in can),
            top_logprobs=min(one.top_logprobs for one in can),
            # Each is asked in its own way, and the replies have the same form.
            json_schema="none"
            if any(one.json_schema == "none" for one in can)
            else model.abilities.json_schema,
        )
