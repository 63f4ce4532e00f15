"""A model from a folder, run on this machine by the project's own engine in a thread of its own.

Calls come from any number of event loops; each result goes back to the loop that its call came from.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_cot.errors import ModelError
from llava_cot.models.base import (
    OPTIONAL_SAMPLING,
    ConstraintKind,
    Continuation,
    OnText,
    Prompt,
    Sampling,
    check_constraint,
    check_memory,
    check_samples,
    no_option,
    too_long,
    unknown_ids,
)
from llava_cot.models.local.checkpoint import Checkpoint, end_tokens, load_checkpoint
from llava_cot.models.local.constraints import ConstraintCompiler, ConstraintState
from llava_cot.models.local.encoding import Encoded, Encoder
from llava_cot.models.local.engine import Engine, EngineStats
from llava_cot.models.local.network import Network
from llava_cot.models.local.sampler import SeenTokens
from llava_cot.models.local.sequences import EngineCall, EngineSequence, SampledSequence, ScoredSequence
from llava_cot.models.text import SampleBuilder, SampleText, Vocabulary

# Rounds of an event loop without a new call after which it has no more calls to make for now: what gathers
# calls takes a few rounds from one result to the next calls.
_QUIET_ROUNDS = 12

# Makes the sequences of a call, which stream by the second argument.
MakeSequences = Callable[[EngineCall, OnText | None], list[EngineSequence]]


class LocalModel:
    """A checkpoint in a folder, as a `llava_cot.models.base.Model`.

    Args:
        folder: The checkpoint's folder.
        device: "cpu", "cuda", "cuda:1", "mps" or "auto".
        dtype: "float32", "bfloat16", "float16" or "auto".
        cache_mb: Memory of all caches, in MiB.
        max_batch: Most sequences that are decoded together.
        double_bos: Begin prompts with the token for the beginning of text twice.
        share: Without it, nothing is batched or cached: each sample is computed by itself from nothing.

    Raises:
        ModelError: The checkpoint cannot be opened.
    """

    constraints: tuple[ConstraintKind, ...] = ("grammar", "json")
    sampling_options = OPTIONAL_SAMPLING

    def __init__(
        self,
        folder: Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        cache_mb: int = 2048,
        max_batch: int = 256,
        double_bos: bool = False,
        share: bool = True,
    ) -> None:
        check_memory(cache_mb, max_batch)
        self.name = folder.resolve().name
        self._runner = _Runner()
        self._finalizer = weakref.finalize(self, self._runner.close)
        opened = self._runner.start(
            lambda: _open(folder, device, dtype, cache_mb * 2**20, max_batch, double_bos, share)
        )
        model, processor = opened.checkpoint.model, opened.checkpoint.processor
        self.context = opened.checkpoint.context
        self._engine, self._encoder = opened.engine, opened.encoder
        self._size = opened.network.vocabulary
        self._vocabulary = Vocabulary(processor.tokenizer, self._size)
        self._embeddings = int(model.get_input_embeddings().num_embeddings)
        self._ends = end_tokens(model.generation_config, model.config, processor.tokenizer)
        self._compiler = ConstraintCompiler(processor.tokenizer, self._size, self._ends)

    @property
    def stats(self) -> EngineStats:
        return self._engine.stats

    @property
    def cache_bytes(self) -> int:
        """Memory of all caches now."""
        return self._engine.nbytes

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        check_samples(n)
        check_constraint(self.name, sampling, self.constraints)
        encoded = self._encode(prompt)
        limit = min(sampling.max_tokens, self.context - len(encoded.ids))
        prefix = encoded.ids[len(encoded.ids) - encoded.prefix_length :]
        states: Sequence[ConstraintState | None] = [None] * n
        if sampling.constraint is not None:  # which may take a while
            states = await asyncio.to_thread(self._compiler.start, sampling.constraint, n)
        penalized = sampling.repetition_penalty != 1

        def sequence(call: EngineCall, number: int, stream: OnText | None) -> SampledSequence:
            text = SampleText(self._vocabulary, prefix, sampling.stop)
            builder = SampleBuilder(len(encoded.ids), limit, text, self._ends, None if number else stream)
            seen = SeenTokens(encoded.ids, self._size) if penalized else None
            return SampledSequence(call, number, encoded, sampling, builder, states[number], seen)

        return await self._runner.run(
            n, lambda call, stream: [sequence(call, number, stream) for number in range(n)], on_text
        )

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        encoded = self._encode(prompt)
        ids = [self._encoder.option_ids(prompt.prefix, option) for option in options]
        if not ids or not all(ids):
            raise no_option()
        if len(encoded.ids) + max(map(len, ids)) > self.context:
            raise too_long(self.name, len(encoded.ids), self.context)
        # Options of one token are scored by one pass.
        groups = [[i for i, option in enumerate(ids) if len(option) == 1]]
        groups = [group for group in groups if group] + [[i] for i, o in enumerate(ids) if len(o) > 1]

        found = await self._runner.run(
            len(groups),
            lambda call, _: [
                ScoredSequence(call, part, encoded, [ids[i] for i in group])
                for part, group in enumerate(groups)
            ],
        )
        by_option = {
            i: score
            for group, scores in zip(groups, found, strict=True)
            for i, score in zip(group, scores, strict=True)
        }
        return [by_option[i] for i in range(len(ids))]

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encoder.encode(prompt).ids)

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None

    def close(self) -> None:
        """Stop; what is running fails. The model cannot be used again."""
        if self._finalizer():
            raise KeyboardInterrupt

    def _encode(self, prompt: Prompt) -> Encoded:
        encoded = self._encoder.encode(prompt)
        if len(encoded.ids) >= self.context:
            raise too_long(self.name, len(encoded.ids), self.context)
        if encoded.ids and not 0 <= min(encoded.ids) <= max(encoded.ids) < self._embeddings:
            raise unknown_ids(self.name)
        return encoded


@dataclass(frozen=True)
class _Opened:
    checkpoint: Checkpoint
    network: Network
    encoder: Encoder
    engine: Engine


def _open(
    folder: Path, device: str, dtype: str, memory: int, max_batch: int, double_bos: bool, share: bool
) -> _Opened:
    loaded = load_checkpoint(folder, device, dtype)
    network = Network(loaded.model)
    encoder = Encoder(loaded.processor, loaded.model.config, double_bos)
    return _Opened(loaded, network, encoder, Engine(network, encoder.head_tensors, memory, max_batch, share))


class _Waiting:
    """A call, and the future in some event loop that waits for its results."""

    def __init__(self, parts: int, on_text: OnText | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.call = EngineCall(parts, self._finish)
        self._on_text = on_text
        self._texts: list[str] = []
        self._lock = threading.Lock()

    def _finish(self, result: list[Any] | BaseException) -> None:
        self._later(self._resolve, result)

    def stream(self, text: str) -> None:
        """Send text to the loop. What arrives faster than the loop takes it is joined."""
        with self._lock:
            self._texts.append(text)
            first = len(self._texts) == 1
        if first:
            self._later(self._show, None)

    def _later(self, function: Callable[[Any], None], argument: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the loop was closed meanwhile
            self.call.dropped = True

    def _resolve(self, result: list[Any] | BaseException) -> None:
        if self.future.done():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)

    def _show(self, _: None) -> None:
        with self._lock:
            texts, self._texts = self._texts, []
        if self._on_text is None or self.future.done():
            return
        try:
            self._on_text("".join(texts))
        except Exception as error:
            self.future.set_exception(error)


class _Runner:
    """Runs an engine in a thread of its own.

    The model is opened there too: had another thread computed with it, OpenMP would keep a second set of
    threads, and with more of them than processors each waits longer for the others.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inbox: list[EngineSequence] = []
        self._submitted = 0
        self._last_loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, build: Callable[[], _Opened]) -> _Opened:
        """Start the thread. Returns what `build` made there, and raises what it raised."""
        opened: Future[_Opened] = Future()
        thread = threading.Thread(
            target=self._work, args=(build, opened), name="llava-cot engine", daemon=True
        )
        thread.start()
        self._thread = thread
        return opened.result()

    async def run(self, parts: int, sequences: MakeSequences, on_text: OnText | None = None) -> list[Any]:
        """Run the sequences of one call. Returns their results in order. Canceling this drops the call."""
        waiting = _Waiting(parts, on_text)
        with self._changed:
            if self._closed:
                raise ModelError("the model has been closed; open it again")
            self._inbox += sequences(waiting.call, None if on_text is None else waiting.stream)
            self._submitted += 1
            self._last_loop = waiting.loop
            self._changed.notify()
        try:
            return await waiting.future
        finally:
            waiting.call.dropped = True

    def close(self) -> bool:
        """End the thread. True if an interrupt came meanwhile.

        This waits for the current pass of the engine (or for the opening): were the thread still inside torch
        when the interpreter ends, the process would abort. It waits for an event first, since a `join` that
        is interrupted takes the thread for ended.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        interrupted = False
        while self._thread not in (None, threading.current_thread()):
            try:
                self._ended.wait()
                self._thread.join()
                break
            except KeyboardInterrupt:
                interrupted = True
        return interrupted

    def _work(self, build: Callable[[], _Opened], opened: Future[_Opened]) -> None:
        try:
            self._serve(build, opened)
        finally:
            self._ended.set()

    def _serve(self, build: Callable[[], _Opened], opened: Future[_Opened]) -> None:
        try:
            made = build()
        except BaseException as error:
            opened.set_exception(error)
            return
        engine = made.engine
        opened.set_result(made)
        while self._receive(engine):
            try:
                engine.step()
            except BaseException as error:
                engine.fail(error)

    def _receive(self, engine: Engine) -> bool:
        """Hand new sequences to the engine; wait for some if it has none. False if the thread must end."""
        idle = not engine.busy
        with self._changed:
            if idle:
                self._changed.wait_for(lambda: self._inbox or self._closed)
        if idle and not self._closed:
            self._settle()
        with self._changed:
            engine.add(self._inbox)
            self._inbox = []
            if self._closed:
                engine.fail(ModelError("the model has been closed"))
            return not self._closed

    def _settle(self) -> None:
        """Wait until the event loop of the last call makes no more calls, so that these start together."""
        loop, quiet = self._last_loop, threading.Event()

        def look(rounds: int, submitted: int) -> None:
            rounds = rounds + 1 if submitted == self._submitted else 0
            if rounds < _QUIET_ROUNDS and loop is not None:
                loop.call_soon(look, rounds, self._submitted)
            else:
                quiet.set()

        try:
            if loop is not None:
                loop.call_soon_threadsafe(look, 0, self._submitted)
                quiet.wait(0.05)
        except RuntimeError:  # the loop was closed
            pass
