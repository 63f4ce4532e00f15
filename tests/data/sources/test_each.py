"""What each source makes of its questions: in full for one of each, and its special cases."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from llava_cot.data.record import Picture, Record, Turn
from llava_cot.data.sources import SOURCES
from llava_cot.errors import DataError

FIXTURES = Path(__file__).parents[2] / "fixtures"


def read(name: str, split: str = "train") -> list[Record]:
    return list(SOURCES[name].records(FIXTURES / name, split))


def shown(name: str, path: str) -> tuple[Picture]:
    return (Picture(f"{name}/{path}", FIXTURES / name / path),)


def test_chartqa() -> None:
    records = read("chartqa")
    assert records[0] == Record(
        id="chartqa/train/human-0",
        turns=(Turn("How many apples were sold in May?", "14"),),
        pictures=shown("chartqa", "train/png/41.png"),
        source="chartqa",
        license="GPL-3.0",
        extra={"type": "human"},
    )
    assert [(record.id, record.extra["type"]) for record in records[1:]] == [
        ("chartqa/train/human-1", "human"),
        ("chartqa/train/augmented-0", "augmented"),
    ]


def test_aokvqa_keeps_options_rationales_and_the_commonest_direct_answer() -> None:
    first, second = read("aokvqa")
    assert first == Record(
        id="aokvqa/train/aAbBcCtrain",
        turns=(
            Turn(
                "What is the vehicle waiting for?",
                "B",
                ("rain", "green light", "driver", "train"),
                "The lamp above it is red.\nIt stands at a line.\nCars go when it is green.",
            ),
        ),
        pictures=shown("aokvqa", "coco/train2017/000000000073.jpg"),
        source="aokvqa",
        license="Apache-2.0",
        # "light" and "green light" come three times each; "light" is the first.
        extra={"direct_answer": "light", "difficult_direct_answer": False},
    )
    assert second.turns[0].hints is None
    assert second.extra == {"direct_answer": "summer", "difficult_direct_answer": True}


def test_ai2d_leaves_out_options_that_are_none_or_come_again() -> None:
    first = read("ai2d")[0]
    assert first == Record(
        id="ai2d/train/2.png-0",
        turns=(Turn("What does the sun give to the leaf?", "B", ("light", "water")),),
        pictures=shown("ai2d", "images/2.png"),
        source="ai2d",
        license="AI2 licence for non-commercial use; the data may not be passed on",
        extra={"type": "words"},
    )


def test_ai2d_has_pictures_in_order_of_their_numbers_and_parts_them_by_the_list() -> None:
    assert [record.id for record in read("ai2d")] == [
        "ai2d/train/2.png-0",
        "ai2d/train/2.png-1",
        "ai2d/train/10.png-0",
    ]
    assert [record.id for record in read("ai2d", "test")] == ["ai2d/test/11.png-0"]


def test_ai2d_draws_the_letters_that_a_question_speaks_of() -> None:
    (picture,) = read("ai2d")[1].pictures
    assert picture.name == "ai2d/abc_images/2.png"
    drawn = np.asarray(Image.open(io.BytesIO(picture.read())).convert("L"))
    before = np.asarray(Image.open(FIXTURES / "ai2d/images/2.png").convert("L"))
    changed = np.argwhere(drawn != before)
    assert changed.min(axis=0).tolist() == [4, 4]
    assert changed.max(axis=0).tolist() == [20, 28]
    inside = drawn[5:20, 5:28]
    assert inside.max() == 255 and inside.min() < 80  # white, and a letter on it


def test_geoqa_plus_is_read_from_conversations() -> None:
    first, second = read("geoqa_plus")
    question = (
        "As shown in the figure, AB is a diameter of the circle. If the radius is 3, the length of AB is ()\n"
        "A. 3\nB. 6\nC. 9\nD. 12\nAnswer with the option's letter from the given choices directly."
    )
    file = FIXTURES / "geoqa_plus/data/geoqa+/images/0.png"
    assert first == Record(
        id="geoqa_plus/train/17-0",
        turns=(Turn(question, "B"),),
        pictures=(Picture("geoqa_plus/data/geoqa+/images/0.png", file),),
        source="geoqa_plus",
        license="Apache-2.0 by InternVL's card; not stated by GeoQA+'s authors",
    )
    pixels = np.asarray(Image.open(io.BytesIO(first.pictures[0].read())))
    assert pixels.tolist() == (np.arange(48).reshape(6, 8) * 5).tolist()
    assert (second.id, second.turns[0].answer) == ("geoqa_plus/train/17-1", "B")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conversations": []}, "line 1: there is no conversation"),
        ({"image": "../../../secret.png"}, "line 1: the picture .* outside"),
        ({"image": 3.5}, "line 1: expected a text, not '3.5'"),
        ({"image": None}, "line 1: the texts mark 1 pictures"),
    ],
)
def test_geoqa_plus_says_what_is_wrong_with_a_row(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    root = Path(shutil.copytree(FIXTURES / "geoqa_plus", tmp_path / "a" / "b"))
    file = root / "opensource/geoqa+.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row | change) + "\n" for row in rows))
    with pytest.raises(DataError, match=rf"geoqa\+\.jsonl, {message}"):
        list(SOURCES["geoqa_plus"].records(root))


def test_scienceqa_asks_with_what_it_calls_a_hint_and_helps_with_lecture_and_solution() -> None:
    first, second = read("scienceqa")
    assert first == Record(
        id="scienceqa/train/1",
        turns=(
            Turn(
                "The picture shows two balls on a scale.\nWhich ball is heavier?",
                "B",
                ("the left one", "the right one"),
                "A scale sinks on the heavier side.\n\nThe right side is lower.",
            ),
        ),
        pictures=shown("scienceqa", "images/train/1/image.png"),
        source="scienceqa",
        license="CC-BY-NC-SA-4.0",
        extra={"type": "Forces", "subject": "natural science", "topic": "physics", "grade": "grade4"},
    )
    # Problem 2 has no picture.
    assert second.id == "scienceqa/train/3"
    assert second.turns == (Turn("What is north of the lake?", "C", ("a hill", "a road", "a town")),)


def test_docvqa_takes_the_first_answer_and_keeps_all() -> None:
    first, second = read("docvqa")
    assert first == Record(
        id="docvqa/train/337",
        turns=(Turn("What is the date of the letter?", "3/4/92"),),
        pictures=shown("docvqa", "spdocvqa_images/abcd0337_1.png"),
        source="docvqa",
        license="not stated",
        extra={"types": ["handwritten", "form"], "answers": ["3/4/92", "3/4/1992"]},
    )
    assert (second.turns[0].answer, second.pictures) == ("B. Clerk", first.pictures)


def test_pisc_makes_a_question_of_every_pair() -> None:
    first, second = read("pisc")
    relations = ("friends", "family", "couple", "professional", "commercial", "no relation")
    assert first == Record(
        id="pisc/train/31-1-2",
        turns=(
            Turn(
                "The picture is 80 pixels wide and 60 high. Person 1 is in the box (1, 2, 20, 50) and "
                "person 2 in the box (30, 5, 60, 58), each given by its left, top, right and bottom edge. "
                "What is the relation of the two?",
                "D",
                relations,
            ),
        ),
        pictures=shown("pisc", "image/00031.jpg"),
        source="pisc",
        license="as on its Zenodo page",
        extra={"type": "professional"},
    )
    assert (second.id, second.turns[0].answer) == ("pisc/train/31-1-3", "F")
    assert "person 2 in the box (62, 10, 79, 55)" in second.turns[0].question
    (turned,) = read("pisc", "val")[0].turns
    assert "Person 1 is in the box (30, 5, 60, 58) and person 2 in the box (1, 2, 20, 50)" in turned.question


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"1 4": 1}, "there is no box of person 4"),
        ({"0 1": 1}, "there is no box of person 0"),
        ({"1 2": 7}, "option 6, of 6"),
        ({"1 2": 0}, "option -1, of 6"),
        ({"1": 1}, "this is not as expected"),
    ],
)
def test_pisc_says_what_is_wrong_with_a_pair(pairs: dict[str, int], message: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(FIXTURES / "pisc", tmp_path / "pisc"))
    (root / "relationship.json").write_text(json.dumps({"31": pairs}))
    with pytest.raises(DataError, match=rf"relation_trainidx.json, entry 1: .*{message}"):
        list(SOURCES["pisc"].records(root))


def test_clevr() -> None:
    first, second = read("clevr")
    assert first == Record(
        id="clevr/train/0",
        turns=(Turn("How many things are there?", "3"),),
        pictures=shown("clevr", "images/train/CLEVR_train_000000.png"),
        source="clevr",
        license="CC-BY-4.0",
        extra={"type": "count", "family": 1},
    )
    assert (second.id, second.turns[0].answer, second.extra["type"]) == ("clevr/train/1", "yes", "exist")


def test_clevr_math_writes_its_sums_in_digits() -> None:
    first, second = read("clevr_math")
    assert first == Record(
        id="clevr_math/train/0",
        turns=(Turn("Take away all red cubes. How many objects are left?", "5"),),
        pictures=shown("clevr_math", "CLEVR_v1.0/images/train/CLEVR_train_000004.png"),
        source="clevr_math",
        license="CC-BY-4.0 by its card, CC-BY-SA-4.0 by its loading script",
        extra={"type": "subtraction"},
    )
    assert (second.turns[0].answer, second.extra) == ("8", {"type": "addition"})


def test_sharegpt4v_keeps_the_turns_of_a_conversation_and_leaves_out_those_without_a_picture() -> None:
    first, second, third = read("sharegpt4v")
    assert first == Record(
        id="sharegpt4v/train/000000000025-0",
        turns=(
            Turn("What stands by the tree?", "A giraffe."),
            Turn("How many are there?", "Two."),
        ),
        pictures=shown("sharegpt4v", "coco/train2017/000000000025.jpg"),
        source="sharegpt4v",
        license="CC-BY-NC-4.0",
        extra={"collection": "coco"},
    )
    assert (second.id, second.turns) == (
        "sharegpt4v/train/VG_100K/5-2",
        (Turn("Where is the dog?", "On the sofa."),),
    )
    # One picture with two conversations has one id in the file.
    assert third.id == "sharegpt4v/train/000000000025-3"


@pytest.mark.parametrize("speakers", [["gpt", "human"], ["human"], [], ["human", "gpt", "gpt"]])
def test_sharegpt4v_refuses_speakers_out_of_turn(speakers: list[str], tmp_path: Path) -> None:
    root = Path(shutil.copytree(FIXTURES / "sharegpt4v", tmp_path / "s"))
    file = root / "sharegpt4v" / "sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json"
    talk = [{"from": speaker, "value": "a"} for speaker in speakers]
    file.write_text(
        json.dumps([{"id": "1", "image": "coco/train2017/000000000025.jpg", "conversations": talk}])
    )
    with pytest.raises(DataError, match=r"entry 1: human and gpt must alternate, not "):
        list(SOURCES["sharegpt4v"].records(root))
