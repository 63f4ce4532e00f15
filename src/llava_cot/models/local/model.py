"""A model from a folder, on this machine, and the thread that runs its engine.

Owns the way between asynchronous callers and the engine: calls go in, results come back to the event loop
that each call came from. Any number of loops may call, one after the other or at once.
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
    ConstraintKind,
    Continuation,
    OnText,
    Prompt,
    Sampling,
    check_constraint,
    check_memory,
    check_samples,
    check_sampling,
    no_option,
    too_long,
    unknown_ids,
)
from llava_cot.models.local.checkpoint import Checkpoint, end_tokens, load_checkpoint
from llava_cot.models.local.constraints import ConstraintCompiler, ConstraintState
from llava_cot.models.local.encoding import Encoded, Encoder
from llava_cot.models.local.engine import Engine, EngineStats
from llava_cot.models.local.network import Network
from llava_cot.models.local.sequences import EngineCall, EngineSequence, SampledSequence, ScoredSequence
from llava_cot.models.text import SampleBuilder, SampleText, Vocabulary

# Rounds of an event loop without a new call after which it has nothing more to ask for now: what
# gathers calls takes a few rounds from one result to the next calls.
_QUIET_ROUNDS = 12


class LocalModel:
    """A model as `llava_cot.models.base.Model` has it, from a checkpoint in a folder.

    `share=False` turns off batching and every cache: each sample is computed by itself from nothing.
    """

    constraints: tuple[ConstraintKind, ...] = ("grammar", "json")
    sampling_options: tuple[str, ...] = ()

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
        self._vocabulary = Vocabulary(processor.tokenizer, opened.network.vocabulary)
        self._embeddings = int(model.get_input_embeddings().num_embeddings)
        self._ends = end_tokens(model.generation_config, model.config, processor.tokenizer)
        self._forcing = ConstraintCompiler(processor.tokenizer, opened.network.vocabulary, self._ends)

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
        check_sampling(self.name, sampling, self.sampling_options)
        encoded = self._encode(prompt)
        limit = min(sampling.max_tokens, self.context - len(encoded.ids))
        prefix = encoded.ids[len(encoded.ids) - encoded.prefix_length :]
        forced: Sequence[ConstraintState | None] = [None] * n
        if sampling.constraint is not None:  # which may take a while
            forced = await asyncio.to_thread(self._forcing.start, sampling.constraint, n)

        def jobs(ticket: EngineCall, tell: Callable[[str], None] | None) -> list[EngineSequence]:
            return [
                SampledSequence(
                    ticket,
                    i,
                    encoded,
                    sampling,
                    SampleBuilder(
                        len(encoded.ids),
                        limit,
                        SampleText(self._vocabulary, prefix, sampling.stop),
                        self._ends,
                        None if i else tell,
                    ),
                    forced[i],
                )
                for i in range(n)
            ]

        return await self._runner.run(n, jobs, on_text)

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        encoded = self._encode(prompt)
        ids = [self._encoder.option(prompt.prefix, option) for option in options]
        if not ids or not all(ids):
            raise no_option()
        if len(encoded.ids) + max(map(len, ids)) > self.context:
            raise too_long(self.name, len(encoded.ids), self.context)
        # Options of one token are read from one pass.
        groups = [[i for i, option in enumerate(ids) if len(option) == 1]]
        groups = [group for group in groups if group] + [[i] for i, o in enumerate(ids) if len(o) > 1]

        def jobs(ticket: EngineCall, tell: object) -> list[EngineSequence]:
            return [
                ScoredSequence(ticket, k, encoded, [ids[i] for i in group]) for k, group in enumerate(groups)
            ]

        scores = [0.0] * len(ids)
        for group, found in zip(groups, await self._runner.run(len(groups), jobs, None), strict=True):
            for i, score in zip(group, found, strict=True):
                scores[i] = score
        return scores

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


class _Call:
    """A ticket, and the future in some event loop that waits for it."""

    def __init__(self, parts: int, on_text: OnText | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.ticket = EngineCall(parts, self._finish)
        self._on_text = on_text
        self._untold: list[str] = []
        self._telling = threading.Lock()

    def _finish(self, result: list[Any] | BaseException) -> None:
        self._later(self._resolve, result)

    def tell(self, text: str) -> None:
        """What is told faster than the loop listens is put together."""
        with self._telling:
            self._untold.append(text)
            first = len(self._untold) == 1
        if first:
            self._later(self._show, None)

    def _later(self, function: Callable[[Any], None], argument: Any) -> None:
        try:
            self.loop.call_soon_threadsafe(function, argument)
        except RuntimeError:  # the loop was closed meanwhile
            self.ticket.dropped = True

    def _resolve(self, result: list[Any] | BaseException) -> None:
        if self.future.done():
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)

    def _show(self, _: None) -> None:
        with self._telling:
            texts, self._untold = self._untold, []
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
        """Start the thread, and give back what `build` made there; raises what it raises."""
        opened: Future[_Opened] = Future()
        thread = threading.Thread(
            target=self._work, args=(build, opened), name="llava-cot engine", daemon=True
        )
        thread.start()
        self._thread = thread
        return opened.result()

    async def run(
        self,
        parts: int,
        jobs: Callable[[EngineCall, Callable[[str], None] | None], list[EngineSequence]],
        on_text: OnText | None,
    ) -> list[Any]:
        """Run the jobs of one call; their results in order. Cancelled, it takes its rows out."""
        call = _Call(parts, on_text)
        with self._changed:
            if self._closed:
                raise ModelError("the model has been closed; open it again")
            self._inbox += jobs(call.ticket, None if on_text is None else call.tell)
            self._submitted += 1
            self._last_loop = call.loop
            self._changed.notify()
        try:
            return await call.future
        finally:
            call.ticket.dropped = True

    def close(self) -> bool:
        """End the thread. True if an interrupt came meanwhile.

        Waits all the same, for one pass of the engine (or for the opening): were it still inside torch when
        the interpreter ends, the process would abort. The wait is for an event first, since a `join` that
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
        """Hand new jobs to the engine, waiting for some if it has none; false if the thread is to end."""
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
        """Let the event loop that called come to rest, so that calls made together start together."""
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
