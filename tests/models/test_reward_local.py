"""Reward models from folders, against what transformers itself makes of the same conversation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import torch
from opening import noise
from reward_checkpoints import pictured_reward, text_reward
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer, Gemma3ForSequenceClassification
from transformers import LlamaForSequenceClassification as Llama

from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt
from llava_cot.models.local import reward_local
from llava_cot.models.local.reward_local import LocalReward
from llava_cot.models.registry import open_reward

ANSWERS = ["2", "<SUMMARY> Count. </SUMMARY>", "There are two cubes. " * 9, "no", "2 cubes"]
PROMPT = Prompt.of("How many are left?", [noise(1)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return text_reward(tmp_path_factory.mktemp("reward") / "judge")


@pytest.fixture
def model(folder: Path) -> Iterator[LocalReward]:
    with closing(open_reward(folder, device="cpu")) as opened:
        assert isinstance(opened, LocalReward)
        yield opened


def by_transformers(folder: Path, answer: str) -> float:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "How many are left?"}, {"role": "assistant", "content": answer}]
    encoded = tokenizer.apply_chat_template(turns, tokenize=True, return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        return float(Llama.from_pretrained(folder)(**encoded).logits)


async def test_a_reward_is_that_of_the_templated_conversation(folder: Path, model: LocalReward) -> None:
    for answer in ANSWERS:
        found = await model.reward(PROMPT, answer)
        assert found.value == pytest.approx(by_transformers(folder, answer), abs=1e-4)
        assert found.usd is None
    assert model.name == "judge"
    assert len({round((await model.reward(PROMPT, answer)).value, 3) for answer in ANSWERS}) == len(ANSWERS)


async def test_a_batch_changes_no_reward_and_holds_all_that_waits(
    model: LocalReward, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [await model.reward(PROMPT, answer) for answer in ANSWERS]
    sizes: list[int] = []
    # Long enough for all to arrive before the first batch runs, on a busy machine too.
    monkeypatch.setattr(reward_local, "_SECONDS", 1.0)
    values = reward_local._values
    monkeypatch.setattr(
        reward_local, "_values", lambda network, rows: sizes.append(len(rows)) or values(network, rows)
    )
    together = await asyncio.gather(*(model.reward(PROMPT, answer) for answer in ANSWERS * 5))
    for one, many in zip(alone * 5, together, strict=True):
        assert many.value == pytest.approx(one.value, abs=1e-4)
        assert many.prompt_tokens == one.prompt_tokens
    assert sum(sizes) == 25 and max(sizes) == 16 and len(sizes) <= 4


async def test_a_text_model_leaves_pictures_out(model: LocalReward) -> None:
    with_picture = await model.reward(PROMPT, "2")
    assert with_picture == await model.reward(Prompt.of("How many are left?"), "2")


async def test_rows_of_a_model_without_padding_are_run_one_by_one(tmp_path: Path) -> None:
    folder = text_reward(tmp_path / "r", pad=False)
    with closing(open_reward(folder, device="cpu")) as model:
        found = await asyncio.gather(*(model.reward(PROMPT, answer) for answer in ANSWERS))
    for one, answer in zip(found, ANSWERS, strict=True):
        assert one.value == pytest.approx(by_transformers(folder, answer), abs=1e-4)


async def test_a_caller_that_goes_away_cancels_no_other(model: LocalReward) -> None:
    tasks = [asyncio.create_task(model.reward(PROMPT, answer)) for answer in ANSWERS]
    await asyncio.sleep(0)
    tasks[0].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(not isinstance(one, BaseException) for one in found[1:])


async def test_pictures_are_looked_at_where_the_checkpoint_can(tmp_path: Path) -> None:
    folder = pictured_reward(tmp_path / "seeing")
    prompts = [
        Prompt.of("How many?", images)
        for images in ([noise(1)], [noise(2)], [], [noise(1), noise(2)], [noise(1)])
    ]
    with closing(open_reward(folder, device="cpu")) as model:
        alone = [(await model.reward(prompt, "two")).value for prompt in prompts]
        answers = ["two", "two cubes are left, I think", "two"]
        many = await asyncio.gather(*(model.reward(p, a) for a in answers for p in prompts))
    assert alone[0] == alone[4]
    assert len({round(value, 3) for value in alone}) == 4
    assert [one.value for one in many[:5]] == pytest.approx(alone, abs=1e-4)
    assert [one.value for one in many[10:]] == pytest.approx(alone, abs=1e-4)
    processor = AutoProcessor.from_pretrained(folder)
    text = "<|begin|><|user|><boi>How many?<|assistant|>two<|end|>"
    inputs = processor(text=[text], images=[noise(1).pil], return_tensors="pt", add_special_tokens=False)
    with torch.inference_mode():
        value = float(Gemma3ForSequenceClassification.from_pretrained(folder)(**inputs).logits)
    assert alone[0] == pytest.approx(value, abs=1e-4)


async def test_what_is_too_long_and_what_is_no_number(folder: Path, tmp_path: Path) -> None:
    with closing(open_reward(folder, device="cpu")) as model:
        with pytest.raises(ModelError, match="leaves no room in the 512 that judge takes"):
            await model.reward(PROMPT, "cubes " * 600)
        model._network.model.score.weight.fill_(float("nan"))
        with pytest.raises(ModelError, match="the reward model judge gave the value nan"):
            await model.reward(PROMPT, "2")
    with pytest.raises(ModelError, match="has been closed"):
        await model.reward(PROMPT, "2")


def refusal(folder: Path | str, **settings: str) -> str:
    with pytest.raises(ModelError) as refused:
        open_reward(folder, **settings)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    assert "there is no folder nowhere; give a reward model's folder" in refusal("nowhere")
    assert "a model name is for servers" in refusal(folder, model_name="x")
    assert "LlamaForSequenceClassification with 2 labels" in refusal(text_reward(tmp_path / "two", labels=2))
    assert "no chat template" in refusal(text_reward(tmp_path / "bare", template=""))
    spoiled = text_reward(tmp_path / "spoiled")
    weights = load_file(spoiled / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, spoiled / "model.safetensors")
    assert "score.weight is missing" in refusal(spoiled)
    config = spoiled / "config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text()) | {"model_type": "own", "auto_map": {"AutoConfig": "a.B"}})
    )
    assert "code of its own" in refusal(spoiled)
    lying = text_reward(tmp_path / "lying")
    (lying / "tokenizer_config.json").write_text("[1]")
    assert refusal(lying).endswith("tokenizer_config.json is damaged: it is not a JSON object")
    (spoiled / "model.safetensors").rename(spoiled / "pytorch_model.bin")
    assert "pickle" in refusal(spoiled)


def test_a_model_that_writes_is_no_reward_model() -> None:
    from llava_cot.models.registry import MINI

    assert "is no reward model but a" in refusal(MINI)
