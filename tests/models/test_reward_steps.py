"""Process reward models from folders, in the layout of TRL's PRMTrainer, against transformers itself."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import pytest
import torch
from opening import noise
from reward_checkpoints import step_reward
from transformers import AutoTokenizer
from transformers import LlamaForTokenClassification as Llama

from llava_cot.errors import ModelError
from llava_cot.models.base import Prompt, Reward
from llava_cot.models.registry import open_reward

STEPS = [
    ["I will count."],
    ["There are three.", "Three minus one\nis two.", "Two"],
    ["There are two cubes. " * 6, "no"],
    ["<|end|> is text here.", "2"],
]
QUESTION = "How many are left?"


def by_trl(folder: Path, steps: list[str]) -> list[float]:
    """A number at the line break after each step: the ids are those that PRMTrainer.tokenize_row makes."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    network = Llama.from_pretrained(folder).eval()
    ids = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
    separator = tokenizer.encode("\n", add_special_tokens=False)
    ends = []
    for step in steps:
        ids = [*ids, *tokenizer(step, add_special_tokens=False)["input_ids"], *separator]
        ends.append(len(ids) - 1)
    if tokenizer.bos_token_id is not None:
        ids, ends = [tokenizer.bos_token_id, *ids], [end + 1 for end in ends]
    with torch.inference_mode():
        logits = network(input_ids=torch.tensor([ids])).logits[0, ends]
    return (logits.softmax(-1) if logits.shape[-1] == 2 else logits)[:, -1].tolist()


@pytest.mark.parametrize(("labels", "bos"), [(2, True), (2, False), (1, True)])
async def test_each_step_gets_the_number_at_its_end(tmp_path: Path, labels: int, bos: bool) -> None:
    folder = step_reward(tmp_path / "prm", labels=labels, bos=bos)
    with closing(open_reward(folder, device="cpu")) as model:
        prompt = Prompt.of(QUESTION, [noise(1)])
        known = STEPS[:3]
        answers = ["\n\n".join(steps) for steps in known]
        alone = [await model.reward(prompt, answer) for answer in answers]
        together = await asyncio.gather(*(model.reward(prompt, answer) for answer in answers))
        for one, other, steps in zip(alone, together, known, strict=True):
            assert list(one.steps) == pytest.approx(by_trl(folder, [s.strip() for s in steps]), abs=1e-4)
            assert other.steps == pytest.approx(one.steps, abs=1e-5)
            assert one.value == one.steps[-1]
        spelled: Reward = await model.reward(prompt, "\n\n".join(STEPS[3]))
        assert len(spelled.steps) == 2, "a special token that an answer spells is text"
        with pytest.raises(ModelError, match="leaves no room"):
            await model.reward(prompt, "a b c d e f g h " * 200)


def test_other_classifiers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has 3 labels; a process reward model has two"):
        open_reward(step_reward(tmp_path / "prm", labels=3), device="cpu")
