"""A checkpoint run by vLLM in this process.

vLLM batches, caches prefixes and encodes images by itself. Its engine runs in processes of its own, and one
event loop in a background thread talks to it.
"""

from __future__ import annotations

import gc
import itertools
import logging
import math
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from cachetools import LRUCache
from transformers import GenerationConfig

from llava_cot.core.stages import StageFormat
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.background import BackgroundLoop, gather_or_cancel
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
    optional_sampling,
    request_seed,
    too_long,
)
from llava_cot.models.local.checkpoint import check_dtype, end_tokens, first_sentence, load_processor, quiet
from llava_cot.models.local.encoding import Encoder
from llava_cot.models.stage_mark import trained_on_stages
from llava_cot.models.text import SampleBuilder, SampleText, Vocabulary

# An option of more tokens is scored as a part of the prompt.
_FEW = 8
_COUNTED = 1024  # prompts whose length is remembered
# vLLM and its processes log to standard output, report their usage, and give advice. What the user has set
# goes first.
_QUIET = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
# Tokens of a block, the unit of the prefix cache. vLLM's default on a CPU is 128, which is more than many a
# stage has; the CPU's kernels need a multiple of 32.
_CPU_BLOCK = 32
_CPU_CACHE = 2**31  # bytes of keys and values; elsewhere vLLM takes what is free
_CPU_TOKENS = 4096  # in one pass, or as many as the longest prompt has


class VllmModel:
    """A checkpoint in a folder, run by vLLM, as a `llava_cot.models.base.Model`.

    vLLM applies min-p before top-k and top-p, unlike transformers; everything else has the same order.

    The options are those of `open_model`; a `device` other than "auto" must be the one that this vLLM was
    built for. Raises ModelError if vLLM is not installed, or cannot open the checkpoint.
    """

    constraints: tuple[ConstraintKind, ...] = ("json",)
    sampling_options = OPTIONAL_SAMPLING

    def __init__(
        self,
        folder: Path,
        *,
        name: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        cache_mb: int | str = "auto",
        max_batch: int = 256,
        double_bos: bool = False,
        share: bool = True,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        memory = cache_bytes(cache_mb, max_batch)
        settings = {
            **platform_settings(device, dtype),
            **({} if memory is None else {"kv_cache_memory_bytes": memory}),
            "max_num_seqs": max_batch if share else 1,
            "enable_prefix_caching": share,
        }
        config, processor = load_processor(folder, quantized=True)
        self.name = name or folder.resolve().name
        self._trained_on_stages = trained_on_stages(self.name, (folder,))
        self._encoder = Encoder(processor, config, double_bos, chat_template_kwargs)
        self._lengths: LRUCache[Prompt, int] = LRUCache(_COUNTED)
        self._numbers = itertools.count()
        self._engines: list[Any] = []  # one, until it is shut down
        self._loop = BackgroundLoop("llava-cot vllm", partial(shut_down, self._engines))
        self._loop.open(start(self._engines, folder, settings))
        engine_config = self._engines[0].model_config
        self.context: int = engine_config.max_model_len  # no more than its memory holds
        self._size: int = engine_config.get_vocab_size()
        self._vocabulary = Vocabulary(processor.tokenizer, self._size)
        generation = None
        with suppress(OSError):  # it has no such file
            generation = GenerationConfig.from_pretrained(folder, local_files_only=True)
        ends = end_tokens(generation, config, processor.tokenizer)
        self._ends = frozenset(end for end in ends if end < self._size)

    def writes_stages(self, fmt: StageFormat) -> bool | None:
        return self._trained_on_stages

    def thinks(self, fmt: StageFormat) -> bool | None:
        return self._encoder.opens(fmt.opening_tags[0]) or None

    async def sample(
        self, prompt: Prompt, n: int, sampling: Sampling, on_text: OnText | None = None
    ) -> list[Continuation]:
        check_call(self, self.name, n, sampling)
        return await self._loop.run_streaming(
            lambda stream: self._sample(prompt, n, sampling, stream), on_text
        )

    async def _sample(
        self, prompt: Prompt, n: int, sampling: Sampling, stream: OnText | None
    ) -> list[Continuation]:
        inputs, prefix = await self._inputs(prompt)
        # One request each: vLLM refuses several greedy samples in one request.
        return await gather_or_cancel(
            self._one(inputs, prefix, sampling, i, None if i else stream) for i in range(n)
        )

    async def _one(
        self, inputs: Any, prefix: Sequence[int], sampling: Sampling, number: int, stream: OnText | None
    ) -> Continuation:
        """Sample `number` of a call. vLLM gets the stop strings too, so that it generates no more."""
        params: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **optional_sampling(sampling),  # whose names and defaults are vLLM's
            "max_tokens": sampling.max_tokens,
            "seed": request_seed(sampling.seed, sampling.first + number),
            "stop": [stop for stop in sampling.stop if stop],
            "stop_token_ids": sorted(self._ends),
            "skip_special_tokens": False,
            "logprobs": 0,
        }
        if sampling.constraint is not None:
            from vllm.sampling_params import StructuredOutputsParams

            params["structured_outputs"] = StructuredOutputsParams(json=sampling.constraint.text)
        length = len(inputs["prompt_token_ids"])
        builder = SampleBuilder(
            length,
            min(sampling.max_tokens, self.context - length),
            SampleText(self._vocabulary, prefix, sampling.stop),
            self._ends,
            stream,
        )
        async with aclosing(self._generate(inputs, params, whole=stream is None)) as requests:
            async for output in (output async for request in requests for output in request.outputs):
                for token, logprobs in zip(output.token_ids, output.logprobs, strict=True):
                    if (continuation := builder.take(token, logprobs[token].logprob)) is not None:
                        return continuation
        raise ModelFailure(f"vLLM ended a sample of {self.name} early; ask again")

    async def choose(self, prompt: Prompt, options: Sequence[str]) -> list[float]:
        ids = [tuple(self._encoder.option_ids(prompt.prefix, option)) for option in options]
        if not ids or not all(ids):
            raise no_option()
        scores = await self._loop.run(self._choose(prompt, ids))
        if len(options) == 1:  # a text, whose length with the prompt is counted
            whole = replace(prompt, prefix=prompt.prefix + options[0], prefix_tokens=None)
            self._lengths[whole] = (self._lengths.get(prompt) or 0) + len(ids[0])
        return scores

    async def _choose(self, prompt: Prompt, options: Sequence[tuple[int, ...]]) -> list[float]:
        """The sums over the options' tokens, each scored after the tokens before it.

        vLLM caches nothing of a prompt whose own tokens are scored, so that only a long option becomes part
        of one.
        """
        inputs, _ = await self._inputs(prompt)
        length = len(inputs["prompt_token_ids"])
        if length + max(map(len, options)) > self.context:
            raise too_long(self.name, length, self.context)
        if max(map(len, options)) > _FEW:
            return await gather_or_cancel(self._as_prompt(inputs, option) for option in options)
        needed: dict[tuple[int, ...], set[int]] = {}
        for option in options:
            for i, token in enumerate(option):
                needed.setdefault(option[:i], set()).add(token)
        found = await gather_or_cancel(
            self._next(inputs, before, tokens) for before, tokens in needed.items()
        )
        after = dict(zip(needed, found, strict=True))
        return [sum(after[option[:i]][token] for i, token in enumerate(option)) for option in options]

    async def _as_prompt(self, inputs: Any, option: tuple[int, ...]) -> float:
        """The log-probability of an option as the end of a prompt."""
        longer = {**inputs, "prompt_token_ids": [*inputs["prompt_token_ids"], *option]}
        params = {"temperature": 0.0, "max_tokens": 1, "prompt_logprobs": 0}
        async with aclosing(self._generate(longer, params, whole=True)) as requests:
            async for request in requests:
                scored = zip(option, request.prompt_logprobs[-len(option) :], strict=True)
                return math.fsum(logprobs[token].logprob for token, logprobs in scored)
        raise ModelFailure(f"vLLM ended the scoring of a text by {self.name} early; ask again")

    async def _next(self, inputs: Any, before: tuple[int, ...], tokens: set[int]) -> dict[int, float]:
        """Log-probabilities of some tokens after the prompt and a few more."""
        longer = {**inputs, "prompt_token_ids": [*inputs["prompt_token_ids"], *before]}
        params = {"temperature": 0.0, "max_tokens": 1, "logprob_token_ids": sorted(tokens)}
        async with aclosing(self._generate(longer, params, whole=True)) as requests:
            async for request in requests:
                [output] = request.outputs
                return {token: output.logprobs[0][token].logprob for token in tokens}
        raise ModelFailure(f"vLLM ended the scoring of options by {self.name} early; ask again")

    def count_tokens(self, prompt: Prompt) -> int:
        """The length of a prompt that was used before; 0 for any other."""
        return self._lengths.get(prompt) or 0

    def price(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        return None

    def close(self) -> None:
        """End the engine's processes; what is running fails. The model cannot be used again."""
        self._loop.close()

    async def _inputs(self, prompt: Prompt) -> tuple[Any, tuple[int, ...]]:
        """The prompt as vLLM renders it from ids and images, and the ids of the prefix."""
        prefix = self._encoder.prefix_ids(prompt)
        ids = (*self._encoder.ids_with_placeholders(prompt.messages), *prefix)
        check_ids(self.name, ids, self.context, self._size)
        params: dict[str, Any] = {"prompt_token_ids": list(ids)}
        images = [image for message in prompt.messages for image in message.images]
        if images:
            params["multi_modal_data"] = {"image": [image.pil for image in images]}
            params["multi_modal_uuids"] = {"image": [image.sha256 for image in images]}
        try:
            [inputs] = await self._engines[0].renderer.render_cmpl_async([params])
        except Exception as error:
            raise ModelError(f"vLLM cannot take the prompt: {first_sentence(error)}") from None
        length = len(inputs["prompt_token_ids"])
        if length >= self.context:
            raise too_long(self.name, length, self.context)
        self._lengths[prompt] = length
        return inputs, prefix

    async def _generate(self, inputs: Any, params: dict[str, Any], *, whole: bool) -> Any:
        """The output of one request, whole or as it arrives. Closing the generator ends the request."""
        from vllm import SamplingParams
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind

        kind = RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA
        try:
            requests = self._engines[0].generate(
                inputs, SamplingParams(**params, output_kind=kind), str(next(self._numbers))
            )
            async with aclosing(requests):
                async for request in requests:
                    yield request
        except VLLMClientError as error:
            raise ModelError(f"vLLM refused: {first_sentence(error)}") from None
        except Exception as error:
            raise ModelFailure(f"vLLM failed ({first_sentence(error)}); open the model again") from None


def platform_settings(device: str, dtype: str) -> dict[str, Any]:
    """Settings that depend on what vLLM was built for. Raises ModelError, also if vLLM is not installed."""
    if find_spec("vllm") is None:
        raise ModelError(
            "a model named vllm:FOLDER needs vllm, which is not installed; it needs an environment of its "
            "own: docs/how-to/use-vllm.md"
        )
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("vllm").setLevel(os.environ["VLLM_LOGGING_LEVEL"])  # until it reads that itself
    try:
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ModelError(
            f"vLLM cannot be imported ({first_sentence(error)}); reinstall it (docs/how-to/use-vllm.md)"
        ) from None
    there: str = current_platform.device_type
    if device not in ("auto", there):
        raise ModelError(f"this vLLM runs on {there or 'nothing here'}, not on {device!r}; choose auto")
    check_dtype(dtype)
    if there != "cpu":
        return {"dtype": dtype}
    return {
        "dtype": "float32" if dtype == "auto" else dtype,
        "block_size": _CPU_BLOCK,
        "kv_cache_memory_bytes": _CPU_CACHE,
        "enforce_eager": True,  # what compiling gains here does not make up for the time that it takes
        # A prompt in parts fails there if it has a seed, and ends the engine (vLLM 0.32: "CPU Generator
        # does not use offset").
        "enable_chunked_prefill": False,
    }


async def start(engines: list[Any], folder: Path, settings: dict[str, Any]) -> None:
    """Put an engine, for the running loop, into a list. Raises ModelError.

    vLLM keeps the frames of functions that called it: a variable here would hold the engine until the exit.
    """
    # An interrupt is for this process, which then ends the engine's; these inherit the blocked signal.
    # (Were multiprocessing's tracker not running yet, starting it would unblock it.)
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        with quiet():
            params = AsyncEngineArgs(
                model=str(folder),
                load_format="safetensors",
                max_model_len=-1,  # as much of the checkpoint's context as the memory holds
                logprobs_mode="raw_logprobs",  # at temperature 1
                use_tqdm_on_load=False,
                **settings,
            )
            if not settings.get("enable_chunked_prefill", True):
                params.max_num_batched_tokens = max(_CPU_TOKENS, params.create_model_config().max_model_len)
            engines.append(AsyncLLM.from_engine_args(params))
            # Called here once, so that no request waits for it while others overtake it.
            await engines[0].get_supported_tasks()
    except Exception as error:
        raise ModelError(
            f"vLLM cannot open {folder} ({first_sentence(error)}); try the folder without vllm: before it"
        ) from None


async def shut_down(engines: list[Any]) -> None:
    """Shut down the engines of a list, and empty it."""
    while engines:
        engines.pop().shutdown()
    gc.collect()  # an engine refers to itself, and logs errors if it is collected at the interpreter's exit
