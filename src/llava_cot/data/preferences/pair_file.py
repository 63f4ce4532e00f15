"""Reading `preferences.jsonl`: prompts with a chosen and a rejected answer, in TRL's form with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from llava_cot.core.files import json_lines, path_inside
from llava_cot.data.record import Picture

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

    def read(value: Any) -> AnswerPair:
        pair = AnswerPair.model_validate(value)
        pair.pictures(file.parent)
        return pair

    return json_lines(file, read)
