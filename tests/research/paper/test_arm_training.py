"""The ways of training: equal but for what is compared, and resumed where they were interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llava_cot.core.stages import LLAVA_COT, parse, render, validate
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record, Turn
from llava_cot.errors import DataError
from llava_cot.scenes.items import make_item
from llava_cot.train.encode import target_text
from research.paper import arm_training
from research.paper.arm_training import ARMS, make_data, shuffle_stages, steps_of, train_arm, trainings
from research.paper.run_tasks import run_tasks

QUESTIONS = 3


def quiet(what: str, done: int, total: int | None = None) -> None:
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    make_data(folder, QUESTIONS, quiet)
    return folder


def small_recipe(folder: Path) -> Path:
    """The recipe with small batches."""
    small = folder / "small.yaml"
    small.write_text(arm_training.RECIPE.read_text().replace("batch: 8", "batch: 3"))
    return small


def stage_order(text: str) -> list[str]:
    return sorted(LLAVA_COT.names, key=lambda name: text.index(LLAVA_COT.stage(name).open))


def test_recipes_are_equal_but_for_what_is_compared() -> None:
    recipes = {one.name: one.recipe.model_dump() for one in trainings("a/base", Path("out"), range(2))}
    assert len(recipes) == 2 * len(ARMS)
    first = recipes["staged-0"]
    for name, fields in recipes.items():
        different = {key for key in fields if fields[key] != first[key]}
        assert different <= {"target", "data", "seed", "out"}
        assert fields["model"] == "a/base" and fields["out"] == f"out/{name}"
        assert fields["seed"] == int(name[-1])
    assert first["over_long"] == "refuse" and first["evaluate"] is None
    targets = {name: (fields["target"], fields["data"][0]["path"]) for name, fields in recipes.items()}
    files = {
        name: f"out/annotated/{file}" for name, file in (("all", "train.jsonl"), ("mixed", "shuffled.jsonl"))
    }
    assert {name[:-2]: found for name, found in targets.items()} == {
        "staged": ("staged", files["all"]),
        "untagged": ("untagged", files["all"]),
        "direct": ("direct", files["all"]),
        "shuffled": ("staged", files["mixed"]),
    }


def test_all_learn_from_the_same_questions(data: Path) -> None:
    plain, mixed = [*RecordFile(data / "annotated")], [*RecordFile(data / "annotated/shuffled.jsonl")]
    assert len(plain) == len(mixed) == QUESTIONS
    for one, other in zip(plain, mixed, strict=True):
        assert one.id == other.id and one.id.startswith("scenes/hard-train-0-")
        assert [picture.read() for picture in one.pictures] == [picture.read() for picture in other.pictures]
        assert (one.turns[0].text, one.turns[0].answer) == (other.turns[0].text, other.turns[0].answer)
        answer = one.turns[0].answer
        for arm in ARMS.values():
            text = target_text(
                (mixed if arm.name == "shuffled" else plain)[plain.index(one)].turns[0], arm.target
            )
            assert text is not None
            found = {"whole": text, "last-line": text.splitlines()[-1], "conclusion": parse(text).conclusion}
            assert found[arm.answer_source] == answer


def test_what_is_there_is_not_made_again(data: Path) -> None:
    files = {path: path.stat().st_mtime_ns for path in data.rglob("*.jsonl")}
    make_data(data, QUESTIONS, quiet)
    assert {path: path.stat().st_mtime_ns for path in data.rglob("*.jsonl")} == files
    with pytest.raises(DataError, match="the sample of another recipe"):
        make_data(data, QUESTIONS + 1, quiet)


def test_shuffled_stages_are_the_same_stages_in_another_order() -> None:
    orders = set()
    for index in range(60):
        item = make_item("train", 0, index, "hard")
        text = render(item.stages)
        record = Record(item.id, (Turn(item.question.text, item.answer, response=text),))
        mixed = shuffle_stages(record).turns[0].response
        assert mixed is not None and shuffle_stages(record).turns[0].response == mixed
        assert parse(mixed).stages == item.stages == parse(text).stages
        assert sorted(mixed.split("\n\n")) == sorted(text.split("\n\n"))
        assert {found.kind for found in validate(mixed)} == {"order"}
        orders.add(tuple(stage_order(mixed)))
    assert len(orders) > 15 and LLAVA_COT.names not in orders


def test_an_interrupted_training_is_resumed_and_equal_examples_are_seen(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arm_training, "RECIPE", small_recipe(tmp_path))
    some = [one for one in trainings("mini", data, [0]) if one.arm.name in ("direct", "shuffled")]
    done: list[int] = []

    def interrupt(steps: int) -> None:
        done.append(steps)
        if steps == 2 * steps_of(QUESTIONS):  # as the second one has trained, and before it is saved
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_tasks(train_arm, some, 1, interrupt)
    first = (some[0].folder / some[0].name / "train.json").read_bytes()
    assert not some[1].model.exists()
    run_tasks(train_arm, some, 1, done.append)
    assert (some[0].folder / some[0].name / "train.json").read_bytes() == first
    reports = [json.loads((one.folder / one.name / "train.json").read_text()) for one in some]
    for report in reports:
        assert (report["steps"], report["epochs"]) == (steps_of(QUESTIONS), 2)
        assert (report["records"], report["rows"], report["not_reached"]) == (QUESTIONS, QUESTIONS, 0)
    assert reports[0]["tokens"] < reports[1]["tokens"]
