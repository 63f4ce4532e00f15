"""Quantized weights: checkpoints that have them, and quantizing while others are loaded.

Of a checkpoint's `quantization_config`, the fields of its method that describe numbers are taken, and no
others: some name data sets, tokenizers or kernels to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from llava_cot.errors import ModelError, missing_package

_NAMES = ("modules_to_not_convert",)  # of modules


@dataclass(frozen=True)
class _Method:
    """What a method needs, as modules with the packages that have them, and the fields that are taken."""

    needs: Mapping[str, str]
    fields: tuple[str, ...]


_METHODS = {
    "awq": _Method(
        {"gptqmodel": "gptqmodel"},
        ("bits", "desc_act", "format", "group_size", "sym", "version", "zero_point", *_NAMES),
    ),
    "bitsandbytes": _Method(
        {"bitsandbytes": "bitsandbytes"},
        (
            "bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "bnb_4bit_quant_type",
            "bnb_4bit_use_double_quant", "llm_int8_skip_modules", "llm_int8_threshold", "load_in_4bit",
            "load_in_8bit",
        ),
    ),
    "compressed-tensors": _Method(
        {"compressed_tensors": "compressed-tensors"},
        (
            "config_groups", "format", "global_compression_ratio", "ignore", "kv_cache_scheme",
            "quantization_status", "sparsity_config", "transform_config", "version",
        ),
    ),
    "fbgemm_fp8": _Method({"fbgemm_gpu": "fbgemm-gpu"}, ("activation_scale_ub", *_NAMES)),
    "fp8": _Method(
        {}, ("activation_scheme", "fmt", "ignored_layers", "scale_fmt", "weight_block_size", *_NAMES)
    ),
    "gptq": _Method(
        {"gptqmodel": "gptqmodel", "optimum": "optimum"},
        (
            "act_group_aware", "bits", "checkpoint_format", "damp_percent", "desc_act", "format",
            "group_size", "meta", "modules_in_block_to_quantize", "sym", "true_sequential",
        ),
    ),
    "torchao": _Method(
        {"torchao": "torchao"},
        ("include_input_output_embeddings", "quant_type", "untie_embedding_weights", *_NAMES),
    ),
}  # fmt: skip


def read_quantization(folder: Any, raw: Any) -> dict[str, Any]:
    """The fields of a checkpoint's `quantization_config` that are taken.

    Raises ModelError for a method that is not known, or whose package is not installed.
    """
    name = raw.get("quant_method") if isinstance(raw, dict) else None
    if name is None and isinstance(raw, dict) and (raw.get("load_in_4bit") or raw.get("load_in_8bit")):
        name = "bitsandbytes"
    method = _METHODS.get(name) if isinstance(name, str) else None
    if method is None:
        raise ModelError(
            f"{folder} is quantized by {str(name)[:40]!r}, and this engine loads {', '.join(_METHODS)}; run "
            "it with vLLM (vllm:FOLDER) or a server"
        )
    missing = [package for module, package in method.needs.items() if find_spec(module) is None]
    if missing:
        raise ModelError(
            f"{folder} is quantized by {name}, which needs {' and '.join(missing)}, not installed here; run: "
            f"pip install {' '.join(missing)}"
        )
    taken = {key: _data(raw[key]) for key in method.fields if key in raw}
    # The kernels for FP8 are code from the hub: its weights are converted while they are loaded.
    more = {"dequantize": True} if name == "fp8" else {}
    return {"quant_method": name, **taken, **more}


def _data(value: Any) -> Any:
    """A value without what names files or addresses inside of it."""
    if isinstance(value, dict):
        return {key: _data(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_data(part) for part in value]
    return None if isinstance(value, str) and ("://" in value or ".." in value) else value


def quantize_with(kind: str, dtype: Any, config: Any) -> Any:
    """The settings of bitsandbytes that quantize weights to "4bit" or "8bit" while they are loaded.

    Raises ModelError if that cannot be done to this checkpoint, or here.
    """
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(f"{config.name_or_path} is quantized already; leave --quantize out")
    if find_spec("bitsandbytes") is None:
        raise ModelError(missing_package("--quantize", "bitsandbytes", extra="quantize"))
    import torch
    from transformers import BitsAndBytesConfig

    settings: Any = BitsAndBytesConfig
    if kind == "8bit":
        return settings(load_in_8bit=True)
    compute = dtype if isinstance(dtype, torch.dtype) else torch.bfloat16
    return settings(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute)
