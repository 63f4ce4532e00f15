"""Low-rank adapters in peft's layout: reading what one needs, and putting it into a model.

Of `adapter_config.json`, the fields that describe low-rank matrices are taken. One that would have peft do
anything else, such as importing a module that it names or changing the base model, is refused.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_cot.core.files import read_bounded
from llava_cot.errors import ModelError, needs_extra
from llava_cot.models.hub import ADAPTER, ADAPTER_CONFIG, HubName, hub_name

_MOST_BYTES = 2**22
# What describes the matrices, and where they are.
_TAKEN = frozenset({
    "alpha_pattern", "bias", "exclude_modules", "fan_in_fan_out", "layers_pattern", "layers_to_transform",
    "lora_alpha", "lora_bias", "modules_to_save", "r", "rank_pattern", "target_modules", "target_parameters",
    "trainable_token_indices", "use_dora", "use_rslora",
})  # fmt: skip
# What is about training alone, or says where the adapter is from.
_IGNORED = frozenset({
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "inference_mode", "init_lora_weights",
    "lora_dropout", "megatron_core", "peft_type", "peft_version", "qalora_group_size", "revision",
    "task_type",
})  # fmt: skip
# Ways to begin training that leave the base model as it is; others save an adapter of a changed one.
_PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")


@dataclass(frozen=True)
class AdapterConfig:
    """An adapter's configuration: the model that it was trained on, and the fields for peft."""

    base: str
    fields: Mapping[str, Any]


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no model beside it."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def read_adapter(folder: Path) -> AdapterConfig:
    """Read and check the configuration of an adapter, and that it has its weights. Raises ModelError."""
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        raise ModelError(f"{folder} is no adapter: it has no {ADAPTER_CONFIG}")
    try:
        raw = json.loads(read_bounded(file, _MOST_BYTES))
    except (OSError, RecursionError, ValueError):
        raw = None
    if not isinstance(raw, dict):
        raise ModelError(f"{file} is damaged: it is not a JSON object")
    if raw.get("peft_type") != "LORA":
        raise ModelError(
            f"{folder} is an adapter of the type {str(raw.get('peft_type'))[:40]!r}, and only LORA can be "
            "opened; merge it into its model with peft"
        )
    start = raw.get("init_lora_weights", True)
    if not any(start is plain or start == plain for plain in _PLAIN_STARTS):
        raise ModelError(
            f"{folder} begins with {str(start)[:40]!r}, which changes the base model; convert it with peft "
            "(path_initial_model_for_weight_conversion)"
        )
    used = {key: value for key, value in raw.items() if value not in (None, False, {}, [])}
    if unknown := sorted(used.keys() - _TAKEN - _IGNORED):
        raise ModelError(f"{file} has {unknown[0][:40]}, which is not supported; merge the adapter with peft")
    if not (folder / ADAPTER).is_file():
        raise ModelError(f"{folder} has no {ADAPTER}; only safetensors are loaded")
    base, revision = raw.get("base_model_name_or_path"), raw.get("revision")
    on_hub = hub_name(base) if isinstance(base, str) else None
    if on_hub is not None and isinstance(revision, str) and hub_name(f"{base}@{revision}") is not None:
        base = str(HubName(on_hub.repo, revision))
    return AdapterConfig(base if isinstance(base, str) else "", {k: used[k] for k in used.keys() & _TAKEN})


def apply_adapters(model: Any, folders: Sequence[Path], *, merge: bool) -> Any:
    """The model with adapters, whose effects add up: merged into its weights, or else beside them.

    They stay beside weights that are quantized, where merging would round their effects away, or on several
    devices. Raises ModelError if one does not fit the model.
    """
    from llava_cot.models.local.devices import device_of, is_divided

    merge = merge and not getattr(model, "hf_quantizer", None) and not is_divided(model)
    configs = [read_adapter(folder) for folder in folders]
    with needs_extra("an adapter", "train", ModelError):
        from peft import LoraConfig, PeftModel
    peft_model: Any = None
    names = [f"adapter{number}" for number in range(len(folders))]
    for name, folder, config in zip(names, folders, configs, strict=True):
        try:
            with warnings.catch_warnings(action="ignore"):
                lora = LoraConfig(**config.fields, inference_mode=True)
                if peft_model is None:
                    peft_model = PeftModel(model, lora, name)
                else:
                    peft_model.add_adapter(name, lora)
                mapping = getattr(model, "_checkpoint_conversion_mapping", None) or {}
                found = peft_model.load_adapter(
                    str(folder), name, torch_device=str(device_of(model)), key_mapping=mapping
                )
        except Exception as error:  # of as many kinds as there are wrong fields and shapes
            raise ModelError(f"the adapter {folder} does not fit the model: {_reason(error)}") from None
        if strange := [*found.missing_keys, *found.unexpected_keys]:
            raise ModelError(
                f"the adapter {folder} does not fit the model: {strange[0]} is not in both; name the model "
                f"that it was trained on{f' ({config.base})' if config.base else ''}"
            )
    try:
        peft_model.base_model.set_adapter(names)
        if merge:
            return peft_model.merge_and_unload(safe_merge=True).eval().requires_grad_(False)
    except ValueError as error:
        raise ModelError(f"the adapters cannot be used together: {_reason(error)}") from None
    return peft_model.base_model.model.eval().requires_grad_(False)


def with_same_weights(model: Any) -> Any | None:
    """A second model with the same weights in memory, for adapters of its own.

    None where the second would still use parts of the first: in a model that is divided among devices, is
    quantized, or has hooks.
    """
    from llava_cot.models.local.devices import is_divided

    hooks = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    if hooks or getattr(model, "hf_quantizer", None) or is_divided(model):
        return None
    return deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return " ".join(lines[:2])[:300].rstrip(".")
