"""Records as users write them: used as they are meant, or refused with the field and the line."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llava_cot.core import files
from llava_cot.core.question import PLACE
from llava_cot.data import reading
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record, to_json
from llava_cot.data.sources import row_files
from llava_cot.errors import DataError


def read(folder: Path, *lines: Any, name: str = "train.jsonl") -> list[Record]:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / name).write_text(text if name.endswith("l") else json.dumps(lines))
    return list(RecordFile(folder / name))


def talk(value: Any = "Which?", reply: Any = "red", **more: Any) -> dict[str, Any]:
    messages = [{"from": "human", "value": value}, {"from": "gpt", "value": reply}]
    return {"id": "1", "conversations": messages} | more


def own(question: Any, **more: Any) -> dict[str, Any]:
    return talk() | {"questions": [question]} | more


def test_null_is_the_same_as_absent(tmp_path: Path) -> None:
    nothing = dict.fromkeys(
        ("image", "images", "questions", "question", "source", "licence", "hints", "system")
    )
    chat, bare, ours = read(
        tmp_path,
        talk() | nothing,
        nothing | {"id": "2", "question": "Which?", "answer": None, "options": None, "extra": None},
        own(
            {"question": "Which?", "answer": None, "options": None, "hints": None}, extra=None, images=[None]
        ),
    )
    assert (chat.turns[0].response, chat.source, chat.pictures) == ("red", "", ())
    assert (bare.turns[0].answer, bare.turns[0].options, bare.extra) == (None, (), {})
    assert (ours.turns[0].answer, ours.turns[0].options, ours.turns[0].hints) == (None, (), None)


def test_a_picture_is_a_name_a_list_or_an_absolute_path_below_the_folder(tmp_path: Path) -> None:
    given = ("a.png", ["a.png"], str(tmp_path / "a.png"), [str(tmp_path.absolute() / "a.png")])
    for record in read(tmp_path, *(talk(image=one) for one in given), talk(images="a.png", image="a.png")):
        assert [(it.name, it.file) for it in record.pictures] == [("a.png", tmp_path / "a.png")]
    [two] = read(tmp_path, talk(image=["a.png", "b.png"]))
    assert [picture.name for picture in two.pictures] == ["a.png", "b.png"]
    [inside] = read(tmp_path, talk([{"type": "image", "image": "a.png"}, {"type": "text", "text": "Which?"}]))
    assert inside.pictures == two.pictures[:1] and inside.turns[0].question == "Which?"
    [data] = read(tmp_path, talk(image="data:image/png;base64,iVBORw0KGgo="))
    assert data.pictures[0].read().startswith(b"\x89PNG")


def test_numbers_are_texts(tmp_path: Path) -> None:
    chat, bare, ours = read(
        tmp_path,
        talk(reply=7, id=3),
        {"id": 4.5, "question": "How many?", "answer": 3, "options": [2, 3, 3.5, None]},
        own({"question": "How many?", "answer": 2.5, "options": [1, 2]}),
    )
    assert (chat.id, chat.turns[0].response) == ("3", "7")
    assert (bare.id, bare.turns[0].answer, bare.turns[0].options) == ("4.5", "3", ("2", "3", "3.5", ""))
    assert (ours.turns[0].answer, ours.turns[0].options) == ("2.5", ("1", "2"))


def test_a_number_of_any_length_is_a_text(tmp_path: Path) -> None:
    [one] = read(tmp_path, talk(reply=10**400))
    assert one.turns[0].answer == str(10**400)


def test_places_of_pictures_come_back_from_a_file(tmp_path: Path) -> None:
    two = {"images": ["a.png", "b.png"]}
    [bare] = read(tmp_path, {"id": "1", "question": "Which?", "options": ["<image>", "<image>"]} | two)
    assert bare.turns[0].text == f"Which?\nA. {PLACE}\nB. {PLACE}"
    [chat] = read(tmp_path, talk("Is <image> like <image>?", **two))
    assert chat.turns[0].question == f"Is {PLACE} like {PLACE}?"
    line = to_json(chat)
    assert line["conversations"][0]["value"] == "Is <image> like <image>?"
    assert read(tmp_path, line) == [chat]
    [literal] = read(tmp_path, {"id": "1", "question": "What does <image> mean in HTML?"})
    assert literal.turns[0].question == "What does <image> mean in HTML?"


def test_csv_and_a_json_list(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(
        "\ufeffid,question,answer,image,A,B,C,topic\n"
        '7,"Which, then?",B,a.png,red,,blue,colors\n'
        ",How many?,3,\"['a.png', 'b.png']\",,,,\n",
        encoding="utf-8",
    )
    first, second = RecordFile(tmp_path / "a.csv")
    assert (first.id, first.turns[0].text) == ("7", "Which, then?\nA. red\nC. blue")
    assert (first.turns[0].answer, first.extra) == ("B", {"topic": "colors"})
    assert (second.id, second.turns[0].options, len(second.pictures)) == ("a-2", (), 2)
    assert len(RecordFile(tmp_path / "a.csv")) == 2
    listed = read(tmp_path, talk(), talk(reply=3), name="a.json")
    assert [record.turns[0].response for record in listed] == ["red", "3"]
    assert len(RecordFile(tmp_path / "a.json")) == 2
    (tmp_path / "b.csv").write_text("id,question\n1\n")
    (tmp_path / "d.csv").write_text('question,options\nx,"a, b"\n')
    with pytest.raises(DataError, match=r"d\.csv, line 2: it is no record: `options` is a text, not a list"):
        list(RecordFile(tmp_path / "d.csv"))
    with pytest.raises(DataError, match=r"b\.csv, line 2: the row is not as long as the header"):
        list(RecordFile(tmp_path / "b.csv"))
    with pytest.raises(DataError, match=r"c\.json, entry 2: it is no record: `conversations` is a text"):
        read(tmp_path, talk(), talk() | {"conversations": "x"}, name="c.json")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ([1], "it is no record, which is an object in braces"),
        ({"id": "1"}, "neither `conversations` nor `messages`"),
        (talk(id=None), "`id` is missing"),
        (talk(id=True), "`id` is true or false, not a text"),
        (talk(id=""), "it has no id"),
        (talk(value={"a": 1}), "`conversations[0].value` is an object, not a text"),
        (talk(reply=["x"]), "`conversations[1].value[0]` is a text, not an object"),
        (talk(source=["x"]), "`source` is a list, not a text"),
        (talk(image=3), "a picture is given as '3'; a path, a data URL or bytes can be read"),
        (talk(image="http://x.org/a.png"), "on the network; download it"),
        (talk(image="../a.png"), "the picture '../a.png' lies outside of the folder"),
        (talk(image="/etc/passwd"), "the picture '/etc/passwd' lies outside of the folder"),
        (talk("<image>Which?"), "mark 1 pictures (<image>), and there are 0"),
        ({"id": "1", "question": ["x"]}, "`question` is a list, not a text"),
        ({"id": "1", "question": "x", "answer": {"a": 1}}, "`answer` is an object, not a text"),
        ({"id": "1", "question": "x", "answer": False}, "`answer` is true or false, not a text"),
        ({"id": "1", "question": "x", "options": "a, b"}, "`options` is a text, not a list"),
        ({"id": "1", "question": "x", "options": [["a"]]}, "`options[0]` is a list, not a text"),
        ({"id": "1", "question": "x", "options": ["a"] * 27}, "`options` has 27 entries; give at most 26"),
        ({"id": "1", "question": "x", "answer": float("nan")}, "`answer` is nan, which is no number"),
        (
            {"id": "1", "question": "x", "choices": ["a", "b"]},
            "`choices` is no field that is read; is it `op",
        ),
        (
            {"id": "1", "question": "x", "option": ["a", "b"]},
            "`option` is no field that is read; is it `opti",
        ),
        ({"id": "1", "question": "x", "A": "a", "B": "b"}, "`A` is no field that is read; is it `options`?"),
        ({"id": "1", "question": "x", "img": "a.png"}, "`img` is no field that is read; is it `image`?"),
        ({"id": "1", "question": "x", "ansver": "a"}, "`ansver` is no field that is read; is it `answer`?"),
        (talk(image_path="a.png"), "`image_path` is no field that is read; is it `image`?"),
        (talk(image={"bytes": "eA=="}), "a picture's `bytes` are no bytes"),
        ({"id": "1", "question": "x", "extra": 3}, "`extra` is a number, not an object"),
        (own(3), "`questions[0]` is a number, not an object"),
        (own({"answer": "x"}), "`questions[0].question` is missing"),
        (own({"question": "x", "options": {"A": "a"}}), "`questions[0].options` is an object, not a list"),
        (
            own({"question": "x"}, conversations=[]),
            "`questions` has 1 entries, and `conversations` 0 replies",
        ),
        (own({"question": f"a{PLACE}b{PLACE}"}, image="a.png"), "places for 2 pictures, and there are 1"),
    ],
)
def test_what_is_refused_names_field_and_line(line: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl, line 2: ") as error:
        read(tmp_path, talk(), line)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("question,option_a,option_b", "`option_a` is no field that is read; is it `options`?"),
        ("question,a,b", "`a` is no field that is read; is it `options`?"),
        ("question, answer,x", "` answer` is no field that is read; is it `answer`?"),
        ("question,answer,answer", "line 1: there are two columns 'answer'; rename one"),
    ],
)
def test_columns_by_another_name_are_refused(header: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"{header}\nWhich?,red,blue\n")
    with pytest.raises(DataError) as error:
        list(RecordFile(tmp_path / "a.csv"))
    assert words in str(error.value)


def test_other_fields_are_left_alone(tmp_path: Path) -> None:
    line = {"id": "1", "question": "x", "answer": "B", "options": ["a", "b"], "image": "a.png"}
    more = {"choices": None, "image_id": 7, "question_id": 3, "option": "b", "images": ["a.png", "b.png"]}
    [record] = read(tmp_path, line | more)
    assert [picture.name for picture in record.pictures] == ["a.png", "b.png"]
    [chat] = read(tmp_path, talk(question_id=3, choices=["a", "b"], model="x"))
    assert chat.turns[0].options == ()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
FIELDS = ("id", "image", "images", "conversations", "messages", "questions", "question", "answer", "options",
          "hints", "hint", "extra", "source", "licence", "type", "system")  # fmt: skip
PARTS = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("from", "value", "role", "content", "type", "text", "image_url", "image"), JSON),
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(st.data())
def test_no_message_is_one_of_python(tmp_path: Path, data: st.DataObject) -> None:
    form = data.draw(st.sampled_from([talk(), own({"question": "x"}), {"id": "1", "question": "x"}]))
    line = json.loads(json.dumps(form))
    for name in data.draw(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3)):
        line[name] = data.draw(JSON | st.lists(PARTS, max_size=2))
    try:
        read(tmp_path, line)
    except DataError as error:
        for word in ("Error", "object is", "has no attribute", "NoneType", "indices", "unhashable"):
            assert word not in str(error).replace(json.dumps(line), ""), str(error)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text('{"id": "a", "question": "How many?", "answer": "2", "answer": "3"}\n')
    [line] = reading.read_lines(file)
    assert line.record is None and "the key 'answer' is there twice" in line.problem


def test_a_line_that_is_too_long_is_skipped_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (files, reading, row_files):
        monkeypatch.setattr(module, "LINE_BYTES", 1000)
    file = tmp_path / "train.jsonl"
    good = json.dumps(talk())
    file.write_text("\n".join([good, good[:-1] + " " * 5000 + "}", good, good]))
    found = list(reading.read_lines(file))
    assert [line.number for line in found] == [1, 2, 3, 4]
    assert [line.record is not None for line in found] == [True, False, True, True]
    assert "it has more than" in found[1].problem
    assert found[3].end == file.stat().st_size
    assert len(RecordFile(file)) >= 4
    with pytest.raises(DataError, match="line 2: it has more than"):
        list(row_files.text_lines(file))
