"""Constrained decoding for a local model: which tokens a sample may have next, computed by llguidance.

llguidance is an optional package, imported at the first constraint.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from llava_cot.errors import ModelError, missing_package
from llava_cot.models.base import Constraint
from llava_cot.models.local.checkpoint import first_sentence

_COMPILED = 256  # constraints that stay compiled: a question with options has one of its own
# Without this, a text that the constraint settles must come in the tokens in which llguidance would write it.
_ANY_TOKENS = '%llguidance {"no_forcing": true}\n'


class ConstraintCompiler:
    """Compiles constraints for one model. May be used from any thread.

    The first `size` token ids can be drawn, and `ends` end an answer.
    """

    def __init__(self, tokenizer: Any, size: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._ends = sorted(end for end in ends if end < size)
        self._lock = threading.Lock()
        self._matchers: LRUCache[Constraint, Any] = LRUCache(_COMPILED)
        self._tokenizers: dict[frozenset[int], Any] = {}

    def start(self, constraint: Constraint, n: int) -> list[ConstraintState]:
        """The beginning of a constraint, for each of `n` samples. Raises ModelError."""
        with self._lock:
            matcher = self._matchers.get(constraint)
            if matcher is None:
                matcher = self._matchers[constraint] = self._compile(constraint)
            return [ConstraintState(matcher.deep_copy(), self._size, self._ends) for _ in range(n)]

    def _compile(self, constraint: Constraint) -> Any:
        if find_spec("llguidance") is None:
            raise ModelError(missing_package("constrained decoding", "llguidance", extra="structured"))
        from llguidance import LLMatcher

        grammar = f"start: %json {constraint.text}" if constraint.kind == "json" else constraint.text
        matcher = LLMatcher(self._tokenizer_for(constraint), _ANY_TOKENS + grammar, log_level=0)
        if matcher.is_error():
            raise ModelError(f"the constraint cannot be used: {_reason(matcher)}")
        return matcher

    def _tokenizer_for(self, constraint: Constraint) -> Any:
        """A tokenizer for which special tokens that the constraint names are plain text."""
        added = getattr(self._tokenizer, "added_tokens_decoder", {})
        named = frozenset(
            id for id, token in added.items() if token.special and token.content in constraint.text
        )
        if named not in self._tokenizers:
            self._tokenizers[named] = self._make_tokenizer(added, named)
        return self._tokenizers[named]

    def _make_tokenizer(self, added: dict[int, Any], named: frozenset[int]) -> Any:
        """llguidance takes each added token in angle brackets for a special one, which stage tags are not."""
        import llguidance
        from llguidance.hf import from_tokenizer

        if not self._ends:
            raise ModelError("this model has no token that ends an answer, so it cannot be constrained")
        try:
            plain = from_tokenizer(self._tokenizer)
        except Exception as error:
            raise ModelError(
                f"this model cannot be constrained: {first_sentence(error)}; use its fast tokenizer"
            ) from None
        known = range(min(self._size, plain.vocab_size))
        pieces = [plain.decode_bytes([token]) for token in known]
        pieces += [b"<unused %d>" % token for token in range(len(pieces), self._size)]
        special = set(self._ends) | set(range(len(known), self._size))
        for token, what in added.items():
            if token < self._size and token not in special:
                if what.special and token not in named:
                    special.add(token)
                else:
                    pieces[token] = what.content.encode()
        wrapped = llguidance.TokenizerWrapper(_Pieces(pieces, sorted(special), self._ends[0]))
        return llguidance.LLTokenizer(wrapped, n_vocab=self._size, eos_token=self._ends)


class ConstraintState:
    """One sample's place in its constraint."""

    def __init__(self, matcher: Any, size: int, ends: Sequence[int]) -> None:
        self._matcher = matcher
        self._size = size
        self._ends = ends

    def allowed(self, guess: Sequence[int] = ()) -> NDArray[np.bool_]:
        """What may come next, and after each token of a guess: [1 + len(guess), size].

        After a token that the constraint forbids, and so will not be drawn, everything is allowed. Raises
        ModelError.
        """
        rows = np.ones((1 + len(guess), self._size), dtype=np.bool_)
        taken = 0
        for place, token in enumerate([*guess, None]):
            rows[place] = self._next()
            if token is None or not rows[place, token] or token in self._ends:
                break
            self.take(token)
            taken += 1
        if taken:
            self._matcher.rollback(taken)
        return rows

    def _next(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():  # or no token of the model continues from here
            raise ModelError(f"the model cannot continue under the constraint: {_reason(self._matcher)}")
        return np.unpackbits(bits, bitorder="little")[: self._size].astype(np.bool_)

    def take(self, token: int) -> None:
        """Advance by a token that is allowed."""
        self._matcher.try_consume_tokens([token])


class _Pieces:
    """A vocabulary as llguidance's `TokenizerWrapper` takes it."""

    bos_token_id = None

    def __init__(self, tokens: list[bytes], special: list[int], end: int) -> None:
        self.tokens, self.special_token_ids, self.eos_token_id = tokens, special, end

    def __call__(self, text: bytes) -> list[int]:
        raise NotImplementedError("constraints follow the tokens that are drawn; no text is encoded")


def _reason(matcher: Any) -> str:
    error: str = matcher.get_error()
    return error.strip().splitlines()[0].rstrip(".") if error.strip() else "it has an error"
