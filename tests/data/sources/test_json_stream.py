"""Reading in pieces gives what reading whole gives, wherever the pieces end."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.data.sources import json_stream
from llava_cot.data.sources.json_stream import json_items, json_pairs
from llava_cot.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "a.json"


@given(st.lists(VALUES, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_a_list_comes_as_it_is(
    file: Path, values: list[Any], size: int, indent: int | None, plain: bool
) -> None:
    file.write_text(json.dumps(values, indent=indent, ensure_ascii=plain), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", size)
        assert [value for _, value in json_items(file)] == values


@given(st.dictionaries(st.text(), VALUES, max_size=5), st.integers(1, 40))
def test_the_pairs_of_an_object_come_as_they_are(file: Path, values: dict[str, Any], size: int) -> None:
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", size)
        assert [pair for _, pair in json_pairs(file)] == list(values.items())


@given(st.dictionaries(st.text().filter(lambda key: key != "rows"), VALUES, max_size=3), st.integers(1, 40))
def test_a_list_is_found_among_other_keys(file: Path, others: dict[str, Any], size: int) -> None:
    file.write_text(json.dumps(others | {"rows": [1, {"a": "]"}]} | {"z": 0}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", size)
        assert [value for _, value in json_items(file, "rows")] == [1, {"a": "]"}]


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 40), st.data())
def test_a_file_that_ends_early_is_never_taken_for_a_whole_one(
    file: Path, values: list[Any], size: int, data: st.DataObject
) -> None:
    whole = json.dumps(values)
    cut = data.draw(st.integers(0, len(whole) - 1))
    file.write_text(whole[:cut], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", size)
        with pytest.raises(DataError, match=r"a\.json, line 1: this is no JSON"):
            list(json_items(file))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[1,\n2,\n oops]", 3),
        ("[1\n2]", 2),
        ('{"a": 1}', 1),
        ("", 1),
        ('[1,\n"a\nb"]', 2),
        ("[1,\n]", 2),
    ],
)
def test_what_is_broken_is_told_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(DataError, match=rf"a\.json, line {line}: this is no JSON"):
        list(json_items(file))


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"info": [1]}')
    with pytest.raises(DataError, match=r"a\.json, line 1: there is no list 'rows' in it"):
        list(json_items(file, "rows"))


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b'["\xff"]')
    with pytest.raises(DataError, match=r"a\.json, line 1: this is no UTF-8"):
        list(json_items(file))


def test_something_broken_far_above_the_end_is_not_read_on_for(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("[{'a': 1}," + "1," * 1_000_000 + "1]")
    read = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", 100)
        more = json_stream._Text.more
        patch.setattr(json_stream._Text, "more", lambda self: (read.append(1), more(self))[1])
        with pytest.raises(DataError):
            list(json_items(file))
    assert len(read) == 1


def test_a_place_names_entry_and_line(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[\n1,\n{"a":\n2},\n3]')
    assert [place for place, _ in json_items(file)] == [
        "entry 1 (line 2)",
        "entry 2 (line 3)",
        "entry 3 (line 5)",
    ]
    file.write_text('{"a": 1,\n"b": 2}')
    assert [place for place, _ in json_pairs(file)] == ["entry 'a' (line 1)", "entry 'b' (line 2)"]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with file.open("w") as out:
        out.write("[" + ",".join(json.dumps({"n": i, "text": "x" * 100}) for i in range(50_000)) + "]")
    longest = 0
    with pytest.MonkeyPatch.context() as patch:
        more = json_stream._Text.more

        def watched(self: json_stream._Text) -> None:
            nonlocal longest
            more(self)
            longest = max(longest, len(self.buffer))

        patch.setattr(json_stream._Text, "more", watched)
        assert sum(value["n"] for _, value in json_items(file)) == sum(range(50_000))
    assert longest < 2 * json_stream._CHUNK < file.stat().st_size
