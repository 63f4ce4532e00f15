"""What is asked of the engine, one row at a time: a sample to be drawn, or options to be scored.

Owns what becomes of a row's tokens and logits. Knows no batch and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from llava_cot.errors import ModelError
from llava_cot.models.arriving import Arriving
from llava_cot.models.base import Sampling
from llava_cot.models.local.constraints import Forced
from llava_cot.models.local.encoding import Encoded
from llava_cot.models.local.kv_cache import Root
from llava_cot.models.local.sampler import Uniforms


class Ticket:
    """One call and its parts. `finish` is told once, of all the parts' results or of the first failure.

    Whoever stops waiting sets `dropped`.
    """

    def __init__(self, parts: int, finish: Callable[[list[Any] | BaseException], None]) -> None:
        self._results: list[Any] = [None] * parts
        self._left = parts
        self._finish = finish
        self.dropped = False

    def settle(self, part: int, result: Any) -> None:
        self._results[part] = result
        self._left -= 1
        if self._left == 0 and not self.dropped:
            self.dropped = True
            self._finish(self._results)

    def fail(self, error: BaseException) -> None:
        if not self.dropped:
            self.dropped = True
            self._finish(error)


class Job:
    """A part of a ticket. `ids` are run, the logits of the last `keep` are wanted; `root` is the engine's."""

    root: Root

    def __init__(
        self, ticket: Ticket, part: int, encoded: Encoded, ids: Sequence[int], keep: int = 1
    ) -> None:
        self.ticket = ticket
        self.part = part
        self.encoded = encoded
        self.ids = list(ids)
        self.keep = keep


class Score(Job):
    """The log-probabilities of options that follow the same ids.

    Several options of one token each, or one option of several, all but the last of which are run too.
    """

    def __init__(self, ticket: Ticket, part: int, encoded: Encoded, options: Sequence[Sequence[int]]) -> None:
        super().__init__(ticket, part, encoded, [*encoded.ids, *options[0][:-1]], len(options[0]))
        self._options = options

    def read(self, logits: Tensor) -> None:
        """`logits` is [keep, vocabulary]; settles the ticket's part with a list, one number an option."""
        logprobs = logits.log_softmax(-1)
        places = list(range(self.keep))
        scores = [float(logprobs[places, list(option)].sum()) for option in self._options]
        self.ticket.settle(self.part, scores)


class Sample(Job):
    """One continuation being drawn; `ids` grows. `forced` is its place in its form, if it has one."""

    def __init__(
        self,
        ticket: Ticket,
        part: int,
        encoded: Encoded,
        sampling: Sampling,
        arriving: Arriving,
        forced: Forced | None = None,
    ) -> None:
        super().__init__(ticket, part, encoded, encoded.ids)
        self.sampling = sampling
        self.forced = forced
        self._uniforms = Uniforms(sampling.seed, sampling.first + part)
        self._arriving = arriving
        self._ended = False

    @property
    def computed(self) -> int:
        """How many of its ids have been run: not the one drawn last, unless an end token followed it."""
        return len(self.ids) if self._ended else len(self.ids) - 1

    @property
    def left(self) -> int:
        """How many tokens it may still have."""
        return self._arriving.left

    def uniforms(self, count: int) -> list[float]:
        """The random numbers of its next tokens."""
        return self._uniforms.at(self._arriving.count, count)

    def allowed(self, draft: Sequence[int]) -> NDArray[np.bool_] | None:
        """What its form allows next, and after each token of a draft; None if it has none, or that failed,
        which fails the ticket."""
        try:
            return None if self.forced is None else self.forced.allowed(draft)
        except ModelError as error:
            self.ticket.fail(error)
            return None

    def take(self, token: int, logprob: float) -> bool:
        """Take the next token; true if it is the last, and the ticket's part is settled."""
        whole = self._arriving.take(token, logprob)
        self._ended = whole is not None and whole.finish == "eos"
        if not self._ended:
            self.ids.append(token)
            if self.forced is not None:
                self.forced.take(token)
        if whole is not None:
            self.ticket.settle(self.part, whole)
        return whole is not None
