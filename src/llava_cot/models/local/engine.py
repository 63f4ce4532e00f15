"""The schedule: which sequences run next, in which batch, and what happens to their logits.

The caller of `step` owns the thread; there is no event loop here. Shared are heads (by all sequences that
begin with them), prefixes (by all sequences), and a prefill (by all samples of a prompt). Admission and
decoding stay in one file, since they share the rows and the bound on memory.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.local.devices import send
from llava_cot.models.local.encoding import Encoded
from llava_cot.models.local.kv_cache import BatchCache
from llava_cot.models.local.network import Network, threads
from llava_cot.models.local.prefix_cache import PrefixCache, PrefixRoot
from llava_cot.models.local.prompt_lookup import PromptLookup
from llava_cot.models.local.sampler import RowMasks, draw
from llava_cot.models.local.sequences import (
    EngineCall,
    EngineSequence,
    Prefill,
    SampledSequence,
    ScoredSequence,
    group_prefills,
    shared_beginnings,
)

# Heads in one pass (their images take memory), and tokens in one prefill.
_HEADS = 16
_TOKENS = 8192
# Where more than _CROWD rows run per waiting sequence, those wait for others, at most _PATIENCE steps.
_CROWD = 8
_PATIENCE = 4
Inputs = dict[str, Tensor]  # the network's, for one head
_NOT_A_NUMBER = "the model computed a value that is not a number; try the dtype float32"


@dataclass
class EngineStats:
    """What the engine has done so far."""

    encodings: int = 0  # images encoded
    prefill_tokens: int = 0  # tokens run by prefills
    cached_tokens: int = 0  # tokens that prefills took from the prefix cache
    prefills: int = 0  # prefill passes
    decode_steps: int = 0  # decoding passes
    rows: int = 0  # rows of all decoding passes together
    guessed: int = 0  # tokens guessed by prompt lookup
    accepted: int = 0  # guessed tokens that came true


@dataclass(eq=False)
class _Batch:
    """The samples that are decoded together, row by row, and their keys and values."""

    cache: BatchCache
    samples: list[SampledSequence] = field(default_factory=list)


class Engine:
    """Runs sequences in batches.

    Args:
        network: The model.
        head_tensors: Makes the network's inputs for the head of a prompt.
        memory: Bytes of all caches; half is for the prefix cache, half for the sequences being decoded.
        max_rows: Most sequences that run together.
        share: Without it, or where the network needs it, every sequence is run by itself from nothing.
    """

    def __init__(
        self,
        network: Network,
        head_tensors: Callable[[Encoded], Inputs],
        memory: int,
        max_rows: int,
        share: bool = True,
    ) -> None:
        share = share and not network.by_length
        self.stats = EngineStats()
        self._network = network
        self._head_tensors = head_tensors
        self.device = network.device
        self._max_rows = max_rows if share else 1
        self._share = share
        self._states = bool(network.layout.states)
        self._prefixes = PrefixCache(0, self._states)
        self.memory = memory
        self._lookup = PromptLookup()
        self._calls: set[EngineCall] = set()  # those that have neither results nor an error
        self._waiting: deque[EngineSequence] = deque()
        self._batches: dict[int, _Batch] = {}
        self._full = False  # nothing is admitted until a row leaves
        self._patience = 0

    @property
    def memory(self) -> int:
        """The most bytes of all caches."""
        return self._memory

    @memory.setter
    def memory(self, memory: int) -> None:
        self._memory, self._room = memory, memory - memory // 2
        self._prefixes.limit = memory // 2 if self._share else 0

    def rows(self, tokens: int) -> int:
        """How many sequences of so many tokens are decoded together, at most."""
        return min(self._max_rows, self._room // self._network.layout.row_bytes(tokens))

    @property
    def nbytes(self) -> int:
        """Memory of all caches now."""
        return self._prefixes.nbytes + sum(batch.cache.nbytes for batch in self._batches.values())

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or any(batch.samples for batch in self._batches.values())

    def add(self, sequences: Sequence[EngineSequence]) -> None:
        self._calls.update(sequence.call for sequence in sequences)
        self._waiting.extend(sequences)

    def step(self) -> None:
        """Admit what waits and decode one token of every row. Failures go to the calls; none is raised."""
        try:
            # The network takes more threads where it gains by them.
            with torch.inference_mode(), threads(1):
                self._drop()
                if self._waiting and self._ripe():
                    self._admit()
                for batch in list(self._batches.values()):
                    if batch.samples:
                        self._decode_or_fail(batch)
                self._calls = {call for call in self._calls if not call.done()}
                if self._calls and not self.busy:
                    raise ModelFailure("the engine lost a question; ask it again")
        except BaseException as error:
            self.fail(error)

    def _ripe(self) -> bool:
        """Whether to admit what waits. A prefill delays all running rows, so few sequences wait for more."""
        running = len(self._running())
        if self._full and running:
            return False
        self._patience = 0 if running <= _CROWD * len(self._waiting) else self._patience + 1
        return self._patience in (0, _PATIENCE)

    def fail(self, error: BaseException) -> None:
        """Fail all calls and start anew with empty caches: what failed may have left them half changed."""
        for call in self._calls:
            call.fail(error)
        self._calls = set()
        self._waiting.clear()
        self._batches = {}
        self._prefixes = PrefixCache(self._prefixes.limit, self._states)
        self._full = False

    def _running(self) -> list[SampledSequence]:
        return [sample for batch in self._batches.values() for sample in batch.samples]

    def _fail(self, sequences: Iterable[EngineSequence], error: BaseException) -> None:
        for sequence in sequences:
            sequence.call.fail(error)

    def _drop(self) -> None:
        """Remove the sequences of calls that are done."""
        if self._waiting:
            self._waiting = deque(sequence for sequence in self._waiting if not sequence.call.done())
        for batch in self._batches.values():
            for row in reversed(range(len(batch.samples))):
                if batch.samples[row].call.done():
                    self._leave(batch, row, remember=False)

    # Admission

    def _admit(self) -> None:
        self._patience = 0
        free = self._max_rows - len(self._running())
        sequences = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        try:
            prefills = self._prefills(sequences)
            self._match(prefills)
            for some in (shared_beginnings(prefills) if self._share else [], prefills):
                self._match(some)
                # Padding would change states.
                grouped = group_prefills(some, _TOKENS, padded=not self._states)
                for group in grouped if self._share else [[one] for one in some]:
                    self._prefill_or_fail(group)
        except Exception as error:
            self._fail(sequences, error)

    def _prefills(self, sequences: Sequence[EngineSequence]) -> list[Prefill]:
        """One prefill for all sequences with the same ids."""
        prefills: dict[Any, Prefill] = {}
        for sequence, root in self._rooted(sequences):
            key: Any = (id(root), tuple(sequence.ids)) if self._share else id(sequence)
            prefills.setdefault(key, Prefill(root, sequence.ids)).sequences.append(sequence)
        return list(prefills.values())

    def _rooted(self, sequences: Sequence[EngineSequence]) -> list[tuple[EngineSequence, PrefixRoot]]:
        """The sequences with their roots. Heads that are not cached are run, those of one shape together.

        If a head fails, so do all sequences that begin with it.
        """
        alike: dict[Any, list[EngineSequence]] = {}
        for sequence in sequences:
            alike.setdefault(self._head_key(sequence), []).append(sequence)
        roots: dict[Any, PrefixRoot] = {}
        missing: dict[Any, dict[Any, Inputs]] = {}
        for key, some in alike.items():
            head = some[0].encoded.head
            root = self._prefixes.root(head) if self._share else None
            if root is None and head is None:
                root = PrefixRoot((), [], None)
                self._prefixes.add_root(root)
            if root is not None:
                roots[key] = root
                continue
            try:
                tensors = self._head_tensors(some[0].encoded)
            except Exception as error:
                self._fail(some, error)
                continue
            shape = tuple((name, *tensor.shape[1:]) for name, tensor in sorted(tensors.items()))
            missing.setdefault(shape, {})[key] = tensors
        passes = []
        for inputs in missing.values():
            items = list(inputs.items())
            passes += [dict(items[start : start + _HEADS]) for start in range(0, len(items), _HEADS)]
        while passes:
            inputs = passes.pop(0)
            try:
                roots |= self._run_heads({key: alike[key][0] for key in inputs}, list(inputs.values()))
            except Exception as error:
                if len(inputs) > 1:  # one of the images may be at fault
                    passes += [{key: tensors} for key, tensors in inputs.items()]
                else:
                    self._fail([sequence for key in inputs for sequence in alike[key]], error)
        return [(one, roots[key]) for one in sequences if (key := self._head_key(one)) in roots]

    def _head_key(self, sequence: EngineSequence) -> Any:
        return sequence.encoded.head if self._share else id(sequence)

    def _run_heads(
        self, sequences: dict[Any, EngineSequence], inputs: Sequence[Inputs]
    ) -> dict[Any, PrefixRoot]:
        heads = [one.encoded.head for one in sequences.values() if one.encoded.head is not None]
        roots = self._network.run_heads(heads, inputs)
        for root, head in zip(roots, heads, strict=True):
            self.stats.encodings += len(head.images)
            self.stats.prefill_tokens += len(head.ids)
            if self._share:
                self._prefixes.add_root(root)
        return dict(zip(sequences, roots, strict=True))

    def _match(self, prefills: Sequence[Prefill]) -> None:
        """Look up how much of each is cached. The ids whose logits are needed must be run."""
        for prefill in prefills:
            start, stop = len(prefill.root.ids), len(prefill.ids) - prefill.logits_to_keep
            prefill.pieces, prefill.states = self._prefixes.match(prefill.root, prefill.ids[start:stop])
            prefill.cached = start + sum(piece[0].shape[2] for piece in prefill.pieces)

    def _prefill_or_fail(self, prefills: list[Prefill]) -> None:
        batch = self._batch(prefills[0].root)
        first = len(batch.samples)
        try:
            self._prefill(batch, prefills)
        except Exception as error:
            self._fail([sequence for prefill in prefills for sequence in prefill.sequences], error)
            del batch.samples[first:]
            batch.cache.clear(first)

    def _prefill(self, batch: _Batch, prefills: list[Prefill]) -> None:
        prefills = self._fitting(batch, sorted(prefills, key=lambda prefill: not prefill.samples))
        if not prefills:
            return
        cache, first = batch.cache, len(batch.samples)
        for row, prefill in enumerate(prefills, first):
            at = cache.write(row, 0, prefill.root.kv) if prefill.root.ids else 0
            for piece in prefill.pieces:
                at = cache.write(row, at, piece)
            cache.write_states(row, prefill.states)
            self.stats.prefill_tokens += len(prefill.new_ids)
            self.stats.cached_tokens += prefill.cached
        one = prefills[0]
        while len(prefills) == 1 and len(one.new_ids) > _TOKENS + one.logits_to_keep:  # too long for one pass
            part = one.new_ids[:_TOKENS]
            self._network.extend(cache, first, [part], [one.cached], [one.root], 1)
            one.cached += len(part)
        logits = self._network.extend(
            cache,
            first,
            [prefill.new_ids for prefill in prefills],
            [prefill.cached for prefill in prefills],
            [prefill.root for prefill in prefills],
            max(prefill.logits_to_keep for prefill in prefills),
        )
        self.stats.prefills += 1
        for row, prefill in enumerate(prefills, first):
            self._remember(prefill.root, prefill.ids, cache, row)
            self._lookup.learn(prefill.ids, prefill.cached)
        self._begin(batch, prefills, logits)

    def _begin(self, batch: _Batch, prefills: Sequence[Prefill], logits: Tensor) -> None:
        """Settle scores, and give each sample a row: the first one of a prefill has the prefill's."""
        first = len(batch.samples)
        sources = [i for i, prefill in enumerate(prefills) if prefill.samples]
        batch.samples += [prefills[i].samples[0] for i in sources]
        for i, prefill in enumerate(prefills):
            if not prefill.samples and bool(logits[i].isnan().any()):
                batch.cache.clear(first + i, first + i + 1)  # as a failed sample's row is
            for sequence in prefill.sequences:
                sequence.root = prefill.root
                if isinstance(sequence, ScoredSequence) and not sequence.read(logits[i]):
                    self._fail([sequence], ModelFailure(_NOT_A_NUMBER))
        for i, prefill in enumerate(prefills):
            more = prefill.samples[1:]
            if more:
                row = len(batch.samples)
                batch.cache.copy(first + i, row, row + len(more), len(prefill.ids))
                batch.samples += more
                sources += [i] * len(more)
        if sources:
            self._advance(batch, first, logits[sources, -1:], [[] for _ in sources])

    def _batch(self, root: PrefixRoot) -> _Batch:
        if root.features not in self._batches:
            self._batches[root.features] = _Batch(BatchCache(self._network.layout, root.cross))
        return self._batches[root.features]

    def _fitting(self, batch: _Batch, prefills: list[Prefill]) -> list[Prefill]:
        """Make room for as many of the prefills' sequences as fit; the rest wait."""
        while prefills and not self._reserve(batch, prefills):
            if prefills[-1].sequences[1:]:
                self._waiting.appendleft(prefills[-1].sequences.pop())
                self._full = True
                continue
            prefill = prefills.pop()
            if prefills or self._running():
                self._waiting.extendleft(prefill.sequences)
                self._full = True
            else:
                self._fail(prefill.sequences, _too_large(len(prefill.ids)))
        return prefills

    def _reserve(self, batch: _Batch, prefills: Sequence[Prefill] = ()) -> bool:
        held = len(batch.samples), max((len(sample.ids) for sample in batch.samples), default=0)
        rows = held[0] + sum(max(1, len(prefill.samples)) for prefill in prefills)
        columns = max(held[1], *(len(prefill.ids) for prefill in prefills), 0)
        crosses = {id(root.cross) for root in (*(s.root for s in batch.samples), *(p.root for p in prefills))}
        for _ in range(2):
            used = sum(other.cache.nbytes for other in self._batches.values() if other is not batch)
            # One column more is where padding is written.
            if batch.cache.reserve(rows, columns + 1, held, len(crosses) > 1, self._room - used):
                return True
            self._batches = {f: b for f, b in self._batches.items() if b.samples or b is batch}
        return False

    # Decoding

    def _decode_or_fail(self, batch: _Batch) -> None:
        samples = list(batch.samples)
        try:
            self._decode(batch)
        except Exception as error:
            self._fail(samples, error)
            self._batches = {f: b for f, b in self._batches.items() if b is not batch}
            self._full = False

    def _roomy(self, batch: _Batch) -> bool:
        longest = max(len(sample.ids) for sample in batch.samples)
        return longest < batch.cache.capacity[1] or self._reserve(batch)

    def _guess(self, batch: _Batch) -> list[list[int]]:
        """Tokens that may follow each row, as far as there is room. One column stays free for padding.

        None with states, which could not go back where a guess does not come true.
        """
        samples, room = batch.samples, batch.cache.capacity[1] - 1
        if not self._share or self._states:
            return [[] for _ in samples]
        most = [min(sample.builder.left - 1, room - len(sample.ids)) for sample in samples]
        return self._lookup.guess_together([sample.ids for sample in samples], most)

    def _decode(self, batch: _Batch) -> None:
        while not self._roomy(batch):
            if len(self._running()) == 1:
                raise _too_large(len(batch.samples[0].ids))
            self._waiting.appendleft(batch.samples[-1])
            self._leave(batch, len(batch.samples) - 1)
            self._full = True
            if not batch.samples:
                return
        samples, guesses = batch.samples, self._guess(batch)
        lengths = [len(sample.ids) - 1 for sample in samples]
        roots = [sample.root for sample in samples]
        last = [sample.ids[-1] for sample in samples]
        if any(guesses):
            tokens = [[token, *guess] for token, guess in zip(last, guesses, strict=True)]
            logits = self._network.extend(batch.cache, 0, tokens, lengths, roots, max(map(len, tokens)))
        else:
            logits = self._network.step(batch.cache, last, lengths, roots)[:, None]
        self.stats.decode_steps += 1
        self.stats.rows += len(samples)
        self.stats.guessed += sum(map(len, guesses))
        self._advance(batch, 0, logits, guesses)

    def _advance(self, batch: _Batch, first: int, logits: Tensor, guesses: Sequence[Sequence[int]]) -> None:
        """Draw what follows rows `first` and on, and what follows their guesses while these come true.

        `logits` is [rows, tokens, vocabulary], aligned at the end. Rows that are done leave.
        """
        samples = batch.samples[first:]
        spots = [(row, place) for row, guess in enumerate(guesses) for place in range(-1 - len(guess), 0)]
        pairs = list(zip(samples, guesses, strict=True))
        tokens, logprobs = draw(
            logits[*send(spots, logits.device).T] if len(spots) > len(samples) else logits[:, 0],
            [samples[row].sampling for row, _ in spots],
            [number for sample, guess in pairs for number in sample.uniforms(1 + len(guess))],
            _row_masks([sample.allowed(guess) for sample, guess in pairs], guesses, logits.device),
            _row_masks([sample.seen(guess) for sample, guess in pairs], guesses, logits.device),
        )
        drawn, done, failed = zip(tokens, logprobs, strict=True), [], set()
        for row, (sample, guess) in enumerate(pairs, first):
            start, own = len(sample.ids), [next(drawn) for _ in range(1 + len(guess))]
            try:
                if any(math.isnan(logprob) for _, logprob in own):
                    raise ModelFailure(_NOT_A_NUMBER)
                if self._take(sample, guess, own):
                    done.append(row)
            except Exception as error:
                self._fail([sample], error)
                failed.add(row)
                done.append(row)
            self._lookup.learn(sample.ids, start)
        for row in reversed(done):
            if row in failed:  # what lies behind a later sequence must be finite
                batch.cache.clear(row, row + 1)
            self._leave(batch, row, remember=row not in failed)

    def _take(
        self, sample: SampledSequence, guess: Sequence[int], drawn: Sequence[tuple[int, float]]
    ) -> bool:
        """Give a sample the tokens drawn, up to the first that differs from its guess. True if it is done."""
        for guessed, (token, logprob) in zip_longest(guess, drawn):
            if sample.take(token, logprob):
                return True
            if token != guessed:
                break
            self.stats.accepted += 1
        return False

    def _leave(self, batch: _Batch, row: int, remember: bool = True) -> None:
        """Remove a row and cache its prefix. The last row takes its place."""
        sample = batch.samples[row]
        if remember:
            self._remember(sample.root, sample.ids[: sample.computed], batch.cache, row)
        last = batch.samples.pop()
        if sample is not last:
            batch.cache.copy(len(batch.samples), row, row + 1, len(last.ids))
            batch.samples[row] = last
        self._full = False

    def _remember(self, root: PrefixRoot, ids: Sequence[int], cache: BatchCache, row: int) -> None:
        if self._share:
            start = len(root.ids)
            self._prefixes.add(
                root,
                ids[start:],
                lambda a, b: cache.read(row, start + a, start + b),
                lambda: cache.read_states(row),
            )


def _row_masks(
    masks: Sequence[NDArray[np.bool_] | None], guesses: Sequence[Sequence[int]], device: torch.device
) -> RowMasks | None:
    """The masks of the samples that have one, as `draw` takes them: a sample has a row per token to come."""
    rows: list[int] = []
    at = 0
    for mask, guess in zip(masks, guesses, strict=True):
        rows += range(at, at + len(guess) + 1) if mask is not None else ()
        at += 1 + len(guess)
    given = [mask for mask in masks if mask is not None]
    return (rows, send(torch.from_numpy(np.concatenate(given)), device)) if given else None


def _too_large(tokens: int) -> ModelError:
    return ModelError(
        f"a text of {tokens} tokens does not fit in the memory for caches; use a larger cache_mb"
    )
