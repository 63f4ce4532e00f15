"""A record: one conversation about pictures, as it goes from a source through a teacher into training.

Owns the record and the line of JSON that it is on disk: a line of LLaVA-CoT-100k's `train.jsonl` (`id`,
`image`, `conversations`) with what else is known beside it. Knows no source, model or file layout; reads no
picture before it is asked for.
"""

from __future__ import annotations

import filecmp
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from json import dumps
from pathlib import Path
from typing import Any

from llava_cot.core import prompting
from llava_cot.core.files import path_inside
from llava_cot.core.question import Question
from llava_cot.errors import DataError

DUELS = "duels"  # the source of records in which a model learns to judge


@dataclass(frozen=True)
class Picture:
    """A picture that has not been read: its name, and the file or the bytes that it is.

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
    """One question of a conversation, and what is known about its answer.

    `answer` is the standard answer, an option's letter where there are options; None where there is none.
    `hints` may help a teacher (a lecture, a rationale) and are never shown to the model. `response` is the
    staged text, once a teacher has written it.
    """

    question: str
    answer: str | None = None
    options: tuple[str, ...] = ()
    hints: str | None = None
    response: str | None = None

    @property
    def text(self) -> str:
        """The question with its options, as a model is asked."""
        return prompting.question_text(Question(self.question, options=self.options))


@dataclass(frozen=True)
class Record:
    """One conversation about some pictures (or none). `id` is unique within its data set.

    `source` is the name of the source it came from, `licence` what its authors publish it under (an SPDX
    identifier where there is one, empty if they do not say). `extra` is what else the source tells and
    reports may group by, such as the type of question: plain JSON.
    """

    id: str
    turns: tuple[Turn, ...]
    pictures: tuple[Picture, ...] = ()
    source: str = ""
    licence: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


def to_json(record: Record) -> dict[str, Any]:
    """The record as a line of JSON. What the model is to say is the response, or else the standard answer."""
    line: dict[str, Any] = {"id": record.id}
    names = [picture.name for picture in record.pictures]
    if len(names) == 1:
        line["image"] = names[0]
    elif names:
        line["images"] = names
    line["conversations"] = [
        {"from": who, "value": value}
        for turn in record.turns
        for who, value in (("human", turn.text), ("gpt", turn.response or turn.answer or ""))
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
    line |= {key: value for key, value in (("source", record.source), ("licence", record.licence)) if value}
    return line | ({"extra": dict(record.extra)} if record.extra else {})


def from_json(line: Mapping[str, Any], root: Path) -> Record:
    """The record that `to_json` made a line of; its pictures are files under `root`.

    Raises DataError if the line is another one, or names a picture outside of `root`.
    """
    try:
        names = [line["image"]] if "image" in line else list(line.get("images", ()))
        spoken = [message["value"] for message in line["conversations"][1::2]]
        turns = tuple(
            Turn(
                question=asked["question"],
                answer=asked.get("answer"),
                options=tuple(asked.get("options", ())),
                hints=asked.get("hints"),
                response=said if asked.get("annotated") else None,
            )
            for asked, said in zip(line["questions"], spoken, strict=True)
        )
        return Record(
            id=line["id"],
            turns=turns,
            pictures=tuple(Picture(name, path_inside(root, name)) for name in names),
            source=line.get("source", ""),
            licence=line.get("licence", ""),
            extra=line.get("extra", {}),
        )
    except DataError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"this is no record of llava-cot ({type(error).__name__}: {error}): {str(line)[:200]}"
        ) from None


def annotated(record: Record, responses: Mapping[int, str]) -> Record:
    """The record with only the turns that have a response, by their number, and with these."""
    kept = tuple(
        replace(turn, response=responses[i]) for i, turn in enumerate(record.turns) if i in responses
    )
    return replace(record, turns=kept)


def record_key(record: Record) -> str:
    """The record's key: its id, and a hash of what is asked, so that a question that changed is a new one."""
    asked = [[turn.question, turn.answer, turn.options, turn.hints] for turn in record.turns]
    names = [picture.name for picture in record.pictures]
    return f"{dumps(record.id)[1:-1]} {sha256(dumps([asked, names]).encode()).hexdigest()[:16]}"


def place_picture(picture: Picture, target: Path, data: bytes | None = None) -> None:
    """Put a picture where nothing is yet; `data` are its bytes, where they have been read. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if picture.file is None or picture.data is not None or not _linked(picture.file, target):
        part = target.with_name(target.name + ".part")
        part.write_bytes(picture.read() if data is None else data)
        part.replace(target)


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or a file system without links
        return False
    return True


def holds_picture(picture: Picture, target: Path) -> bool:
    """Whether the file at `target`, which exists, is this picture's. Raises OSError."""
    if picture.file is not None and picture.data is None:
        return target.samefile(picture.file) or filecmp.cmp(target, picture.file, shallow=False)
    return target.read_bytes() == picture.read()
