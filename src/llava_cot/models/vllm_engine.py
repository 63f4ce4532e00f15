"""Opening vLLM's engine, and ending it.

Owns its settings, and what of them depends on the machine. Knows no prompt and no sample.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
from importlib.util import find_spec
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from llava_cot.errors import ModelError, missing_package
from llava_cot.models.local.checkpoint import check_dtype, first_sentence, quiet

# vLLM and its processes log to standard output, tell their makers that they run, and give advice. What a
# user has set goes first.
_QUIET = {
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}
# Tokens of a block, the unit that is kept and found again. On a CPU it is 128 unless told, which is more
# than many a stage has; the CPU's kernels want a multiple of 32.
_CPU_BLOCK = 32
_CPU_TOKENS = 4096  # in one pass, or as many as the longest prompt has


def platform_settings(device: str, dtype: str) -> dict[str, Any]:
    """Settings that depend on what vLLM was built for. Raises ModelError, also where there is no vLLM."""
    if find_spec("vllm") is None:
        raise ModelError(missing_package("a model named vllm:FOLDER", "vllm", extra="vllm"))
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
        "enforce_eager": True,  # what compiling gains here does not make up for the time that it takes
        # A prompt in parts fails there if it has a seed, and ends the engine (vLLM 0.32: "CPU Generator
        # does not use offset").
        "enable_chunked_prefill": False,
    }


async def start(engines: list[Any], folder: Path, settings: dict[str, Any]) -> None:
    """Put an engine, for the running loop, into a list. Raises ModelError.

    vLLM keeps frames of functions that called it: a variable here would hold the engine to the end.
    """
    # An interrupt is for this process, which then ends the engine's; they inherit that they do not hear it.
    # (Were multiprocessing's tracker not running yet, starting it would undo this.)
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.v1.engine.async_llm import AsyncLLM

    try:
        with quiet():
            asked = AsyncEngineArgs(
                model=str(folder),
                load_format="safetensors",
                max_model_len=-1,  # as much of the checkpoint's as the memory holds
                logprobs_mode="raw_logprobs",  # at temperature 1
                use_tqdm_on_load=False,
                **settings,
            )
            if not settings.get("enable_chunked_prefill", True):
                asked.max_num_batched_tokens = max(_CPU_TOKENS, asked.create_model_config().max_model_len)
            engines.append(AsyncLLM.from_engine_args(asked))
            # Asked here once, so that no request waits for it while others overtake it.
            await engines[0].get_supported_tasks()
    except Exception as error:
        raise ModelError(
            f"vLLM cannot open {folder} ({first_sentence(error)}); try the folder without vllm: before it"
        ) from None


async def shut_down(engines: list[Any]) -> None:
    """End the engines of a list, and empty it."""
    while engines:
        engines.pop().shutdown()
    gc.collect()  # an engine holds itself, and one that the interpreter's end finds complains


def generation_config(folder: Path) -> Any:
    """What a checkpoint says of generating; None if nothing."""
    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:
        return None
