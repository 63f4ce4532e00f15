"""What a source lacks is named, and the values of rows are checked."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llava_cot.data.record import Record
from llava_cot.data.sources import base, row_files
from llava_cot.errors import DataError


def nothing(root: Path, split: str) -> Iterator[Record]:
    return iter(())


SOURCE = base.Source(
    "x", "X", "https://x.example", "MIT", ("{split}/a.json", "*.csv"), nothing, ("train", "val")
)


def test_only_what_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "a.json").touch()
    with pytest.raises(DataError) as error:
        SOURCE.records(tmp_path, "val")
    assert str(error.value) == (
        f"X is incomplete under {tmp_path}: there is no *.csv; get it from https://x.example"
    )
    (tmp_path / "b.csv").touch()
    assert list(SOURCE.records(tmp_path, "val")) == []


def test_an_unknown_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="X has no split 'test'; it has train, val"):
        SOURCE.records(tmp_path, "test")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({}, "there is no 'text' in {}"),
        ({"text": 3.5}, "expected a text, not '3.5'"),
        ([], "this is not as expected: []"),
        (None, "this is not as expected: None"),
        ({"text": None}, "expected a text, not 'None'"),
    ],
)
def test_a_row_of_another_kind_is_named_with_its_place(row: object, words: str) -> None:
    with (
        pytest.raises(DataError, match=f"^a.jsonl, line 7: {re.escape(words)}$"),
        row_files.row_errors(Path("a.jsonl"), "line 7", row),
    ):
        base.text(row["text"])  # type: ignore[index, call-overload]


@pytest.mark.parametrize(
    ("value", "expected"),
    [(" a ", "a"), ("", ""), (12, "12"), (-3, "-3")],
    ids=["spaces", "empty", "12", "-3"],
)
def test_a_text_is_a_string_or_a_whole_number(value: object, expected: str) -> None:
    assert base.text(value) == expected


@pytest.mark.parametrize("value", [None, True, 1.0, ["a"]])
def test_nothing_else_is_a_text(value: object) -> None:
    with pytest.raises(DataError):
        base.text(value)


def test_a_picture_is_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert base.picture("x", tmp_path, "a.png").name == "x/a.png"
    with pytest.raises(DataError, match="outside"):
        base.picture("x", tmp_path / "sub", "../a.png")
    below = base.picture("x", tmp_path, str(tmp_path / "a.png"))
    assert (below.name, below.file) == ("x/a.png", tmp_path / "a.png")


def test_options_are_counted_from_0() -> None:
    assert [base.letter(i, ("a", "b")) for i in (0, 1)] == ["A", "B"]
    for index in (-1, 2):
        with pytest.raises(DataError, match=f"option {index}, of 2"):
            base.letter(index, ("a", "b"))
