"""A model from a folder, run on this machine by the project's own engine in a thread of its own.

Calls come from any number of event loops; each result goes back to the loop that its call came from.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

from cachetools import LRUCache

from llava_cot.core.stages import StageFormat
from llava_cot.models.background import BackgroundLoop
from llava_cot.models.base import (
    OPTIONAL_SAMPLING,
    ConstraintKind,
    Continuation,
    OnText,
    Prompt,
    Sampling,
    cache_bytes,
    check_call,
    check_ids,
    no_option,
    too_long,
)
from llava_cot.models.local.checkpoint import Checkpoint, end_tokens, failing_with, load_checkpoint
from llava_cot.models.local.constraints import ConstraintCompiler, ConstraintState
from llava_cot.models.local.devices import return_memory, share_memory
from llava_cot.models.local.encoding import Encoded, Encoder
from llava_cot.models.local.engine import Engine
from llava_cot.models.local.network import Network
from llava_cot.models.local.sampler import SeenTokens
from llava_cot.models.local.sequences import EngineCall, EngineSequence, SampledSequence, ScoredSequence
from llava_cot.models.stage_mark import trained_on_stages
from llava_cot.models.text import SampleBuilder, SampleText, Vocabulary

# Rounds of an event loop without a new call after which it has no more calls to make for now: what gathers
# calls takes a few rounds from one result to the next calls.
_QUIET_ROUNDS = 12

_SAMPLES = 8192  # whose log-probabilities are remembered, in case they are asked for as options

# Makes a part of a call, by its number; the last argument is where the call streams to.
MakeSequence = Callable[[EngineCall, int, OnText | None], EngineSequence]


class LocalModel:
    """A checkpoint in a folder, as a `llava_cot.models.base.Model`.

    The options are those of `open_model`, except for `lender`: a model that is open and `lends` its weights,
    beside which the adapters are put. Raises ModelError if the checkpoint cannot be opened.

    Attributes:
        weights: The folder of the checkpoint.
        adapted: The same if there are adapters on it, else None.
    """

    constraints: tuple[ConstraintKind, ...] = ("grammar", "json")
    sampling_options = OPTIONAL_SAMPLING
    domain: str | None = None

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        adapters: Sequence[Path] = (),
        merge: bool = True,
        trust_remote_code: bool = False,
        device: str = "auto",
        dtype: str = "auto",
        device_map: str | None = None,
        quantize: str | None = None,
        attn: str | None = None,
        cache_mb: int | str = "auto",
        max_batch: int = 256,
        double_bos: bool = False,
        share: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        lender: LocalModel | None = None,
    ) -> None:
        memory = cache_bytes(cache_mb, max_batch)
        self.name = name or folder.resolve().name
        self.weights = folder.resolve()
        self.adapted = self.weights if adapters else None
        self._opened_with = {
            "device": device, "dtype": dtype, "device_map": device_map, "quantize": quantize, "attn": attn,
            "trust_remote_code": trust_remote_code,
        }  # fmt: skip
        self._trained_on_stages = trained_on_stages(self.name, (folder, *adapters))
        self._loop = BackgroundLoop("llava-cot engine", patience=None)

        async def load() -> tuple[Checkpoint, Network]:
            checkpoint = load_checkpoint(
                folder, device, dtype, adapters, merge=merge, trust_code=trust_remote_code,
                loaded=lender and lender._model, device_map=device_map, quantize=quantize, attn=attn,
            )  # fmt: skip
            return checkpoint, Network(checkpoint.model)

        # In that thread: had another one computed with the model, OpenMP would keep a second set of threads,
        # and with more of them than processors each waits longer for the others.
        checkpoint, network = self._loop.open(load())
        model, processor = checkpoint.model, checkpoint.processor
        self._model = model
        self.context = checkpoint.context
        with failing_with(f"the files in {folder} cannot be used together"):
            self._encoder = Encoder(processor, model.config, double_bos, chat_template_kwargs)
            self._ends = end_tokens(model.generation_config, model.config, processor.tokenizer)
        self._engine = Engine(network, self._encoder.head_tensors, memory or 0, max_batch, share)
        if memory is None:
            share_memory(self._engine)
        self.stats = self._engine.stats
        self._share = share
        self._sampled: LRUCache[int, float] = LRUCache(_SAMPLES)
        self._lock = threading.Lock()  # calls come from several threads
        self._driver = _Driver(self._engine)
        self._size = network.vocabulary
        self._vocabulary = Vocabulary(processor.tokenizer, self._size)
        self._embeddings = int(model.get_input_embeddings().num_embeddings)
        self._compiler = ConstraintCompiler(processor.tokenizer, self._size, self._ends)

    @property
    def cache_bytes(self) -> int:
        """Memory of all caches now."""
        return self._engine.nbytes

    @property
    def room(self) -> str:
        """How much memory the caches may take, and how many sequences fit into it."""
        lengths = [tokens for tokens in (1024, 4096) if tokens < self.context] + [self.context]
        rows = ", ".join(f"{self._engine.rows(tokens):,} of {tokens:,} tokens" for tokens in lengths)
        return f"caches of {self._engine.memory >> 20:,} MiB on {self._engine.device}, for rows: {rows}"

    def lends(self, weights: Path, **options: Any) -> bool:
        """Whether a checkpoint opened with these options would have the same weights in memory."""
        same = all(options.get(name) == value for name, value in self._opened_with.items())
        return self.adapted is None and self.weights == weights.resolve() and same

    def writes_stages(self, fmt: StageFormat) -> bool | None:
        return self._trained_on_stages

    def thinks(self, fmt: StageFormat) -> bool | None:
        return self._encoder.opens(fmt.opening_tags[0]) or None

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        check_call(self, self.name, n, sampling)
        encoded = self._encode(prompt)
        limit = min(sampling.max_tokens, self.context - len(encoded.ids))
        prefix = encoded.ids[len(encoded.ids) - encoded.prefix_length :]
        states: Sequence[ConstraintState | None] = [None] * n
        if sampling.constraint is not None:  # which may take a while
            states = await asyncio.to_thread(self._compiler.start, sampling.constraint, n)
        penalized = sampling.repetition_penalty != 1
        builders: dict[int, SampleBuilder] = {}

        def sequence(call: EngineCall, number: int, stream: OnText | None) -> SampledSequence:
            text = SampleText(self._vocabulary, prefix, sampling.stop)
            builder = SampleBuilder(len(encoded.ids), limit, text, self._ends, None if number else stream)
            builders[number] = builder
            seen = SeenTokens(encoded.ids, self._size) if penalized else None
            return SampledSequence(call, number, encoded, sampling, builder, states[number], seen)

        found: list[Continuation] = await self._run(n, sequence, on_text)
        for number, sample in enumerate(found):
            if self._share and sample.logprob is not None and builders[number].as_drawn(sample.tokens):
                with self._lock:
                    self._sampled[hash((encoded.head, encoded.ids, sample.tokens))] = sample.logprob
        return found

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        encoded = self._encode(prompt)
        ids = [self._encoder.option_ids(prompt.prefix, option) for option in options]
        if not ids or not all(ids):
            raise no_option()
        if len(encoded.ids) + max(map(len, ids)) > self.context:
            raise too_long(self.name, len(encoded.ids), self.context)
        if len(ids) == 1:  # which may be a sample
            with self._lock:
                known = self._sampled.get(hash((encoded.head, encoded.ids, tuple(ids[0]))))
            if known is not None:
                return [known]
        # Options of one token are scored by one pass.
        short = [i for i, option in enumerate(ids) if len(option) == 1]
        groups = ([short] if short else []) + [[i] for i, option in enumerate(ids) if len(option) > 1]
        found = await self._run(
            len(groups),
            lambda call, part, _: ScoredSequence(call, part, encoded, [ids[i] for i in groups[part]]),
        )
        scores = dict(zip(chain(*groups), chain(*found), strict=True))
        return [scores[i] for i in range(len(ids))]

    async def _run(self, parts: int, make: MakeSequence, on_text: OnText | None = None) -> list[Any]:
        self._driver.announce()
        return await self._loop.run_streaming(lambda stream: self._driver.run(parts, make, stream), on_text)

    def count_tokens(self, prompt: Prompt) -> int:
        return len(self._encoder.encode(prompt).ids)

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None

    def close(self) -> None:
        """Stop; what is running fails. The model cannot be used again."""
        self._loop.close()
        return_memory(self._engine)

    def _encode(self, prompt: Prompt) -> Encoded:
        encoded = self._encoder.encode(prompt)
        check_ids(self.name, encoded.ids, self.context, self._embeddings)
        return encoded


class _Driver:
    """Steps an engine, in the event loop of its thread, while it has sequences."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._stepping: asyncio.Task[None] | None = None
        self._announced = 0
        self._caller: asyncio.AbstractEventLoop | None = None

    def announce(self) -> None:
        """Tell that a call follows, in the event loop that makes it."""
        self._announced += 1
        self._caller = asyncio.get_running_loop()

    async def run(self, parts: int, make: MakeSequence, stream: OnText | None) -> list[Any]:
        """Run the sequences of one call. Returns their results in order."""
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        call = EngineCall(parts, future)
        self._engine.add([make(call, part, stream) for part in range(parts)])
        if self._stepping is None or self._stepping.done():
            self._stepping = asyncio.create_task(self._step())
        return await future

    async def _step(self) -> None:
        try:
            await self._settle()
            while self._engine.busy:
                self._engine.step()
                # A new call reaches `run` in two rounds of the loop, and a result its caller.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        except Exception as error:
            self._engine.fail(error)

    async def _settle(self) -> None:
        """Wait until the event loop of the last call makes no more calls, so that these start together."""
        quiet, own, caller = asyncio.Event(), asyncio.get_running_loop(), self._caller

        def look(rounds: int, announced: int) -> None:
            rounds = rounds + 1 if announced == self._announced else 0
            if rounds < _QUIET_ROUNDS and caller is not None:
                caller.call_soon(look, rounds, self._announced)
            else:
                with suppress(RuntimeError):  # the engine's loop was closed
                    own.call_soon_threadsafe(quiet.set)

        with suppress(RuntimeError, TimeoutError):  # the caller's loop was closed, or is busy
            if caller is not None:
                caller.call_soon_threadsafe(look, 0, self._announced)
                async with asyncio.timeout(0.05):
                    await quiet.wait()
