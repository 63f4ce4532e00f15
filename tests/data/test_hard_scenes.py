"""Hard scenes from a recipe to training records: drawn, annotated by their teacher, checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from command import refusal, run

from llava_cot.core.stages import parse, validate
from llava_cot.data.reading import read_records
from llava_cot.scenes.items import make_items, named_item
from llava_cot.scenes.questions import HARD_TYPES

RECIPE = {"sources": [{"source": "scenes", "split": "train", "count": 30, "size": 60, "difficulty": "hard"}]}


def test_a_recipe_of_hard_scenes_is_drawn_annotated_and_checked(tmp_path: Path) -> None:
    recipe, drawn, out = tmp_path / "recipe.yaml", tmp_path / "drawn", tmp_path / "out"
    recipe.write_text(yaml.safe_dump(RECIPE))
    assert run("data", "sample", recipe, "--out", drawn).returncode == 0
    questions = list(read_records(drawn / "questions.jsonl"))
    assert len(questions) == 30 and all(one.id.startswith("scenes/hard-train-0-") for one in questions)
    assert {one.extra["type"] for one in questions} <= set(HARD_TYPES)
    assert {one.extra["depth"] for one in questions} > {0}

    assert run("data", "annotate", drawn, "--teacher", "scenes", "--out", out, "-q").returncode == 0
    records = list(read_records(out / "train.jsonl"))
    assert {record.id for record in records} == {one.id for one in questions}
    for record in records:
        item, [turn] = named_item(record.id), record.turns
        assert item is not None and turn.response is not None and validate(turn.response) == []
        assert parse(turn.response).stages == item.stages
        assert record.extra == {"type": item.question.type, "depth": item.question.depth}
    report = json.loads(run("data", "check", out, "--json").stdout)
    assert report["findings"] == []


def test_hard_scenes_are_drawn_by_the_command(tmp_path: Path) -> None:
    drawn = run("scenes", tmp_path, "--count", "3", "--seed", "1", "--split", "train", "--difficulty", "hard")
    assert drawn.returncode == 0
    lines = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"hard-train-1-{index}" for index in range(3)]
    assert all((tmp_path / line["image"]).is_file() for line in lines)


def test_a_difficulty_that_there_is_not_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"sources": [{**RECIPE["sources"][0], "difficulty": "easy"}]}))
    assert "difficulty" in refusal("data", "sample", recipe, "--out", tmp_path / "out")
    wrong = refusal("scenes", tmp_path / "out", "--difficulty", "easy")
    assert wrong == "unknown difficulty 'easy': choose one of standard, hard"
    assert not (tmp_path / "out").exists()


def test_only_questions_of_the_types_that_are_named_are_drawn(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    source = {"source": "scenes", "count": 12, "types": ["add", "compare"]}
    recipe.write_text(yaml.safe_dump({"sources": [source]}))
    assert run("data", "sample", recipe, "--out", tmp_path / "out").returncode == 0
    drawn = list(read_records(tmp_path / "out" / "questions.jsonl"))
    wanted = [item for item in make_items("train", 0, 200) if item.question.type in ("add", "compare")][:12]
    assert {one.id for one in drawn} == {f"scenes/{item.id}" for item in wanted}


def test_a_type_that_there_is_not_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({"sources": [{**RECIPE["sources"][0], "types": ["sets", "chain"]}]}))
    wrong = refusal("data", "sample", recipe, "--out", tmp_path / "out")
    assert "hard scenes have no type 'chain'; choose from exist, color" in wrong


@pytest.mark.parametrize("source", ["tsv", "hf"])
def test_other_sources_take_no_difficulty(tmp_path: Path, source: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    entry = {"source": source, "path": "x", "count": 1, "difficulty": "hard"}
    recipe.write_text(yaml.safe_dump({"sources": [entry]}))
    assert f"the source {source} takes no `difficulty`" in refusal(
        "data", "sample", recipe, "--out", tmp_path / "out"
    )
