"""Guesses of the next tokens, from what was read and written before: texts of one kind repeat themselves.

The network checks a guess, several tokens in one pass, and only tokens that would have been drawn anyway
stay: guesses change how long an answer takes, never the answer. After prompt lookup decoding (Saxena, 2023),
with one table for all texts.
"""

from __future__ import annotations

from collections.abc import Sequence

_LENGTHS = (4, 3, 2)  # of the runs of tokens that are looked up; the longest known run counts
_SIZE = 1 << 17  # runs in the table; a second table holds as many older ones
_UNLIKELY = 0.3  # a token is not guessed if it and all before it come true with a lower probability
_MOST = 6  # tokens guessed for one row
_PASS = 36  # fixed cost of a pass, in tokens


class PromptLookup:
    """A table of short runs of tokens and what followed each, in all texts."""

    def __init__(self) -> None:
        self._new: dict[tuple[int, ...], tuple[int, int]] = {}  # the token that followed, how often in a row
        self._old: dict[tuple[int, ...], tuple[int, int]] = {}

    def learn(self, ids: Sequence[int], start: int) -> None:
        """Add the tokens from `start` on, and what they follow."""
        for at in range(start, len(ids)):
            for length in _LENGTHS:
                if at >= length:
                    run = tuple(ids[at - length : at])
                    token, times = self._find(run) or (ids[at], 0)
                    self._new[run] = (ids[at], times + 1 if token == ids[at] else 1)
        if len(self._new) > _SIZE:
            self._new, self._old = {}, self._new

    def guess(self, ids: Sequence[int], most: int) -> list[tuple[int, float]]:
        """At most `most` tokens that may follow `ids`, each with the probability that all up to it do."""
        tail, chance = list(ids[-_LENGTHS[0] :]), 1.0
        guessed: list[tuple[int, float]] = []
        while len(guessed) < most:
            found = next(filter(None, (self._find(tuple(tail[-length:])) for length in _LENGTHS)), None)
            if found is None:
                break
            token, times = found
            chance *= (times + 1) / (times + 2)  # the rule of succession
            if chance < _UNLIKELY:
                break
            guessed.append((token, chance))
            tail.append(token)
        return guessed

    def guess_together(self, rows: Sequence[Sequence[int]], most: Sequence[int]) -> list[list[int]]:
        """Guesses for rows that share a pass, of the length that gives most tokens for the pass's work."""
        guesses = [self.guess(ids, min(_MOST, room)) for ids, room in zip(rows, most, strict=True)]

        def gain(length: int) -> float:
            expected = sum(chance for guess in guesses for _, chance in guess[:length])
            return (len(rows) + expected) / (_PASS + len(rows) * (1 + length))

        length = max(range(_MOST + 1), key=gain)
        return [[token for token, _ in guess[:length]] for guess in guesses]

    def _find(self, run: tuple[int, ...]) -> tuple[int, int] | None:
        return self._new.get(run) or self._old.get(run)
