"""Low-rank adapters: merged and beside the weights, several, by folder and on the hub, and refusals."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_double import running_hub, use_hub
from opening import Tiny, noise
from peft import LoraConfig, get_peft_model
from reward_checkpoints import text_reward
from safetensors.torch import load_file, save_file
from transformers import LlamaForSequenceClassification

from llava_cot.core.question import Question
from llava_cot.core.trace import Candidate
from llava_cot.errors import ModelError
from llava_cot.models.base import Message, Prompt
from llava_cot.models.local.adapters import apply_adapters, read_adapter
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.registry import find_checkpoint, open_model, open_reward
from llava_cot.search.ask import make_judge
from llava_cot.search.request import make_request
from llava_cot.search.resources import Resources, ResourceSpec

PROMPT = Prompt((Message("user", "How many objects are there?", (noise(1),)),))
CPU: dict[str, Any] = {"device": "cpu"}
OPTIONS = ["Yes", "No", "three cubes"]


def make_adapter(base: Path, folder: Path, seed: int, **settings: object) -> Path:
    """An adapter with random weights that change what the model does."""
    model = load_checkpoint(base, "cpu", "float32").model
    config = LoraConfig(**{"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "up_proj"]} | settings)
    made = get_peft_model(model, config)
    torch.manual_seed(seed)
    for name, parameter in made.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.3)
    made.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def base(opened: Callable[[str], Tiny]) -> Path:
    return opened("llava").folder


@pytest.fixture(scope="module")
def adapters(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("adapters")
    return [
        make_adapter(base, folder / "first", 1),
        make_adapter(base, folder / "second", 2, r=8, use_rslora=True, target_modules=["v_proj"]),
        make_adapter(base, folder / "third", 3, use_dora=True, modules_to_save=["lm_head"]),
    ]


async def scores(*names: Path, **settings: object) -> list[float]:
    model = open_model(names[0], adapters=names[1:], device="cpu", **settings)  # type: ignore[arg-type]
    try:
        return await model.choose(PROMPT, OPTIONS)
    finally:
        model.close()


@pytest.mark.parametrize("chosen", [(0,), (1,), (2,), (0, 1)])
async def test_merged_is_beside(base: Path, adapters: list[Path], chosen: tuple[int, ...]) -> None:
    names = [adapters[number] for number in chosen]
    plain = await scores(base)
    merged = await scores(base, *names)
    beside = await scores(base, *names, merge=False)
    assert merged == pytest.approx(beside, abs=2e-4)
    assert merged != pytest.approx(plain, abs=1e-2)


def in_memory(model: Any) -> set[int]:
    """Where the weights of an open model are."""
    return {parameter.data_ptr() for parameter in model._engine._network._model.parameters()}


async def rewards(resources: Resources) -> list[float]:
    """What the judge implicit makes of two answers, scored together."""
    request = make_request("best-of-n", judge="implicit", resources=resources)
    judge = make_judge("implicit", resources.reference, request, resources)  # type: ignore[arg-type]
    question = Question("How many objects are there?", (noise(1),))
    answers = [
        Candidate.model_validate({"id": n, "parent": None, "round": 0, "stage": "conclusion", "text": text})
        for n, text in enumerate(["<CONCLUSION>three</CONCLUSION>", "<CONCLUSION>No, two.</CONCLUSION>"])
    ]
    scoring = (judge.score(question, "conclusion", "", answer, seed=0) for answer in answers)
    return [score.value for score in await asyncio.gather(*scoring)]


@pytest.mark.parametrize("chosen", [0, 2])
async def test_a_judge_that_is_an_adapter_on_the_reference_takes_its_weights(
    base: Path, adapters: list[Path], chosen: int
) -> None:
    """The rewards are those of two models that are opened apart."""
    named = ResourceSpec(judge_model=str(adapters[chosen]), reference=str(base), model_options=CPU)
    with named.open() as together:
        found, plain = await rewards(together), await together.reference.choose(PROMPT, OPTIONS)  # type: ignore[union-attr]
        assert in_memory(together.reference) <= in_memory(together.judge_model)
    with closing(open_model(adapters[chosen], **CPU)) as trained, closing(open_model(base, **CPU)) as model:
        assert not in_memory(trained) & in_memory(model)
        apart = await rewards(Resources(judge_model=trained, reference=model))
        assert plain == await model.choose(PROMPT, OPTIONS)
    assert found == pytest.approx(apart, abs=2e-3) and abs(found[0] - found[1]) > 0.1


async def test_an_adapter_takes_the_weights_of_the_model_that_answers(
    base: Path, adapters: list[Path], tmp_path: Path
) -> None:
    named = ResourceSpec(judge_model=str(adapters[0]), model_options=CPU)
    with named.open_with(str(base), None) as (model, resources):
        assert in_memory(model) <= in_memory(resources.judge_model)
        for others in ({"dtype": "bfloat16"}, {"adapters": adapters[1:2]}):
            with closing(open_model(base, **CPU | others)) as other:
                alone = ResourceSpec(judge_model=str(adapters[0]), model_options=CPU, opened={"x": other})
                with alone.open() as ready:
                    assert not in_memory(other) & in_memory(ready.judge_model)


async def test_an_adapters_folder_is_its_model_with_it(base: Path, adapters: list[Path]) -> None:
    assert find_checkpoint(adapters[0]).folder == base
    assert find_checkpoint(adapters[0]).name == "first"
    assert find_checkpoint(base, adapters[:2]).name == f"{base.name}+first+second"
    assert await scores(adapters[0]) == await scores(base, adapters[0])


async def test_adapters_on_the_hub(
    base: Path, adapters: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_hub() as hub:
        use_hub(hub, tmp_path / "hf", monkeypatch)
        commit = hub.add("org/base", base, ref="v1")
        files = {path.name: path.read_bytes() for path in adapters[0].iterdir()}
        config = json.loads(files["adapter_config.json"])
        config |= {"base_model_name_or_path": "org/base", "revision": "v1"}
        hub.add("org/adapter", files | {"adapter_config.json": json.dumps(config).encode()})
        found = find_checkpoint("org/adapter")
        assert found.name == "org/adapter" and found.folder.name == commit
        hub.requests.clear()
        model = open_model("org/adapter", device="cpu")
        assert hub.requests == ["GET /api/models/org/adapter", "GET /api/models/org/base/revision/v1"]
        assert await model.choose(PROMPT, OPTIONS) == await scores(base, adapters[0])
        model.close()


@pytest.fixture
def spoiled(adapters: list[Path], tmp_path: Path) -> Path:
    """A copy of the first adapter, to spoil."""
    for path in adapters[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def change(folder: Path, **values: object) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "of the type 'PROMPT_TUNING', and only LORA"),
        ({"peft_type": None}, "only LORA"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "has megatron_config"),
        ({"layer_replication": [[0, 1]]}, "has layer_replication, which is not supported"),
        ({"init_lora_weights": "pissa"}, "which changes the base model"),
        ({"something_new": 1}, "has something_new"),
    ],
)
def test_a_configuration_that_does_more_is_refused(
    spoiled: Path, values: dict[str, object], words: str
) -> None:
    change(spoiled, **values)
    with pytest.raises(ModelError, match=words):
        read_adapter(spoiled)


def test_damaged_adapters(spoiled: Path) -> None:
    (spoiled / "adapter_model.safetensors").rename(spoiled / "adapter_model.bin")
    with pytest.raises(ModelError, match="only safetensors"):
        read_adapter(spoiled)
    (spoiled / "adapter_config.json").write_text("[]")
    with pytest.raises(ModelError, match="damaged"):
        read_adapter(spoiled)
    (spoiled / "adapter_config.json").unlink()
    with pytest.raises(ModelError, match="is no adapter"):
        read_adapter(spoiled)


@pytest.mark.parametrize("kind", ["more", "less", "shape", "config", "targets"])
def test_an_adapter_that_does_not_fit(base: Path, spoiled: Path, kind: str) -> None:
    file = spoiled / "adapter_model.safetensors"
    weights = load_file(file)
    name = next(iter(weights))
    if kind == "more":
        other = name.replace("q_proj", "k_proj").replace("up_proj", "down_proj")
        weights[other] = weights[name].clone()
    elif kind == "less":
        del weights[name]
    elif kind == "shape":
        weights[name] = torch.zeros(3, 3)
    elif kind == "config":
        change(spoiled, r="many")
    else:
        change(spoiled, target_modules=["no_such_layer"])
    save_file(weights, file)
    with pytest.raises(ModelError, match="does not fit the model") as refused:
        apply_adapters(load_checkpoint(base, "cpu", "float32").model, [spoiled], merge=True)
    assert "\n" not in str(refused.value)


def test_a_base_that_is_not_here(spoiled: Path) -> None:
    change(spoiled, base_model_name_or_path="/no/such/folder")
    with pytest.raises(ModelError, match="which is not here; give its model as --model and --adapter"):
        find_checkpoint(spoiled)
    change(spoiled, base_model_name_or_path=str(spoiled))
    with pytest.raises(ModelError, match="merge that one"):
        find_checkpoint(spoiled)


async def test_a_reward_model_that_is_an_adapter(tmp_path: Path) -> None:
    base = text_reward(tmp_path / "judge")
    network = LlamaForSequenceClassification.from_pretrained(base)
    made = get_peft_model(network, LoraConfig("SEQ_CLS", r=4, target_modules=["q_proj"]))
    for parameter in made.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.5)
    made.save_pretrained(str(tmp_path / "adapter"))
    made.merge_and_unload().save_pretrained(tmp_path / "merged")
    for path in base.iterdir():
        if not (tmp_path / "merged" / path.name).exists():
            shutil.copy(path, tmp_path / "merged")
    found = []
    for folder in (base, tmp_path / "adapter", tmp_path / "merged"):
        model = open_reward(folder, device="cpu")
        found.append((await model.reward(Prompt.of("How many?"), "2")).value)
        model.close()
    assert found[1] == pytest.approx(found[2], abs=1e-4) and abs(found[1] - found[0]) > 0.01


def test_other_models_take_none(adapters: list[Path]) -> None:
    for spec in ("http://127.0.0.1:9/v1", "vllm:mini"):
        with pytest.raises(ModelError, match="merge them first"):
            open_model(spec, adapters=adapters[:1])
    with pytest.raises(ModelError, match="not run with vLLM here"):
        open_model(f"vllm:{adapters[0]}")
    with pytest.raises(ModelError, match="no reward model"):
        open_reward(adapters[0])
