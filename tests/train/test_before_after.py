"""The score before and after a training: measured once each, on the same questions, and said in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import environment
from training import picture, write

from llava_cot.core.files import make_recipe
from llava_cot.data.record import Record, Turn
from llava_cot.evaluation.results import RunResults
from llava_cot.evaluation.statistics import PairedDifference
from llava_cot.train.before_after import BeforeAfter, ScoreChange
from llava_cot.train.recipe import TrainRecipe
from llava_cot.train.training_run import train

COUNT = 12


@pytest.fixture(scope="module")
def sevens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions that all have one answer, which is learned in a few steps."""
    return answers(tmp_path_factory.mktemp("sevens"), "seven")


def answers(folder: Path, answer: str) -> Path:
    records = [
        Record(f"made/{i}", (Turn(f"How many? ({i})", answer),), (picture(folder, i),)) for i in range(COUNT)
    ]
    write(folder, records)
    return folder


def recipe(model: Path, data: Path, out: Path, bench: Path, **more: Any) -> TrainRecipe:
    fields = {
        "model": str(model), "data": [{"path": str(data)}], "out": str(out), "target": "direct", "rate": 3e-3,
        "steps": 30, "batch": 4, "log": [], "save_every": 10,
        "evaluate": {"bench": str(bench), "limit": 10, "tokens": 8},
    }  # fmt: skip
    return make_recipe(fields | more, TrainRecipe, "made")


def learned(folders: Callable[[str], Path], data: Path, out: Path, **more: Any) -> list[str]:
    notes: list[str] = []
    train(recipe(folders("mllama"), data, out, data, **more), note=notes.append)
    return notes


def score(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "train.json").read_text())["score"]
    return found


def test_a_run_ends_with_both_scores_and_their_difference(
    folders: Callable[[str], Path], sevens: Path, tmp_path: Path
) -> None:
    evaluate = {"bench": str(sevens), "limit": 10, "tokens": 8, "share": 0.1, "every": 10}
    notes = learned(folders, sevens, tmp_path / "out", evaluate=evaluate)
    name = sevens.name
    assert notes[-1].startswith(f"score on 10 questions of {name}: 0.0% before, 100.0% after, +100.0 points")
    assert "eval_loss" in (tmp_path / "out/log.jsonl").read_text()
    found = score(tmp_path / "out")
    assert (found["before"], found["after"], found["questions"]) == (0, 100, 10) and found["low"] > 0
    card = (tmp_path / "out/model/README.md").read_text()
    assert "| score before, % | 0.0 |" in card and "| score after, % | 100.0 |" in card
    with RunResults([tmp_path / "out/evaluation"]) as results:
        assert [(run.model, run.method) for run in results.runs] == [
            ("before", "direct"),
            ("after", "direct"),
        ]


def test_it_does_not_change_what_is_learned(
    folders: Callable[[str], Path], sevens: Path, tmp_path: Path
) -> None:
    lora = {"rank": 4, "dropout": 0.2}
    learned(folders, sevens, tmp_path / "with", steps=4, lora=lora)
    learned(folders, sevens, tmp_path / "without", steps=4, lora=lora, evaluate=None)
    with_it, without = (
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("with", "without")
    )
    assert with_it == without


def test_a_model_that_became_worse_is_reported_in_one_sentence(
    folders: Callable[[str], Path], sevens: Path, tmp_path: Path
) -> None:
    learned(folders, sevens, tmp_path / "good", evaluate=None)
    wrong = answers(tmp_path / "wrong", "two")
    notes: list[str] = []
    train(
        recipe(tmp_path / "good/model", wrong, tmp_path / "bad", sevens, lora={"rank": 8}), note=notes.append
    )
    assert "100.0% before, 0.0% after, −100.0 points" in notes[-2]
    assert notes[-1].startswith("the training made the model worse than it was: keep the old one")
    assert score(tmp_path / "bad")["high"] < 0


def test_a_resumed_run_does_not_measure_again(
    folders: Callable[[str], Path], sevens: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    wanted = recipe(folders("mllama"), sevens, out, sevens)

    def interrupt(step: int, steps: int, log: object) -> None:
        if step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(wanted, on_step=interrupt)
    before = seconds(out, "before")
    assert len(before) == 10
    moved = out.rename(tmp_path / "moved")
    train(wanted.model_copy(update={"out": str(moved)}), resume=True)
    assert seconds(moved, "before") == before
    assert score(moved)["after"] == 100


def seconds(out: Path, model: str) -> dict[str, float]:
    with RunResults([out / "evaluation"]) as results:
        [run] = [run for run in results.runs if run.model == model]
        return {one.item: one.usage.seconds for one in results.results(run) if one.failure is None}


def test_of_two_processes_the_first_measures(
    folders: Callable[[str], Path], sevens: Path, tmp_path: Path
) -> None:
    wanted = recipe(folders("mllama"), sevens, tmp_path / "out", sevens, fsdp={}, batch=2)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(wanted.model_dump()))
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "llava_cot", "train", str(file)]
    done = subprocess.run(
        [sys.executable, *launch], env=environment(), capture_output=True, check=False, timeout=180, text=True
    )
    assert done.returncode == 0, done.stderr
    assert score(tmp_path / "out")["after"] == 100
    assert done.stderr.count("0.0% before, 100.0% after") == 1


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"bench": "nowhere.jsonl"}, "there is no benchmark 'nowhere.jsonl'"),
        ({"bench": "scenes:validation", "method": "best-of-4"}, "best-of-4, which is a search"),
        ({"bench": "scenes:validation", "method": "one"}, "there is no method 'one'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    evaluate: dict[str, Any], message: str, tmp_path: Path
) -> None:
    wanted = recipe(Path("mini"), tmp_path, tmp_path / "out", tmp_path, evaluate=evaluate)
    with pytest.raises(ValueError, match=message):
        train(wanted)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match=message):
        BeforeAfter(wanted, tmp_path)


def test_a_difference_that_chance_explains_is_not_called_a_change() -> None:
    difference = PairedDifference(-2, -9, 5, 0.6, "McNemar", 3, 5, 100)
    change = ScoreChange("made", 100, difference, difference, difference)
    assert "do not show that the training made the model better" in change.advice
