"""GRPO by rules: what they reward, what is learned of it, and which architectures are refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sweep.registry import all_types
from training import STAGED, log, picture, recipe, write

from llava_cot.core.question import Question
from llava_cot.data.record import Record, Turn
from llava_cot.errors import DataError
from llava_cot.models.local.checkpoint import load_checkpoint
from llava_cot.models.local.encoding import extended
from llava_cot.train.encode import RowEncoder
from llava_cot.train.grpo_trainer import RULES, TAKEN, GrpoTrainer
from llava_cot.train.labeled_rows import read_labeled
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.training_run import train

Folders = Callable[[str], Path]
RIGHT = STAGED.format(n=3)
SIZES = [(24, 20), (90, 30), (40, 70), (64, 64)]
SWEEP = os.environ.get("SWEEP")  # `make sweep` tries all architectures


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `data sample` writes them: with answers, and without responses."""
    folder = tmp_path_factory.mktemp("questions")
    write(folder, [
        Record(str(i), (Turn(f"How many cubes are there? ({i})", str(i % 7)),), (picture(folder, i),))
        for i in range(8)
    ])  # fmt: skip
    return folder


def wanted(model: Path, data: Path, out: Path, **more: Any) -> TrainRecipe:
    settings = {"samples": 4, "tokens": 8} | more.pop("grpo", {})
    return recipe(model, data, out, objective="grpo", grpo=settings, **{"batch": 2} | more)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("text", "rewards"),
    [
        (RIGHT, (1, 1, 1)),
        (RIGHT.replace("<CONCLUSION> 3 ", "<CONCLUSION> 4 "), (0, 1, 1)),
        ("<CAPTION> Cubes. </CAPTION>\n\n<CONCLUSION> three </CONCLUSION>", (1, 1, 0.5)),
        (f"Well. {RIGHT}", (1, 0, 1)),
        (RIGHT.replace("</CAPTION>", ""), (1, 0, 1)),
        (RIGHT.replace("</SUMMARY>", "</SUMMARY> </SUMMARY>"), (1, 0, 1)),
        ("3", (1, 0, 0)),
        ("<SUMMARY> I count 3. </SUMMARY>", (0, 1, 0.25)),
        ("<SUMMARY></SUMMARY>", (0, 0, 0)),
        ("", (0, 0, 0)),
    ],
)
def test_the_rules(text: str, rewards: tuple[float, ...]) -> None:
    question = Question("How many cubes are there?", reference="3")
    assert tuple(rule(text, question) for rule in RULES.values()) == rewards
    assert tuple(RULES) == ("conclusion", "format", "stages")


def test_the_first_questions_of_records_are_asked(tmp_path: Path) -> None:
    turns = (Turn("Which?", "B", ("left", "right"), response=RIGHT), Turn("And now?", "C"))
    vague = Record("vague", (Turn("Why?", "because of all that was seen there before it happened"),))
    data = write(tmp_path, [Record("two", turns, (picture(tmp_path, 1),)), vague])
    asked = wanted(Path("model"), data, Path("out"))
    (one, other), _, _ = read_labeled(asked, asked.data)
    assert one.turns == (Turn("Which?", "B", ("left", "right")),) and len(one.pictures) == 1
    assert other.turns[0].answer is None  # and so it is counted as one without an answer


def letters(text: str, _: Question) -> float:
    """The share of letters in a text: of a model of random weights, it differs from one answer to another."""
    return sum(one.isascii() and one.isalpha() for one in text) / max(1, len(text))


def test_what_is_rewarded_is_written_more_often(
    folders: Folders, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "conclusion", letters)
    model, out, notes = folders("qwen2.5-vl"), tmp_path / "out", list[str]()
    settings = {"steps": 10, "rate": 5e-3, "schedule": "constant", "batch": 4, "grpo": {"samples": 8}}
    train(wanted(model, questions, out, **settings), note=notes.append)
    lines = log(out)
    first, last = (sum(line["reward_conclusion"] for line in part) for part in (lines[:3], lines[-3:]))
    assert last / 3 > first / 3 + 0.06
    assert lines[0]["reward"] == pytest.approx(lines[0]["reward_conclusion"])  # the other rules gave none
    assert len(lines) == 10 and lines[-1]["answer_tokens"] <= 8 and lines[-1]["tokens"] > 0
    assert notes[0].startswith("8 records: 8 rows of ")
    card = (out / "model" / "README.md").read_text()
    assert "GRPO" in card and json.loads((out / "train.json").read_text())["reward"] == lines[-1]["reward"]


def test_answers_of_equal_reward_change_nothing(
    folders: Folders, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers are compared with those to their own question: what differs between questions is no reason."""
    monkeypatch.setitem(RULES, "conclusion", lambda _, question: float(question.id in "0246"))
    model = folders("qwen2.5-vl")
    notes: list[str] = []
    train(wanted(model, questions, tmp_path, steps=4, batch=2), note=notes.append)
    assert any(note.startswith("nothing was learned: no two answers to one question") for note in notes)
    assert sum(line["reward"] for line in log(tmp_path)) == 2  # of eight questions, four are rewarded
    assert {line["questions_with_equal_rewards"] for line in log(tmp_path)} == {1}
    assert same(model, tmp_path / "model")


def test_a_resumed_run_is_the_uninterrupted_one(
    folders: Folders, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "conclusion", letters)
    model = folders("idefics3")
    settings: dict[str, Any] = {"steps": 3, "accumulate": 2, "batch": 1, "lora": {"rank": 4}}
    train(wanted(model, questions, tmp_path / "whole", **settings))

    def stop(step: int, *_: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt

    cut = wanted(model, questions, tmp_path / "cut", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(cut, on_step=stop)
    train(cut, resume=True)
    both = [[(line["loss"], line["reward"]) for line in log(tmp_path / name)] for name in ("whole", "cut")]
    assert both[0] == both[1] and len(both[0]) == 3
    assert not same(model, tmp_path / "cut" / "model")
    assert same(tmp_path / "whole" / "model", tmp_path / "cut" / "model")
    assert (tmp_path / "cut" / "adapter" / "adapter_config.json").is_file()


@pytest.mark.parametrize("kind", sorted(TAKEN) if SWEEP == "all" else ["idefics3", "qwen2_5_vl"])
def test_log_probabilities_in_a_batch_are_those_of_each_answer_alone(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For prompts of several lengths, one or two pictures, and pictures of several sizes."""
    if (made := all_types()[kind]).missing:
        pytest.skip(f"{kind} needs {', '.join(made.missing)}")
    batches: list[tuple[torch.Tensor, ...]] = []
    own = GrpoTrainer._get_per_token_logps_and_entropies

    def record(trainer: Any, model: Any, ids: Any, mask: Any, keep: int, *more: Any, **others: Any) -> Any:
        found = own(trainer, model, ids, mask, keep, *more, **others)
        batches.append((ids[:, :-keep], mask[:, :-keep], ids[:, -keep:], mask[:, -keep:], found[0].detach()))
        return found

    monkeypatch.setattr(GrpoTrainer, "_get_per_token_logps_and_entropies", record)
    records = [
        Record(
            str(i),
            (Turn("How many cubes are there?" + " Look well." * i, str(i)),),
            tuple(picture(tmp_path, 10 * i + j, SIZES[(i + j) % 4]) for j in range(1 + i % 2)),
        )
        for i in range(4)
    ]
    data, folder = write(tmp_path, records), made.save(tmp_path / "model")
    settings = {"steps": 1, "batch": 4, "grpo": {"samples": 2, "tokens": 4}}
    train(wanted(folder, data, tmp_path / "out", **settings))
    checkpoint = load_checkpoint(folder, "cpu", "float32")
    encoder = RowEncoder(checkpoint, "staged")
    rows = [encoder.prompt(one).inputs for one in records]
    prompts = {tuple(row["input_ids"][0].tolist()): row for row in rows}
    [(prompt, real, answers, written, logprobs)] = batches
    assert len(answers) == 8 and len(prompts) == 4
    for number in range(8):
        before, answer = prompt[number][real[number] == 1], answers[number][written[number] == 1]
        row = extended(prompts[tuple(before.tolist())], [*before.tolist(), *answer.tolist()], len(before))
        with torch.inference_mode():
            logits = checkpoint.model(**row, use_cache=False).logits[0, -1 - len(answer) : -1].float()
        alone = torch.log_softmax(logits, -1).gather(1, answer[:, None])[:, 0]
        torch.testing.assert_close(logprobs[number, : len(answer)], alone, atol=1e-3, rtol=1e-3)


def test_the_documentation_lists_what_is_trained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "train.md").read_text()
    listed = page.split("what each answer has alone: ")[1].split(". Others")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == TAKEN


def test_mllama_is_refused_by_name(folders: Folders, questions: Path, tmp_path: Path) -> None:
    words = (
        "objective: grpo cannot train mllama: .*; sample answers with `llava-cot data rollouts`, and train"
    )
    with pytest.raises(DataError, match=words):
        train(wanted(folders("mllama"), questions, tmp_path))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"evaluate": {"share": 0.1, "every": 2}},
            "has no loss of held-out records; give evaluate.bench alone",
        ),
        ({"double_bos": True}, "double_bos is not for objective: grpo"),
        ({"fsdp": {}}, "fsdp is not for objective: grpo"),
        ({"target": "direct"}, "target is for objective: sft"),
        ({"grpo": {"rewards": {"conclusion": 0, "format": 0, "stages": 0}}}, "all weights are 0"),
        ({"grpo": {"samples": 1}}, "grpo.samples"),
        ({"objective": "sft"}, "grpo: its settings are for objective: grpo"),
    ],
)
def test_what_does_not_go_together_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        recipe(Path("model"), Path("data"), Path("out"), **{"objective": "grpo", "grpo": {}} | more)
