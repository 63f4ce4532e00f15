"""A model from a folder, run by vLLM in this process.

Owns what a call asks of vLLM's asynchronous engine, and what becomes of its outputs. vLLM batches, keeps
prefixes and encodes pictures by itself; its engine runs in processes of its own, and is spoken to from one
event loop (`aside.py`). Knows no server.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.arriving import Arriving
from llava_cot.models.aside import Aside, together
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
    request_seed,
    too_long,
    unknown_ids,
)
from llava_cot.models.local.checkpoint import end_tokens, first_sentence, load_processor
from llava_cot.models.local.encoding import Encoder
from llava_cot.models.recent import Recent
from llava_cot.models.stopping import Vocabulary, Writing
from llava_cot.models.vllm_engine import generation_config, platform_settings, shut_down, start

_COUNTED = 1024  # prompts whose length is remembered


class VllmModel:
    """A model as `llava_cot.models.base.Model` has it, from a checkpoint in a folder.

    `cache_mb` is the memory for keys and values. With `share=False` nothing is kept between calls, and
    samples are computed one after the other.
    """

    constraints: tuple[ConstraintKind, ...] = ("json",)
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
        settings = {
            **platform_settings(device, dtype),
            "kv_cache_memory_bytes": cache_mb * 2**20,
            "max_num_seqs": max_batch if share else 1,
            "enable_prefix_caching": share,
        }
        config, processor = load_processor(folder)
        self.name = folder.resolve().name
        self._encoder = Encoder(processor, config, double_bos)
        self._counted: Recent[Prompt, int] = Recent(_COUNTED)
        self._numbers = itertools.count()
        self._engines: list[Any] = []  # one, until it is shut down
        self._aside = Aside("llava-cot vllm", partial(shut_down, self._engines))
        try:
            self._aside.run_blocking(start(self._engines, folder, settings))
        except BaseException:
            self._aside.close()
            raise
        engine_config = self._engines[0].model_config
        self.context: int = engine_config.max_model_len  # no more than its memory holds
        self._size: int = engine_config.get_vocab_size()
        self._vocabulary = Vocabulary(processor.tokenizer, self._size)
        ends = end_tokens(generation_config(folder), config, processor.tokenizer)
        self._ends = frozenset(end for end in ends if end < self._size)

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        check_samples(n)
        check_constraint(self.name, sampling, self.constraints)
        check_sampling(self.name, sampling, self.sampling_options)
        if on_text is None:
            return await self._aside.run(self._sample(prompt, n, sampling, None))
        return await self._aside.run_telling(lambda tell: self._sample(prompt, n, sampling, tell), on_text)

    async def _sample(
        self, prompt: Prompt, n: int, sampling: Sampling, tell: OnText | None
    ) -> list[Continuation]:
        inputs, prefix = await self._inputs(prompt)
        # A request each: vLLM takes several greedy samples in none.
        return await together(self._one(inputs, prefix, sampling, i, None if i else tell) for i in range(n))

    async def _one(
        self, inputs: Any, prefix: Sequence[int], sampling: Sampling, number: int, tell: OnText | None
    ) -> Continuation:
        """Sample `number` of a call. vLLM looks for the stop strings too, and so writes nothing in vain."""
        asked: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request_seed(sampling.seed, sampling.first + number),
            "stop": [stop for stop in sampling.stop if stop],
            "stop_token_ids": sorted(self._ends),
            "skip_special_tokens": False,
            "logprobs": 0,
        }
        if sampling.constraint is not None:
            from vllm.sampling_params import StructuredOutputsParams

            asked["structured_outputs"] = StructuredOutputsParams(json=sampling.constraint.text)
        length = len(inputs["prompt_token_ids"])
        arriving = Arriving(
            length,
            min(sampling.max_tokens, self.context - length),
            Writing(self._vocabulary, prefix, sampling.stop),
            self._ends,
            tell,
        )
        async with aclosing(self._generate(inputs, asked, whole=tell is None)) as outputs:
            async for output in outputs:
                for token, logprobs in zip(output.token_ids, output.logprobs, strict=True):
                    if (continuation := arriving.take(token, logprobs[token].logprob)) is not None:
                        return continuation
        raise ModelFailure(f"vLLM broke a sample of {self.name} off; ask again")

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        ids = [tuple(self._encoder.option(prompt.prefix, option)) for option in options]
        if not ids or not all(ids):
            raise no_option()
        return await self._aside.run(self._choose(prompt, ids))

    async def _choose(self, prompt: Prompt, options: Sequence[tuple[int, ...]]) -> list[float]:
        """The sums over the options' tokens, each read after the tokens before it.

        Of a prompt that is itself scored vLLM keeps nothing, so no option is made part of one.
        """
        inputs, _ = await self._inputs(prompt)
        length = len(inputs["prompt_token_ids"])
        if length + max(map(len, options)) > self.context:
            raise too_long(self.name, length, self.context)
        wanted: dict[tuple[int, ...], set[int]] = {}
        for option in options:
            for i, token in enumerate(option):
                wanted.setdefault(option[:i], set()).add(token)
        found = await together(self._next(inputs, before, tokens) for before, tokens in wanted.items())
        after = dict(zip(wanted, found, strict=True))
        return [sum(after[option[:i]][token] for i, token in enumerate(option)) for option in options]

    async def _next(self, inputs: Any, before: tuple[int, ...], tokens: set[int]) -> dict[int, float]:
        """Log-probabilities of some tokens after the prompt and a few more."""
        longer = {**inputs, "prompt_token_ids": [*inputs["prompt_token_ids"], *before]}
        asked = {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": sorted(tokens)}
        async with aclosing(self._generate(longer, asked, whole=True)) as outputs:
            async for output in outputs:
                return {token: output.logprobs[0][token].logprob for token in tokens}
        raise ModelFailure(f"vLLM broke the scores of {self.name} off; ask again")

    def count_tokens(self, prompt: Prompt) -> int:
        """The length of a prompt that was asked before; 0 of any other."""
        return self._counted.get(prompt) or 0

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None

    def close(self) -> None:
        """End the engine's processes; what is running fails. The model cannot be used again."""
        self._aside.close()

    async def _inputs(self, prompt: Prompt) -> tuple[Any, tuple[int, ...]]:
        """The prompt as vLLM makes it of its ids and pictures, and the ids of the prefix."""
        ids, prefix_length = self._encoder.places(prompt)
        if len(ids) >= self.context:
            raise too_long(self.name, len(ids), self.context)
        if ids and not 0 <= min(ids) <= max(ids) < self._size:
            raise unknown_ids(self.name)
        asked: dict[str, Any] = {"prompt_token_ids": list(ids)}
        images = [image for message in prompt.messages for image in message.images]
        if images:
            asked["multi_modal_data"] = {"image": [image.pil for image in images]}
            asked["multi_modal_uuids"] = {"image": [image.sha256 for image in images]}
        try:
            [inputs] = await self._engines[0].renderer.render_cmpl_async([asked])
        except Exception as error:
            raise ModelError(f"vLLM cannot take the prompt: {first_sentence(error)}") from None
        length = len(inputs["prompt_token_ids"])
        if length >= self.context:
            raise too_long(self.name, length, self.context)
        self._counted.put(prompt, length)
        return inputs, ids[len(ids) - prefix_length :]

    async def _generate(self, inputs: Any, asked: dict[str, Any], *, whole: bool) -> Any:
        """The output of one request, whole or as it comes. Whoever stops listening ends the request."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA
        try:
            requests = self._engines[0].generate(
                inputs, SamplingParams(**asked, output_kind=kind), str(next(self._numbers))
            )
            async with aclosing(requests):
                async for request in requests:
                    for output in request.outputs:
                        yield output
        except VLLMClientError as error:
            raise ModelError(f"vLLM refused: {first_sentence(error)}") from None
        except Exception as error:
            raise ModelFailure(f"vLLM failed ({first_sentence(error)}); open the model again") from None
