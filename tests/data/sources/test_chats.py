"""Conversations in the forms and files that others write them in."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llava_cot.core.question import PLACE
from llava_cot.data.record import Record, pictures_until
from llava_cot.data.sources.chats import LLAVA_COT_100K, read_chats
from llava_cot.errors import DataError

FIXTURES = Path(__file__).parents[2] / "fixtures"
CHATS = FIXTURES / "chats"
JPEG = (CHATS / "coco/1.jpg").read_bytes()


def written(folder: Path, *rows: Any) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def message(content: Any, **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "Yes."}]
    } | more


def test_llava_cot_100k_as_published() -> None:
    first, second = LLAVA_COT_100K.records(FIXTURES / "llava_cot_100k")
    assert (first.id, first.source, first.license) == ("pisc_24231", "llava_cot_100k", "Apache-2.0")
    assert first.pictures[0].name == "llava_cot_100k/pisc/image/24231.jpg"
    assert first.pictures[0].read().startswith(b"\xff\xd8")
    assert [(turn.question, turn.answer) for turn in first.turns] == [
        ("What is the relation of the two?", "friends"),
        ("Are they indoors?", "No"),
    ]
    assert second.turns[0].question == "How many cubes are there?\nA. 1\nB. 2"
    assert (second.turns[0].answer, second.turns[0].hints) == ("B", "Count the cubes.")
    assert str(second.turns[0].response).startswith(
        "<SUMMARY> I will look at the picture. </SUMMARY>\n\n<CAPTION>"
    )


def test_llava_cot_100k_without_its_pictures_says_how_to_unpack_them(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes((FIXTURES / "llava_cot_100k/train.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"train\.jsonl, line 1.*image\.zip\.part"):
        list(LLAVA_COT_100K.records(tmp_path))


def test_sharegpt_in_a_json_array() -> None:
    first, second, third = read_chats(CHATS / "sharegpt.json")
    assert [(turn.question, turn.answer, turn.response) for turn in first.turns] == [
        ("What is it?", "A cube.", None),
        ("And its color?", "Red.", None),
    ]
    assert second.turns[0].question == f"Is it day?\n{PLACE}", "the mark of its picture comes last"
    assert first.pictures[0].name == second.pictures[0].name == "chats/coco/1.jpg"
    assert first.id != second.id, "public files repeat ids"
    assert first.id.startswith("000000000001-")
    assert (third.pictures, third.extra) == ((), {"system": "Be brief."})


def test_openai_messages_in_jsonl() -> None:
    first, second = read_chats(CHATS / "messages.jsonl")
    assert first.turns[0].question == "Which is larger?"
    path, url = first.pictures
    assert (path.name, path.read()) == ("chats/coco/1.jpg", JPEG)
    assert url.name == f"chats/{first.id}-1.png" and url.read().startswith(b"\x89PNG")
    assert first.extra == {"system": "Be brief."}
    assert (second.turns[0].question, second.turns[0].answer) == ("How many?", "3")
    assert second.turns[0].response is not None and second.pictures[0].name == "chats/coco/2.jpg"


def test_parquet_with_bytes_gives_what_jsonl_with_paths_gives(tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "images": [{"bytes": JPEG, "path": None}], "conversations": [
            {"from": "human", "value": f"<image>\nIs it {n}?"}, {"from": "gpt", "value": "Yes."}]}
        for n in range(100)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet", row_group_size=30)
    records = list(read_chats(tmp_path / "rows.parquet"))
    assert [record.turns[0].question for record in records] == [f"Is it {n}?" for n in range(100)]
    assert {record.pictures[0].read() for record in records} == {JPEG}
    assert len({record.pictures[0].name for record in records}) == 100
    assert records == list(read_chats(tmp_path)), "a folder of such files is read like the file"


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (
            message([{"type": "image_url", "image_url": {"url": "https://x.org/1.jpg"}}]),
            "on the network; download",
        ),
        (message([{"type": "input_audio"}]), "input_audio"),
        (message("<image> Which?"), "mark 1 pictures"),
        (message("Which?", image="../messages.jsonl"), "outside"),
        (message("Which?", image="/etc/passwd"), "outside"),
        (message("Which <image>?", images=["a.jpg", "b.jpg"]), "mark 1 of 2 pictures"),
        (message("Which?", image=3), "given as '3'"),
        (
            message([{"type": "text", "text": 3.5}, {"type": "text"}]),
            "`messages[0].content[1].text` is missing",
        ),
        (
            message([{"type": "image_url", "image_url": {}}]),
            "`messages[0].content[0].image_url.url` is missing",
        ),
        (message([{"type": "image_url"}]), "`messages[0].content[0].image_url` is missing"),
        (message(["x"]), "`messages[0].content[0]` is a text, not an object"),
        (message(None), "`messages[0].content` is missing"),
        (message({"a": 1}), "`messages[0].content` is an object, not a text"),
        (message("a\ufdd1b"), "U+FDD1"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "`messages[0].role` is 'tool'"),
        (
            {"messages": [{"role": "system", "content": [{"type": "image"}]}]},
            "`messages[0].content` has a picture",
        ),
        ({"messages": {"role": "user"}}, "`messages` is an object, not a list"),
        ({"conversations": [{"from": "gpt", "value": "x"}]}, "the user first"),
        ({"conversations": [{"from": "human", "value": "x"}] * 2}, "must alternate"),
        (message("<video>x", videos=["a.mp4"]), "`videos` is not empty"),
        (message("x") | {"conversations": [{"from": "human", "value": "x"}]}, "keep one of them"),
        (
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{}]}]},
            "`messages[1].tool_calls` is not supported",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "weight": 0},
                ]
            },
            "`messages[1].weight` is not supported",
        ),
        (
            message([{"type": "text", "text": "x", "image": "a.png"}]),
            "`messages[0].content[0].image` is in a part of type text",
        ),
        (
            {
                "image": "a.png",
                "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "<image>"}],
            },
            "in a message that is not of the user",
        ),
        (message("x", img="a.png"), "`img` is no field that is read; is it `image`?"),
        ({"conversations": [{"from": "system", "value": "x"}]}, "the conversation is empty"),
        ({"text": "x"}, "there is no conversation"),
        ({"conversations": [{"value": "x"}]}, "`conversations[0].from` is missing"),
        ({"conversations": [{"from": True, "value": "x"}]}, "`conversations[0].from` is true or false"),
        ([1], "a row is an object"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_with_its_file_and_line(
    tmp_path: Path, row: Any, words: str
) -> None:
    file = written(tmp_path, message("Fine?"), row)
    with pytest.raises(DataError, match=r"rows\.jsonl, line 2") as error:
        list(read_chats(file, CHATS))
    assert words in str(error.value)


def test_a_broken_data_url_is_told_when_it_is_read(tmp_path: Path) -> None:
    file = written(tmp_path, message("Which?", image="data:image/png;base64,abc"))
    (record,) = read_chats(file)
    with pytest.raises(DataError, match="base64"):
        record.pictures[0].read()


def test_what_is_no_file_of_conversations_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("a,b")
    (tmp_path / "rows.parquet").write_text("a,b")
    (tmp_path / "empty").mkdir()
    for name, words in [
        ("rows.csv", "none of the formats"),
        ("rows.parquet", "no Parquet"),
        ("missing.jsonl", "no conversation to read"),
        ("empty", "no conversation to read"),
    ]:
        with pytest.raises(DataError, match=words):
            list(read_chats(tmp_path / name))


def test_records_are_read_lazily(tmp_path: Path) -> None:
    file = written(tmp_path, message("Fine?"), {"broken": True})
    records = read_chats(file)
    assert isinstance(next(records), Record)


def test_percent_encoded_data_urls(tmp_path: Path) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(JPEG).decode().replace("+", "%2B")
    (record,) = read_chats(written(tmp_path, message("Which?", image=url)))
    assert record.pictures[0].read() == JPEG and record.pictures[0].name.endswith(".jpg")


def test_pictures_stay_where_they_are_among_the_texts(tmp_path: Path) -> None:
    options = "Which shows a cat?\nA. <image>\nB. <image>"
    parts = [
        {"type": "text", "text": "Is "},
        {"type": "image", "image": "coco/1.jpg"},
        {"type": "text", "text": " like "},
        {"type": "image_url", "image_url": "coco/2.jpg"},
        {"type": "text", "text": "?"},
        {"type": "text", "text": "Say it."},
    ]
    talk = [
        {"role": "user", "content": "<image>What is it?"},
        {"role": "assistant", "content": "It spells <image>."},
        {"role": "user", "content": "<image>And this?"},
        {"role": "assistant", "content": "A dog."},
    ]
    two = {"images": ["coco/1.jpg", "coco/2.jpg"]}
    file = written(tmp_path, message(options, **two), message(parts), {"messages": talk} | two)
    choices, like, later = read_chats(file, CHATS)
    assert choices.turns[0].question == f"Which shows a cat?\nA. {PLACE}\nB. {PLACE}"
    assert like.turns[0].question == f"Is {PLACE} like {PLACE}?\nSay it."
    assert [turn.question for turn in later.turns] == [f"{PLACE}What is it?", f"{PLACE}And this?"]
    assert later.turns[0].answer == "It spells <image>."
    for record in (choices, like, later):
        assert [picture.name for picture in record.pictures] == ["chats/coco/1.jpg", "chats/coco/2.jpg"]
    assert [pictures_until(later, turn) for turn in (0, 1)] == [1, 2]


@pytest.mark.parametrize(
    "text", ["<image>\n<image>\nWhich?", "<image> <image>Which?", "<image>Which?", "Which?"]
)
def test_pictures_before_the_first_question_need_no_place(tmp_path: Path, text: str) -> None:
    [record] = read_chats(written(tmp_path, message(text, images=["coco/1.jpg", "coco/2.jpg"])), CHATS)
    assert record.turns[0].question == "Which?" and len(record.pictures) == 2


def test_null_is_absent_as_arrow_writes_it(tmp_path: Path) -> None:
    parts = [
        {"type": "image", "image": None, "text": None},
        {"type": "text", "text": "Which?", "image": None},
    ]
    row = message(parts, images=["coco/1.jpg", None], image=None, system=None, hints=None, conversations=None)
    row["messages"][1]["content"] = None
    [record] = read_chats(written(tmp_path, row), CHATS)
    assert (record.turns[0].question, record.turns[0].answer, len(record.pictures)) == ("Which?", None, 1)
