"""A reward model behind a server, by one of the three ways that vLLM has for it.

Owns what is asked and how a reply is read. How it is sent is `wire.py`'s subject. The ways, in the order in
which they are tried (vLLM 0.32, docs/models/pooling_models): /classify and /pooling take chat messages, which
the server puts into the model's own template; /score takes two texts, for models that read pairs.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from llava_cot.core.question import load_image
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import Prompt, Reward
from llava_cot.models.endpoint.capabilities import only_name
from llava_cot.models.endpoint.config import Price, Provider
from llava_cot.models.endpoint.http import ATTEMPTS, HttpClient, Json, RequestRefused, server_of
from llava_cot.models.endpoint.prompts import data_url, is_at_hand, messages

_NOT_THIS_WAY = frozenset({400, 404, 405, 422, 501})


@dataclass(frozen=True)
class _Way:
    """`body` writes what is asked of a prompt and an answer, `numbers` reads what is told of it."""

    body: Callable[[Prompt, str, int | None], Json]
    numbers: Callable[[Json], Any]


def _conversation(prompt: Prompt, answer: str, side: int | None) -> Json:
    turns, _ = messages(prompt, "trailing", (), side)
    return {"messages": [*turns, {"role": "assistant", "content": answer}]}


def _pair(prompt: Prompt, answer: str, side: int | None) -> Json:
    parts = [part for turn in messages(prompt, "trailing", (), side)[0] for part in _parts(turn["content"])]
    images = any(part["type"] != "text" for part in parts)
    asked = {"content": parts} if images else "\n".join(part["text"] for part in parts)
    return {"text_1": asked, "text_2": answer}


def _parts(content: Any) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _of_last_token(told: Json) -> Any:
    """What is told of an answer, or of each of its tokens: then the last one's, which has read them all."""
    data = told.get("data")
    return data[-1] if isinstance(data, list) and data and isinstance(data[-1], list) else data


_WAYS = {
    "/classify": _Way(_conversation, lambda told: told.get("probs")),
    "/pooling": _Way(_conversation, _of_last_token),
    "/score": _Way(_pair, lambda told: [told.get("score")]),
}


class EndpointReward:
    """A reward model as `llava_cot.models.base.RewardModel` has it. `path` is what it is asked at.

    Where the server refuses pictures for its model, questions are put to it without them. Rewards are asked
    for as they leave the network (`use_activation` false): between 0 and 1, good ones would all be 1.
    """

    def __init__(
        self, provider: Provider, name: str | None, prices: dict[str, Price], *, attempts: int = ATTEMPTS
    ) -> None:
        url, named = provider.url, None
        for path in _WAYS:
            if url.endswith(path):
                url, named = url.removesuffix(path), path
        # Some of the ways are in /v1 as other calls are, some beside it.
        self.url = url.removesuffix("/v1")
        self._side = provider.image_side
        self._prices = prices
        self._wire = HttpClient(server_of(provider, self.url, attempts))
        try:
            found = self._wire.aside.run_blocking(self._open(name or provider.model, named))
        except BaseException:
            self.close()
            raise
        self.name, self.path, self.pictures = found

    async def _open(self, name: str | None, named: str | None) -> tuple[str, str, bool]:
        """The model's name, the path that gives rewards, and whether pictures are taken there."""
        name = name or only_name(await self._listed(), self.url)[0]
        asked, answer = "What is 1 + 1?", "2"
        seen = Prompt.of(asked, [load_image(Image.new("RGB", (64, 64)))])
        refusals = []
        for way in [named] if named else _WAYS:
            for path in (way, f"/v1{way}"):
                try:
                    await self._ask(name, path, Prompt.of(asked), answer)
                except RequestRefused as refusal:
                    if refusal.status not in _NOT_THIS_WAY:
                        raise
                    if refusal.status != 404:
                        refusals.append(f"{path} {refusal.status}")
                    continue
                try:
                    await self._ask(name, path, seen, answer)
                except RequestRefused as refusal:
                    if refusal.status not in _NOT_THIS_WAY:
                        raise
                    return name, path, False
                return name, path, True
        said = f" ({', '.join(refusals)})" if refusals else ""
        raise ModelError(
            f"{self.url} gives no rewards for {name}: it answers at none of "
            f"{', '.join([named] if named else _WAYS)}{said}; serve a reward model there"
        )

    async def _listed(self) -> Json:
        try:
            return await self._wire.get("/v1/models", needs="data")
        except RequestRefused as refusal:
            if refusal.status != 404:
                raise
        raise ModelError(f"{self.url}/v1/models is not there, so the model's name is not known; give it")

    async def reward(self, prompt: Prompt, answer: str) -> Reward:
        asked = prompt if self.pictures else _without_pictures(prompt)
        return await self._wire.aside.run(self._ask(self.name, self.path, asked, answer))

    async def _ask(self, name: str, path: str, prompt: Prompt, answer: str) -> Reward:
        way = _WAYS[path.removeprefix("/v1")]
        images = [image for message in prompt.messages for image in message.images]
        for image in images:
            if not is_at_hand(image, self._side):
                await asyncio.to_thread(data_url, image, self._side)  # kept for `messages`
        body = way.body(prompt, answer, self._side)
        length = sum(len(message.text) for message in prompt.messages) + len(answer)
        reply = await self._wire.post(
            path,
            {"model": name, **body, "use_activation": False},
            length // 4 + 1000 * len(images),
            needs="data",
        )
        return self._read(reply, way, path, name)

    def _read(self, reply: Json, way: _Way, path: str, name: str) -> Reward:
        told = reply["data"][0] if len(reply["data"]) == 1 else None
        numbers = way.numbers(told) if isinstance(told, dict) else None
        if not isinstance(numbers, list) or not all(isinstance(n, int | float) for n in numbers):
            raise ModelFailure(f"{self.url}{path} gives no number for an answer")
        if len(numbers) != 1:
            raise ModelError(
                f"{self.url}{path} gives {len(numbers)} numbers for an answer, and a reward model one; "
                f"{name} is none"
            )
        if not math.isfinite(numbers[0]):
            raise ModelFailure(f"the reward model {name} gave an answer {numbers[0]}, which is no reward")
        usage = reply.get("usage")
        read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        tokens = read if isinstance(read, int) else 0
        price = self._prices.get(name)
        return Reward(float(numbers[0]), tokens, None if price is None else tokens * price.input / 1e6)

    def close(self) -> None:
        """Close all connections; what is running fails. The model cannot be used again."""
        self._wire.aside.close()


def _without_pictures(prompt: Prompt) -> Prompt:
    return replace(prompt, messages=tuple(replace(message, images=()) for message in prompt.messages))
