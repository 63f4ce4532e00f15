"""What a model is to the rest of the project: prompts in, continuations out.

Owns the `Model` protocol and the values that cross it. Knows nothing of stages, methods or judges,
and imports no torch.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal, Protocol

from llava_cot.core.question import LoadedImage
from llava_cot.models.forms import Form

Finish = Literal["stop", "eos", "length"]
Role = Literal["system", "user", "assistant"]

# Called with the text that one sample has gained. Only the first of several samples is streamed.
OnText = Callable[[str], None]


@dataclass(frozen=True)
class Message:
    """One turn. Its images come before its text, so that prompts on one image share a prefix."""

    role: Role
    text: str
    images: tuple[LoadedImage, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """Messages, and the assistant's text so far, which is to be continued.

    `prefix_tokens`, where known, are the token ids of `prefix`: a model that works with ids goes on
    from exactly these (section 3.2 of the paper continues the winner itself, not its re-tokenised
    text); any other model reads `prefix`.
    """

    messages: tuple[Message, ...]
    prefix: str = ""
    prefix_tokens: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        text: str,
        images: Sequence[LoadedImage] = (),
        prefix: str = "",
        prefix_tokens: tuple[int, ...] | None = None,
    ) -> Prompt:
        """A prompt of one user message."""
        return cls((Message("user", text, tuple(images)),), prefix, prefix_tokens)


@dataclass(frozen=True)
class Sampling:
    """How to sample. The defaults are the paper's (published script: 0.6, 0.9, 2,048 new tokens).

    `temperature` 0 is greedy. Text ends at the first of the `stop` strings, which is kept, less any
    white space at its end. Sample i of a call is drawn from (`seed`, `first` + i) alone, whatever else
    shares its batch: with `first`, a later call goes on where an earlier one stopped. (A server that gives
    several samples a request draws them from the number of the first.) What the text is held to is in
    `form`, if the model declares that it can force that (`forms_of`): what would break the form is left
    out before temperature and top-p.
    """

    temperature: float = 0.6
    top_p: float = 0.9
    max_tokens: int = 2048
    stop: tuple[str, ...] = ()
    seed: int = 0
    first: int = 0
    form: Form | None = None


@dataclass(frozen=True)
class Continuation:
    """One sampled continuation of a prompt's prefix.

    `logprob` is the sum of its tokens' log-probabilities at temperature 1, without any form (None where a
    server does not tell); `finish` is "stop" at a stop string, "eos" at the model's own end, "length" at
    `max_tokens`. An end token is neither in `text` nor in `tokens`. `tokens` is empty where the
    model does not tell ids; `completion_tokens` counts what was generated, an end token included. `usd`
    is what it cost in US dollars, None where there is no price.
    """

    text: str
    tokens: tuple[int, ...]
    logprob: float | None
    finish: Finish
    prompt_tokens: int
    completion_tokens: int
    usd: float | None = None


@dataclass(frozen=True)
class Reward:
    """What a reward model thinks of an answer: the higher, the better. It cost `prompt_tokens`, and `usd`
    US dollars (None where there is no price)."""

    value: float
    prompt_tokens: int = 0
    usd: float | None = None


def request_seed(seed: int, number: int) -> int:
    """A seed of 31 bits, which every server takes, for sample `number` of a call."""
    return random.Random(f"{seed}/{number}").getrandbits(31)


def seed_of(*parts: object) -> int:
    """A seed of 31 bits for one request, by what it is about."""
    return int.from_bytes(sha256("\0".join(map(repr, parts)).encode()).digest()[:4], "big") >> 1


class Model(Protocol):
    """Where tokens come from. Calls may run concurrently; a local model batches them."""

    name: str

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        """Sample `n` continuations of `prompt.prefix`. Raises ModelError."""
        ...

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        """Log-probability of each option as the continuation of `prompt.prefix`. Raises ModelError."""
        ...

    def count_tokens(self, prompt: Prompt) -> int:
        """Length of the prompt in tokens, image placeholders included (0 where unknown)."""
        ...

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens cost in US dollars, None where there is no price."""
        ...
