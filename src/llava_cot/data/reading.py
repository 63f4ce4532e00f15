"""The lines of data files: the records in them, and what is wrong with a line that holds none."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from llava_cot.core.files import path_inside
from llava_cot.core.stages import parse
from llava_cot.data.record import Picture, Record, Turn, from_json
from llava_cot.data.sources.chats import read_conversation
from llava_cot.errors import DataError

T = TypeVar("T")
DATA_FILES = ("train.jsonl", "questions.jsonl")


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
        found = Path(path).expanduser()
        if not found.exists():
            raise DataError(
                f"there are no records at {found}; name a file, or a folder of `data sample` or `annotate`"
            )
        self.file = data_file(found) if found.is_dir() else found

    def __iter__(self) -> Iterator[Record]:
        for record in read_records(self.file):
            yield replace(record, turns=tuple(_answered(turn) for turn in record.turns))

    def __len__(self) -> int:
        """The number of lines that are not empty; they are not parsed."""
        with self.file.open("rb") as lines:
            return sum(bool(line.strip()) for line in lines)


def _answered(turn: Turn) -> Turn:
    if turn.answer is None and turn.response is not None:
        return replace(turn, answer=parse(turn.response).answer)
    return turn


def read_records(file: Path) -> Iterator[Record]:
    """The records of a data file as they are. Raises DataError for a line that holds none."""
    for line in read_lines(file):
        where = f"{file}, line {line.number}"
        if line.record is None:
            raise DataError(f"{where}: {line.problem}")
        if line.outside:
            raise DataError(f"{where}: the picture {line.outside[0]!r} lies outside of the folder")
        yield line.record


def read_lines(file: Path) -> Iterator[DataLine]:
    """The lines of a data file, good or bad; empty ones are skipped. Raises OSError."""
    end = 0
    with file.open("rb") as lines:
        for number, data in enumerate(lines, 1):
            end += len(data)
            if data.strip():
                yield _line(number, end, data, file.parent)


def _line(number: int, end: int, data: bytes, root: Path) -> DataLine:
    try:
        value = json.loads(data.decode("utf-8-sig" if number == 1 else "utf-8"))
        if not isinstance(value, dict):
            return DataLine(number, end, problem="it is no record, which is an object in braces")
        record, outside = _record(value, root)
    except UnicodeDecodeError as error:
        return DataLine(number, end, problem=f"it is no UTF-8 text ({error.reason})")
    except RecursionError:
        return DataLine(number, end, problem="it is no record: it is nested too deeply")
    except DataError as error:
        return DataLine(number, end, problem=str(error))
    except ValueError as error:
        return DataLine(number, end, problem=f"it is no JSON ({error})")
    return DataLine(number, end, record, outside=outside)


def _record(line: Mapping[str, Any], root: Path) -> tuple[Record, tuple[str, ...]]:
    """The record of a line in any of three forms, and its pictures outside of the root."""
    names = _names(line)
    bare = {key: value for key, value in line.items() if key not in ("image", "images")}
    if isinstance(bare.get("id"), int):
        bare["id"] = str(bare["id"])
    if "questions" in bare:
        record = from_json(bare, root)
    elif "question" in bare:
        record = _scene(bare)
    else:
        record = _chat({**bare, "images": names})
    _check_types(record)
    pictures, outside = [], []
    for name in names:
        try:
            pictures.append(Picture(name, path_inside(root, name)))
        except (DataError, ValueError):  # a ValueError: a name with a zero byte in it
            outside.append(name)
    return replace(record, pictures=tuple(pictures)), tuple(outside)


def _names(line: Mapping[str, Any]) -> list[str]:
    names = [line["image"]] if line.get("image") else line.get("images") or []
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise DataError("it is no record: a picture's name is not a text")
    return names


def _scene(line: Mapping[str, Any]) -> Record:
    """A line of `llava-cot scenes`: one question with its answer, and no response yet."""
    options = line.get("options") or ()
    if not isinstance(options, list | tuple):
        raise DataError("it is no record: its options are no list")
    turn = Turn(line["question"], line.get("answer"), tuple(options))
    extra = {"type": line["type"]} if isinstance(line.get("type"), str) else {}
    return Record(line.get("id", ""), (turn,), extra=extra)


def _chat(line: Mapping[str, Any]) -> Record:
    """A line of LLaVA-CoT-100k: questions and replies, staged or not; no standard answers."""
    try:
        conversation = read_conversation(line)
    except DataError as error:
        raise DataError(f"it is no record: {error}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"it is no record ({type(error).__name__}: {error})") from None
    turns = tuple(
        replace(turn, answer=None, response=turn.response or turn.answer or "") for turn in conversation.turns
    )
    return Record(line.get("id", ""), turns, source=line.get("source", ""))


def _check_types(record: Record) -> None:
    """`from_json` takes values as they are. Raises DataError for one that is not a text."""
    texts: list[Any] = [record.id, record.source, record.license]
    for turn in record.turns:
        texts += [turn.question, *turn.options]
        texts += [text for text in (turn.answer, turn.hints, turn.response) if text is not None]
    if not all(isinstance(text, str) for text in texts):
        raise DataError("it is no record: its id, or a text in it, is not a text")
    if not record.id or not record.turns:
        raise DataError(f"it is no record: it has no {'turns' if record.id else 'id'}")
    if any(len(turn.options) > 26 for turn in record.turns):
        raise DataError("it is no record: a question has more than 26 options, one a letter")
    if not isinstance(record.extra, Mapping):
        raise DataError("it is no record: `extra` is not an object")


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
