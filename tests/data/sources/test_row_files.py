"""Files are read row by row: JSON read in pieces is the same as read whole, and errors name the line."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llava_cot.data.sources import row_files
from llava_cot.data.sources.row_files import json_items, json_pairs
from llava_cot.errors import DataError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(1 - 2**63, 2**63 - 1) | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
KEYS = st.text(min_size=1).filter(lambda key: "." not in key)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("json") / "a.json"


@given(st.lists(VALUES, max_size=5), st.integers(1, 40), st.sampled_from([None, 1]), st.booleans())
def test_a_list_comes_as_it_is(
    file: Path, values: list[Any], size: int, indent: int | None, plain: bool
) -> None:
    file.write_text(json.dumps(values, indent=indent, ensure_ascii=plain), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_files, "_CHUNK", size)
        assert [value for _, value in json_items(file)] == values


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.integers(1, 40))
def test_the_pairs_of_an_object_come_as_they_are(file: Path, values: dict[str, Any], size: int) -> None:
    file.write_text(json.dumps(values), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_files, "_CHUNK", size)
        assert [pair for _, pair in json_pairs(file)] == list(values.items())


@given(st.dictionaries(KEYS.filter(lambda key: key != "rows"), VALUES, max_size=3), st.integers(1, 40))
def test_a_list_is_found_among_other_keys(file: Path, others: dict[str, Any], size: int) -> None:
    file.write_text(json.dumps(others | {"rows": [1, {"a": "]"}]} | {"z": 0}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_files, "_CHUNK", size)
        assert [value for _, value in json_items(file, "rows")] == [1, {"a": "]"}]


@given(st.lists(VALUES, min_size=1, max_size=4), st.integers(1, 40), st.data())
def test_a_file_that_ends_early_is_never_taken_for_a_whole_one(
    file: Path, values: list[Any], size: int, data: st.DataObject
) -> None:
    whole = json.dumps(values)
    cut = data.draw(st.integers(0, len(whole) - 1))
    file.write_text(whole[:cut], encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_files, "_CHUNK", size)
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
def test_what_is_broken_is_named_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(DataError, match=rf"a\.json, line {line}: this is no JSON"):
        list(json_items(file))


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"info": [1]}')
    with pytest.raises(DataError, match=r"a\.json, line 1: there is no list 'rows' in it"):
        list(json_items(file, "rows"))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(b'["\xff"]')
    with pytest.raises(DataError, match=r"a\.json, line 1: this is no UTF-8"):
        list(json_items(file))


def test_an_entry_comes_before_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    with file.open("w") as out:
        out.write("[" + ",".join(json.dumps({"n": i, "text": "x" * 100}) for i in range(50_000)) + ",oops]")
    read = 0

    class Watched(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            nonlocal read
            data = super().read(size)
            read += len(data)
            return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_files, "_after_mark", lambda file: Watched(io.FileIO(file)))
        items = json_items(file)
        for number in range(1000):
            place, value = next(items)
            assert (place, value["n"]) == (f"entry {number + 1}", number)
    assert read < 1000 * 150 + 2 * row_files._CHUNK < file.stat().st_size / 20
    with pytest.raises(DataError, match=r"a\.json, line 1: this is no JSON"):
        list(items)


def test_a_place_names_the_entry(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[\n1,\n{"a":\n2},\n3]')
    assert [place for place, _ in json_items(file)] == ["entry 1", "entry 2", "entry 3"]
    file.write_bytes(b'\xef\xbb\xbf{"a": 1,\n"b": 2}')
    assert [place for place, _ in json_pairs(file)] == ["entry 'a'", "entry 'b'"]
    for content in ("[]", "3"):
        file.write_text(content)
        with pytest.raises(DataError, match=r"a\.json, line 1: this is no JSON object"):
            list(json_pairs(file))
    file.write_text("{}")
    assert list(json_pairs(file)) == []
    file.write_text("[]")
    assert list(json_items(file)) == []


def test_json_lines_come_with_their_places(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n[2]\n{"a": \n')
    lines = row_files.json_lines(file)
    assert [next(lines), next(lines)] == [("line 1", {"a": 1}), ("line 3", [2])]
    with pytest.raises(DataError, match=r"a.jsonl, line 4: this is no JSON"):
        next(lines)


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'"a"\n"\xff"\n')
    with pytest.raises(DataError, match=r"a.jsonl, line 2: this is no UTF-8"):
        list(row_files.json_lines(file))


def test_a_whole_json_file_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("{\n1}")
    with pytest.raises(DataError, match=r"a.json, line 2: this is no JSON"):
        row_files.json_value(file)
