"""Rows of files, one at a time: JSON, JSONL and Parquet, each row with its place for error messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from llava_cot.core.files import LINE_BYTES, bounded_lines, unique_keys
from llava_cot.errors import DataError, needs_extra

_CHUNK = 1 << 16  # bytes of a JSON file that are parsed at once
_PARQUET_ROWS = 64  # in memory together; each may hold pictures


@contextmanager
def row_errors(file: Path, place: str, row: object) -> Iterator[None]:
    """For the reading of one row inside: any error that an unexpected row causes (KeyError and so on).

    Raises DataError that names the file and the place in it, such as "line 3".
    """
    try:
        yield
    except DataError as error:
        raise DataError(f"{file}, {place}: {error}") from None
    except KeyError as error:
        raise DataError(f"{file}, {place}: there is no {error} in {str(row)[:200]}") from None
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        # Words of Python, such as "'int' object has no attribute 'strip'", would help nobody.
        why = f" ({error})" if type(error) is ValueError else ""
        raise DataError(f"{file}, {place}: this is not as expected{why}: {str(row)[:200]}") from None


def json_value(file: Path) -> Any:
    """The content of a JSON file, read whole. Raises DataError that names file and line."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"), object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: this is no JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:  # no text, a number of too many digits, too many levels
        raise DataError(f"{file}: this is no JSON ({error})") from None


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """The values of a JSONL file; empty lines are skipped. Raises DataError that names file and line."""
    for place, line in text_lines(file):
        if line.strip():
            try:
                value = json.loads(line, object_pairs_hook=unique_keys)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, {place}: this is no JSON ({error}): {line[:200]!r}") from None
            yield place, value


def is_json_array(file: Path) -> bool:
    """Whether the first character of a file that is no white space opens a JSON list."""
    with file.open(encoding="utf-8-sig", errors="replace") as text:
        return text.read(1000).lstrip()[:1] == "["


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
    with needs_extra("reading large JSON files", "data"):
        import ijson
    try:
        with _after_mark(file) as data:
            yield from getattr(ijson, function)(data, *path, buf_size=_CHUNK, use_float=True)
    except ijson.JSONError as error:
        why = str(error).removeprefix("b'").splitlines()[0]
        what = "UTF-8 text" if "UTF8" in why else "JSON"
        raise DataError(f"{file}, line {_broken_line(file)}: this is no {what} ({why[:100]})") from None


def _broken_line(file: Path) -> int:
    """The line where a file stops being JSON. ijson does not say, so the file is parsed again by lines."""
    import ijson

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


def text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file. Raises DataError for one that is not UTF-8."""
    with file.open("rb") as lines:
        for number, (line, length) in enumerate(bounded_lines(lines), 1):
            if length > LINE_BYTES:
                raise DataError(f"{file}, line {number}: it has more than {LINE_BYTES / 1e6:.0f} MB")
            try:
                yield f"line {number}", line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}, line {number}: this is no UTF-8 text ({error.reason})") from None


def parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a Parquet file. Raises DataError for another file, and without pyarrow."""
    with needs_extra(f"reading {file}", "data"):
        import pyarrow as arrow
        from pyarrow.parquet import ParquetFile
    try:
        with ParquetFile(file) as table:
            batches = (batch.to_pylist() for batch in table.iter_batches(batch_size=_PARQUET_ROWS))
            for number, row in enumerate(chain.from_iterable(batches), 1):
                yield f"row {number}", row
    except arrow.ArrowException as error:
        raise DataError(f"{file} is no Parquet file that can be read ({error})") from None
