"""What a checkpoint's configuration says of its network is taken, and nothing that fetches or runs code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import transformers
from opening import Tiny

from llava_cot.errors import ModelError
from llava_cot.models.local import checkpoint
from llava_cot.models.local.config_fields import check_processor_numbers, read_config


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as refused:
        checkpoint.load_config(folder)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def spoil(folder: Path, **values: Any) -> None:
    """Change fields of the configuration; those of a part, where a part of that name is there."""
    file = folder / "config.json"
    raw = json.loads(file.read_text())
    for name, value in values.items():
        both = isinstance(raw.get(name), dict) and isinstance(value, dict)
        raw[name] = raw[name] | value if both else value
    file.write_text(json.dumps(raw))


KERNEL = "someone/evil-kernel"


@pytest.mark.parametrize(
    "change",
    [
        {"_attn_implementation": KERNEL},
        {"attn_implementation": KERNEL},
        {"attn_implementation": {"": "sdpa", "text_config": KERNEL}},
        {"_experts_implementation": KERNEL},
        {"text_config": {"_attn_implementation": KERNEL}},
    ],
)
def test_a_configuration_that_names_a_kernel(copy: Path, change: dict[str, Any]) -> None:
    spoil(copy, **change)
    assert f"names code to load ('{KERNEL}'), which is never loaded" in refusal(copy)


@pytest.mark.parametrize("method", ["hqq", "mxfp4", "quark", None, 5, "x" * 5000])
def test_a_configuration_that_names_a_quantizer(copy: Path, method: object) -> None:
    spoil(copy, quantization_config={"quant_method": method})
    told = refusal(copy)
    assert "is quantized by" in told and len(told) < 400


def test_an_adapter_beside_a_model(copy: Path) -> None:
    config = {"peft_type": "LORA", "megatron_config": {}, "megatron_core": "os"}
    (copy / "adapter_config.json").write_text(json.dumps(config))
    assert "an adapter beside its model" in refusal(copy)


CHOICES = {
    "_attn_implementation": "flash_attention_2",
    "attn_implementation": "paged|eager",
    "auto_map": {"AutoModel": "a.B"},
    "_experts_implementation": "deepgemm",
    "transformers_weights": "../other.safetensors",
    "fusion_config": {"a": {}},
    "extra_files": ["x.safetensors"],
    "name_or_path": "someone/model",
    "_name_or_path": "someone/model",
    "use_kernels": True,
    "kernel_config": {"a": "b/c"},
    "custom_generate": "someone/generate",
    "return_dict": False,
    "use_pretrained_backbone": True,
    "device_map": {"": "disk"},
    "trust_remote_code": True,
    "tp_plan": "auto",
    "base_model_tp_plan": {"layers": "rowwise"},
    "_attn_implementation_internal": KERNEL[:4],
    "made_up": "text",
}


def test_what_a_configuration_chooses_is_not_taken(copy: Path, opened: Callable[[str], Tiny]) -> None:
    plain = checkpoint.load_config(copy).to_dict()
    spoil(copy, to_dict=5, from_pretrained=None, dtype="load", torch_dtype="hub")
    assert checkpoint.load_config(copy).to_dict() == plain | {"dtype": None}
    shutil.copy(opened("llava").folder / "config.json", copy)
    spoil(copy, **CHOICES, text_config=CHOICES, made_up_number=7, made_up_list=[1, [2.5]])
    config = checkpoint.load_config(copy)
    assert config.made_up_number == 7
    assert config.to_dict() == plain | {"made_up_number": 7, "made_up_list": [1, [2.5]]}
    before = opened("llava").network
    loaded = checkpoint.load_checkpoint(copy, "cpu", "float32").model
    assert loaded.config._attn_implementation == before.config._attn_implementation
    assert type(loaded) is type(before)


@pytest.mark.slow
def test_what_differs_between_layers_is_taken(copy: Path) -> None:
    """As in Gemma 4, whose global layers have larger heads."""
    spoil(copy, text_config={"per_layer_config": {"1": {"head_dim": 16, "checkpoint_files": ["x.py"]}}})
    assert read_config(copy)["text_config"]["per_layer_config"] == {"1": {"head_dim": 16}}


def test_an_infinite_number_is_taken(copy: Path) -> None:
    """As in Nemotron-H, whose steps of time have no upper limit."""
    numbers = {"limit": [0.0, {"__float__": "Infinity"}], "x": {"__float__": []}}
    spoil(copy, text_config={"rope_scaling": numbers})
    found = read_config(copy)["text_config"]["rope_scaling"]
    assert found == {"limit": [0.0, float("inf")], "x": None}


@pytest.mark.parametrize("kind", tiny.ALL_KINDS)
def test_all_of_a_good_configuration_is_taken(kind: str, opened: Callable[[str], Tiny]) -> None:
    folder = opened(kind).folder
    raw = transformers.AutoConfig.from_pretrained(folder).to_dict()
    assert checkpoint.load_config(folder).to_dict() == raw


@pytest.mark.parametrize(
    "change",
    [
        {"num_hidden_layers": 10**9},
        {"num_hidden_layers": 10**400},
        {"num_attention_heads": 10**12},
        {"num_experts": 9999},
    ],
)
def test_a_configuration_of_a_network_that_nobody_has(copy: Path, change: dict[str, int]) -> None:
    spoil(copy, text_config=change)
    assert "which is more than" in refusal(copy)


@pytest.mark.parametrize("number", [0, -1])
def test_a_network_without_layers(copy: Path, number: int) -> None:
    spoil(copy, text_config={"num_hidden_layers": number})
    assert "which is less than 1" in refusal(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"max_image_tiles": 10**6},  # all ways to arrange them are tried
        {"dynamic_hd": 10**6},
        {"size": {"height": 10**5, "width": 10**5}},
        {"image_grid_pinpoints": [[336, 10**6]]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_processor_whose_work_has_no_end(copy: Path, change: dict[str, Any]) -> None:
    file = copy / "processor_config.json"
    found = json.loads(file.read_text())
    found["image_processor"] |= change
    file.write_text(json.dumps(found))
    with pytest.raises(ModelError, match="is larger than any model needs"):
        checkpoint.load_processor(copy)


def test_a_processor_may_count_patches_of_pixels(tmp_path: Path) -> None:
    images = {"image_processor_type": "Kimi_K25ImageProcessor", "max_patches": 16384}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": images}))
    check_processor_numbers(tmp_path)


@pytest.mark.parametrize("text", ["[" * 10**5, "[]", "5", '"x"', '{"model_type": [1]}', "9" * 5000, "\x00"])
def test_a_configuration_of_other_types(copy: Path, text: str) -> None:
    (copy / "config.json").write_text(text)
    assert "config" in refusal(copy)
