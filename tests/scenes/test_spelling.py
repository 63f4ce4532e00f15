"""A question in British spelling is answered, and judged, as the same question in American spelling."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer

from llava_cot import ask_sync, open_model
from llava_cot.core.question import Question
from llava_cot.core.stages import parse, render
from llava_cot.data.record import Record, Turn
from llava_cot.data.rollouts.labeling import scene_of
from llava_cot.models.base import Sampling
from llava_cot.models.registry import BUILT_IN
from llava_cot.scenes.ground_truth import better
from llava_cot.scenes.items import SceneItem, make_items
from llava_cot.scenes.questions import american_spelling

FOLDERS = [*BUILT_IN.values()]
PAIRS = [
    ("What colour is the grey cube?", "What color is the gray cube?"),
    ("Which COLOR? Colours and coloured", "Which COLOR? Colors and colored"),
    ("Grey or greyish, greys; a greyhound, agrey", "Gray or grayish, grays; a greyhound, agrey"),
]


def british(text: str) -> str:
    return text.replace("color", "colour").replace("gray", "grey")


def with_both(count: int) -> list[SceneItem]:
    """Items whose question has another British spelling."""
    items = make_items("validation", 2, 400)
    found = [item for item in items if british(item.question.text) != item.question.text]
    return found[:count]


@pytest.fixture(scope="module")
def mini() -> Iterator[Any]:
    with closing(open_model("mini")) as model:
        yield model


@pytest.mark.parametrize(("text", "expected"), PAIRS)
def test_words_are_respelled_and_nothing_else(text: str, expected: str) -> None:
    assert american_spelling(text) == expected == american_spelling(expected)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_minis_tokenizer_takes_both_spellings_alike_and_changes_no_other_text(folder: Any) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    state = json.loads(tokenizer.to_str())
    plain = Tokenizer.from_str(json.dumps(state | {"normalizer": None}))
    for text, expected in PAIRS:
        assert tokenizer.encode(text).ids == plain.encode(expected).ids
    rng = random.Random(0)
    texts = [
        line for item in make_items("train", 0, 200) for line in (item.question.text, render(item.stages))
    ]
    texts += ["".join(chr(rng.randrange(32, 0x2FFF)) for _ in range(60)) for _ in range(200)]
    texts.append("Color, colors, gray; collar,\n<CAPTION> Caf\u00e9 \U0001f600 e\u0301</CAPTION>\t  x ")
    for text in texts:
        assert tokenizer.encode(text).ids == plain.encode(text).ids
        assert tokenizer.decode(tokenizer.encode(text).ids, skip_special_tokens=False) == plain.decode(
            plain.encode(text).ids, skip_special_tokens=False
        )


@pytest.mark.parametrize("method", ["best-of-n", "stage-beam"])
def test_mini_gives_both_spellings_the_same_answer(mini: Any, method: str) -> None:
    for item in with_both(4):
        answers = [
            ask_sync(mini, item.picture(), question, method=method, n=2, sampling=Sampling(seed=1)).text
            for question in (item.question.text, british(item.question.text))
        ]
        assert answers[0] == answers[1]


def test_the_ground_truth_is_the_same_for_both_spellings() -> None:
    for item in with_both(20):
        question = item.question
        turn = Turn(british(question.text), item.answer, tuple(map(british, question.options)))
        assert scene_of(Record(item.id, (turn,))) == item
        assert scene_of(Record(item.id, (replace(turn, question=question.text + "?"),))) is None
        right = parse(render(item.stages))
        wrong = parse(render({**item.stages, "conclusion": "neither"}))
        for text in (question.text, british(question.text)):
            known = Question(text, (), item.id, question.options, item.answer)
            assert better(known, "conclusion", right, wrong) == 1
