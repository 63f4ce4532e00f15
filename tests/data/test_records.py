"""A record survives its line of JSON, and no name leads out of its folder."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.core.files import path_inside
from llava_cot.data.record import Picture, Record, Turn, annotated, from_json, to_json
from llava_cot.errors import DataError

TEXT = st.text(min_size=1, max_size=20)
MAYBE = st.none() | TEXT
TURNS = st.builds(Turn, TEXT, MAYBE, st.lists(TEXT, max_size=3).map(tuple), MAYBE, MAYBE)
ROOT = Path("/data")


@given(
    st.builds(
        Record,
        TEXT,
        st.lists(TURNS, min_size=1, max_size=3).map(tuple),
        st.lists(st.sampled_from(["a.png", "b/c.jpg"]), max_size=2, unique=True).map(
            lambda names: tuple(Picture(name, ROOT / name) for name in names)
        ),
        st.just("chartqa"),
        st.just("GPL-3.0"),
        st.dictionaries(TEXT, st.integers(), max_size=2),
    )
)
def test_a_record_is_the_same_after_its_line_of_json(record: Record) -> None:
    assert from_json(json.loads(json.dumps(to_json(record))), ROOT) == record


def test_the_line_is_one_of_llava_cot_100k() -> None:
    turn = Turn("Which is left?", "B", ("cube", "ball"), response="<CONCLUSION> B </CONCLUSION>")
    line = to_json(Record("s/1", (turn,), (Picture("x/1.png", ROOT / "x/1.png"),)))
    assert (line["id"], line["image"]) == ("s/1", "x/1.png")
    assert line["conversations"] == [
        {"from": "human", "value": "Which is left?\nA. cube\nB. ball"},
        {"from": "gpt", "value": "<CONCLUSION> B </CONCLUSION>"},
    ]


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x.png", "..\\x.png"])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="outside"):
        path_inside(tmp_path, name)


def test_other_json_is_refused_in_one_sentence() -> None:
    with pytest.raises(DataError, match="`questions` is missing"):
        from_json({"id": "1", "conversations": []}, ROOT)


def test_a_turn_without_a_response_removes_only_itself() -> None:
    record = Record("1", (Turn("a"), Turn("b"), Turn("c")))
    assert [(turn.question, turn.response) for turn in annotated(record, {0: "A", 2: "C"}).turns] == [
        ("a", "A"),
        ("c", "C"),
    ]
