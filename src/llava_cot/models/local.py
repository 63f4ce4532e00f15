"""A model from a folder, on this machine, and the thread that runs its engine.

Owns the way between asynchronous callers and the engine: calls go in, results come back to the event loop
that each call came from. Any number of loops may call, one after the other or at once.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llava_cot.models.base import Continuation, ModelError, OnText, Prompt, Sampling
from llava_cot.models.checkpoint import load_checkpoint
from llava_cot.models.encoding import Encoded, Encoder
from llava_cot.models.engine import Engine, Stats
from llava_cot.models.jobs import Job, Sample, Score, Ticket
from llava_cot.models.network import Network
from llava_cot.models.stopping import Vocabulary, Writing

# Rounds of an event loop without a new call after which it has nothing more to ask for now: what
# gathers calls takes a few rounds from one result to the next calls.
_QUIET_ROUNDS = 12


class LocalModel:
    """A model as `llava_cot.models.base.Model` has it, from a checkpoint in a folder.

    `share=False` turns off batching and every cache: each sample is computed by itself from nothing.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_mb: int = 2048,
        max_batch: int = 256,
        double_bos: bool = False,
        share: bool = True,
    ) -> None:
        if cache_mb < 1 or max_batch < 1:
            raise ModelError(f"cache_mb is {cache_mb} and max_batch {max_batch}; give at least 1")
        if not folder.name:
            folder = folder.resolve()

        def build() -> tuple[Checkpoint, Network, Encoder, Engine]:
            loaded = load_checkpoint(folder, device, dtype)
            network = Network(loaded.model)
            encoder = Encoder(loaded.processor, loaded.model.config, double_bos)
            engine = Engine(network, encoder.head_tensors, cache_mb * 2**20, max_batch, share)
            return loaded, network, encoder, engine

        self._runner = _Runner()
        self.close = weakref.finalize(self, self._runner.close)
        loaded, network, self._encoder, self._engine = self._runner.start(build)
        self.name = name or folder.name
        self.context = loaded.context
        self._vocabulary = Vocabulary(loaded.processor.tokenizer, network.vocabulary)
        self._embeddings = int(loaded.model.get_input_embeddings().num_embeddings)
        self._ends = _end_tokens(loaded.model, loaded.processor.tokenizer)

    @property
    def stats(self) -> Stats:
        return self._engine.stats

    @property
    def cache_bytes(self) -> int:
        """Memory of all caches now."""
        return self._engine.nbytes

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        encoded = self._encode(prompt)
        limit = min(sampling.max_tokens, self.context - len(encoded.ids))
        prefix = encoded.ids[len(encoded.ids) - encoded.prefix_length :]

        def jobs(ticket: Ticket, tell: Callable[[str], None] | None) -> list[Job]:
            return [
                Sample(
                    ticket,
                    i,
                    encoded,
                    sampling,
                    limit,
                    Writing(self._vocabulary, prefix, sampling.stop),
                    self._ends,
                    None if i else tell,
                )
                for i in range(n)
            ]

        return await self._runner.run(n, jobs, on_text)

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        encoded = self._encode(prompt)
        ids = [self._encoder.option(prompt.prefix, option) for option in options]
        if not all(ids):
            raise ModelError("an option to choose from is empty; give every option some text")
        if len(encoded.ids) + max(map(len, ids)) > self.context:
            raise self._too_long(len(encoded.ids))
        # Options of one token are read from one pass.
        groups = [[i for i, option in enumerate(ids) if len(option) == 1]]
        groups = [group for group in groups if group] + [[i] for i, o in enumerate(ids) if len(o) > 1]

        def jobs(ticket: Ticket, tell: object) -> list[Job]:
            return [Score(ticket, k, encoded, [ids[i] for i in group]) for k, group in enumerate(groups)]

        scores = [0.0] * len(ids)
        for group, found in zip(groups, await self._runner.run(len(groups), jobs, None), strict=True):
            for i, score in zip(group, found, strict=True):
                scores[i] = score
        return scores

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encoder.encode(prompt).ids)

    def close(self) -> None:
        """Stop; what is running fails. The model cannot be used again."""
        self._runner.close()

    def _encode(self, prompt: Prompt) -> Encoded:
        encoded = self._encoder.encode(prompt)
        if len(encoded.ids) >= self.context:
            raise self._too_long(len(encoded.ids))
        if encoded.ids and not 0 <= min(encoded.ids) <= max(encoded.ids) < self._embeddings:
            raise ModelError(f"the prompt has token ids that {self.name} does not know")
        return encoded

    def _too_long(self, tokens: int) -> ModelError:
        return ModelError(
            f"the prompt has {tokens} tokens, which leaves no room in the {self.context} that {self.name} "
            "takes; ask something shorter or use fewer images"
        )


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    found = {tokenizer.eos_token_id}
    for config in (model.generation_config, model.config, model.config.get_text_config()):
        ends = getattr(config, "eos_token_id", None)
        found.update(ends if isinstance(ends, list | tuple) else [ends])
    return frozenset(end for end in found if isinstance(end, int))


class _Call:
    """A ticket, and the future in some event loop that waits for it."""

    def __init__(self, parts: int, on_text: OnText | None) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[list[Any]] = self.loop.create_future()
        self.ticket = Ticket(parts, self._finish)
        self._on_text = on_text
        self._untold: list[str] = []

    def _finish(self, result: list[Any] | BaseException) -> None:
        self._later(self._resolve, result)

    def tell(self, text: str) -> None:
        """What is told faster than the loop listens is put together."""
        self._untold.append(text)
        if len(self._untold) == 1:
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
        texts, self._untold = self._untold, []
        if self._on_text is None or self.future.done():
            return
        try:
            self._on_text("".join(texts))
        except Exception as error:
            self.future.set_exception(error)


class _Runner:
    """Runs an engine in a thread of its own while there is something to do."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._inbox: list[Job] = []
        self._submitted = 0
        self._last_loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(
        self,
        parts: int,
        jobs: Callable[[Ticket, Callable[[str], None] | None], list[Job]],
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
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="llava-cot engine", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            return await call.future
        finally:
            call.ticket.dropped = True

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        while self._receive():
            try:
                self._engine.step()
            except BaseException as error:
                self._engine.fail(error)

    def _receive(self) -> bool:
        """Hand new jobs to the engine, waiting for some if it has none; false if the thread is to end."""
        with self._changed:
            if not self._engine.busy and not self._inbox:
                self._changed.wait_for(lambda: self._inbox or self._closed, _LINGER)
            if self._closed:
                self._engine.add(self._inbox)
                self._inbox = []
                self._engine.fail(ModelError("the model has been closed"))
            if self._closed or not (self._engine.busy or self._inbox):
                self._thread = None
                return False
            idle = not self._engine.busy
        if idle:
            self._settle()
        with self._changed:
            self._engine.add(self._inbox)
            self._inbox = []
        return True

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
