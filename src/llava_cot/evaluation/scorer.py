"""A scorer: the model that is asked where words alone do not settle a score, each thing once.

Owns its sampling, its replies in the store, and the attempts of any call. Knows no rule.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import TypeVar

from llava_cot.data.schedule import MAX_FAILURES_IN_A_ROW
from llava_cot.data.store import Store
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import Model, Prompt, Sampling, seed_of

_T = TypeVar("_T")
_AGAIN = 2  # attempts after the first, where a model fails
_TOKENS = 1024
KIND = "scorer"


async def insist(call: Callable[[], Awaitable[_T]]) -> _T:
    """The result of a call, which is made again where the model fails. Raises what the last attempt did."""
    for _ in range(_AGAIN):
        try:
            return await call()
        except ModelFailure:
            pass
    return await call()


class Scorer:
    """`usd` is what its replies in the store have cost, over all runs."""

    def __init__(self, model: Model, store: Store) -> None:
        self.name = model.name
        self.usd = store.total(KIND, "usd")
        self._model, self._store = model, store
        self._in_vain = 0

    async def ask(self, prompt: Prompt, attempt: int) -> str:
        """The reply to a prompt, from the store if it is there. Attempt 0 is greedy. Raises ModelError."""
        digest = sha256(json.dumps([[m.role, m.text] for m in prompt.messages]).encode()).hexdigest()
        key = json.dumps([self.name, digest, attempt])
        known = self._store.get(key, KIND)
        if known is None:
            sampling = Sampling(0.5 * attempt, 1.0, max_tokens=_TOKENS, seed=seed_of(digest, attempt))
            if self._in_vain >= MAX_FAILURES_IN_A_ROW:
                raise ModelFailure(f"{self.name} failed again and again, and is asked no more")
            try:
                [reply] = await insist(lambda: self._model.sample(prompt, 1, sampling))
            except ModelError:
                self._in_vain += 1
                raise
            self._in_vain = 0
            known = {
                "text": reply.text,
                "prompt_tokens": reply.prompt_tokens,
                "completion_tokens": reply.completion_tokens,
                "usd": reply.usd,
            }
            self._store.put(key, KIND, known)
            self.usd += reply.usd or 0.0
        return str(known["text"])
