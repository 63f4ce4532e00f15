"""Scenes: true answers, natural stages, balance, splits that share nothing, the folder they go to."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from llava_cot.core.stages import parse, validate
from llava_cot.core.stages import render as render_stages
from llava_cot.data.reading import read_records
from llava_cot.scenes.chains import Step
from llava_cot.scenes.filters import Filter
from llava_cot.scenes.items import make_item, make_items, write_scenes
from llava_cot.scenes.questions import (
    PERCEPTION,
    REASONING,
    TYPES,
    SceneQuestion,
    ask_about,
    solve,
)
from llava_cot.scenes.teacher import teach
from llava_cot.scenes.world import (
    DIFFICULTIES,
    MIN_OBJECTS,
    MOST_OBJECTS,
    SPLITS,
    Scene,
    SceneObject,
    draw_scene,
    render,
    scene_rng,
)


def thing(size: str, color: str, material: str, shape: str, x: float) -> SceneObject:
    return SceneObject(size, color, material, shape, x=x, y=0.5, turn=0.3)


SCENE = Scene(
    (
        thing("small", "red", "metal", "sphere", 0.2),
        thing("large", "purple", "rubber", "cube", 0.4),
        thing("small", "purple", "metal", "sphere", 0.6),
        thing("large", "gray", "metal", "cylinder", 0.8),
    ),
    (0.0, 1.0),
)


def number_after(*chain: Step) -> str | None:
    return solve(SCENE, SceneQuestion("chain", "", "", chain=chain))


def test_the_example_of_clevr_math() -> None:
    chain = (
        Step("remove", Filter(size="small", material="metal", shape="sphere")),
        Step("remove", Filter(color="purple")),
    )
    assert number_after(*chain) == "1"  # the purple metal sphere is gone already when purple is taken away
    question = SceneQuestion("subtract", "", "1", chain=chain)
    assert teach(SCENE, question)["reasoning"] == (
        "We start with 4 objects. Removing small metal spheres: first small metal sphere yes goes, "
        "second large rubber cube no stays, third small metal sphere yes goes, "
        "fourth large metal cylinder no stays: 2. "
        "Removing purple objects: second purple yes goes, fourth gray no stays: 1."
    )


def test_a_comparison_counts_both() -> None:
    question = SceneQuestion(
        "compare", "", "yes", filters=(Filter(color="purple"), Filter(shape="cube")), attribute="more"
    )
    assert solve(SCENE, question) == "yes"
    assert teach(SCENE, question)["reasoning"] == (
        "Purple objects: first red no, second purple yes, third purple yes, fourth gray no: 2. "
        "Cubes: first sphere no, second cube yes, third sphere no, fourth cylinder no: 1. "
        "2 is more than 1, so the answer is yes."
    )


def test_what_is_added_matches_nothing_and_keep_counts_what_is_left() -> None:
    assert number_after(Step("add", Filter(color="red"), 3)) == "7"
    assert number_after(Step("remove", Filter(size="small")), Step("keep", Filter(shape="cube"))) == "1"


@pytest.mark.parametrize("type", TYPES)
def test_the_answer_is_what_the_program_gives(type: str) -> None:
    asked = 0
    for index in range(60):
        rng = scene_rng("train", 7, index)
        scene = draw_scene(rng)
        question = ask_about(scene, rng, type)
        asked += question.type == type
        assert solve(scene, question) == question.answer
        if question.options:
            assert question.options["ABCD".index(question.conclusion)] == question.answer
            assert len(set(question.options)) == len(question.options)
        else:
            assert question.conclusion == question.answer
    assert asked > 30


def test_the_teacher_writes_valid_stages_and_a_bare_conclusion() -> None:
    for item in make_items("train", 3, 100):
        text = render_stages(item.stages)
        assert validate(text) == []
        assert parse(text).answer == item.answer
        assert item.answer in ("yes", "no", *"ABCD") or item.answer.isdigit() or item.answer.isalpha()
        assert len(item.answer.split()) == 1
        assert item.question.conclusion not in item.stages["summary"].split()


def test_a_caption_names_every_object_from_left_to_right() -> None:
    caption = teach(SCENE, make_item("train", 0, 0).question)["caption"]
    assert caption == (
        "There are 4 objects. From left to right: first a small red metal sphere, second a large purple "
        "rubber cube, third a small purple metal sphere, fourth a large gray metal cylinder."
    )


def test_answers_are_balanced() -> None:
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for item in make_items("train", 11, 3000):
        answers[item.question.type][item.question.answer] += 1
    for type in ("exist", "compare", "size", "material"):
        assert max(answers[type].values()) < 0.62 * sum(answers[type].values()), type
    for type in ("count", "subtract", "add", "chain"):
        assert max(answers[type].values()) < 0.4 * sum(answers[type].values()), type
    assert max(answers["color"].values()) < 0.25 * sum(answers["color"].values())
    perception = sum(sum(answers[type].values()) for type in PERCEPTION)
    assert 0.5 < perception / 3000 < 0.75
    assert all(answers[type] for type in REASONING)


def test_the_same_seed_gives_the_same_scene_and_splits_share_none() -> None:
    seen: dict[str, str] = {}
    for split in SPLITS:
        for seed in (0, 1):
            for index in range(200):
                item = make_item(split, seed, index)
                assert item == make_item(split, seed, index)
                key = json.dumps(asdict(item.scene))
                assert seen.setdefault(key, item.id) == item.id


@given(st.integers(0, 10_000), st.sampled_from(DIFFICULTIES))
def test_scenes_are_well_formed(index: int, difficulty: str) -> None:
    scene = draw_scene(scene_rng("train", 5, index, difficulty), difficulty)
    assert MIN_OBJECTS <= len(scene.objects) <= MOST_OBJECTS[difficulty]
    places = [item.x for item in scene.objects]
    assert places == sorted(places)
    assert min(b - a for a, b in pairwise(places)) >= 0.0399


def test_a_picture_shows_each_attribute() -> None:
    base = SCENE.objects[1]
    pictures = [
        np.asarray(render(Scene((replace(base, **change),), (0.0, 1.0))))
        for change in (
            {},
            {"color": "yellow"},
            {"shape": "sphere"},
            {"material": "metal"},
            {"size": "small"},
            {"x": 0.7},
        )
    ]
    assert all(picture.shape == (192, 192, 3) for picture in pictures)
    for other in pictures[1:]:
        assert np.abs(pictures[0].astype(int) - other).max() > 40


def test_a_nearer_object_hides_a_farther_one() -> None:
    far, near = replace(SCENE.objects[1], y=0.5), replace(SCENE.objects[0], x=0.4, y=0.56, size="large")
    both = np.asarray(render(Scene((far, near), (0.0, 1.0))))
    alone = np.asarray(render(Scene((near,), (0.0, 1.0))))
    middle = (int(192 * 0.5), int(192 * 0.4))
    assert np.abs(both[middle].astype(int) - alone[middle]).max() < 12


def test_writing_a_folder(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = write_scenes(tmp_path / "out", count=4, seed=2, split="validation")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == [f"validation-2-{i}" for i in range(4)]
    for index, line in enumerate(lines):
        assert set(line) == {"id", "image", "question", "options", "answer", "type", "depth", "scene"}
        with Image.open(tmp_path / "out" / line["image"]) as picture:
            assert np.array_equal(
                np.asarray(picture), np.asarray(make_item("validation", 2, index).picture())
            )


def test_writing_a_hard_folder(tmp_path: Path) -> None:
    path = write_scenes(tmp_path, count=12, seed=2, difficulty="hard")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    items = list(make_items("test", 2, 12, "hard"))
    assert [line["id"] for line in lines] == [f"hard-test-2-{i}" for i in range(12)]
    assert [(line["type"], line["depth"]) for line in lines] == [
        (item.question.type, item.question.depth) for item in items
    ]
    assert len({line["depth"] for line in lines}) > 3 and (tmp_path / "images/hard-test-2-11.png").is_file()
    # Each question is a record with its type and depth.
    records = list(read_records(path))
    assert [record.extra for record in records] == [
        {"type": line["type"], "depth": line["depth"]} for line in lines
    ]
    assert write_scenes(tmp_path, count=12, seed=2, difficulty="hard") == path
    with pytest.raises(ValueError, match="new or empty folder"):
        write_scenes(tmp_path, count=12, seed=2)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_set_may_be_written_again(tmp_path: Path) -> None:
    path = write_scenes(tmp_path, count=3, seed=2)
    before = contents(tmp_path)
    assert write_scenes(tmp_path, count=3, seed=2) == path
    # As an interruption leaves it.
    path.rename(tmp_path / "questions.jsonl.part")
    (tmp_path / "images" / "test-2-2.png").unlink()
    assert write_scenes(tmp_path, count=3, seed=2) == path
    assert contents(tmp_path) == before


@pytest.mark.parametrize("other", [{"count": 2}, {"count": 4}, {"seed": 3}, {"split": "train"}])
def test_another_set_is_left_as_it_is(tmp_path: Path, other: dict[str, Any]) -> None:
    write_scenes(tmp_path, **{"count": 3, "seed": 2})
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="new or empty folder"):
        write_scenes(tmp_path, **({"count": 3, "seed": 2} | other))
    assert contents(tmp_path) == before


def test_questions_that_were_changed_are_left_as_they_are(tmp_path: Path) -> None:
    path = write_scenes(tmp_path, count=2)
    for changed in (path.read_text() + "\n", path.read_text().replace('"id"', '"ID"', 1)):
        path.write_text(changed)
        with pytest.raises(ValueError, match=r"other files \(questions.jsonl\)"):
            write_scenes(tmp_path, count=2)
        assert path.read_text() == changed


def test_writing_refuses_bad_input(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="count"):
        write_scenes(tmp_path / "a", count=0)
    with pytest.raises(ValueError, match="split"):
        write_scenes(tmp_path / "b", count=1, split="dev")
    with pytest.raises(ValueError, match="unknown difficulty 'easy': choose one of standard, hard"):
        write_scenes(tmp_path / "b", count=1, difficulty="easy")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(ValueError, match="other files"):
        write_scenes(tmp_path / "mine", count=1)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"
    with pytest.raises(ValueError, match="file"):
        write_scenes(tmp_path / "mine" / "notes.txt", count=1)
