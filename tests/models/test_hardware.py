"""Quantized weights, models in two places, kinds of attention, and the memory for caches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import accelerate.utils.modeling
import pytest
import reward_checkpoints
import torch
from opening import Tiny, noise, open_folder
from quantized import compressed, fp8, wide_llava
from transformers import AutoModelForImageTextToText
from transformers.integrations import accelerate as integration

from llava_cot import open_model
from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt, Sampling
from llava_cot.models.local import devices, quantization
from llava_cot.models.local.checkpoint import load_checkpoint, place
from llava_cot.models.local.model import LocalModel
from llava_cot.models.registry import open_reward

GREEDY = Sampling(temperature=0, max_tokens=12)
PROMPTS = [Prompt.of("How many objects are there?", (noise(1),)), Prompt.of("Which?")]


async def tokens(model: Any) -> list[list[int]]:
    found = await asyncio.gather(*(model.sample(prompt, 2, GREEDY) for prompt in PROMPTS))
    return [list(one.tokens) for some in found for one in some]


def generated(model: Any, opened: Tiny) -> list[list[int]]:
    """What `generate` writes, twice as two samples are drawn."""
    found = []
    for prompt in PROMPTS:
        inputs = opened.inputs(prompt.messages)
        made = model.generate(**inputs, max_new_tokens=GREEDY.max_tokens, do_sample=False)
        found += [made[0, inputs["input_ids"].shape[1] :].tolist()] * 2
    return found


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return open_folder(wide_llava(tmp_path_factory.mktemp("wide")))


@pytest.mark.parametrize("bits", ["4bit", "8bit"])
async def test_weights_are_quantized_while_they_are_loaded(wide: Tiny, bits: str) -> None:
    pytest.importorskip("bitsandbytes")
    with closing(LocalModel(wide.folder, device="cpu", quantize=bits)) as model:
        network = model._engine._network._model
        kinds = {type(module).__name__ for module in network.model.language_model.modules()}
        assert ("Linear4bit" if bits == "4bit" else "Linear8bitLt") in kinds
        found = await tokens(model)
        assert found == generated(network, wide)
        assert found != await tokens(wide.model)


async def test_a_checkpoint_of_bitsandbytes_is_opened(wide: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    made = load_checkpoint(wide.folder, "cpu", "float32", quantize="4bit")
    made.model.save_pretrained(tmp_path)
    made.processor.save_pretrained(tmp_path)
    with closing(LocalModel(tmp_path, device="cpu")) as model:
        assert await tokens(model) == generated(made.model, wide)
    with pytest.raises(ModelError, match="is quantized already; leave --quantize out"):
        LocalModel(tmp_path, device="cpu", quantize="4bit")


async def test_a_checkpoint_of_compressed_tensors_is_opened(wide: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    with closing(LocalModel(compressed(wide.folder, tmp_path), device="cpu")) as model:
        assert await tokens(model) == generated(model._engine._network._model, wide)


async def test_a_checkpoint_in_fp8_is_converted(wide: Tiny, tmp_path: Path) -> None:
    with closing(LocalModel(fp8(wide.folder, tmp_path / "fp8"), device="cpu")) as model:
        network = model._engine._network._model
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
        weight = network.model.language_model.layers[0].mlp.down_proj.weight
        own = wide.network.model.language_model.layers[0].mlp.down_proj.weight
        assert 0 < (weight - own).abs().max() < own.abs().max() / 16
        assert await tokens(model) == generated(network, wide)


async def test_adapters_stay_beside_quantized_weights(wide: Tiny, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    peft = pytest.importorskip("peft")
    torch.manual_seed(1)
    tuned = peft.get_peft_model(
        load_checkpoint(wide.folder, "cpu", "float32").model,
        peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False),
    )
    tuned.save_pretrained(tmp_path)
    with closing(LocalModel(wide.folder, device="cpu", adapters=[tmp_path], quantize="4bit")) as model:
        network = model._engine._network._model
        assert any("lora_A" in name for name, _ in network.named_parameters())
        found = await tokens(model)
        assert found == generated(network, wide) != await tokens(wide.model)


async def test_a_reward_model_is_quantized(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    folder = reward_checkpoints.text_reward(tmp_path, head_dim=64)
    prompt = Prompt((Message("user", "How many?"),))
    values = []
    for quantize in (None, "8bit"):
        with closing(open_reward(folder, device="cpu", quantize=quantize)) as model:
            values.append((await model.reward(prompt, "three")).value)
    assert 0 < abs(values[0] - values[1]) < 0.2 * abs(values[0])


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch, wide: Tiny) -> None:
    """Accelerate finds room for a part of the wide model on the CPU."""
    size = sum(parameter.nbytes for parameter in wide.network.parameters())
    for module in (accelerate.utils.modeling, integration):
        monkeypatch.setattr(module, "get_max_memory", lambda given=None: {"cpu": size * 2 // 3})


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("kind", ["auto", "sequential"])
async def test_a_model_is_divided_between_the_cpu_and_the_disk(wide: Tiny, kind: str) -> None:
    with closing(open_model(wide.folder, device_map=kind)) as model:
        network = model._engine._network._model  # type: ignore[attr-defined]
        assert set(network.hf_device_map.values()) == {"cpu", "disk"}
        assert any(parameter.device.type == "meta" for parameter in network.parameters())
        assert await tokens(model) == await tokens(wide.model)


@pytest.mark.parametrize("attn", ["eager", "sdpa"])
async def test_attention_is_computed_as_chosen(opened: Callable[[str], Tiny], attn: str) -> None:
    tiny = opened("llava")
    with closing(LocalModel(tiny.folder, device="cpu", attn=attn)) as model:
        config = model._engine._network._model.config
        assert config._attn_implementation == config.text_config._attn_implementation == attn
        assert await tokens(model) == await tokens(tiny.model)


def test_flash_attention_is_for_what_encodes_images(
    opened: Callable[[str], Tiny], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelError, match="needs flash-attn; run: pip install flash-attn"):
        place("cpu", "auto", attn="flash_attention_2")
    given: dict[str, Any] = {}

    def from_pretrained(folder: Path, **options: Any) -> Any:
        given.update(options)
        raise OSError("no more is looked at")

    monkeypatch.setattr("llava_cot.models.local.checkpoint.find_spec", lambda name: True)
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", from_pretrained)
    with pytest.raises(ModelError, match="no more is looked at"):
        load_checkpoint(opened("llava").folder, "cpu", "float32", attn="flash_attention_2")
    assert given["attn_implementation"] == {
        "": "sdpa", "vision_config": "flash_attention_2", "text_config": "sdpa",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device_map": "cuda:0"}, "device_map is 'cuda:0'; choose auto, balanced"),
        ({"quantize": "2bit"}, "quantize is '2bit'; choose 4bit or 8bit"),
        ({"attn": "org/kernel"}, "attn is 'org/kernel'; choose sdpa"),
        ({"device_map": "auto", "device": "cpu"}, "--device-map takes all devices, and --device is cpu"),
        ({"cache_mb": "much"}, "the memory for caches is 'much'; give a number of MiB, or auto"),
    ],
)
def test_options_that_cannot_be(options: dict[str, str], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        open_model("mini", **options)  # type: ignore[arg-type]


def test_matrices_that_cannot_be_multiplied_as_quantized(opened: Callable[[str], Tiny]) -> None:
    with pytest.raises(ModelError, match="cannot run llava with these quantized weights: "):
        open_model(opened("llava").folder, device="cpu", quantize="4bit")


def test_hardware_is_for_the_local_engine() -> None:
    with pytest.raises(ModelError, match="--quantize is for checkpoints that the local engine runs, not for"):
        open_model("http://localhost:9/v1", quantize="4bit")


SAFE = {"quant_method": "gptq", "bits": 4, "group_size": 128, "meta": {"quantizer": ["gptqmodel:5.0"]}}


def test_of_a_quantization_only_numbers_and_names_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: True)
    danger = {
        "tokenizer": "org/tokenizer", "dataset": "c4", "backend": "a.b:C", "block_name_to_quantize": "x",
        "use_kernels": True,
    }  # fmt: skip
    assert quantization.read_quantization("x", {**SAFE, **danger}) == SAFE
    meta = {"meta": {"uri": "https://example.org", "path": "../a"}}
    assert quantization.read_quantization("x", {**SAFE, **meta})["meta"] == {"uri": None, "path": None}
    assert quantization.read_quantization("x", {"load_in_4bit": True}) == {
        "quant_method": "bitsandbytes", "load_in_4bit": True,
    }  # fmt: skip
    eight = {"quant_method": "fp8", "weight_block_size": [128, 128], "dequantize": False}
    assert quantization.read_quantization("x", eight)["dequantize"] is True


@pytest.mark.parametrize(
    ("method", "packages"),
    [
        ("awq", "gptqmodel"),
        ("bitsandbytes", "bitsandbytes"),
        ("compressed-tensors", "compressed-tensors"),
        ("fbgemm_fp8", "fbgemm-gpu"),
        ("gptq", "gptqmodel optimum"),
        ("torchao", "torchao"),
    ],
)
def test_a_missing_library_is_named(method: str, packages: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=f"is quantized by {method}, .*run: pip install {packages}$"):
        quantization.read_quantization("x", {"quant_method": method})


# Memory


def test_caches_share_what_is_free(opened: Callable[[str], Tiny], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = opened("llava").folder
    monkeypatch.setattr(devices, "_sharing", type(devices._sharing)())
    monkeypatch.setattr(devices, "free_bytes", lambda device: 3 * 2**20)
    with closing(LocalModel(folder, device="cpu")) as one:
        assert one._engine.memory == 3 * 2**20
        with (
            closing(LocalModel(folder, device="cpu")) as other,
            closing(LocalModel(folder, device="cpu", cache_mb=7)) as fixed,
        ):
            assert one._engine.memory == other._engine.memory == 3 * 2**19
            assert one._engine._prefixes.limit == one._engine._room == 3 * 2**18
            assert fixed._engine.memory == 7 * 2**20
    with closing(LocalModel(folder, device="cpu", max_batch=10)) as model:
        bytes_of = model._engine._network.layout.token_bytes
        assert model.room == (
            f"caches of 3 MiB on cpu, for rows: {min(10, 3 * 2**19 // (512 * bytes_of))} of 512 tokens"
        )


def test_the_free_memory_of_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    class Module:
        mem_get_info = staticmethod(lambda device: (50 * 2**30, 80 * 2**30))
        memory_reserved = staticmethod(lambda device: 20 * 2**30)
        memory_allocated = staticmethod(lambda device: 16 * 2**30)

    monkeypatch.setattr(torch, "get_device_module", lambda device: Module)
    assert devices.free_bytes(torch.device("cuda")) == 46 * 2**30


def test_a_container_has_the_memory_of_its_limit(tmp_path: Path) -> None:
    assert devices._container_bytes(tmp_path) == []
    for name, text in (
        ("memory.max", "max"), ("memory.current", "700"), ("memory.stat", "anon 500\ninactive_file 150\n")
    ):  # fmt: skip
        (tmp_path / name).write_text(text)
    assert devices._container_bytes(tmp_path) == []
    (tmp_path / "memory.max").write_text("1000\n")
    assert devices._container_bytes(tmp_path) == [450]
