"""A reward model behind a server, at one of the three paths of vLLM (0.32, docs/models/pooling_models).

They are tried in this order: /classify and /pooling take chat messages, which the server puts into the
model's own template; /score takes two texts, for models that read pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from llava_cot.core.question import load_image
from llava_cot.core.wording import shortened
from llava_cot.errors import ModelError, ModelFailure, ServerRefusal
from llava_cot.models.base import Prompt, Reward
from llava_cot.models.endpoint.config import Price, Provider
from llava_cot.models.endpoint.http import ATTEMPTS, HttpClient
from llava_cot.models.endpoint.prompts import encode_images, estimate_tokens, messages
from llava_cot.models.endpoint.reply_types import Json, token_count

_LARGEST = 1e30  # a float of 32 bits holds it
_NOT_SERVED = frozenset({400, 404, 405, 422, 501})


@dataclass(frozen=True)
class _Path:
    """How a path is used: `body` makes the request for a prompt and an answer, `numbers` reads its result."""

    body: Callable[[Prompt, str, int | None], Json]
    numbers: Callable[[Json], Any]


def _conversation(prompt: Prompt, answer: str, side: int | None) -> Json:
    turns, _ = messages(prompt, "trailing", (), side)
    return {"messages": [*turns, {"role": "assistant", "content": answer}]}


def _pair(prompt: Prompt, answer: str, side: int | None) -> Json:
    parts: list[Json] = []
    for turn in messages(prompt, "trailing", (), side)[0]:
        content = turn["content"]
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    images = any(part["type"] != "text" for part in parts)
    first = {"content": parts} if images else "\n".join(part["text"] for part in parts)
    return {"text_1": first, "text_2": answer}


def _of_steps_or_last(result: Json) -> Any:
    """The numbers of an answer; of its steps, a list of two each; or of all tokens, one each: then the last.

    The last token has read all.
    """
    data = result.get("data")
    if not (isinstance(data, list) and data and isinstance(data[-1], list)):
        return data
    steps = all(isinstance(row, list) and len(row) == 2 for row in data)
    return data if steps else data[-1]


_PATHS = {
    "/classify": _Path(_conversation, lambda result: result.get("probs")),
    "/pooling": _Path(_conversation, _of_steps_or_last),
    "/score": _Path(_pair, lambda result: [result.get("score")]),
}


def _of_right(row: list[Any]) -> float:
    """The probability that a step is right from the two numbers of its classes, wrong and right.

    They are logits, or from a server that gives nothing else, probabilities. Not a number for anything else.
    """
    if not all(type(value) in (int, float) and abs(value) <= _LARGEST for value in row):
        return math.nan
    wrong, right = map(float, row)
    if min(row) >= 0 and math.isclose(wrong + right, 1, abs_tol=1e-3):
        return right
    return 1 / (1 + math.exp(min(wrong - right, 700.0)))


class _NoSteps(ModelError):
    """A process reward model found no step in an answer."""


class EndpointReward:
    """A reward model behind a server, as a `llava_cot.models.base.RewardModel`.

    Rewards are requested as they leave the network (`use_activation` false): between 0 and 1, all good ones
    would be 1.

    An address that ends in one of the paths uses that `path`. Questions are sent without images if the server
    takes no `images` for its model. The arguments are those of `EndpointModel`. Raises ModelError if the
    server gives no rewards.
    """

    def __init__(
        self, provider: Provider, name: str | None, prices: dict[str, Price], *, attempts: int = ATTEMPTS
    ) -> None:
        url, given = provider.url, None
        for path in _PATHS:
            if url.endswith(path):
                url, given = url.removesuffix(path), path
        # Some of the paths are below /v1 as other calls are, some beside it.
        self.url = url.removesuffix("/v1")
        self._side = provider.image_side
        self._prices = prices
        self._http = HttpClient(provider, self.url, attempts)
        self.name, self.path, self.images = self._http.loop.open(self._open(name or provider.model, given))

    async def _open(self, name: str | None, given: str | None) -> tuple[str, str, bool]:
        """The model's name, the path that gives rewards, and whether images are taken there."""
        if not name:
            name, _ = await self._http.only_model("/v1/models", "give it")
        question = Prompt.of("What is 1 + 1?")
        seen = Prompt.of("What is 1 + 1?", [load_image(Image.new("RGB", (64, 64)))])
        refusals = []
        for way in [given] if given else _PATHS:
            for path in (way, f"/v1{way}"):
                status = await self._try(name, path, question)
                if status is None:
                    return name, path, await self._try(name, path, seen) is None
                if status != 404:
                    refusals.append(f"{path} {status}")
        statuses = f" ({', '.join(refusals)})" if refusals else ""
        raise ModelError(
            f"{self.url} gives no rewards for {name}: it answers at none of "
            f"{', '.join([given] if given else _PATHS)}{statuses}; serve a reward model there"
        )

    async def _try(self, name: str, path: str, prompt: Prompt) -> int | None:
        """Request a reward. Returns the status of the reply if it says that there are no rewards here."""
        try:
            await self._request(name, path, prompt, "2")
        except _NoSteps:
            return None
        except ServerRefusal as refusal:
            if refusal.status not in _NOT_SERVED:
                raise
            return refusal.status
        return None

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        if not self.images:
            prompt = Prompt(tuple(replace(message, images=()) for message in prompt.messages))
        return await self._http.loop.run(self._request(self.name, self.path, prompt, answer))

    async def _request(self, name: str, path: str, prompt: Prompt, answer: str) -> Reward:
        way = _PATHS[path.removeprefix("/v1")]
        await encode_images(prompt, self._side)
        body = {"model": name, **way.body(prompt, answer, self._side), "use_activation": False}
        tokens = estimate_tokens(replace(prompt, prefix=answer), 0)
        reply = await self._http.post(path, body, tokens, needs="data")
        return self._read(reply, way, path, name)

    def _read(self, reply: Json, way: _Path, path: str, name: str) -> Reward:
        result = reply["data"][0] if len(reply["data"]) == 1 else None
        numbers = way.numbers(result) if isinstance(result, dict) else None
        tokens = token_count(reply, "prompt_tokens") or 0
        price = self._prices.get(name)
        usd = None if price is None else price.of(tokens, 0)
        if numbers == []:
            raise _NoSteps(
                f"{name} gives numbers to marked steps alone, and the answer has none: set step_end, such as "
                "<extra_0>, in the file of --judge-prompts"
            )
        if isinstance(numbers, list) and isinstance(numbers[0], list):
            steps = tuple(map(_of_right, numbers))
            if any(math.isnan(step) for step in steps):
                raise ModelFailure(f"{self.url}{path} gives no numbers for the steps of an answer")
            return Reward(steps[-1], tokens, usd, steps)
        if not isinstance(numbers, list) or not all(type(n) in (int, float) for n in numbers):
            raise ModelFailure(f"{self.url}{path} gives no number for an answer")
        if len(numbers) != 1:
            raise ModelError(
                f"{self.url}{path} gives {len(numbers)} numbers for an answer, and a reward model gives one: "
                f"{name} is no reward model"
            )
        if not abs(numbers[0]) <= _LARGEST:  # as NaN is not
            raise ModelFailure(
                f"the reward model {name} gave the value {shortened(str(numbers[0]))}, which is no reward"
            )
        return Reward(float(numbers[0]), tokens, usd)

    def close(self) -> None:
        """Close all connections; what is running fails. The model cannot be used again."""
        self._http.loop.close()
