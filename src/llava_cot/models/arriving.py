"""One sample while its tokens arrive: when it ends, and what it becomes.

Knows no batch, no network and no engine.
"""

from __future__ import annotations

from llava_cot.models.base import Continuation, Finish, OnText
from llava_cot.models.stopping import Writing


class Arriving:
    """A sample of at most `limit` tokens, which one of `ends` ends too. What is safe to show is told."""

    def __init__(
        self,
        prompt_tokens: int,
        limit: int,
        writing: Writing,
        ends: frozenset[int],
        on_text: OnText | None,
    ) -> None:
        self._prompt_tokens = prompt_tokens
        self._limit = limit
        self._writing = writing
        self._ends = ends
        self._on_text = on_text
        self._logprobs: list[float] = []

    @property
    def count(self) -> int:
        """How many tokens have arrived."""
        return len(self._logprobs)

    @property
    def left(self) -> int:
        """How many may still arrive."""
        return self._limit - len(self._logprobs)

    def take(self, token: int, logprob: float) -> Continuation | None:
        """Take the next token; the whole sample if it is the last."""
        self._logprobs.append(logprob)
        writing = self._writing
        if token in self._ends:
            return self._become("eos", writing.tokens, writing.text)
        if writing.add(token):
            return self._become("stop", *writing.cut())
        if self.left <= 0:
            return self._become("length", writing.tokens, writing.text)
        if self._on_text is not None and (shown := writing.show()):
            self._on_text(shown)
        return None

    def _become(self, finish: Finish, tokens: list[int], text: str) -> Continuation:
        if self._on_text is not None and (rest := self._writing.rest(text)):
            self._on_text(rest)
        return Continuation(
            text=text,
            tokens=tuple(tokens),
            # Beyond these digits it depends on what shared the passes.
            logprob=round(sum(self._logprobs[: len(tokens)]), 3),
            finish=finish,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self._logprobs),
        )
