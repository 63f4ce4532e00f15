"""The text of a sample while its tokens arrive: stop strings, what can be shown already, and the end.

A sample's whole text is decoded once, when it ends. At each step nothing is decoded unless the token can
complete a stop string, and then only a window of as many tokens as the longest stop string has bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llava_cot.models.base import Continuation, Finish, OnText

_UNFINISHED = "\ufffd"  # what part of a character decodes to
# Tokens before the new ones, decoded with them: a character has at most four bytes.
_CONTEXT = 4


class Vocabulary:
    """What the first `size` token ids, which a model can generate, mean as text.

    Special tokens are text like any other.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._pieces: list[str] | None = None
        self.endings = lru_cache(maxsize=64)(self._endings)

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False)
        return ids

    def decode(self, ids: Sequence[int], before: Sequence[int] = ()) -> str:
        """The text that `ids` add to `before`."""
        whole = self._text([*before, *ids])
        return whole[len(self._text(before).rstrip(_UNFINISHED)) :] if before else whole

    def _text(self, ids: Sequence[int]) -> str:
        # `decode` calls this after checking every id for being a tensor, which takes longer than decoding.
        text: str = self._tokenizer._decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text

    def _endings(self, stops: tuple[str, ...]) -> NDArray[np.bool_]:
        """For each token, whether it can complete one of the stops: it contains the last character of one."""
        if self._pieces is None:
            # After another token, since some tokenizers drop the space that begins a text.
            first = self.encode("a")[-1:]
            skipped = len(self._text(first))
            self._pieces = [self._text([*first, token])[skipped:] for token in range(self._size)]
        last = {stop[-1] for stop in stops}
        if any(not character.isascii() for character in last):
            last.add(_UNFINISHED)
        return np.array([any(character in piece for character in last) for piece in self._pieces])


class SampleText:
    """One sample's new tokens, and the text that they add to the prefix.

    A stop string counts only if all of it is new text: one that began in the prefix ended an earlier stage.
    """

    def __init__(self, vocabulary: Vocabulary, prefix: Sequence[int], stops: tuple[str, ...]) -> None:
        self._vocabulary = vocabulary
        self._stops = tuple(stop for stop in stops if stop)
        self._window = max((len(stop.encode()) for stop in self._stops), default=0) + _CONTEXT
        self._ids = list(prefix[-self._window :])  # ... and then the new tokens
        self._start = len(self._ids)
        self._surplus: int | None = None  # characters after the stop that was completed
        self._shown = ""
        self._held = ""  # white space that is shown once something follows it
        self._from = self._start  # the tokens before it are in `_shown` and `_held`

    @property
    def tokens(self) -> list[int]:
        return self._ids[self._start :]

    @property
    def text(self) -> str:
        return self._decode(self.tokens)

    def add(self, token: int) -> bool:
        """Add the next token. True if it completes a stop string."""
        self._ids.append(token)
        if not self._stops or not self._vocabulary.endings(self._stops)[token]:
            return False
        self._surplus = self._after_stop()
        return self._surplus is not None

    def cut(self) -> tuple[list[int], str]:
        """Tokens and text up to the end of the stop that was just completed, without white space there."""
        whole = self.text
        text = whole[: len(whole) - (self._surplus or 0)].rstrip()
        return (self.tokens if text == whole else self._fitted(text)), text

    def show(self) -> str:
        """The text gained since the last call, without what may still change or be cut off.

        That is part of a character, and white space at the end if there are stops.
        """
        before = self._ids[max(0, self._from - _CONTEXT) : self._from]
        new = self._vocabulary.decode(self._ids[self._from :], before)
        # Tokens without text stay, or they would push the characters before them out of the context.
        if not new or new.endswith(_UNFINISHED):
            return ""
        ready = self._held + new
        self._from = len(self._ids)
        settled = ready.rstrip() if self._stops else ready
        self._held = ready[len(settled) :]
        self._shown += settled
        return settled

    def rest(self, text: str) -> str:
        """The part of the final text that `show` has not returned."""
        return text[len(self._shown) :]

    def _after_stop(self) -> int | None:
        """How many characters follow the first stop that the last token completed, if it did."""
        window = self._ids[-self._window :]
        text = self._vocabulary.decode(window)
        if not any(stop in text for stop in self._stops):
            return None
        settled = len(self._vocabulary.decode(window[:-1]).rstrip(_UNFINISHED))
        old = self._start - len(self._ids) + len(window)
        begin = len(self._vocabulary.decode(window[:old]).rstrip(_UNFINISHED)) if old > 0 else 0
        found = ((stop, text.find(stop, max(begin, settled - len(stop) + 1))) for stop in self._stops)
        ends = [at + len(stop) for stop, at in found if at >= 0]
        return len(text) - min(ends) if ends else None

    def _decode(self, tokens: Sequence[int]) -> str:
        return self._vocabulary.decode(tokens, self._ids[max(0, self._start - _CONTEXT) : self._start])

    def _fitted(self, text: str) -> list[int]:
        """The new tokens up to the end of `text`; a token that crosses its end is encoded anew."""
        tokens = self.tokens
        while tokens and self._decode(tokens[:-1])[: len(text)] == text:
            tokens.pop()
        if self._decode(tokens) == text:
            return tokens
        whole = tokens[:-1]
        piece = text[len(self._decode(whole)) :]
        for trial in ([*whole, *self._vocabulary.encode(piece)], self._vocabulary.encode(text)):
            if self._decode(trial) == text:
                return trial
        return tokens


class SampleBuilder:
    """Turns a sample's tokens, as they arrive, into a `Continuation`, and streams its text.

    A sample has at most `limit` tokens, and one of `ends` ends it. `on_text` gets the text that cannot change
    any more.
    """

    def __init__(
        self,
        prompt_tokens: int,
        limit: int,
        written: SampleText,
        ends: frozenset[int],
        on_text: OnText | None,
    ) -> None:
        self._prompt_tokens = prompt_tokens
        self._limit = limit
        self._written = written
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
        """Take the next token. Returns the whole sample if it is the last."""
        self._logprobs.append(logprob)
        written = self._written
        if token in self._ends:
            return self._finish("eos", written.tokens, written.text)
        if written.add(token):
            return self._finish("stop", *written.cut())
        if self.left <= 0:
            return self._finish("length", written.tokens, written.text)
        if self._on_text is not None and (shown := written.show()):
            self._on_text(shown)
        return None

    def as_drawn(self, tokens: Sequence[int]) -> bool:
        """Whether the tokens of the sample are those drawn: none crossed a stop string's end."""
        return self._written.tokens[: len(tokens)] == list(tokens)

    def _finish(self, finish: Finish, tokens: list[int], text: str) -> Continuation:
        if self._on_text is not None and (rest := self._written.rest(text)):
            self._on_text(rest)
        return Continuation(
            text=text,
            tokens=tuple(tokens),
            # Further digits depend on what shared the forward passes.
            logprob=round(sum(self._logprobs[: len(tokens)]), 3),
            finish=finish,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self._logprobs),
        )
