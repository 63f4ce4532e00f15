"""Pictures and questions that mini knows, and others: a small sample of `research.mini.recognition`."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from command import ROOT
from PIL import Image

from llava_cot.core.question import Question, load_image
from llava_cot.scenes.items import make_item, make_items
from llava_cot.scenes.questions import HARD_TYPES, TYPES, ask_about
from llava_cot.scenes.recognition import BOUNDS, is_scene, measure, unfamiliar, unknown_words
from llava_cot.scenes.world import MAX_OBJECTS, draw_scene, render, scene_rng
from research.mini.recognition import forms, others

SEEN = forms("validation")
OTHERS = others(None)


@pytest.mark.parametrize("kind", SEEN)
def test_scenes_are_known(kind: str) -> None:
    rng = random.Random(kind)
    assert all(is_scene(SEEN[kind](rng)) for _ in range(40))


@pytest.mark.parametrize("kind", OTHERS)
def test_other_pictures_are_not(kind: str) -> None:
    rng = random.Random(kind)
    assert not any(is_scene(OTHERS[kind](rng)) for _ in range(6 if kind == "charts" else 25))


def test_the_examples_are_scenes() -> None:
    pictures = [
        *(ROOT / "examples").glob("*.png"),
        *(ROOT / "src/llava_cot/server/static/examples").glob("*.png"),
    ]
    assert len(pictures) > 4 and all(is_scene(load_image(path).pil) for path in pictures)


@pytest.mark.parametrize("size", [(1, 1), (3000, 2), (96, 96)])
def test_any_picture_can_be_measured(size: tuple[int, int]) -> None:
    for color in ((0, 0, 0), (255, 255, 255), (150, 150, 150)):
        picture = Image.new("RGB", size, color)
        assert measure(picture).keys() == BOUNDS.keys() and not is_scene(picture)


def test_questions_of_all_types_are_known() -> None:
    found, picture = set(), load_image(render(draw_scene(scene_rng("validation", 5, 0))))
    for index in range(330):
        rng = scene_rng("validation", 5, index)
        question = ask_about(draw_scene(rng), rng, TYPES[index % len(TYPES)])
        text = "\n".join((question.text.replace("color", "colour"), *question.options))
        assert unknown_words(text) == []
        if question.type not in found:
            assert unfamiliar(Question(question.text, (picture,), options=question.options)) is None
        found.add(question.type)
    assert found == set(TYPES)


def test_hard_questions_and_pictures_are_known() -> None:
    found = set()
    for item in make_items("validation", 6, 200, "hard"):
        found.add(item.question.type)
        assert unknown_words("\n".join((item.question.text, *item.question.options))) == []
        if len(item.scene.objects) == MAX_OBJECTS:
            assert unfamiliar(item.ask()) is None
    assert found == set(HARD_TYPES)
    assert unknown_words("Double the cubes.\nA. 43\nB. 40") == [] != unknown_words("Double the cubes. A. 44")


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?", "Describe the picture.", "How many people are there?",
        "Who made it?", "What is in the picture?", "Is it true?", "这张图里有什么?", "?",
        "Which bar has the highest value?",
        "Add 500 cubes. How many objects are there?",
    ],
)  # fmt: skip
def test_others_are_not(text: str) -> None:
    assert unknown_words(text)
    item = make_item("validation", 0, 0)
    assert (unfamiliar(replace(item.ask(), text=text)) or "").startswith(
        "no question about them has the words "
    )


def test_short_forms_are_known() -> None:
    for text in (
        "How many cubes?",
        "what color is the metal sphere",
        "Are there more red objects than cubes?",
    ):
        assert unknown_words(text) == []
