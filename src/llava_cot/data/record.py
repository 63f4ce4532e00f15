"""A record, one conversation about pictures, and the line of JSON that it is on disk."""

from __future__ import annotations

import filecmp
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache
from hashlib import blake2b, sha256
from json import dumps
from math import isfinite
from pathlib import Path
from string import ascii_uppercase
from typing import Any, TypeVar, overload

from llava_cot.core.files import path_inside, relative_name
from llava_cot.core.images import ImageLimits, read_regular
from llava_cot.core.question import PLACE, Question, question_text
from llava_cot.errors import DataError

IMAGE_MARK = "<image>"  # where a picture stands in the texts of conversations, as LLaVA writes it
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
        """The bytes of the picture's file. Raises OSError and DataError."""
        if self.data is not None:
            return self.data
        if self.file is None:
            raise DataError(f"the picture {self.name} has neither a file nor bytes")
        most = ImageLimits().max_bytes
        data = read_regular(self.file, most + 1)
        if len(data) > most:
            raise DataError(f"{self.name}: it has more than the {most / 1e6:g} MB allowed")
        return data


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
    # At the `PLACE`s in the turns' texts; if there are none, before the first question.
    pictures: tuple[Picture, ...] = ()
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
        questions      for each turn {question, answer, options, hints, annotated}, without what is empty;
                       a picture within a text is U+FDD1 (`PLACE`) here, and <image> in conversations
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
        for speaker, value in (
            ("human", turn.text.replace(PLACE, IMAGE_MARK)),
            ("gpt", turn.response or turn.answer or ""),
        )
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
    """The record of a line as `to_json` makes it; its pictures are files under `root`.

    Null is the same as absent, a number the same as its digits. Raises DataError, which names the field, if
    the line is another one, or names a picture outside of `root`.
    """
    replies = objects_field(line, "conversations", "")[1::2]
    questions = objects_field(line, "questions", "")
    if len(replies) != len(questions):
        raise DataError(
            f"`questions` has {len(questions)} entries, and `conversations` {len(replies)} replies"
        )
    turns = []
    for number, (question, reply) in enumerate(zip(questions, replies, strict=True)):
        at = f"questions[{number}]."
        response = text_field(reply, "value", f"conversations[{2 * number + 1}].", "")
        turns.append(
            Turn(
                question=text_field(question, "question", at),
                answer=text_field(question, "answer", at, None),
                options=options_field(question, at),
                hints=text_field(question, "hints", at, None),
                response=response if question.get("annotated") else None,
            )
        )
    names = [relative_name(root, name) for name in picture_names(line)]
    return Record(
        id=text_field(line, "id", ""),
        turns=tuple(turns),
        pictures=tuple(Picture(name, path_inside(root, name)) for name in names),
        source=text_field(line, "source", "", ""),
        license=text_field(line, "licence", "", ""),
        extra=object_field(line, "extra"),
    )


_Default = TypeVar("_Default", str, None)


@overload
def text_field(line: Mapping[str, Any], name: str, at: str) -> str: ...
@overload
def text_field(line: Mapping[str, Any], name: str, at: str, default: _Default) -> str | _Default: ...
def text_field(line: Mapping[str, Any], name: str, at: str, default: Any = ...) -> Any:
    """A field that holds a text, or a number, which becomes its digits; null is the same as absent.

    Raises DataError for any other value, and for an absent field without a default; `at` stands before the
    name in the message.
    """
    value = line.get(name)
    if value is None:
        if default is ...:
            raise DataError(f"`{at}{name}` is missing")
        return default
    return _text(value, f"{at}{name}")


def _text(value: object, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not isfinite(value):
            raise DataError(f"`{where}` is {value}, which is no number; leave it out or write null")
        return str(value)
    raise _wrong(where, value, "a text")


def options_field(line: Mapping[str, Any], at: str) -> tuple[str, ...]:
    """The field `options`; null among them is a letter without an option. Raises DataError."""
    options = line.get("options")
    if options is None:
        return ()
    if not isinstance(options, list | tuple):
        raise _wrong(f"{at}options", options, "a list")
    if len(options) > len(ascii_uppercase):
        raise DataError(f"`{at}options` has {len(options)} entries; give at most 26, one a letter")
    return tuple("" if o is None else _text(o, f"{at}options[{i}]") for i, o in enumerate(options))


def object_field(line: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A field that holds an object; empty where it is absent. Raises DataError."""
    value = line.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise _wrong(name, value, "an object")
    return dict(value or {})


def objects_field(line: Mapping[str, Any], name: str, at: str) -> list[Mapping[str, Any]]:
    """A field that holds a list of objects. Raises DataError."""
    value = line.get(name)
    if not isinstance(value, list | tuple):
        raise _wrong(f"{at}{name}", value, "a list")
    for number, one in enumerate(value):
        if not isinstance(one, Mapping):
            raise _wrong(f"{at}{name}[{number}]", one, "an object")
    return list(value)


def picture_values(line: Mapping[str, Any]) -> list[Any]:
    """What the fields `image` and `images` hold, one value or a list each; what both hold counts once."""
    one, several = as_list(line.get("image")), as_list(line.get("images"))
    return [v for v in (*(() if all(v in several for v in one) else one), *several) if v is not None]


# Fields that other formats have for the same thing, which would be lost without a word.
_OTHER_NAMES = {
    "choices": "options", "choice": "options", "candidates": "options", "img": "image", "imgs": "images",
    "picture": "image", "pictures": "images", "photo": "image", "image_path": "image", "image_file": "image",
    "image_url": "image", "image_id": "image",
}  # fmt: skip
_FIELDS = ("question", "answer", "options", "hints", "image", "images", "conversations")
_LONGEST = 40  # characters of a name that are compared
_ONE_OPTION = re.compile(r"(?:option|choice|opt)[ _-]?[a-z0-9]|[a-z]", re.IGNORECASE)


@lru_cache(maxsize=1024)
def _similar_field(name: str) -> str | None:
    """The field whose name a misspelt one resembles; none for "question_id" and the like."""
    return None if "_" in name else next(iter(get_close_matches(name, _FIELDS, 1, 0.8)), None)


def check_names(line: Mapping[str, Any], *others: str) -> None:
    """Raise DataError for a field that means one which the line lacks, by another name or misspelt.

    `others` are further fields that are read here. A conversation lacks pictures alone.
    """
    known = {*_FIELDS, "hint", "id", "index", "questions", "messages", *others}
    chat = any(line.get(name) for name in ("conversations", "questions", "messages"))
    there = {name for name in known if line.get(name) not in (None, "", [])}
    there |= {"image", "images"} if there & {"image", "images", "image_path"} else set()
    there |= {"hint", "hints"} if there & {"hint", "hints"} else set()
    letters = [name for name in line if _ONE_OPTION.fullmatch(str(name)) and name not in known]
    for name, value in line.items():
        plain = str(name).strip().lower()
        if name in known or value is None or value == "":
            continue
        meant = _OTHER_NAMES.get(plain) or _similar_field(plain[:_LONGEST])
        if name in letters and len(letters) > 1:
            meant = "options"
        if chat and meant not in ("image", "images"):
            continue
        if meant is not None and meant not in there:
            raise DataError(f"`{name}` is no field that is read; is it `{meant}`? rename it, or remove it")


def as_list(value: Any) -> list[Any]:
    """A field that may hold one value, several or none, as a list."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def picture_names(line: Mapping[str, Any]) -> list[str]:
    """The paths in the fields `image` and `images`. Raises DataError."""
    for value in (names := picture_values(line)):
        if not isinstance(value, str) or not value:
            raise _wrong("image", value, "the path of a file")
    return names


_KINDS = {dict: "an object", list: "a list", tuple: "a list", str: "a text", bool: "true or false"}


def _wrong(where: str, value: object, wanted: str) -> DataError:
    if value is None:
        return DataError(f"`{where}` is missing")
    kind = _KINDS.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
    return DataError(f"`{where}` is {'empty' if value == '' else kind}, not {wanted}")


def digest(*texts: str, size: int = 16) -> bytes:
    """A hash of texts, of so many bytes."""
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=size).digest()


def pictures_until(record: Record, number: int) -> int:
    """How many of a record's pictures are seen in a turn, counted from 0: none of a later turn's."""
    places = [turn.text.count(PLACE) for turn in record.turns]
    return sum(places[: number + 1]) if any(places) else len(record.pictures)


def with_turns(record: Record, numbers: Collection[int]) -> Record:
    """The record with only the turns of these numbers. The pictures of others go with the next one."""
    turns: list[Turn] = []
    waiting = 0  # places of turns that are left out
    for number, turn in enumerate(record.turns):
        if number in numbers:
            turns.append(replace(turn, question=PLACE * waiting + turn.question))
            waiting = 0
        else:
            waiting += turn.text.count(PLACE)
    return replace(record, turns=tuple(turns), pictures=record.pictures[: len(record.pictures) - waiting])


def annotated(record: Record, responses: Mapping[int, str]) -> Record:
    """The record with only the turns that have a response, by their number, and with these."""
    turns = tuple(
        replace(turn, response=responses[i]) if i in responses else turn
        for i, turn in enumerate(record.turns)
    )
    return with_turns(replace(record, turns=turns), responses)


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
