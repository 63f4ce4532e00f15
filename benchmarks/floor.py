"""The floor under a run of ours: its tokens as raw batched forward passes with a full cache, nothing else.

`Watched` notes what a method asks of the model while one question is answered. `plan` lays those rows out
in time as if every one advanced a token a step: a call begins when the calls that it waited for have ended,
a row that is finished leaves. A `Runner` runs that plan. What is timed:

- steps: for each stretch of time with the same rows, `model.forward` on one token a row, and an argmax. The
  cache is already filled to the rows' mean length, and written in place: faster than the `DynamicCache` of
  transformers, which copies itself at every step, and no slower than its `StaticCache`. A row of L tokens
  takes L - 1 steps: its first token comes with the reading.
- reading: of each group of prompts that begin together, the tokens that no earlier row of the question has
  in common with them, the last one in any case, as one forward pass of one row. The picture is encoded once.

Each pass is timed on one thread and on all, since small products lose by sharing; the faster counts.

What is not: the processor, filling and forking caches, sampling, looking for stops, and all that a method
does.
"""

# mypy: allow-untyped-calls

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from statistics import mean
from typing import Any

import torch
from plain import Plain
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from llava_cot.models.base import Continuation, Model, OnText, Prompt, Sampling
from llava_cot.models.local.network import threads


@dataclass(frozen=True)
class Call:
    """One call of a model: the step at which it began, and what each of its rows gained.

    `rows` are the tokens of the texts, `lengths` counts those generated, an end token included.
    """

    prompt: Prompt
    begin: int
    rows: tuple[tuple[int, ...], ...]
    lengths: tuple[int, ...]


class Watched:
    """A model that also notes its calls. For one question at a time."""

    def __init__(self, model: Model) -> None:
        self.name = model.name
        self.calls: list[Call] = []
        self.count_tokens, self.price = model.count_tokens, model.price
        self._model = model
        self._end = 0

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        begin = self._end
        samples = await self._model.sample(prompt, n, sampling, on_text)
        self._note(
            Call(prompt, begin, tuple(c.tokens for c in samples), tuple(c.completion_tokens for c in samples))
        )
        return samples

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        begin = self._end
        scores = await self._model.choose(prompt, options)
        self._note(Call(prompt, begin, ((),), (1,)))
        return scores

    def _note(self, call: Call) -> None:
        self.calls.append(call)
        self._end = max(self._end, call.begin + max(call.lengths))


@dataclass(frozen=True)
class Pass:
    """`times` forward passes of `new` tokens for each of `width` rows; the cache holds `context` before."""

    width: int
    new: int
    context: int
    pictured: bool
    times: int


@dataclass(frozen=True)
class Floor:
    """Seconds for one question, and the number of forward passes."""

    steps: float
    reading: float
    passes: float

    @property
    def seconds(self) -> float:
        return self.steps + self.reading


@dataclass(frozen=True)
class _Row:
    """Steps from `begin` to `end`, with `held` tokens in the cache at `begin`."""

    begin: int
    end: int
    held: int
    pictured: bool


def plan(calls: Iterable[Call], encode: Callable[[Prompt], Sequence[int]]) -> tuple[list[Pass], list[Pass]]:
    """What is to be read and what is to be stepped; `encode` gives the ids of a whole prompt."""
    seen: dict[bool, list[list[int]]] = {True: [], False: []}
    reading: list[Pass] = []
    rows: list[_Row] = []
    for (_, pictured), group in groupby(
        sorted(calls, key=lambda call: (call.begin, not _pictured(call))),
        key=lambda call: (call.begin, _pictured(call)),
    ):
        together = list(group)
        shares, news = [], []
        for call in together:
            ids = list(encode(call.prompt))
            shared = max((_common(ids[:-1], other) for other in seen[pictured]), default=0)
            shares.append(shared)
            news.append(len(ids) - shared)
            seen[pictured] += [ids, *(ids + list(row) for row in call.rows)]
            rows += [_Row(call.begin + 1, call.begin + n, len(ids), pictured) for n in call.lengths]
        reading.append(Pass(1, sum(news), round(mean(shares)), pictured, 1))
    return reading, _steps(rows)


def _steps(rows: Sequence[_Row]) -> list[Pass]:
    """Stretches of time in which the same rows go on together."""
    changes = sorted({time for row in rows for time in (row.begin, row.end)})
    steps = []
    for start, end in pairwise(changes):
        for pictured in (True, False):
            held = [
                row.held + start - row.begin
                for row in rows
                if row.pictured == pictured and row.begin <= start < row.end
            ]
            if held:
                steps.append(Pass(len(held), 1, round(mean(held)), pictured, end - start))
    return steps


def _pictured(call: Call) -> bool:
    return any(message.images for message in call.prompt.messages)


def _common(a: list[int], b: list[int]) -> int:
    """How many tokens two texts begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


class _Full(DynamicLayer):
    """Keys and values [1, H, T, D] for `width` rows, with `room` for tokens that are written in place."""

    def __init__(self, keys: Tensor, values: Tensor, width: int, room: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self._buffers = [
            torch.cat([held, held.new_zeros(1, held.shape[1], room, held.shape[3])], dim=2).repeat(
                width, 1, 1, 1
            )
            for held in (keys, values)
        ]
        self._show(keys.shape[2])

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        begin, end = self._length, self._length + key_states.shape[2]
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, begin:end] = new
        return self._show(end)

    def _show(self, length: int) -> tuple[Tensor, Tensor]:
        self._length = length
        keys, values = (buffer[:, :, :length] for buffer in self._buffers)
        self.keys, self.values = keys, values
        return keys, values


class Runner:
    """Runs plans on a checkpoint; `prompt` is the question's, whose cache the passes start from."""

    def __init__(self, plain: Plain, prompt: Prompt) -> None:
        self._model = plain.model
        self._config = plain.model.config.get_text_config()
        self._crossed = getattr(self._config, "cross_attention_layers", None) or ()
        self._first = plain.encode(prompt)
        ids = self._first["input_ids"]
        self._length = ids.shape[1]
        self._read = {True: self._prefill(self._first), False: self._prefill({"input_ids": ids * 0})}
        mask = self._first.get("cross_attention_mask")
        # What a step's mask does not mask it need not be given.
        self._mask = None if mask is None or bool(mask[:, -1].all()) else mask[:, -1:]

    def floor(self, reading: list[Pass], steps: list[Pass]) -> Floor:
        """Time a plan."""
        read = sum(self._time(one) for one in reading)
        stepped = sum(self._time(one) for one in steps)
        return Floor(stepped, read, sum(one.times for one in (*reading, *steps)))

    def _time(self, one: Pass) -> float:
        """Seconds, on as many threads as are best."""
        tried = []
        for count in {1, torch.get_num_threads()}:
            with threads(count):
                tried.append(self._run(one))
        return min(tried)

    @torch.inference_mode()
    def _run(self, one: Pass) -> float:
        inputs = {"input_ids": torch.zeros(one.width, one.new, dtype=torch.long)}
        if one.context:
            cache = self._filled(one)
            if one.pictured and self._mask is not None:
                inputs["cross_attention_mask"] = self._mask.expand(one.width, one.new, -1, -1)
        else:
            cache = DynamicCache(config=self._config)
            if one.pictured:
                inputs = dict(self._first)
        began = time.perf_counter()
        for _ in range(one.times):
            logits = self._model(**inputs, past_key_values=cache, logits_to_keep=1).logits
            inputs["input_ids"] = logits[:, -1].argmax(-1, keepdim=True)
        return time.perf_counter() - began

    @torch.inference_mode()
    def _prefill(self, inputs: dict[str, Tensor]) -> Any:
        cache: Any = DynamicCache(config=self._config)
        self._model(**inputs, past_key_values=cache, logits_to_keep=1)
        return cache

    def _filled(self, one: Pass) -> Any:
        """A cache of `width` rows with `context` tokens: the question's own, repeated or cut."""
        cache: Any = DynamicCache(config=self._config)
        places = torch.arange(one.context) % self._length
        for index, layer in enumerate(self._read[one.pictured].layers):
            if index not in self._crossed:
                keys, values = layer.keys[:, :, places], layer.values[:, :, places]
                cache.layers[index] = _Full(keys, values, one.width, one.new * one.times)
            elif layer.is_initialized:
                cache.layers[index].lazy_initialization(layer.keys, layer.values)
                cache.layers[index].keys = layer.keys.expand(one.width, -1, -1, -1)
                cache.layers[index].values = layer.values.expand(one.width, -1, -1, -1)
        return cache
