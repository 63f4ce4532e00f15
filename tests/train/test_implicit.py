"""The log-ratio reward is learned by every architecture, and is that of the saved model against its base."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from command import run
from safetensors.torch import load_file
from training import kill, log, losses, losses_so_far, question_rollouts, recipe, start, write_recipe

from llava_cot.core.files import make_recipe
from llava_cot.data.reading import Record
from llava_cot.data.record import Turn
from llava_cot.data.rollouts.rollout_file import read_rollouts, write_rollouts
from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.train.collate import Collator
from llava_cot.train.encode import RowEncoder
from llava_cot.train.objectives import pairs_ordered
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.training_run import train

Folders = Callable[[str], Path]
IMPLICIT = {"objective": "implicit", "implicit": {"beta": 0.2}}


@pytest.fixture(scope="session")
def rollouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions with three right and two wrong answers; a few have no picture, or answers of one kind."""
    folder = tmp_path_factory.mktemp("rollouts")
    write_rollouts(
        folder / "rollouts.jsonl",
        [
            question_rollouts(
                folder, i, right=3 * (i % 7 != 3), wrong=2 * (i % 7 != 5), pictures=int(i % 5 != 4)
            )
            for i in range(24)
        ],
    )
    return folder


def logprobs(folder: Path, data: Path) -> dict[tuple[str, str], float]:
    """The log-probability of each answer, one at a time and without anything of training but the encoding."""
    checkpoint = load_checkpoint(folder, "cpu", "float32")
    encoder, found = RowEncoder(checkpoint, "staged"), {}
    for question in read_rollouts(data):
        for sample in question.samples:
            turn = Turn(question.question, question.answer, question.options, response=sample.text)
            row = encoder.row(Record("one", (turn,), question.pictures(data)))
            batch = Collator(0)([[row]])
            labels = batch.pop("labels")
            del batch["logits_to_keep"]
            with torch.no_grad():
                scores = torch.log_softmax(checkpoint.model(**batch).logits.double(), -1)
            found[question.id, sample.text] = sum(
                float(scores[0, i - 1, labels[0, i]]) for i in range(1, labels.shape[1]) if labels[0, i] >= 0
            )
    return found


# Mllama in both ways, the others in turns.
WAYS = [("mllama", "full", "dpo"), ("mllama", "lora", "ce")] + [
    (kind, *(("full", "ce"), ("lora", "dpo"))[number % 2]) for number, kind in enumerate(tiny.KINDS[1:])
]


@pytest.mark.parametrize(("kind", "how", "loss"), WAYS)
def test_every_architecture_learns_the_log_ratio(
    kind: str, how: str, loss: str, folders: Folders, rollouts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    wanted = recipe(
        folders(kind), rollouts, out, steps=12 + 12 * (how == "lora"), rate=3e-3, accumulate=2, batch=2,
        objective="implicit", implicit={"beta": 0.5, "loss": loss},
        evaluate={"share": 0.3, "every": 6}, lora={"rank": 4, "alpha": 8} if how == "lora" else None,
    )  # fmt: skip
    notes: list[str] = []
    model = train(wanted, note=notes.append)
    assert "pairs of a right and a wrong answer" in notes[0]
    assert log(out)[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)  # every log-ratio is 0 at first
    last = [line for line in log(out) if "eval_loss" in line][-1]
    if kind in ("mllama", "llava"):  # random weights of the others need a rate of their own
        assert losses(out)[-1] < 0.6 and last["eval_loss"] < 0.65 and last["eval_pairs_ordered"] > 0.7
    # What is measured is what the saved model and its base say.
    ours, base = logprobs(model, rollouts), logprobs(folders(kind), rollouts)
    held = [
        (question.id, one.text, one.right)
        for question in read_rollouts(rollouts)
        if random.Random(f"{wanted.seed}/held/{question.id}").random() < 0.3
        for one in question.samples
    ]
    names, right = [id for id, *_ in held], [is_right for *_, is_right in held]
    report = json.loads((out / "train.json").read_text())
    for name, scores in (
        ("eval_pairs_ordered", [ours[id, text] - base[id, text] for id, text, _ in held]),
        ("eval_pairs_ordered_with_likelihood", [ours[id, text] for id, text, _ in held]),
        ("eval_pairs_ordered_by_reference", [base[id, text] for id, text, _ in held]),
    ):
        assert report[name] == pytest.approx(pairs_ordered(scores, names, right), abs=0.02), name
    assert report["pairs"] > 0 and report["questions_without_pairs"] > 0
    card = (model / "README.md").read_text()
    assert f"0.5 x log(this model / {folders(kind)})" in card and "--judge implicit" in card
    if how == "lora":
        assert "--judge implicit" in (out / "adapter" / "README.md").read_text()


@pytest.mark.parametrize("loss", ["ce", "dpo"])
def test_accumulation_and_batches_change_no_loss(
    loss: str, folders: Folders, rollouts: Path, tmp_path: Path
) -> None:
    found = []
    for batch, accumulate in ((4, 1), (2, 2), (1, 4)):
        out = tmp_path / str(batch)
        wanted = recipe(
            folders("mllama"), rollouts, out, steps=4, batch=batch, accumulate=accumulate,
            objective="implicit", implicit={"loss": loss},
        )  # fmt: skip
        train(wanted)
        found.append([(line["loss"], line["accuracy"], line.get("bias", 0)) for line in log(out)])
    for other in found[1:]:
        assert [x for line in other for x in line] == pytest.approx(
            [x for line in found[0] for x in line], abs=2e-5
        )


def test_the_first_losses_are_those_of_a_run_by_hand(
    folders: Folders, rollouts: Path, tmp_path: Path
) -> None:
    """The loss of the second step, computed from the weights of the first: all pairs are in each step."""
    out = tmp_path / "out"
    shared = {"objective": "implicit", "implicit": {"loss": "dpo", "beta": 0.3, "pairs": 1}, "batch": 7}
    file = tmp_path / "data"
    write_rollouts(file / "rollouts.jsonl", [question_rollouts(file, i, right=1, wrong=1) for i in range(7)])
    one = train(recipe(folders("llava"), file, tmp_path / "one", steps=1, schedule="constant", **shared))
    train(recipe(folders("llava"), file, out, steps=2, schedule="constant", **shared))
    ours, base = logprobs(one, file), logprobs(folders("llava"), file)
    total = 0.0
    for question in read_rollouts(file):
        right, wrong = (ours[question.id, s.text] - base[question.id, s.text] for s in question.samples)
        total += math.log(1 + math.exp(-0.3 * (right - wrong)))
    assert losses(out)[1] == pytest.approx(total / 7, abs=1e-4)


MORE = {"full": {"evaluate": {"share": 0.2, "every": 3}}, "lora": {"lora": {"rank": 4, "dropout": 0.2}}}


@pytest.mark.parametrize("how", ["full", "lora"])
def test_a_killed_run_ends_with_the_weights_of_an_undisturbed_one(
    how: str, folders: Folders, rollouts: Path, tmp_path: Path
) -> None:
    wanted = recipe(folders("mllama"), rollouts, tmp_path / "whole", steps=9, **IMPLICIT, **MORE[how])
    train(wanted)
    out = tmp_path / "killed"
    file = write_recipe(wanted, out)
    process = start([file])
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if (out / "log.jsonl").is_file() and len(losses_so_far(out)) >= 5:
            break
        time.sleep(0.005)
    kill(process)
    assert not (out / "model").exists(), "it was killed too late"
    told = run("train", file, "--resume").stderr.decode()
    assert "resuming from" in told and "answers" not in told, "the reference was computed again"
    assert [(x["step"], x.get("loss"), x.get("bias"), x.get("eval_pairs_ordered")) for x in log(out)] == [
        (x["step"], x.get("loss"), x.get("bias"), x.get("eval_pairs_ordered"))
        for x in log(tmp_path / "whole")
    ]
    ours, theirs = (load_file(folder / "model" / "model.safetensors") for folder in (out, tmp_path / "whole"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_two_processes_and_shards_have_the_losses_of_one(
    folders: Folders, rollouts: Path, tmp_path: Path
) -> None:
    shared = IMPLICIT | {"steps": 4, "evaluate": {"share": 0.3, "every": 2}, "lora": {"rank": 4}}
    wanted = recipe(folders("mllama"), rollouts, tmp_path / "one", **shared)
    train(wanted)
    for more in ({}, {"fsdp": {}}):
        out = tmp_path / ("two" + "-sharded" * bool(more))
        process = start([write_recipe(wanted, out, batch=2, **more)], processes=2)
        _, told = process.communicate(timeout=180)
        assert process.returncode == 0, told.decode()
        for name in ("loss", "accuracy", "bias", "eval_loss", "eval_pairs_ordered"):
            ours, theirs = ([x[name] for x in log(folder) if name in x] for folder in (out, tmp_path / "one"))
            assert ours == pytest.approx(theirs, abs=5e-5), name


def test_what_cannot_be_learned_is_refused_in_a_sentence(
    folders: Folders, rollouts: Path, data: Path, tmp_path: Path
) -> None:
    def refused(path: Path | list[Path], **more: Any) -> str:
        with pytest.raises(DataError) as caught:
            train(recipe(folders("llava"), path, tmp_path / "out", **IMPLICIT | more))
        return str(caught.value)

    assert "needs rollouts.jsonl (`llava-cot data rollouts` writes it)" in refused(data)
    alike = tmp_path / "alike"
    write_rollouts(alike / "rollouts.jsonl", [question_rollouts(alike, i, 2, 0) for i in range(4)])
    assert "no question has both a right and a wrong answer" in refused(alike)
    other = tmp_path / "other"
    other.mkdir()
    question = question_rollouts(other, 1, 2, 2, pictures=0)
    write_rollouts(other / "rollouts.jsonl", [question])
    assert "the question 'asked/1' of" in refused([rollouts, other])
    base = {"model": "m", "out": "o", "data": [{"path": "p"}]}
    for more, told in (
        ({"implicit": {}}, "its settings are for objective: implicit"),
        ({"objective": "implicit", "target": "direct"}, "target is for objective: sft"),
        (
            {"objective": "implicit", "evaluate": {"bench": "b"}},
            "evaluate.bench is for objective: sft, dpo and grpo",
        ),
        ({"objective": "implicit", "over_long": "cut"}, "over_long: cut is for objective: sft"),
        ({"objective": "implicit", "samples": {"every": 2}}, "samples is for objective: sft"),
    ):
        with pytest.raises(DataError, match=told):
            make_recipe(base | more, TrainRecipe, "made")


def test_answers_in_two_files_of_one_question_are_compared_and_counted_once(
    folders: Folders, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    write_rollouts(first / "rollouts.jsonl", [question_rollouts(first, i, 2, 0) for i in range(4)])
    write_rollouts(second / "rollouts.jsonl", [question_rollouts(second, i, 2, 2) for i in range(4)])
    notes: list[str] = []
    more = {"objective": "implicit", "implicit": {"loss": "dpo"}}
    train(recipe(folders("llava"), [first, second], tmp_path / "out", steps=1, **more), note=notes.append)
    assert notes[0].startswith("16 records: 16 rows") and "16 pairs" in notes[0]


def test_a_changed_label_stops_a_resumed_run(folders: Folders, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    write_rollouts(folder / "rollouts.jsonl", [question_rollouts(folder, i, 2, 2) for i in range(4)])
    wanted = recipe(folders("llava"), folder, tmp_path / "out", steps=1, **IMPLICIT)
    train(wanted)
    (tmp_path / "out" / "train.json").unlink()
    lines = (folder / "rollouts.jsonl").read_text().splitlines(keepends=True)
    lines[0] = lines[0].replace('"right": false', '"right": true', 1)
    (folder / "rollouts.jsonl").write_text("".join(lines))
    with pytest.raises(DataError, match=r"the data have changed since .*changed: 'asked/0/"):
        train(wanted, resume=True)
