"""The batch: which rows run next, and what becomes of them.

Owns the schedule, the sharing of prefixes, and the bound on rows and memory. Knows no prompts, only ids
and heads, and no event loop: whoever calls `step` again and again owns the thread. What may be shared is:
heads by all that begin with them, prefixes by all rows, one prefill by all samples of a prompt.
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
from torch import Tensor

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.local.encoding import Encoded
from llava_cot.models.local.kv_cache import BatchCache
from llava_cot.models.local.network import Network, threads
from llava_cot.models.local.prefix_cache import PrefixCache, PrefixRoot
from llava_cot.models.local.prompt_lookup import PromptLookup
from llava_cot.models.local.sampler import draw
from llava_cot.models.local.sequences import (
    EngineSequence,
    Prefill,
    SampledSequence,
    ScoredSequence,
    chunks,
    features,
    stems,
)

# Heads in one pass (their images take memory), and tokens in one prefill.
_HEADS = 16
_TOKENS = 8192
# Where more than this many rows run for each that waits, the latter wait for others, so many steps at most.
_CROWD = 8
_PATIENCE = 4


@dataclass
class EngineStats:
    """What the engine has done so far; `rows` counts those of all decode steps together, `drafted` and
    `accepted` the tokens that were guessed and those of them that came true."""

    encodings: int = 0
    prefill_tokens: int = 0
    cached_tokens: int = 0
    prefills: int = 0
    decode_steps: int = 0
    rows: int = 0
    drafted: int = 0
    accepted: int = 0


@dataclass(eq=False)
class _Batch:
    """A lane and its samples, row by row."""

    lane: BatchCache
    samples: list[SampledSequence] = field(default_factory=list)


class Engine:
    """`memory` bytes are shared by the rows being decoded and, half of them, the prefixes kept.

    Without `share`, every job is run by itself from nothing.
    """

    def __init__(
        self,
        network: Network,
        head_tensors: Callable[[Encoded], dict[str, Tensor]],
        memory: int,
        max_rows: int,
        share: bool = True,
    ) -> None:
        self.stats = EngineStats()
        self._network = network
        self._head_tensors = head_tensors
        self._room = memory - memory // 2
        self._max_rows = max_rows if share else 1
        self._share = share
        self._prefixes = PrefixCache(memory // 2 if share else 0)
        self._drafts = PromptLookup()
        self._waiting: deque[EngineSequence] = deque()
        self._batches: dict[int, _Batch] = {}
        self._full = False  # nothing is admitted until a row leaves
        self._patience = 0

    @property
    def nbytes(self) -> int:
        """Memory of all caches now."""
        return self._prefixes.nbytes + sum(batch.lane.nbytes for batch in self._batches.values())

    @property
    def busy(self) -> bool:
        return bool(self._waiting) or any(batch.samples for batch in self._batches.values())

    def add(self, jobs: Iterable[EngineSequence]) -> None:
        self._waiting.extend(jobs)

    @torch.inference_mode()
    def step(self) -> None:
        """Admit what waits and decode one token of every row. Failures go to the jobs' tickets."""
        with threads(1):  # the network takes more where it gains by them
            self._drop()
            if self._waiting and self._ripe():
                self._admit()
            for batch in list(self._batches.values()):
                if batch.samples:
                    try:
                        self._decode(batch)
                    except Exception as error:
                        self._fail(batch.samples, error)

    def _ripe(self) -> bool:
        """Whether to admit what waits: a prefill holds up all rows, so a crowd waits for some company."""
        running = len(self._running())
        if self._full and running:
            return False
        self._patience = 0 if running <= _CROWD * len(self._waiting) else self._patience + 1
        return self._patience in (0, _PATIENCE)

    def fail(self, error: BaseException) -> None:
        """Fail all that is waiting or running."""
        self._fail([*self._waiting, *self._running()], error)
        self._drop()

    def _running(self) -> list[SampledSequence]:
        return [sample for batch in self._batches.values() for sample in batch.samples]

    def _fail(self, jobs: Iterable[EngineSequence], error: BaseException) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            error = ModelFailure("the device ran out of memory; use a smaller cache_mb or max_batch")
        for job in jobs:
            job.ticket.fail(error)

    def _drop(self) -> None:
        """Take out whatever nobody waits for any more."""
        if any(job.ticket.dropped for job in self._waiting):
            self._waiting = deque(job for job in self._waiting if not job.ticket.dropped)
        for batch in self._batches.values():
            for row in reversed(range(len(batch.samples))):
                if batch.samples[row].ticket.dropped:
                    self._leave(batch, row)

    # Admission

    def _admit(self) -> None:
        self._patience = 0
        free = self._max_rows - len(self._running())
        jobs = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        fills = self._fills(jobs)
        self._match(fills)
        for some in (stems(fills) if self._share else [], fills):
            self._match(some)
            for chunk in chunks(some, _TOKENS) if self._share else [[fill] for fill in some]:
                try:
                    self._prefill(chunk)
                except Exception as error:
                    self._fail([job for fill in chunk for job in fill.jobs], error)

    def _fills(self, jobs: Sequence[EngineSequence]) -> list[Prefill]:
        """The jobs with their heads, those with the same ids together."""
        fills: dict[Any, Prefill] = {}
        for job, root in self._rooted(jobs):
            key: Any = (id(root), tuple(job.ids)) if self._share else id(job)
            fills.setdefault(key, Prefill(root, job.ids)).jobs.append(job)
        return list(fills.values())

    def _rooted(self, jobs: Sequence[EngineSequence]) -> list[tuple[EngineSequence, PrefixRoot]]:
        """The jobs with their roots; heads that are not known are run first, those of one shape together."""
        roots: dict[Any, PrefixRoot] = {}
        missing: dict[Any, dict[Any, EngineSequence]] = {}
        tensors: dict[Any, dict[str, Tensor]] = {}
        keys = [job.encoded.head if self._share else id(job) for job in jobs]
        for key, job in zip(keys, jobs, strict=True):
            if key in roots or key in tensors:
                continue
            root = self._prefixes.root(job.encoded.head) if self._share else None
            if root is None and job.encoded.head is None:
                root = PrefixRoot((), [], None)
                self._prefixes.add_root(root)
            if root is not None:
                roots[key] = root
                continue
            try:
                tensors[key] = self._head_tensors(job.encoded)
            except Exception as error:
                self._fail([job], error)
                continue
            shape = tuple((name, *tensor.shape[1:]) for name, tensor in sorted(tensors[key].items()))
            missing.setdefault(shape, {})[key] = job
        for alike in missing.values():
            items = list(alike.items())
            for start in range(0, len(items), _HEADS):
                some = dict(items[start : start + _HEADS])
                try:
                    roots |= self._run_heads(some, tensors)
                except Exception as error:
                    self._fail(some.values(), error)
        return [(job, roots[key]) for key, job in zip(keys, jobs, strict=True) if key in roots]

    def _run_heads(
        self, jobs: dict[Any, EngineSequence], tensors: dict[Any, dict[str, Tensor]]
    ) -> dict[Any, PrefixRoot]:
        heads = [job.encoded.head for job in jobs.values() if job.encoded.head is not None]
        roots = self._network.heads(heads, [tensors[key] for key in jobs])
        for root, head in zip(roots, heads, strict=True):
            self.stats.encodings += len(head.images)
            self.stats.prefill_tokens += len(head.ids)
            if self._share:
                self._prefixes.add_root(root)
        return dict(zip(jobs, roots, strict=True))

    def _match(self, fills: Sequence[Prefill]) -> None:
        """Look up how much of each is known; the ids whose logits are asked for must be run."""
        for fill in fills:
            start = len(fill.root.ids)
            fill.pieces = self._prefixes.match(fill.root, fill.ids[start : len(fill.ids) - fill.keep])
            fill.known = start + sum(piece[0].shape[2] for piece in fill.pieces)

    def _prefill(self, fills: list[Prefill]) -> None:
        batch = self._batch(fills[0].root)
        fills = self._fitting(batch, sorted(fills, key=lambda fill: not fill.samples))
        if not fills:
            return
        lane, first = batch.lane, len(batch.samples)
        for row, fill in enumerate(fills, first):
            at = lane.write(row, 0, fill.root.kv) if fill.root.ids else 0
            for piece in fill.pieces:
                at = lane.write(row, at, piece)
            self.stats.prefill_tokens += len(fill.todo)
            self.stats.cached_tokens += fill.known
        while len(fills) == 1 and len(fills[0].todo) > _TOKENS + fills[0].keep:  # too long for one pass
            fill, part = fills[0], fills[0].todo[:_TOKENS]
            self._network.extend(lane, first, [part], [fill.known], [fill.root], 1)
            fill.known += len(part)
        logits = self._network.extend(
            lane,
            first,
            [fill.todo for fill in fills],
            [fill.known for fill in fills],
            [fill.root for fill in fills],
            max(fill.keep for fill in fills),
        )
        self.stats.prefills += 1
        for row, fill in enumerate(fills, first):
            self._remember(fill.root, fill.ids, lane, row)
            self._drafts.learn(fill.ids, fill.known)
        self._begin(batch, fills, logits)

    def _begin(self, batch: _Batch, fills: Sequence[Prefill], logits: Tensor) -> None:
        """Answer scores, and give each sample a row of its own, the first of a fill the fill's."""
        first = len(batch.samples)
        sources = [i for i, fill in enumerate(fills) if fill.samples]
        batch.samples += [fills[i].samples[0] for i in sources]
        for i, fill in enumerate(fills):
            for job in fill.jobs:
                job.root = fill.root
                if isinstance(job, ScoredSequence):
                    job.read(logits[i, -job.keep :])
            more = fill.samples[1:]
            if more:
                row = len(batch.samples)
                batch.lane.copy(first + i, row, row + len(more), len(fill.ids))
                batch.samples += more
                sources += [i] * len(more)
        if sources:
            self._advance(batch, first, logits[sources, -1:], [[] for _ in sources])

    def _batch(self, root: PrefixRoot) -> _Batch:
        size = features(root)
        if size not in self._batches:
            self._batches[size] = _Batch(BatchCache(self._network.layout, root.cross))
        return self._batches[size]

    def _fitting(self, batch: _Batch, fills: list[Prefill]) -> list[Prefill]:
        """Make room for the fills, or for as many of their jobs as there is room for; the rest wait."""
        fills = list(fills)
        while fills and not self._reserve(batch, fills):
            if fills[-1].jobs[1:]:
                self._waiting.appendleft(fills[-1].jobs.pop())
                self._full = True
                continue
            fill = fills.pop()
            if fills or self._running():
                self._waiting.extendleft(fill.jobs)
                self._full = True
            else:
                self._fail(fill.jobs, _too_large(len(fill.ids)))
        return fills

    def _reserve(self, batch: _Batch, fills: Sequence[Prefill] = ()) -> bool:
        held = len(batch.samples), max((len(sample.ids) for sample in batch.samples), default=0)
        rows = held[0] + sum(max(1, len(fill.samples)) for fill in fills)
        columns = max(held[1], *(len(fill.ids) for fill in fills), 0)
        crosses = {id(root.cross) for root in (*(s.root for s in batch.samples), *(f.root for f in fills))}
        for _ in range(2):
            used = sum(other.lane.nbytes for other in self._batches.values() if other is not batch)
            # One column more is where padding is written.
            if batch.lane.reserve(rows, columns + 1, held, len(crosses) > 1, self._room - used):
                return True
            self._batches = {f: b for f, b in self._batches.items() if b.samples or b is batch}
        return False

    # Decoding

    def _roomy(self, batch: _Batch) -> bool:
        longest = max(len(sample.ids) for sample in batch.samples)
        return longest < batch.lane.capacity[1] or self._reserve(batch)

    def _draft(self, batch: _Batch) -> list[list[int]]:
        """What may follow each row, as far as there is room; one column stays free for padding."""
        samples, room = batch.samples, batch.lane.capacity[1] - 1
        if not self._share:
            return [[] for _ in samples]
        most = [min(sample.left - 1, room - len(sample.ids)) for sample in samples]
        return self._drafts.of_rows([sample.ids for sample in samples], most)

    def _decode(self, batch: _Batch) -> None:
        while not self._roomy(batch):
            if len(self._running()) == 1:
                raise _too_large(len(batch.samples[0].ids))
            self._waiting.appendleft(batch.samples[-1])
            self._leave(batch, len(batch.samples) - 1)
            self._full = True
            if not batch.samples:
                return
        samples, drafts = batch.samples, self._draft(batch)
        before = [len(sample.ids) - 1 for sample in samples]
        roots = [sample.root for sample in samples]
        last = [sample.ids[-1] for sample in samples]
        if any(drafts):
            tokens = [[token, *draft] for token, draft in zip(last, drafts, strict=True)]
            logits = self._network.extend(batch.lane, 0, tokens, before, roots, max(map(len, tokens)))
        else:
            logits = self._network.step(batch.lane, last, before, roots)[:, None]
        self.stats.decode_steps += 1
        self.stats.rows += len(samples)
        self.stats.drafted += sum(map(len, drafts))
        self._advance(batch, 0, logits, drafts)

    def _advance(self, batch: _Batch, first: int, logits: Tensor, drafts: Sequence[Sequence[int]]) -> None:
        """Draw what follows rows `first` and on, and what follows their drafts while these come true.

        `logits` is [rows, tokens, vocabulary], aligned at the end. Rows that are done leave.
        """
        samples = batch.samples[first:]
        spots = [(row, place) for row, draft in enumerate(drafts) for place in range(-1 - len(draft), 0)]
        rows, places = zip(*spots, strict=True)
        tokens, logprobs = draw(
            logits[rows, places] if len(spots) > len(samples) else logits[:, 0],
            [samples[row].sampling.temperature for row in rows],
            [samples[row].sampling.top_p for row in rows],
            [
                number
                for sample, draft in zip(samples, drafts, strict=True)
                for number in sample.uniforms(1 + len(draft))
            ],
            _allowed(samples, drafts, logits.device),
        )
        if any(map(math.isnan, logprobs)):
            raise ModelFailure("the model computed what is not a number; try the dtype float32")
        drawn, done = zip(tokens, logprobs, strict=True), []
        for row, (sample, draft) in enumerate(zip(samples, drafts, strict=True), first):
            start = len(sample.ids)
            if self._take(sample, draft, [next(drawn) for _ in range(1 + len(draft))]):
                done.append(row)
            self._drafts.learn(sample.ids, start)
        for row in reversed(done):
            self._leave(batch, row)

    def _take(
        self, sample: SampledSequence, draft: Sequence[int], drawn: Sequence[tuple[int, float]]
    ) -> bool:
        """Give a sample what was drawn, to the first that its draft did not foresee; true if it is done."""
        for guess, (token, logprob) in zip_longest(draft, drawn):
            if sample.take(token, logprob):
                return True
            if token != guess:
                break
            self.stats.accepted += 1
        return False

    def _leave(self, batch: _Batch, row: int) -> None:
        """Take a row out, keeping what it computed; the last row takes its place."""
        sample = batch.samples[row]
        self._remember(sample.root, sample.ids[: sample.computed], batch.lane, row)
        last = batch.samples.pop()
        if sample is not last:
            batch.lane.copy(len(batch.samples), row, row + 1, len(last.ids))
            batch.samples[row] = last
        self._full = False

    def _remember(self, root: PrefixRoot, ids: Sequence[int], lane: BatchCache, row: int) -> None:
        if self._share:
            start = len(root.ids)
            self._prefixes.add(root, ids[start:], lambda a, b: lane.read(row, start + a, start + b))


def _allowed(
    samples: Sequence[SampledSequence], drafts: Sequence[Sequence[int]], device: torch.device
) -> tuple[list[int], Tensor] | None:
    """What samples with a form may draw, as `draw` takes it: a sample has a row for each token to come."""
    rows: list[int] = []
    found, at = [], 0
    for sample, draft in zip(samples, drafts, strict=True):
        allowed = sample.allowed(draft)
        if allowed is not None:
            rows += range(at, at + len(allowed))
            found.append(allowed)
        at += 1 + len(draft)
    return (rows, torch.from_numpy(np.concatenate(found)).to(device)) if found else None


def _too_large(tokens: int) -> ModelError:
    return ModelError(
        f"a text of {tokens} tokens does not fit in the memory for caches; use a larger cache_mb"
    )
