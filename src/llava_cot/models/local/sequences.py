"""What the engine runs: sequences to be sampled or scored, and prefills that several of them share."""

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
from llava_cot.models.local.kv_cache import KV
from llava_cot.models.local.prefix_cache import PrefixRoot, common_length
from llava_cot.models.local.sampler import SeenTokens, Uniforms
from llava_cot.models.text import SampleBuilder

# How many tokens a common beginning must save to be worth a pass of its own.
_WORTH = 64


class EngineCall:
    """One call of the model, which has several parts.

    `finish` is called once, with the results of all parts or with the first failure. `dropped` is set when
    there is a result, and by a caller that stops waiting.
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
    """A part of a call: `ids` are run, and the logits of the last `logits_to_keep` are needed.

    The engine sets `root`, which holds what the head of `ids` left behind.
    """

    root: PrefixRoot

    def __init__(
        self, call: EngineCall, part: int, encoded: Encoded, ids: Sequence[int], logits_to_keep: int = 1
    ) -> None:
        self.call = call
        self.part = part
        self.encoded = encoded
        self.ids = list(ids)
        self.logits_to_keep = logits_to_keep


class ScoredSequence(EngineSequence):
    """The log-probabilities of options that follow the same ids.

    These are several options of one token each, or one option of several, all but the last of which are run.
    """

    def __init__(
        self, call: EngineCall, part: int, encoded: Encoded, options: Sequence[Sequence[int]]
    ) -> None:
        super().__init__(call, part, encoded, [*encoded.ids, *options[0][:-1]], len(options[0]))
        self._options = options

    def read(self, logits: Tensor) -> None:
        """Settle this part with one number per option, from logits [logits_to_keep, vocabulary]."""
        logprobs = logits.log_softmax(-1)
        places = list(range(self.logits_to_keep))
        scores = [float(logprobs[places, list(option)].sum()) for option in self._options]
        self.call.settle(self.part, scores)


class SampledSequence(EngineSequence):
    """A continuation being sampled; `ids` grows. `builder` makes a continuation of its tokens."""

    def __init__(
        self,
        call: EngineCall,
        part: int,
        encoded: Encoded,
        sampling: Sampling,
        builder: SampleBuilder,
        constraint: ConstraintState | None = None,
        seen: SeenTokens | None = None,
    ) -> None:
        super().__init__(call, part, encoded, encoded.ids)
        self.sampling = sampling
        self._constraint = constraint
        self._seen = seen
        self._uniforms = Uniforms(sampling.seed, sampling.first + part)
        self._builder = builder
        self._ended = False

    @property
    def computed(self) -> int:
        """How many of its ids have been run: not the one drawn last, unless an end token followed it."""
        return len(self.ids) if self._ended else len(self.ids) - 1

    @property
    def left(self) -> int:
        """How many tokens it may still have."""
        return self._builder.left

    def uniforms(self, count: int) -> list[float]:
        """The random numbers of its next tokens."""
        return self._uniforms.at(self._builder.count, count)

    def allowed(self, guess: Sequence[int]) -> NDArray[np.bool_] | None:
        """What its constraint allows next, and after each token of a guess: [1 + len(guess), vocabulary].

        None without a constraint, or if that fails, which fails the call.
        """
        try:
            return None if self._constraint is None else self._constraint.allowed(guess)
        except ModelError as error:
            self.call.fail(error)
            return None

    def seen(self, guess: Sequence[int]) -> NDArray[np.bool_] | None:
        """What it has seen now, and after each token of a guess; None without a repetition penalty."""
        return None if self._seen is None else self._seen.masks(guess)

    def take(self, token: int, logprob: float) -> bool:
        """Take the next token. True if it is the last, which settles this part."""
        whole = self._builder.take(token, logprob)
        self._ended = whole is not None and whole.finish == "eos"
        if not self._ended:
            self.ids.append(token)
            if self._constraint is not None:
                self._constraint.take(token)
            if self._seen is not None:
                self._seen.take(token)
        if whole is not None:
            self.call.settle(self.part, whole)
        return whole is not None


@dataclass(eq=False)
class Prefill:
    """Ids to be run once after a root, for all the sequences that begin with them.

    The first `cached` ids need not be run: those of the head, and those whose keys and values are `pieces`.
    """

    root: PrefixRoot
    ids: list[int]
    sequences: list[EngineSequence] = field(default_factory=list)
    pieces: list[KV] = field(default_factory=list)
    cached: int = 0

    @property
    def logits_to_keep(self) -> int:
        return max((sequence.logits_to_keep for sequence in self.sequences), default=1)

    @property
    def new_ids(self) -> Sequence[int]:
        return self.ids[self.cached :]

    @property
    def samples(self) -> list[SampledSequence]:
        return [sequence for sequence in self.sequences if isinstance(sequence, SampledSequence)]


def shared_beginnings(prefills: Sequence[Prefill]) -> list[Prefill]:
    """Common beginnings of new ids that are worth running once, before the prefills themselves."""
    found: list[Prefill] = []
    ordered = sorted(prefills, key=lambda prefill: (id(prefill.root), prefill.ids))
    at = 0
    while at < len(ordered):
        first, count, common = ordered[at], 1, len(ordered[at].ids)
        for other in ordered[at + 1 :]:
            shared = common_length(first.ids, other.ids) if other.root is first.root else 0
            if min(shared, common) - first.cached < _WORTH:
                break
            common, count = min(shared, common, len(other.ids) - other.logits_to_keep), count + 1
        if count > 1 and common > first.cached:
            found.append(Prefill(first.root, first.ids[:common]))
        at += count
    return found


def group_prefills(prefills: Sequence[Prefill], tokens: int) -> list[list[Prefill]]:
    """Group prefills of one batch and of similar length: little padding, at most `tokens` tokens each."""
    groups: list[list[Prefill]] = []
    for prefill in sorted(prefills, key=lambda one: (one.root.features, len(one.new_ids))):
        last = groups[-1] if groups else None
        if (
            last is not None
            and last[0].root.features == prefill.root.features
            and len(prefill.new_ids) <= 2 * len(last[0].new_ids) + 16
            and len(prefill.new_ids) * (len(last) + 1) <= tokens
        ):
            last.append(prefill)
        else:
            groups.append([prefill])
    return groups
