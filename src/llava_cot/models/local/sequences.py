"""What is asked of the engine, one row at a time: a sample to be drawn, or options to be scored.

Owns what becomes of a row's tokens and logits. Knows no batch and no network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from llava_cot.errors import ModelError
from llava_cot.models.base import Sampling
from llava_cot.models.local.constraints import ConstraintState
from llava_cot.models.local.encoding import Encoded
from llava_cot.models.local.prefix_cache import KV, PrefixRoot
from llava_cot.models.local.sampler import Uniforms
from llava_cot.models.text import SampleBuilder


class EngineCall:
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


class EngineSequence:
    """A part of a ticket. `ids` are run, the logits of the last `keep` are wanted; `root` is the engine's."""

    root: PrefixRoot

    def __init__(
        self, ticket: EngineCall, part: int, encoded: Encoded, ids: Sequence[int], keep: int = 1
    ) -> None:
        self.ticket = ticket
        self.part = part
        self.encoded = encoded
        self.ids = list(ids)
        self.keep = keep


class ScoredSequence(EngineSequence):
    """The log-probabilities of options that follow the same ids.

    Several options of one token each, or one option of several, all but the last of which are run too.
    """

    def __init__(
        self, ticket: EngineCall, part: int, encoded: Encoded, options: Sequence[Sequence[int]]
    ) -> None:
        super().__init__(ticket, part, encoded, [*encoded.ids, *options[0][:-1]], len(options[0]))
        self._options = options

    def read(self, logits: Tensor) -> None:
        """`logits` is [keep, vocabulary]; settles the ticket's part with a list, one number an option."""
        logprobs = logits.log_softmax(-1)
        places = list(range(self.keep))
        scores = [float(logprobs[places, list(option)].sum()) for option in self._options]
        self.ticket.settle(self.part, scores)


class SampledSequence(EngineSequence):
    """One continuation being drawn; `ids` grows. `forced` is its place in its form, if it has one."""

    def __init__(
        self,
        ticket: EngineCall,
        part: int,
        encoded: Encoded,
        sampling: Sampling,
        arriving: SampleBuilder,
        forced: ConstraintState | None = None,
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


# How many tokens a common beginning must save to be worth a pass of its own.
_WORTH = 64


@dataclass(eq=False)
class Prefill:
    """Ids to be run after a root; the first `known` of them were before, and left `pieces` behind."""

    root: PrefixRoot
    ids: list[int]
    jobs: list[EngineSequence] = field(default_factory=list)
    pieces: list[KV] = field(default_factory=list)
    known: int = 0

    @property
    def keep(self) -> int:
        return max((job.keep for job in self.jobs), default=1)

    @property
    def todo(self) -> Sequence[int]:
        return self.ids[self.known :]

    @property
    def samples(self) -> list[SampledSequence]:
        return [job for job in self.jobs if isinstance(job, SampledSequence)]


def stems(fills: Sequence[Prefill]) -> list[Prefill]:
    """Common beginnings of new ids that are worth running once, before the ids themselves."""
    found: list[Prefill] = []
    ordered = sorted(fills, key=lambda fill: (id(fill.root), fill.ids))
    at = 0
    while at < len(ordered):
        first, count, common = ordered[at], 1, len(ordered[at].ids)
        for other in ordered[at + 1 :]:
            shared = _common(first.ids, other.ids) if other.root is first.root else 0
            if min(shared, common) - first.known < _WORTH:
                break
            common, count = min(shared, common, len(other.ids) - other.keep), count + 1
        if count > 1 and common > first.known:
            found.append(Prefill(first.root, first.ids[:common]))
        at += count
    return found


def chunks(fills: Sequence[Prefill], tokens: int) -> list[list[Prefill]]:
    """Fills of one lane and of similar length: little padding, and not more than so many tokens."""
    found: list[list[Prefill]] = []
    for fill in sorted(fills, key=lambda f: (features(f.root), len(f.todo))):
        last = found[-1] if found else None
        if (
            last is not None
            and features(last[0].root) == features(fill.root)
            and len(fill.todo) <= 2 * len(last[0].todo) + 16
            and len(fill.todo) * (len(last) + 1) <= tokens
        ):
            last.append(fill)
        else:
            found.append([fill])
    return found


def features(root: PrefixRoot) -> int:
    """How many image features its layers attend to."""
    return 0 if root.cross is None else root.cross.shape[2]


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
