"""A record, one conversation about pictures, and the line of JSON that it is on disk."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b, sha256
from json import dumps
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from llava_cot.core.files import path_inside
from llava_cot.core.question import Question, question_text
from llava_cot.errors import DataError

DUELS = "duels"  # the source of records that train a judge


@dataclass(frozen=True)
class Picture:
    """A picture that has not been read: a file, or the bytes of one.

    `name` is a relative path with "/", unique within its data set, such as "chartqa/train/png/41.png".
    """

    name: str
    file: Path | None = None
    data: bytes | None = field(default=None, repr=False)

    def read(self) -> bytes:
        """The bytes of the picture's file. Raises OSError."""
        if self.data is not None:
            return self.data
        if self.file is None:
            raise DataError(f"the picture {self.name} has neither a file nor bytes")
        return self.file.read_bytes()


@dataclass(frozen=True)
class Turn:
    """One question of a conversation, and what is known about its answer."""

    question: str  # without its options
    answer: str | None = None  # the standard answer if it is known: an option's letter, if there are any
    options: tuple[str, ...] = ()  # in order, without letters
    hints: str | None = None  # help for a teacher (a lecture, a rationale); the model never sees them
    response: str | None = None  # the staged text, once a teacher has written it

    @property
    def text(self) -> str:
        """The question with its options, as a model gets it."""
        return question_text(Question(self.question, options=self.options))

    @property
    def answer_option(self) -> str | None:
        """The text of the option that the standard answer names by its letter; None if it names none."""
        letters = ascii_uppercase[: len(self.options)]
        known = self.answer is not None and len(self.answer) == 1 and self.answer in letters
        return self.options[letters.index(self.answer or "")] if known else None


@dataclass(frozen=True)
class Record:
    """One conversation about some pictures, or none."""

    id: str  # unique within its data set
    turns: tuple[Turn, ...]  # one or more
    pictures: tuple[Picture, ...] = ()  # shown before the first question
    source: str = ""  # the name of the source that it came from
    license: str = ""  # that of its authors: an SPDX identifier where there is one, empty if they do not say
    # What else the source has, such as the type of question: plain JSON, for reports to group by.
    extra: Mapping[str, Any] = field(default_factory=dict)


def to_json(record: Record) -> dict[str, Any]:
    """The record as a line of a data file.

    It is a line of LLaVA-CoT-100k's `train.jsonl` with more keys:

        id             text
        image, images  the name of one picture, or of several, relative to the file's folder
        conversations  {from: human, value} and {from: gpt, value} in turn; gpt's value is the response, or
                       else the standard answer, or else empty
        questions      for each turn {question, answer, options, hints, annotated}, without what is empty
        source, licence, extra
    """
    line: dict[str, Any] = {"id": record.id}
    names = [picture.name for picture in record.pictures]
    if len(names) == 1:
        line["image"] = names[0]
    elif names:
        line["images"] = names
    line["conversations"] = [
        {"from": speaker, "value": value}
        for turn in record.turns
        for speaker, value in (("human", turn.text), ("gpt", turn.response or turn.answer or ""))
    ]
    line["questions"] = [
        {
            key: value
            for key, value in (
                ("question", turn.question),
                ("answer", turn.answer),
                ("options", list(turn.options)),
                ("hints", turn.hints),
                ("annotated", turn.response is not None),
            )
            if value
        }
        for turn in record.turns
    ]
    line |= {key: value for key, value in (("source", record.source), ("licence", record.license)) if value}
    return line | ({"extra": dict(record.extra)} if record.extra else {})


def from_json(line: Mapping[str, Any], root: Path) -> Record:
    """The record of a line that `to_json` made; its pictures are files under `root`.

    Raises DataError if the line is another one, or names a picture outside of `root`.
    """
    try:
        names = [line["image"]] if "image" in line else list(line.get("images", ()))
        replies = [message["value"] for message in line["conversations"][1::2]]
        turns = tuple(
            Turn(
                question=question["question"],
                answer=question.get("answer"),
                options=tuple(question.get("options", ())),
                hints=question.get("hints"),
                response=reply if question.get("annotated") else None,
            )
            for question, reply in zip(line["questions"], replies, strict=True)
        )
        return Record(
            id=line["id"],
            turns=turns,
            pictures=tuple(Picture(name, path_inside(root, name)) for name in names),
            source=line.get("source", ""),
            license=line.get("licence", ""),
            extra=line.get("extra", {}),
        )
    except DataError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"this is no record of llava-cot ({type(error).__name__}: {error}): {str(line)[:200]}"
        ) from None


def digest(*texts: str, size: int = 16) -> bytes:
    """A hash of texts, of so many bytes."""
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=size).digest()


def annotated(record: Record, responses: Mapping[int, str]) -> Record:
    """The record with only the turns that have a response, by their number, and with these."""
    turns = tuple(
        replace(turn, response=responses[i]) for i, turn in enumerate(record.turns) if i in responses
    )
    return replace(record, turns=turns)


def record_key(record: Record) -> str:
    """The record's key in a store: its id, and a hash of its questions, so that a changed record is new."""
    questions = [[turn.question, turn.answer, turn.options, turn.hints] for turn in record.turns]
    names = [picture.name for picture in record.pictures]
    return f"{dumps(record.id)[1:-1]} {sha256(dumps([questions, names]).encode()).hexdigest()[:16]}"


def place_picture(picture: Picture, target: Path, data: bytes | None = None) -> None:
    """Put a picture where no file is yet, whole or not at all: as a hard link if possible, else as a copy.

    `data` are its bytes, if they have been read. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if picture.file is not None and picture.data is None:
        try:
            os.link(picture.file.resolve(), target)
            return
        except OSError:  # another disk, or a file system without links
            pass
    part = target.with_name(target.name + ".part")
    part.write_bytes(picture.read() if data is None else data)
    part.replace(target)


def holds_picture(target: Path, picture: Picture) -> bool:
    """Whether an existing file is this picture's. Raises OSError."""
    if picture.file is not None and picture.data is None:
        return target.samefile(picture.file) or filecmp.cmp(target, picture.file, shallow=False)
    return target.read_bytes() == picture.read()
