"""The lines of data files: the records in them, and what is wrong with a line that holds none."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeVar

from llava_cot.core.files import (
    LINE_BYTES,
    bounded_lines,
    check_regular,
    home_path,
    path_inside,
    relative_name,
    unique_keys,
)
from llava_cot.core.question import PLACE
from llava_cot.core.stages import parse
from llava_cot.data.record import (
    Picture,
    Record,
    Turn,
    check_names,
    from_json,
    object_field,
    options_field,
    picture_values,
    text_field,
)
from llava_cot.data.sources.chats import place_marks, read_conversation, row_picture
from llava_cot.data.sources.row_files import is_json_array, json_items
from llava_cot.data.sources.tsv import lettered_options, parse_list, tsv_rows
from llava_cot.errors import DataError

T = TypeVar("T")
DATA_FILES = ("train.jsonl", "questions.jsonl")
SUFFIXES = (".jsonl", ".json", ".csv")
_SKILLS = ("type", "skill", "category")  # of a question, by which `eval` reports


@dataclass(frozen=True)
class DataLine:
    """A line of a data file; without a record, `problem` says why."""

    number: int  # from 1
    end: int  # in bytes from the file's start
    record: Record | None = None
    problem: str = ""
    outside: tuple[str, ...] = ()  # pictures outside of the folder, which are not among the record's


def data_file(folder: Path) -> Path:
    """The file of records in a folder: `train.jsonl`, or else `questions.jsonl`. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; name the one that holds {' or '.join(DATA_FILES)}")
    for name in DATA_FILES:
        if (folder / name).is_file():
            return folder / name
    raise DataError(
        f"{folder} holds no {' and no '.join(DATA_FILES)}; `data annotate` and `data sample` write them"
    )


class RecordFile:
    """The records of a file, or of the data file of a folder; can be iterated over several times.

    A turn without a standard answer gets its reply, or the reply's conclusion, as the standard answer.

    Raises:
        DataError: There is no such file; while iterating, a line holds no record.
    """

    def __init__(self, path: str | Path) -> None:
        found = home_path(path)
        if not found.exists():
            raise DataError(
                f"there are no records at {found}; name a file, or a folder of `data sample` or `annotate`"
            )
        check_regular(found)
        self.file = data_file(found) if found.is_dir() else found

    def __iter__(self) -> Iterator[Record]:
        for record in read_records(self.file):
            yield replace(record, turns=tuple(_answered(turn) for turn in record.turns))

    def __len__(self) -> int:
        """The number of records, or of lines that are not empty, which are not parsed."""
        if self.file.suffix.lower() == ".csv" or is_json_array(self.file):
            return sum(1 for _ in _places(self.file))
        with self.file.open("rb") as lines:
            return sum(bool(line.strip()) for line, _ in bounded_lines(lines))


def _answered(turn: Turn) -> Turn:
    if turn.answer is None and turn.response is not None:
        return replace(turn, answer=parse(turn.response).answer)
    return turn


def read_records(file: Path) -> Iterator[Record]:
    """The records of a data file as they are: of JSONL, a JSON list, or CSV with a header.

    Raises DataError, with the file and the line, for what holds no record.
    """
    for where, record, problem, outside in _places(file):
        if record is None:
            raise DataError(f"{file}, {where}: {problem}")
        if outside:
            raise DataError(f"{file}, {where}: the picture {outside[0]!r} lies outside of the folder")
        yield record


def _places(file: Path) -> Iterator[tuple[str, Record | None, str, tuple[str, ...]]]:
    """The records of a file, each with its place, or with what is wrong there."""
    if file.suffix.lower() == ".parquet":
        raise DataError(f"{file} is no file of records; a recipe's sources chats and hf read Parquet")
    if file.suffix.lower() == ".csv":
        rows: Iterator[tuple[str, Any]] = tsv_rows(file, ("question",), ",")
    elif is_json_array(file):
        rows = json_items(file)
    else:
        for line in read_lines(file):
            yield f"line {line.number}", line.record, line.problem, line.outside
        return
    for number, (where, row) in enumerate(rows, 1):
        try:
            value = _csv_line(row, f"{file.stem}-{number}") if file.suffix.lower() == ".csv" else row
            yield where, *_record(value, file.parent)
        except DataError as error:
            yield where, None, str(error), ()


# The columns of CSV that are fields of a record; A, B, C ... are options, and any other goes into `extra`.
_COLUMNS = ("id", "index", "question", "answer", "options", "hint", "hints", "image", "images", "image_path")


def _csv_line(row: Mapping[str, str], id: str) -> dict[str, Any]:
    """A row of CSV as a line of JSONL; an empty cell is the same as an absent one."""
    filled = {name: value for name, value in row.items() if value}
    check_names(filled, *_COLUMNS, *ascii_uppercase)
    listed = row.get("options", "")
    options = parse_list(listed) if listed[:1] == "[" else listed or list(lettered_options(row))
    images = [path for name in ("image", "images", "image_path") for path in parse_list(row.get(name, ""))]
    others = {
        n: v for n, v in filled.items() if n not in _COLUMNS and not (len(n) == 1 and n in ascii_uppercase)
    }
    fields: dict[str, Any] = {n: filled[n] for n in ("question", "answer", "hint", "hints") if n in filled}
    id = filled.get("id") or filled.get("index") or id
    return {"id": id, **fields, "options": options, "images": images, "extra": others}


def read_lines(file: Path) -> Iterator[DataLine]:
    """The lines of a data file, good or bad; empty ones are skipped. Raises OSError."""
    end = 0
    with file.open("rb") as lines:
        for number, (data, length) in enumerate(bounded_lines(lines), 1):
            end += length
            if length > LINE_BYTES:
                yield DataLine(number, end, problem=f"it has more than {LINE_BYTES / 1e6:.0f} MB")
            elif data.strip():
                yield _line(number, end, data, file.parent)


def _line(number: int, end: int, data: bytes, root: Path) -> DataLine:
    try:
        value = json.loads(
            data.decode("utf-8-sig" if number == 1 else "utf-8"), object_pairs_hook=unique_keys
        )
        record, problem, outside = _record(value, root)
    except UnicodeDecodeError as error:
        return DataLine(number, end, problem=f"it is no UTF-8 text ({error.reason})")
    except RecursionError:
        return DataLine(number, end, problem="it is no record: it is nested too deeply")
    except DataError as error:
        return DataLine(number, end, problem=str(error))
    except ValueError as error:
        return DataLine(number, end, problem=f"it is no JSON ({error})")
    return DataLine(number, end, record, problem, outside)


def _record(line: Any, root: Path) -> tuple[Record, str, tuple[str, ...]]:
    """The record of a line in any of three forms, and its pictures outside of the root. Raises DataError."""
    if not isinstance(line, Mapping):
        raise DataError("it is no record, which is an object in braces")
    try:
        check_names(line)
        images = picture_values(line)
        bare = {key: value for key, value in line.items() if key not in ("image", "images")}
        if bare.get("questions") is not None:
            record = from_json(bare, root)
        elif bare.get("question") is not None:
            record = _question(bare, len(images))
        else:
            record, images = _chat(line)
        _check(record, len(images))
        pictures, outside = _pictures(record.id, images, root)
    except DataError as error:
        raise DataError(f"it is no record: {error}") from None
    return replace(record, pictures=pictures), "", outside


def _pictures(id: str, images: Sequence[Any], root: Path) -> tuple[tuple[Picture, ...], tuple[str, ...]]:
    """The pictures below the root, and the names of those outside of it. Raises DataError for others."""
    pictures, outside = [], []
    for number, image in enumerate(images):
        if not isinstance(image, str) or not image or image[:5].lower() == "data:" or "://" in image[:20]:
            pictures.append(row_picture(image, root, "images", f"{id}-{number}"))
            continue
        name = relative_name(root, image)
        try:
            pictures.append(Picture(name, path_inside(root, name)))
        except DataError:
            outside.append(name)
    return tuple(pictures), tuple(outside)


def _question(line: Mapping[str, Any], pictures: int) -> Record:
    """A line with one question and its answer, and no response yet, such as those of `llava-cot scenes`."""
    texts = text_field(line, "question", ""), options_field(line, "")
    question, options = place_marks(*texts, pictures) if pictures else texts
    hints = next((text_field(line, name, "") for name in ("hints", "hint") if line.get(name)), None)
    turn = Turn(question, text_field(line, "answer", "", None), options, hints)
    extra = object_field(line, "extra")
    extra |= {name: line[name] for name in _SKILLS if isinstance(line.get(name), str)}
    if isinstance(line.get("depth"), int):
        extra["depth"] = line["depth"]
    return Record(text_field(line, "id", ""), (turn,), extra=extra)


def _chat(line: Mapping[str, Any]) -> tuple[Record, list[Any]]:
    """A line of LLaVA-CoT-100k: questions and replies without standard answers; and its pictures."""
    conversation = read_conversation(line)
    turns = tuple(
        replace(turn, answer=None, response=turn.response or turn.answer or "") for turn in conversation.turns
    )
    record = Record(text_field(line, "id", ""), turns, source=text_field(line, "source", "", ""))
    return record, list(conversation.images)


def _check(record: Record, pictures: int) -> None:
    if not record.id or not record.turns:
        raise DataError(f"it has no {'turns' if record.id else 'id'}")
    places = sum(turn.text.count(PLACE) for turn in record.turns)
    if places not in (0, pictures):
        raise DataError(f"its texts have places for {places} pictures, and there are {pictures}")


def random_items(items: Iterable[T], count: int, seed: int) -> tuple[list[T], int]:
    """`count` of the items, each set of them equally likely, in their order; and the number of all.

    Reservoir sampling (Vitter, 1985, algorithm R).
    """
    rng, drawn = random.Random(seed), list[tuple[int, T]]()
    number = -1
    for number, item in enumerate(items):
        if len(drawn) < count:
            drawn.append((number, item))
        elif (place := rng.randrange(number + 1)) < count:
            drawn[place] = (number, item)
    return [item for _, item in sorted(drawn, key=lambda pair: pair[0])], number + 1
