"""What is taken from a checkpoint's `config.json`: what describes a network, and no code.

transformers sets every key of the file on its configuration. Some choose what is loaded: a kernel on the Hub
in the place of attention, a quantizer's packages, another file of weights. Taken are the fields that the
architecture declares, and numbers; among the base class's fields, those of a list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from llava_cot.core.files import read_bounded
from llava_cot.errors import DataError, ModelError
from llava_cot.models.local.quantization import read_quantization

_MOST_BYTES = 2**24
_MOST_TOKENIZER_BYTES = 2**28
_PROCESSOR_FILES = (
    "processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json",
    "chat_template.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
    "tokenizer.json", "vocab.json",
)  # fmt: skip
# Of the base class, and of what older checkpoints have in the place of declared fields.
_BASE = frozenset({
    "architectures", "bos_token_id", "decoder_start_token_id", "dtype", "eos_token_id", "id2label",
    "is_decoder", "is_encoder_decoder", "label2id", "layer_types", "model_type", "num_labels", "out_features",
    "pad_token_id", "per_layer_config", "problem_type", "rope_parameters", "rope_scaling", "sep_token_id",
    "text_config_dict", "tie_word_embeddings", "torch_dtype", "transformers_version", "vision_config_dict",
})  # fmt: skip
# What chooses code or files, wherever it is.
_CHOOSES = re.compile(
    r"^_|implementation|kernel_config|use_kernels|auto_map|quantiz|custom|pretrained|checkpoint|cache_dir"
    r"|name_or_path|transformers_weights|fusion_config|extra_\w*files|_files?$|url|revision|^token$|trust"
)
_INFINITE = ("Infinity", "-Infinity", "NaN")
_DTYPES = ("float32", "float16", "bfloat16", "float64", "auto")
_COUNTS = re.compile(r"^(num|n)_|layers?$|^depths?$|experts")
_MOST_LAYERS, _MOST_OF_A_KIND = 4096, 10**6
_AT_LEAST_ONE = re.compile(
    r"^(num|n)_(hidden_)?(attention_)?(layers?|(key_value_)?heads?)$"
    r"|^(hidden_size|patch_size|vocab_size|max_position_embeddings)$"
)
# Of a processor, which tries all arrangements of so many parts of a picture, and makes pictures of so many
# pixels: what a model uses is far below.
_PARTS = re.compile(r"^(max|min|num)_(image_)?(tiles|patches|crops|slice_nums)$|^dynamic_hd$")
_MOST_PARTS, _LONGEST_SIDE = 4096, 20_000


def read_config(folder: Path, *, quantized: bool = False) -> dict[str, Any]:
    """The fields of a checkpoint's configuration that are taken. Raises ModelError.

    With `quantized`, it may be quantized in any way, which is left out.
    """
    file = folder / "config.json"
    raw = read_json(file)
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        if "auto_map" in raw:
            files = ", ".join(own_code(raw)) or "not named"
            raise ModelError(
                f"{folder} needs code of its own to run ({files}), which is not loaded by default; read it, "
                "and if you trust it, add --trust-remote-code"
            )
        raise ModelError(f"the configuration in {folder} cannot be read: it has no model_type that is known")
    if code := next(_named_code(raw), None):
        raise ModelError(f"{file} names code to load ({code[:80]!r}), which is never loaded; remove it there")
    taken = _taken(raw, CONFIG_MAPPING[kind])
    quantization = raw.get("quantization_config")
    if quantization is not None and not quantized:
        taken["quantization_config"] = read_quantization(folder, quantization)
    _check_counts(taken, file)
    return taken


def read_json(file: Path, most_bytes: int = _MOST_BYTES) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint. Raises ModelError."""
    try:
        raw = json.loads(read_bounded(file, most_bytes))
    except (DataError, OSError) as error:
        raise ModelError(f"{file} cannot be read: {error}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{file} is damaged: it is not JSON") from None
    if not isinstance(raw, dict):
        raise ModelError(f"{file} is damaged: it is not a JSON object")
    return raw


def check_described(folder: Path) -> None:
    """Raise ModelError for the first of a processor's files that is no JSON object, or has a wrong length."""
    for name in _PROCESSOR_FILES:
        if (folder / name).is_file():
            longest = read_json(folder / name, _MOST_TOKENIZER_BYTES).get("model_max_length", 0)
            if not isinstance(longest, int | float):
                raise ModelError(
                    f"{folder / name}: model_max_length is {repr(longest)[:80]}, which is no number"
                )


def own_code(raw: Mapping[str, Any]) -> list[str]:
    """The files of code that a configuration names for the classes of its model, such as "modeling_x.py".

    One of another repository is "org/name--modeling_x.py".
    """
    named = raw.get("auto_map")
    classes = named.values() if isinstance(named, dict) else ()
    flat = chain.from_iterable(one if isinstance(one, list) else [one] for one in classes)
    return sorted({f"{one.rpartition('.')[0]}.py"[:100] for one in flat if isinstance(one, str)})


def _named_code(value: Any, chosen: bool = False) -> Iterator[str]:
    """The kernels, each of a repository, that a configuration names for attention and the like."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _named_code(part, chosen or "implementation" in key)
    elif chosen and isinstance(value, str) and "/" in value:
        yield value


def _taken(raw: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The keys of a configuration, or of a part of one, that are taken for its class; None: any class."""
    base = {field.name for field in fields(PreTrainedConfig)}
    declared = set(_BASE) | set(getattr(config, "attribute_map", ()))
    if config is not None and is_dataclass(config):
        declared |= {field.name for field in fields(config)} - base
    parts = getattr(config, "sub_configs", None) or {}
    found: dict[str, Any] = {}
    for key, value in raw.items():
        if _CHOOSES.search(key) and not (key in declared and type(value) in (int, float)):
            continue
        if key in ("dtype", "torch_dtype") and value not in _DTYPES:
            continue
        if isinstance(value, dict) and (key in parts or "model_type" in value):
            found[key] = _taken(value, _class_of(value, parts.get(key)))
        elif key in declared:
            found[key] = _described(value)
        elif _numbers(value) and key not in base and not hasattr(config or PreTrainedConfig, key):
            found[key] = value
    return found


def _class_of(part: Mapping[str, Any], default: Any) -> Any:
    """The class of a part's configuration; None if that is not known."""
    kind = part.get("model_type")
    if isinstance(default, type) and issubclass(default, PreTrainedConfig):
        return default
    return CONFIG_MAPPING[kind] if isinstance(kind, str) and kind in CONFIG_MAPPING else None


def _described(value: Any) -> Any:
    """A declared field's value, without what chooses code or files inside it."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:  # how transformers writes an infinite number
            return float(value["__float__"]) if value["__float__"] in _INFINITE else None
        return {key: _described(part) for key, part in value.items() if not _CHOOSES.search(key)}
    return [_described(part) for part in value] if isinstance(value, list) else value


def _numbers(value: Any) -> bool:
    """Whether a value is null, a number, or a list of such: data, which cannot name anything."""
    if isinstance(value, list):
        return all(map(_numbers, value))
    return value is None or isinstance(value, int | float)


def _check_counts(taken: Mapping[str, Any], file: Path) -> None:
    """Refuse numbers of layers and the like that no network has: one of a billion is never built."""
    for key, value in taken.items():
        if isinstance(value, dict):
            _check_counts(value, file)
        for number in value if isinstance(value, list) else [value]:
            if type(number) is not int:
                continue
            most = _MOST_LAYERS if "layer" in key or "depth" in key or "expert" in key else _MOST_OF_A_KIND
            if number > most and _COUNTS.search(key):
                raise ModelError(f"{file}: {key} is {str(number)[:20]}, which is more than {most:,}")
            if number < 1 and _AT_LEAST_ONE.search(key):
                raise ModelError(f"{file}: {key} is {str(number)[:20]}, which is less than 1")


def check_processor_numbers(folder: Path) -> None:
    """Refuse a processor that would cut pictures into parts without end, or make them larger than any.

    Raises ModelError. A file that is damaged is left to transformers.
    """
    for name in ("processor_config.json", "preprocessor_config.json"):
        try:
            found = json.loads(read_bounded(folder / name, _MOST_BYTES))
            key = next(_beyond(found), None)
        except (OSError, ValueError, RecursionError):
            continue
        if key is not None:
            raise ModelError(f"{folder / name}: {key[:80]} is larger than any model needs")


def _beyond(value: Any, key: str = "") -> Iterator[str]:
    """The keys of numbers that are too large; numbers in lists are those of the list's key."""
    if isinstance(value, dict):
        kind = value.get("image_processor_type", value.get("video_processor_type"))
        for name, part in value.items():
            # Kimi K2.5 counts patches of pixels there, which it tries no arrangements of.
            if name != "max_patches" or not str(kind).startswith("Kimi_K25"):
                yield from _beyond(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _beyond(part, key)
    elif isinstance(value, int | float):
        side = key in ("height", "width") or "pinpoints" in key
        if value > (_MOST_PARTS if _PARTS.search(key) else _LONGEST_SIDE if side else 10**12):
            yield key
