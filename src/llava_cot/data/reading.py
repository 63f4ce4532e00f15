"""Records from a file of lines, or a folder that has one, as often as they are asked for.

Owns the file's name, and the sentences for lines that are none. Reads one line at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llava_cot.data.records import DataError, Record, from_json

NAMES = ("questions.jsonl", "train.jsonl")
_NAME_ONE = "name a folder that `llava-cot data sample` wrote, or a file of records"


class Questions:
    """The records of a file, whose pictures are below its folder. Raises DataError if there is no such file.

    Going through them raises DataError that names the line.
    """

    def __init__(self, given: str | Path) -> None:
        path = Path(given)
        if path.is_dir():
            found = next((path / name for name in NAMES if (path / name).is_file()), None)
            if found is None:
                raise DataError(f"{path} has no {NAMES[0]}; {_NAME_ONE}")
            path = found
        if not path.is_file():
            raise DataError(f"{path} is not there; {_NAME_ONE}")
        self.file = path

    def __iter__(self) -> Iterator[Record]:
        with self.file.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield _record(line, self.file.parent)
                    except DataError as error:
                        raise DataError(f"{self.file}, line {number}: {error}") from None

    def __len__(self) -> int:
        """Lines that are not empty; nothing is looked at."""
        with self.file.open("rb") as lines:
            return sum(bool(line.strip()) for line in lines)


def _record(line: bytes, root: Path) -> Record:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"this is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise DataError(f"this is no record of llava-cot, but {type(value).__name__}")
    record = from_json(value, root)
    for turn in record.turns:
        texts = (record.id, turn.question, turn.answer or "", turn.hints or "", *turn.options)
        if not all(isinstance(text, str) for text in texts):
            raise DataError("its id, questions, answers, options and hints must be texts")
    return record
