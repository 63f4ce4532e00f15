"""The scalar head learns to order answers, and scores the same where it is opened as a judge."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training import log, question_rollouts, recipe

from llava_cot.core.images import load_image
from llava_cot.data.rollouts.rollout_file import read_rollouts, write_rollouts
from llava_cot.errors import DataError
from llava_cot.models.base import Prompt
from llava_cot.models.hub import REWARD_HEAD
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.local.reward_head import RewardHead, step_bounds, step_scores
from llava_cot.models.registry import open_reward
from llava_cot.train.collate import Collator
from llava_cot.train.encode import RowEncoder
from llava_cot.train.labeled_rows import read_labeled
from llava_cot.train.reward_trainer import comparisons
from llava_cot.train.training_run import train

Folders = Callable[[str], Path]


@pytest.fixture(scope="module")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rollouts")
    questions = [question_rollouts(folder, i, right=2, wrong=2) for i in range(12)]
    write_rollouts(folder / "rollouts.jsonl", questions)
    return folder


def test_steps_are_compared_with_those_of_the_same_place() -> None:
    rows, values = [0, 0, 1, 1, 1, 2, 3], [1.0, 0.5, 0.0, 0.5, 0.0, 0.2, 0.7]
    assert comparisons(rows, values, [0]) == [(0, 2)]  # the second steps are equal, the third is alone
    assert comparisons(rows, values, [2]) == [(6, 5)]
    assert comparisons(rows, values, []) == []


def test_steps_are_stages_and_what_follows_them() -> None:
    text = "<SUMMARY> a </SUMMARY>\n\n<CAPTION> b </CAPTION>\n\n<REASO"
    assert [text[a:b] for a, b in step_bounds(text)] == [
        "<SUMMARY> a </SUMMARY>", "\n\n<CAPTION> b </CAPTION>", "\n\n<REASO"
    ]  # fmt: skip
    assert step_bounds("plain") == [(0, 5)] and step_bounds("") == []


@pytest.mark.parametrize(("kind", "lora"), [("mllama", None), ("qwen3-vl", {"rank": 4})])
async def test_the_head_learns_and_scores_the_same_as_a_judge(
    kind: str, lora: dict[str, int] | None, folders: Folders, rollouts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    wanted = recipe(
        folders(kind), rollouts, out, steps=16, batch=4, rate=5e-3, objective="reward", lora=lora,
        evaluate={"share": 0.3, "every": 8},
    )  # fmt: skip
    model = train(wanted)
    last = [line for line in log(out) if "eval_loss" in line][-1]
    assert last["eval_pairs_ordered"] == 1 and last["eval_loss"] < 0.6
    assert not (out / "adapter").exists() and "--judge reward" in (model / "README.md").read_text()
    checkpoint = load_checkpoint(model, "cpu", "float32")
    head = RewardHead(checkpoint.model.config.get_text_config().hidden_size)
    head.load_state_dict(load_file(model / REWARD_HEAD))
    encoder = RowEncoder(checkpoint, "staged")
    records, labels, _ = read_labeled(wanted, wanted.data)
    with closing(open_reward(model)) as reward:
        for record, label in list(zip(records, labels, strict=True))[:6]:
            text = record.turns[0].response or ""
            batch = Collator(0)([[encoder.with_steps(encoder.row(record), text, label.steps)]])
            steps = batch.pop("steps")
            for name in ("labels", "logits_to_keep", "values"):
                del batch[name]
            with torch.no_grad():
                expected = step_scores(checkpoint.model, head, batch, steps, False).tolist()
            image = load_image(record.pictures[0].read(), name="a")
            prompt = Prompt.of(record.turns[0].text, [image])
            # Each stage of the answer so far, as a search has it scored.
            found = [(await reward.reward(prompt, text[:end])).value for _, end, _ in label.steps]
            assert found == pytest.approx(expected, abs=1e-4)


def test_accumulation_changes_no_loss_and_a_stopped_run_is_continued(
    folders: Folders, rollouts: Path, tmp_path: Path
) -> None:
    shared: dict[str, Any] = {"objective": "reward", "steps": 5}
    train(recipe(folders("llava"), rollouts, tmp_path / "whole", batch=4, **shared))
    train(recipe(folders("llava"), rollouts, tmp_path / "parts", batch=2, accumulate=2, **shared))
    ours, theirs = ([line["loss"] for line in log(tmp_path / name)] for name in ("parts", "whole"))
    assert ours == pytest.approx(theirs, abs=2e-5)

    def stop(step: int, steps: int, line: Any) -> None:
        if step == 3 and line:
            raise InterruptedError

    stopped = recipe(folders("llava"), rollouts, tmp_path / "stopped", batch=4, **shared)
    with pytest.raises(InterruptedError):
        train(stopped, on_step=stop)
    train(stopped, resume=True)
    for name in ("model.safetensors", REWARD_HEAD):
        a, b = (load_file(tmp_path / which / "model" / name) for which in ("stopped", "whole"))
        assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_values_of_stages_are_learned_where_there_are_some(rollouts: Path, tmp_path: Path) -> None:
    by_stages = {"objective": "reward", "reward": {"labels": "stages"}}
    wanted = recipe(Path("model"), rollouts, Path("out"), **by_stages)
    with pytest.raises(DataError, match="no values of its stages; make them with `data rollouts"):
        read_labeled(wanted, wanted.data)
    first = next(iter(read_rollouts(rollouts)))
    samples = tuple(replace(sample, values={"summary": 0.25}) for sample in first.samples)
    write_rollouts(tmp_path / "rollouts.jsonl", [replace(first, samples=samples, images=())])
    wanted = recipe(Path("model"), tmp_path, Path("out"), **by_stages)
    _, labels, _ = read_labeled(wanted, wanted.data)
    assert [value for *_, value in labels[0].steps] == [0.25, 1.0]
    assert [value for *_, value in labels[-1].steps] == [0.25, 0.0]
