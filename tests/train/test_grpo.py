"""GRPO by rules: what they reward, what is learned of it, and which architectures are refused."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
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
from llava_cot.models.local.checkpoint import Checkpoint, load_checkpoint
from llava_cot.models.local.encoding import PER_TOKEN, extended
from llava_cot.models.registry import MINI
from llava_cot.train.collate import Collator
from llava_cot.train.encode import RowEncoder
from llava_cot.train.grpo_trainer import RULES, TAKEN, GrpoTrainer
from llava_cot.train.labeled_rows import read_labeled
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.training_run import train

Folders = Callable[[str], Path]
RIGHT = STAGED.format(n=3)
SIZES = [(24, 20), (90, 30), (40, 70), (64, 64)]
# `make sweep` tries all architectures.
KINDS = sorted(TAKEN) if os.environ.get("SWEEP") == "all" else ["idefics3", "mllama", "qwen2_5_vl"]


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
    made = wanted(Path("model"), data, Path("out"))
    (one, other), _, _ = read_labeled(made, made.data)
    assert one.turns == (Turn("Which?", "B", ("left", "right")),) and len(one.pictures) == 1
    assert other.turns[0].answer is None  # and so it is counted as one without an answer


def letters(text: str, _: Question) -> float:
    """The share of letters in a text: of a model of random weights, it differs from one answer to another."""
    return sum(one.isascii() and one.isalpha() for one in text) / max(1, len(text))


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "mllama"])
def test_what_is_rewarded_is_written_more_often(
    kind: str, folders: Folders, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "conclusion", letters)
    model, out, notes = folders(kind), tmp_path / "out", list[str]()
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


@pytest.mark.parametrize("kind", ["idefics3", "mllama"])
def test_a_resumed_run_is_the_uninterrupted_one(
    kind: str, folders: Folders, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RULES, "conclusion", letters)
    model = folders(kind)
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


def saved(kind: str, folder: Path) -> Path:
    """A tiny checkpoint, or mini's own folder."""
    if kind == "mini":
        return MINI
    if (made := all_types()[kind]).missing:
        pytest.skip(f"{kind} needs {', '.join(made.missing)}")
    return made.save(folder)


def make_records(folder: Path, pictures: Sequence[int]) -> list[Record]:
    """Questions of several lengths, each with a number of pictures of several sizes."""
    return [
        Record(
            str(i),
            (Turn("How many cubes are there?" + " Look well." * i, str(i)),),
            tuple(picture(folder, 10 * i + j, SIZES[(i + j) % 4]) for j in range(count)),
        )
        for i, count in enumerate(pictures)
    ]


def answers(recipe: TrainRecipe, monkeypatch: pytest.MonkeyPatch) -> list[tuple[torch.Tensor, ...]]:
    """All answers of a run: the ids of the prompt, those of the answer, and its log-probabilities."""
    found: list[tuple[torch.Tensor, ...]] = []
    own = GrpoTrainer._get_per_token_logps_and_entropies

    def record(trainer: Any, model: Any, ids: Any, mask: Any, keep: int, *more: Any, **others: Any) -> Any:
        made = own(trainer, model, ids, mask, keep, *more, **others)
        for row, real, logprobs in zip(ids, mask == 1, made[0].detach(), strict=True):
            prompt, answer = row[:-keep][real[:-keep]], row[-keep:][real[-keep:]]
            found.append((prompt, answer, logprobs[: len(answer)]))
        return made

    monkeypatch.setattr(GrpoTrainer, "_get_per_token_logps_and_entropies", record)
    train(recipe)
    return found


def encoded(checkpoint: Checkpoint, records: Sequence[Record]) -> list[dict[str, torch.Tensor]]:
    """The prompts of questions, each in a row of its own.

    Mllama's have as many places for pictures as their batch has: what stands before the first picture sees
    the mean of all places (transformers 5.23), which differs where the questions' numbers of pictures do.
    """
    rows = [RowEncoder(checkpoint, "staged").prompt(one) for one in records]
    if checkpoint.model.config.model_type != "mllama":
        return [row.inputs for row in rows]
    batch = Collator(0)([rows])
    return [
        {name: batch[name][n : n + 1, : row.length if name in PER_TOKEN else None] for name in row.inputs}
        for n, row in enumerate(rows)
    ]


def alone(model: Any, row: Mapping[str, torch.Tensor], answer: torch.Tensor) -> torch.Tensor:
    """The log-probabilities of an answer's tokens after a row's prompt, in a batch of their own."""
    ids = [*row["input_ids"][0].tolist(), *answer.tolist()]
    inputs = extended(dict(row), ids, row["input_ids"].shape[1])
    logits = model(**inputs, use_cache=False).logits[0, -1 - len(answer) : -1].float()
    return torch.log_softmax(logits, -1).gather(1, answer[:, None])[:, 0]


@pytest.mark.parametrize(
    ("kind", "pictures"),
    [
        *((kind, (1, 2, 1, 2)) for kind in KINDS),
        ("mllama", (2, 2, 2, 2)),
        ("mllama", (0, 0, 0, 0)),
        ("mini", (1, 1, 1, 1)),
    ],
)
def test_log_probabilities_in_a_batch_are_those_of_each_answer_alone(
    kind: str, pictures: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For prompts of several lengths, with none or some pictures of several sizes."""
    folder, records = saved(kind, tmp_path / "model"), make_records(tmp_path, pictures)
    settings = {"steps": 1, "batch": 4, "grpo": {"samples": 2, "tokens": 4}}
    found = answers(wanted(folder, write(tmp_path, records), tmp_path / "out", **settings), monkeypatch)
    checkpoint = load_checkpoint(folder, "cpu", "float32")
    prompts = {tuple(row["input_ids"][0].tolist()): row for row in encoded(checkpoint, records)}
    assert len(found) == 8 and len(prompts) == 4
    for prompt, answer, logprobs in found:
        with torch.inference_mode():
            expected = alone(checkpoint.model, prompts[tuple(prompt.tolist())], answer)
        torch.testing.assert_close(logprobs, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("pictures", [(1, 2, 1, 2), (0, 0, 0, 0)])
def test_answers_of_mllama_are_those_that_it_gives_alone(
    pictures: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At so low a temperature, these are the likeliest."""
    folder, records = saved("mllama", tmp_path / "model"), make_records(tmp_path, pictures)
    settings = {"steps": 1, "batch": 4, "grpo": {"samples": 2, "tokens": 6, "temperature": 1e-4}}
    found = answers(wanted(folder, write(tmp_path, records), tmp_path / "out", **settings), monkeypatch)
    checkpoint = load_checkpoint(folder, "cpu", "float32")
    expected = [
        checkpoint.model.generate(**row, do_sample=False, max_new_tokens=6)[0].tolist()
        for row in encoded(checkpoint, records)
    ]
    assert sorted([*prompt.tolist(), *answer.tolist()] for prompt, answer, _ in found) == sorted(2 * expected)


@pytest.mark.parametrize("kind", ["idefics3", "mllama"])
def test_a_step_is_along_the_gradient_of_the_formula(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over all tokens of the ratio, by how much better the answer is than those beside it."""
    monkeypatch.setitem(RULES, "conclusion", letters)
    folder, records = saved(kind, tmp_path / "model"), make_records(tmp_path, (1, 2, 2, 1))
    settings = {"steps": 1, "batch": 2, "accumulate": 2, "grpo": {"samples": 3, "tokens": 6}}
    found = answers(wanted(folder, write(tmp_path, records), tmp_path / "out", **settings), monkeypatch)
    checkpoint = load_checkpoint(folder, "cpu", "float32")
    model, tokenizer = checkpoint.model.train().requires_grad_(True), checkpoint.processor.tokenizer
    loss, tokens = torch.zeros(()), sum(len(answer) for _, answer, _ in found)
    for row in encoded(checkpoint, records):
        own = [answer for prompt, answer, _ in found if torch.equal(prompt, row["input_ids"][0])]
        texts = tokenizer.batch_decode(own, skip_special_tokens=True)
        rewards = torch.tensor([letters(text, Question("")) for text in texts])
        assert len(own) == 3 and rewards.std() > 0
        for answer, advantage in zip(own, (rewards - rewards.mean()) / (rewards.std() + 1e-4), strict=True):
            logprobs = alone(model, row, answer)
            loss = loss - advantage * (logprobs - logprobs.detach()).exp().sum() / tokens
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    [line] = log(tmp_path / "out")
    assert (line["loss"], line["grad_norm"]) == pytest.approx((loss.item(), norm.item()), rel=1e-3, abs=1e-5)
    assert norm > 0.01


def test_the_documentation_lists_what_is_trained() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "train.md").read_text()
    listed = page.split("what each answer has alone: ")[1].split(". Others")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == TAKEN


def test_other_architectures_are_refused_by_name(folders: Folders, questions: Path, tmp_path: Path) -> None:
    words = "objective: grpo cannot train llava_onevision: .*; sample answers with `llava-cot data rollouts`"
    with pytest.raises(DataError, match=words):
        train(wanted(folders("llava-onevision"), questions, tmp_path))


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
