"""Reading `preferences.jsonl`: prompts with a chosen and a rejected answer, in TRL's form with pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llava_cot.core.files import LINE_BYTES, bounded_lines, path_inside, unique_keys
from llava_cot.core.wording import first_fault
from llava_cot.data.record import Picture
from llava_cot.errors import DataError

PAIR_FILE = "preferences.jsonl"


class _Message(BaseModel):
    role: str
    content: str


_Turn = Annotated[list[_Message], Field(min_length=1, max_length=1)]


class AnswerPair(BaseModel):
    """Two answers to a question, of which one is preferred.

    Other fields of a line, such as the judge, are not read.
    """

    model_config = ConfigDict(frozen=True)

    id: Annotated[str, Field(min_length=1)]
    prompt: _Turn  # of one turn
    chosen: _Turn
    rejected: _Turn
    images: list[str] = []
    prefix: str = ""  # the answer so far, with which both begin

    def pictures(self, folder: Path) -> tuple[Picture, ...]:
        """Its pictures, in the folder of its file. Raises DataError for a name that leads out of it."""
        return tuple(Picture(name, path_inside(folder, name)) for name in self.images)


def read_pairs(file: Path) -> Iterator[AnswerPair]:
    """The pairs of a file. Raises DataError, with the line, for one that holds none."""
    with file.open("rb") as lines:
        for number, (data, length) in enumerate(bounded_lines(lines), 1):
            if not data.strip():
                continue
            try:
                if length > LINE_BYTES:
                    raise ValueError(f"it has more than {LINE_BYTES / 1e6:.0f} MB")
                pair = AnswerPair.model_validate(json.loads(data, object_pairs_hook=unique_keys))
                pair.pictures(file.parent)
            except ValidationError as error:
                raise DataError(f"{file}, line {number}: {first_fault(error)}") from None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, line {number}: {error}") from None
            yield pair
