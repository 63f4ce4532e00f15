"""What the engine runs: sequences to be sampled or scored, and prefills that several of them share."""

from __future__ import annotations

import math
from asyncio import Future
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llava_cot.errors import ModelFailure
from llava_cot.models.base import Sampling
from llava_cot.models.local.constraints import ConstraintState
from llava_cot.models.local.encoding import Encoded
from llava_cot.models.local.kv_cache import KV, States
from llava_cot.models.local.prefix_cache import PrefixRoot, common_length
from llava_cot.models.local.sampler import SeenTokens, Uniforms
from llava_cot.models.text import SampleBuilder

# How many tokens a common beginning must save to be worth a pass of its own.
_WORTH = 64


class EngineCall:
    """One call of the model: `future` gets the results of all its parts, or the first failure.

    A caller that stops waiting cancels the future, so the call is `done` then too.
    """

    def __init__(self, parts: int, future: Future[list[Any]]) -> None:
        self._results: list[Any] = [None] * parts
        self._left = parts
        self._future = future
        self.done = future.done

    def settle(self, part: int, result: Any) -> None:
        self._results[part] = result
        self._left -= 1
        if self._left == 0 and not self.done():
            self._future.set_result(self._results)

    def fail(self, error: BaseException) -> None:
        """Give the caller an error, wrapped if a future refuses it or it would end an event loop."""
        if isinstance(error, torch.OutOfMemoryError):
            error = ModelFailure("the device ran out of memory; use a smaller cache_mb or max_batch")
        elif isinstance(error, StopIteration) or not isinstance(error, Exception):
            error = ModelFailure(f"the model failed: {error!r}")
        if not self.done():
            self._future.set_exception(error)


@dataclass(eq=False)
class EngineSequence:
    """A part of a call: `ids` are run, and the logits of the last `logits_to_keep` are needed."""

    call: EngineCall
    part: int
    encoded: Encoded
    ids: list[int] = field(init=False)
    logits_to_keep: int = field(init=False, default=1)
    root: PrefixRoot = field(init=False)  # what the head of `ids` left behind; set by the engine


@dataclass(eq=False)
class ScoredSequence(EngineSequence):
    """The log-probabilities of options that follow the same ids.

    These are several options of one token each, or one option of several, all but the last of which are run.
    """

    options: Sequence[Sequence[int]]

    def __post_init__(self) -> None:
        self.ids = [*self.encoded.ids, *self.options[0][:-1]]
        self.logits_to_keep = len(self.options[0])

    def read(self, logits: Tensor) -> bool:
        """Settle this part with one number per option, from the last logits of [tokens, vocabulary].

        False if these are not numbers.
        """
        logprobs = logits[-self.logits_to_keep :].log_softmax(-1)
        places = list(range(self.logits_to_keep))
        scores = [float(logprobs[places, list(option)].sum()) for option in self.options]
        if any(math.isnan(score) for score in scores):
            return False
        self.call.settle(self.part, scores)
        return True


@dataclass(eq=False)
class SampledSequence(EngineSequence):
    """A continuation being sampled; `ids` grows. `builder` makes a continuation of its tokens."""

    sampling: Sampling
    builder: SampleBuilder
    constraint: ConstraintState | None
    seen_tokens: SeenTokens | None

    def __post_init__(self) -> None:
        self.ids = list(self.encoded.ids)
        self._uniforms = Uniforms(self.sampling.seed, self.sampling.first + self.part)
        self._ended = False

    @property
    def computed(self) -> int:
        """How many of its ids have been run: not the one drawn last, unless an end token followed it."""
        return len(self.ids) if self._ended else len(self.ids) - 1

    def uniforms(self, count: int) -> list[float]:
        """The random numbers of its next tokens."""
        return self._uniforms.at(self.builder.count, count)

    def allowed(self, guess: Sequence[int]) -> NDArray[np.bool_] | None:
        """What its constraint allows next, and after each token of a guess: [1 + len(guess), vocabulary].

        None without a constraint, or if that fails, which fails the call.
        """
        try:
            return None if self.constraint is None else self.constraint.allowed(guess)
        except Exception as error:
            self.call.fail(error)
            return None

    def seen(self, guess: Sequence[int]) -> NDArray[np.bool_] | None:
        """What it has seen now, and after each token of a guess; None without a repetition penalty."""
        return None if self.seen_tokens is None else self.seen_tokens.masks(guess)

    def take(self, token: int, logprob: float) -> bool:
        """Take the next token. True if it is the last, which settles this part."""
        whole = self.builder.take(token, logprob)
        self._ended = whole is not None and whole.finish == "eos"
        if not self._ended:
            self.ids.append(token)
            if self.constraint is not None:
                self.constraint.take(token)
            if self.seen_tokens is not None:
                self.seen_tokens.take(token)
        if whole is not None:
            self.call.settle(self.part, whole)
        return whole is not None


@dataclass(eq=False)
class Prefill:
    """Ids to be run once after a root, for all the sequences that begin with them.

    The first `cached` ids need not be run: those of the head, and those whose keys and values are `pieces`;
    `states` are those after them.
    """

    root: PrefixRoot
    ids: list[int]
    sequences: list[EngineSequence] = field(default_factory=list)
    pieces: list[KV] = field(default_factory=list)
    states: States | None = None
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


def group_prefills(prefills: Sequence[Prefill], tokens: int, padded: bool) -> list[list[Prefill]]:
    """Group prefills of one batch and of similar length: little padding, at most `tokens` tokens each.

    Unless they are `padded`, those of a group are equally long.
    """
    groups: list[list[Prefill]] = []
    for prefill in sorted(prefills, key=lambda one: (one.root.features, len(one.new_ids))):
        last = groups[-1] if groups else None
        if (
            last is not None
            and last[0].root.features == prefill.root.features
            and len(prefill.new_ids) <= len(last[0].new_ids) * (2 if padded else 1) + (16 if padded else 0)
            and len(prefill.new_ids) * (len(last) + 1) <= tokens
        ):
            last.append(prefill)
        else:
            groups.append([prefill])
    return groups
