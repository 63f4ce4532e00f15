"""Rows of files, one at a time: JSON, JSONL, CSV and Parquet, each row with its place for error messages."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from llava_cot.data.record import Record
from llava_cot.errors import DataError, missing_package

Row = TypeVar("Row")
_CHUNK = 1 << 16  # bytes of a JSON file that are parsed at once
_PARQUET_ROWS = 64  # in memory together; each may hold pictures


def each(
    file: Path, rows: Iterable[tuple[str, Row]], make: Callable[[Row], Iterable[Record]]
) -> Iterator[Record]:
    """Yield the records that `make` makes of rows, each given with its place in the file, such as "line 3".

    `make` may raise the errors that an unexpected row causes (KeyError and so on). Raises DataError that
    names file and place for these.
    """
    for place, row in rows:
        try:
            yield from make(row)
        except DataError as error:
            raise DataError(f"{file}, {place}: {error}") from None
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            kind = type(error).__name__
            raise DataError(
                f"{file}, {place}: this is not as expected ({kind}: {error}): {str(row)[:200]}"
            ) from None


def numbered(rows: Iterable[tuple[str, Row]]) -> Iterator[tuple[str, tuple[int, Row]]]:
    """The rows with their number from 0, for data sets whose questions have no ids."""
    for number, (place, row) in enumerate(rows):
        yield place, (number, row)


def json_value(file: Path) -> Any:
    """The content of a JSON file, read whole. Raises DataError that names file and line."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: this is no JSON ({error.msg})") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{file}: this is no JSON ({error})") from None


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """The values of a JSONL file; empty lines are skipped. Raises DataError that names file and line."""
    for place, line in text_lines(file):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, {place}: this is no JSON ({error}): {line[:200]!r}") from None
            yield place, value


def json_items(file: Path, key: str | None = None) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON list, in a file that may be larger than memory: CLEVR's questions take over 1 GB.

    The list is the value of `key`, or the file itself. Raises DataError that names file and line.
    """
    number = 0
    for number, value in enumerate(_parsed(file, "items", f"{key}.item" if key else "item"), 1):
        yield f"entry {number}", value
    if number == 0 and (key or "", "start_array", None) not in _parsed(file, "parse"):
        wanted = f"there is no list {key!r} in it" if key else "this is no JSON list"
        raise DataError(f"{file}, line 1: {wanted}")


def json_pairs(file: Path) -> Iterator[tuple[str, tuple[str, Any]]]:
    """The keys and values of the JSON object in a file, which may be larger than memory.

    Raises DataError that names file and line.
    """
    empty = True
    for name, value in _parsed(file, "kvitems", ""):
        empty = False
        yield f"entry {name!r}", (name, value)
    if empty and ("", "start_map", None) not in _parsed(file, "parse"):
        raise DataError(f"{file}, line 1: this is no JSON object")


def _parsed(file: Path, function: str, *path: str) -> Iterator[Any]:
    """What one of ijson's functions yields. Numbers are int (of 64 bits) and float, as from `json.loads`."""
    ijson = _ijson()
    try:
        with _after_mark(file) as data:
            yield from getattr(ijson, function)(data, *path, buf_size=_CHUNK, use_float=True)
    except ijson.JSONError as error:
        why = str(error).removeprefix("b'").splitlines()[0]
        what = "UTF-8 text" if "UTF8" in why else "JSON"
        raise DataError(f"{file}, line {_broken_line(file)}: this is no {what} ({why[:100]})") from None


def _broken_line(file: Path) -> int:
    """The line where a file stops being JSON. ijson does not say, so the file is parsed again by lines."""
    ijson = _ijson()
    line, events = 1, ijson.sendable_list()
    parser = ijson.basic_parse_coro(events)
    with _after_mark(file) as data:
        while text := data.readline(_CHUNK):
            try:
                parser.send(text)
            except ijson.JSONError:
                break
            events.clear()
            line += text.endswith(b"\n")
    return line


def _after_mark(file: Path) -> BinaryIO:
    """The file, opened behind its byte order mark, if it has one."""
    data = file.open("rb")
    data.seek(3 if data.read(3) == b"\xef\xbb\xbf" else 0)
    return data


def _ijson() -> Any:
    try:
        import ijson
    except ModuleNotFoundError as error:
        raise DataError(missing_package("reading large JSON files", error.name, extra="data")) from None
    return ijson


def text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file. Raises DataError for one that is not UTF-8."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield f"line {number}", line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}, line {number}: this is no UTF-8 text ({error.reason})") from None


def csv_rows(
    file: Path, columns: tuple[str, ...], delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header.

    Raises DataError if one of `columns` is missing, or a row is longer or shorter than the header.
    """
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, delimiter=delimiter, strict=True)
        try:
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DataError(
                    f"{file}, line 1: there is no column {', '.join(missing)} among {reader.fieldnames}"
                )
            for row in reader:
                if None in row or None in row.values():
                    raise DataError(f"{file}, line {reader.line_num}: the row is not as long as the header")
                yield f"line {reader.line_num}", row
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file}, line {reader.line_num + 1}: {error}") from None


def parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a Parquet file. Raises DataError for another file, and without pyarrow."""
    try:
        import pyarrow as arrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise DataError(missing_package(f"reading {file}", error.name, extra="data")) from None
    try:
        with ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches(batch_size=_PARQUET_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except arrow.ArrowException as error:
        raise DataError(f"{file} is no Parquet file that can be read ({error})") from None
