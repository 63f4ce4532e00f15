"""A source: what an adapter of one data set tells about itself, and what every adapter needs.

Owns the value `Source`, the check that a root holds what it must, and the sentences for broken content.
Knows no data set. Importing it is cheap.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeVar

from llava_cot.core.files import path_inside
from llava_cot.data.record import Picture, Record
from llava_cot.errors import DataError

Row = TypeVar("Row")


@dataclass(frozen=True)
class Source:
    """One public data set, read from the files that its authors publish.

    `needs` are files and folders below the root, with `{split}` for the split's name; a glob is allowed,
    and asks for one match at least. `read` yields the records of a split lazily, in the files' order, and
    the same ones each time it is called. `licence` is an SPDX identifier where there is one, "not stated"
    if its authors do not say.
    """

    name: str
    title: str
    home: str
    licence: str
    needs: tuple[str, ...]
    read: Callable[[Path, str], Iterator[Record]]
    splits: tuple[str, ...] = ("train",)

    def records(self, root: Path, split: str = "train") -> Iterator[Record]:
        """The records of a split. Raises DataError for an unknown split, or if something is missing."""
        if split not in self.splits:
            raise DataError(f"{self.title} has no split {split!r}; it has {', '.join(self.splits)}")
        wanted = [need.format(split=split) for need in self.needs]
        missing = [need for need in wanted if next(root.glob(need), None) is None]
        if missing:
            raise DataError(
                f"{self.title} is not whole under {root}: there is no {', no '.join(missing)}; "
                f"it is to be had from {self.home}"
            )
        return self.read(root, split)


def each(
    file: Path, rows: Iterable[tuple[str, Row]], make: Callable[[Row], Iterable[Record]]
) -> Iterator[Record]:
    """The records that `make` makes of rows, each given with its place in the file ("line 3").

    Raises DataError that names file and place for a row that is not what `make` takes it for.
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
    """The same rows with their number from 0, for data sets that give their questions no ids of their own."""
    for number, (place, row) in enumerate(rows):
        yield place, (number, row)


def json_value(file: Path) -> Any:
    """What a JSON file holds, read whole. Raises DataError that names file and line."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise DataError(f"{file}, line {error.lineno}: this is no JSON ({error.msg})") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{file}: this is no JSON ({error})") from None


def json_lines(file: Path) -> Iterator[tuple[str, Any]]:
    """The values of a JSONL file, one at a time, each with its place; empty lines are passed over."""
    for place, line in text_lines(file):
        if line.strip():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, {place}: this is no JSON ({error}): {line[:200]!r}") from None
            yield place, value


def text_lines(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file, one at a time, each with its place."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield f"line {number}", line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise DataError(f"{file}, line {number}: this is no UTF-8 text ({error.reason})") from None


def csv_rows(
    file: Path, columns: tuple[str, ...], delimiter: str = ","
) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of a CSV file with a header, one at a time, each with its place.

    Raises DataError if a column is not there, or a row is longer or shorter than the header.
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


def text(value: object) -> str:
    """A string of a row, or a whole number in digits. Raises TypeError for anything else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError(f"a string is wanted, not {value!r}")


def picture(source: str, root: Path, path: str) -> Picture:
    """The picture at that path below the root, named "SOURCE/PATH".

    Raises DataError if the path leads out of the root. Whether the file is there is found out when it is
    read: large sets always lack a few, and whoever goes through one passes over them and counts.
    """
    return Picture(f"{source}/{path}", path_inside(root, path))


def letter(index: int, options: tuple[str, ...]) -> str:
    """The letter of an option, counted from 0. Raises DataError if there is no such option."""
    if not 0 <= index < min(len(options), len(ascii_uppercase)):
        raise DataError(f"the answer is option {index}, of {len(options)} counted from 0")
    return ascii_uppercase[index]


# How the files of the formats begin that `images.load_image` reads.
_BEGINNINGS = (
    (b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"RIFF", "webp"), (b"GIF8", "gif"), (b"BM", "bmp"),
    (b"II*\0", "tiff"), (b"MM\0*", "tiff"),
)  # fmt: skip


@dataclass(frozen=True)
class LazyPicture(Picture):
    """A picture whose bytes `make` gives, each time they are read; none are kept here."""

    make: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def read(self) -> bytes:
        """The bytes of a picture's file. Raises DataError."""
        if self.make is None:
            raise DataError(f"the picture {self.name} cannot be made: nothing says how")
        return self.make()


def suffix(data: bytes) -> str:
    """The suffix of a picture's file by how it begins, "bin" if that is unknown."""
    return next((name for beginning, name in _BEGINNINGS if data.startswith(beginning)), "bin")


def file_name(text: str) -> str:
    """A text as the name of a file, without what a path or a system may not have."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".")[:100] or "_"
