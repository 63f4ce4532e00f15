"""TRL's own code takes the pairs, and trains towards the winners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
from datasets import Image, List, load_dataset
from made_traces import WORDS, staged
from transformers import AutoModelForImageTextToText, AutoProcessor
from trl import DPOConfig, DPOTrainer
from trl.data_utils import apply_chat_template, is_conversational
from trl.trainer.dpo_trainer import DataCollatorForVisionPreference

from llava_cot.data.preferences.from_traces import make_preferences


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The data set as docs/how-to/make-preference-pairs.md opens it."""
    folder = tmp_path_factory.mktemp("traces")
    staged(2).save(folder / "trace.json")
    out = folder / "out"
    make_preferences([folder / "trace.json"], out)
    pairs = load_dataset(
        "json", data_files=str(out / "preferences.jsonl"), split="train", cache_dir=str(folder / "cache")
    )
    pairs = pairs.map(lambda pair: {"images": [str(out / name) for name in pair["images"]]})
    return pairs.cast_column("images", List(Image()))


@pytest.fixture(scope="module", params=["llava", "idefics3"])
def processor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tiny.make(request.param, tmp_path_factory.mktemp(request.param))
    return AutoProcessor.from_pretrained(folder)


def test_pairs_are_conversations_to_trl(pairs: Any) -> None:
    assert all(is_conversational(pair) for pair in pairs)
    assert [pair["images"][0].size for pair in pairs] == [(320, 240)] * 4


def test_the_collator_masks_the_prompt_and_keeps_chosen_first(pairs: Any, processor: Any) -> None:
    batch = DataCollatorForVisionPreference(processor)([dict(pair) for pair in pairs])
    assert len(batch["input_ids"]) == 8
    texts = [
        processor.tokenizer.decode(ids[mask.bool()])
        for ids, mask in zip(batch["input_ids"], batch["completion_mask"], strict=True)
    ]
    prefix = ""
    for chosen, rejected, (stage, words) in zip(texts[:4], texts[4:], WORDS.items(), strict=True):
        tag = stage.upper()
        longer = f"{prefix}<{tag}> {words} </{tag}>"
        assert chosen.startswith(longer)
        assert rejected.startswith(f"{prefix}<{tag}> Try 1. {words} </{tag}>")
        assert "How many" not in chosen
        prefix = longer


def test_trl_trains_towards_the_winners(pairs: Any, tmp_path: Path) -> None:
    folder = tiny.make("llava", tmp_path / "model")
    settings = DPOConfig(
        output_dir=str(tmp_path / "out"),
        per_device_train_batch_size=2,
        max_steps=8,
        learning_rate=1e-3,
        logging_steps=4,
        max_length=None,
        report_to=[],
        use_cpu=True,
        bf16=False,
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = DPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(folder),
        args=settings,
        train_dataset=pairs,
        processing_class=AutoProcessor.from_pretrained(folder),
    )
    trainer.train()
    *_, last = [step for step in trainer.state.log_history if "rewards/margins" in step]
    assert last["rewards/margins"] > 0.5 and last["rewards/accuracies"] == 1


def test_trl_cannot_go_on_with_a_begun_message() -> None:
    """Why the answer so far begins both sides: as part of the prompt it would end the assistant's turn."""

    class Template:
        def apply_chat_template(self, messages: Any, **_: Any) -> str:
            return "".join(f"[{message['role']}] {message['content']}[end]" for message in messages)

    reply = [{"role": "assistant", "content": "new"}]
    begun = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "begun"}]
    example: dict[str, Any] = {"prompt": begun, "chosen": reply, "rejected": reply}
    assert apply_chat_template(example, Template())["chosen"] == "[assistant] new[end]"  # type: ignore[arg-type]
