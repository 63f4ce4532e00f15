"""Conversations in JSONL, JSON or Parquet files: ShareGPT's `conversations` and OpenAI's `messages`.

LLaVA-CoT-100k, the paper's own data set, is one of these. A system message is kept in a record's `extra`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from string import whitespace
from typing import Any

from llava_cot.core.files import path_inside
from llava_cot.core.question import PLACE
from llava_cot.core.stages import parse
from llava_cot.data.record import (
    IMAGE_MARK,
    Picture,
    Record,
    Turn,
    as_list,
    check_names,
    digest,
    objects_field,
    picture_values,
    text_field,
)
from llava_cot.data.sources.base import LazyPicture, Source, decoded_data_url, file_name, picture, suffix
from llava_cot.data.sources.row_files import is_json_array, json_items, json_lines, parquet_rows, row_errors
from llava_cot.errors import DataError

SUFFIXES = (".jsonl", ".json", ".parquet")
_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip


@dataclass(frozen=True)
class Conversation:
    """The turns of a row. An image is a path, a data URL, or a mapping of its bytes and path."""

    turns: tuple[Turn, ...]
    images: tuple[Any, ...]
    system: str = ""


def read_chats(path: Path, root: Path | None = None, name: str = "chats") -> Iterator[Record]:
    """Yield the conversations of a file, or of all such files in a folder. Raises DataError for a broken row.

    Relative paths of pictures begin at `root`, by default the file's folder. `name` stands before pictures'
    names, and is the id of rows without one. Ids get a hash of the content, since public files repeat ids.
    """
    folder = root or (path if path.is_dir() else path.parent)
    for file in chat_files(path):
        for place, row in _rows(file):
            with row_errors(file, place, row):
                yield chat_record(row, folder, name)


def chat_files(path: Path) -> list[Path]:
    """The files that `read_chats` reads. Raises DataError if there is none."""
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"there is no conversation to read at {path}; name a file, or a folder of them")
    if files[0].suffix not in SUFFIXES:
        raise DataError(f"{path} is in none of the formats {', '.join(SUFFIXES)}, by its name")
    return files


def _rows(file: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file: Parquet by its suffix, a JSON list, or JSONL."""
    if file.suffix == ".parquet":
        return parquet_rows(file)
    return json_items(file) if is_json_array(file) else json_lines(file)


def chat_record(row: Mapping[str, Any], root: Path, name: str) -> Record:
    """The record of a row; its pictures' paths begin at `root`."""
    found = read_conversation(row)
    id = unique_id(row.get("id"), name, found.turns, found.images)
    pictures = tuple(row_picture(image, root, name, f"{id}-{n}") for n, image in enumerate(found.images))
    extra = {"system": found.system} if found.system else {}
    return Record(id, found.turns, pictures, name, extra=extra)


def unique_id(id: Any, name: str, *content: object) -> str:
    """The id of a row, its own or the source's name, with a hash of its content."""
    return f"{name if id is None else id}-{digest(repr(content), size=6).hex()}"


def row_picture(image: Any, root: Path, name: str, fallback: str) -> Picture:
    """The picture of a row: a path below `root`, a data URL, or bytes as `datasets` has them.

    One without a path gets its name from `fallback`. Raises DataError for anything else, and for a network
    address: training data must not change after it is drawn.
    """
    if isinstance(image, Mapping):
        if image.get("bytes") is None:
            return row_picture(image.get("path"), root, name, fallback)
        if not isinstance(image["bytes"], bytes):
            raise DataError("a picture's `bytes` are no bytes; give a path or a data URL")
        return Picture(f"{name}/{file_name(fallback)}.{suffix(image['bytes'])}", data=image["bytes"])
    if not isinstance(image, str) or not image:
        raise DataError(
            f"a picture is given as {str(image)[:100]!r}; a path, a data URL or bytes can be read"
        )
    if image[:5].lower() == "data:":
        head = image[:100].partition(",")[0].lower()
        kind = head[5:].partition(";")[0].removeprefix("image/").replace("jpeg", "jpg")
        return LazyPicture(
            f"{name}/{file_name(fallback)}.{file_name(kind)}", make=partial(decoded_data_url, image)
        )
    if "://" in image[:20]:
        raise DataError(f"the picture {image[:200]} is on the network; download it, and name the file")
    return picture(name, root, image)


def read_conversation(row: Mapping[str, Any]) -> Conversation:
    """Read the conversation of a row. Null is the same as absent.

    Pictures keep their place among the texts; those that no mark places come before the first question.

    Args:
        row: Has `conversations` (`from`, `value`) or `messages` (`role`, `content`: a text, or parts of type
            text, image_url and image), and may have `image` or `images`, `system` and `hints`.

    Raises:
        DataError: It cannot be read; the message names the field.
    """
    if not isinstance(row, Mapping):
        raise DataError("a row is an object with `conversations` or `messages`")
    check_names(row)
    for name in ("videos", "audios"):
        if row.get(name):
            raise DataError(f"`{name}` is not empty, and only texts and pictures can be read")
    if row.get("conversations") and row.get("messages"):
        raise DataError("there are both `conversations` and `messages`; keep one of them")
    messages = _messages(row)
    system = [text_field(row, "system", "", "")]
    system += [message.text for message in messages if message.role == "system"]
    talk = [message for message in messages if message.role != "system"]
    images = _placed(messages, picture_values(row))
    turns = _turns(talk)
    return Conversation(_hinted(turns, row.get("hints")), images, "\n".join(filter(None, system)))


@dataclass
class _Message:
    """A message with `PLACE`s in its text, and what stands there: None for a picture that a field names."""

    role: str
    text: str
    images: list[Any]


def _messages(row: Mapping[str, Any]) -> list[_Message]:
    for key, speaker, content in (("conversations", "from", "value"), ("messages", "role", "content")):
        if row.get(key):
            messages = []
            for number, message in enumerate(objects_field(row, key, "")):
                at = f"{key}[{number}]."
                named = text_field(message, speaker, at)
                role = _ROLES.get(named)
                if role is None:
                    raise DataError(f"`{at}{speaker}` is {named!r}, not one of {', '.join(_ROLES)}")
                for name, value in (("tool_calls", None), ("weight", 1)):
                    if message.get(name) not in (None, [], value):
                        raise DataError(f"`{at}{name}` is not supported; remove the field, or the row")
                found = _content(message, content, at, role)
                if found.images and role != "user":
                    raise DataError(
                        f"`{at}{content}` has a picture, and only messages of the user can have one"
                    )
                messages.append(found)
            return messages
    raise DataError(f"there is no conversation: neither `conversations` nor `messages` in {sorted(row)}")


def _content(message: Mapping[str, Any], name: str, at: str, role: str) -> _Message:
    """A message's text and pictures. In those of the user, `<image>` marks the place of one."""
    if not isinstance(message.get(name), list | tuple):
        text = text_field(message, name, at, "") if role == "assistant" else text_field(message, name, at)
        return _Message(role, *_marked(text, role))
    texts, images = [""], list[Any]()
    for number, part in enumerate(objects_field(message, name, at)):
        where = f"{at}{name}[{number}]."
        kind = text_field(part, "type", where)
        if kind == "text":
            if other := next((key for key in ("image", "image_url") if part.get(key)), None):
                raise DataError(f"`{where}{other}` is in a part of type text; make it a part of its own")
            text, marks = _marked(text_field(part, "text", where), role)
            texts.append(text if not texts[-1] or texts[-1].endswith(PLACE) else f"\n{text}")
            images += marks
        elif kind in ("image_url", "image"):  # with the picture in it, or a mark for one in `images`
            texts.append(PLACE)
            images.append(_image_of(part, kind, where))
        else:
            raise DataError(
                f"`{where}type` is {kind!r}; texts (text) and pictures (image_url, image) can be read"
            )
    return _Message(role, "".join(texts), images)


def _image_of(part: Mapping[str, Any], kind: str, where: str) -> Any:
    if kind == "image":
        return next((part[key] for key in ("image", "path", "url") if part.get(key)), None)
    url = part.get(kind)
    return (
        text_field(url, "url", f"{where}{kind}.")
        if isinstance(url, Mapping)
        else text_field(part, kind, where)
    )


def _marked(text: str, role: str) -> tuple[str, list[Any]]:
    if PLACE in text:
        raise DataError("a text has U+FDD1 in it, which is no character; remove it")
    if role != "user":
        return text, []
    return text.replace(IMAGE_MARK, PLACE), [None] * text.count(IMAGE_MARK)


def _placed(messages: Sequence[_Message], named: list[Any]) -> tuple[Any, ...]:
    """The pictures of a conversation in order, those that the row's fields name at their marks.

    Where all come before the first question, the places are removed from the texts. Raises DataError.
    """
    users = [message for message in messages if message.role == "user"]
    others = any(IMAGE_MARK in message.text for message in messages if message.role != "user")
    marks = sum(image is None for message in users for image in message.images)
    if marks > len(named):
        raise DataError(f"the texts mark {marks} pictures ({IMAGE_MARK}), and there are {len(named)}")
    if users and marks < len(named):
        first = users[0]
        if others:
            raise DataError(f"a picture is marked ({IMAGE_MARK}) in a message that is not of the user")
        if marks and (marks > _leading(first.text) or any(user.images for user in users[1:])):
            raise DataError(
                f"the texts mark {marks} of {len(named)} pictures ({IMAGE_MARK}); mark all, or none"
            )
        first.text = PLACE * (len(named) - marks) + first.text
        first.images[:0] = [None] * (len(named) - marks)
    left = iter(named)
    images = tuple(next(left) if image is None else image for user in users for image in user.images)
    if users and _leading(users[0].text) == len(images):
        users[0].text = users[0].text.lstrip(f"{PLACE}{whitespace}")
    return images


def _leading(text: str) -> int:
    """How many pictures come before a text's first word."""
    return text[: len(text) - len(text.lstrip(f"{PLACE}{whitespace}"))].count(PLACE)


def place_marks(question: str, options: tuple[str, ...], pictures: int) -> tuple[str, tuple[str, ...]]:
    """A question and its options, with pictures at the marks `<image>`. Raises DataError for other counts."""
    message = _Message("user", *_marked("\0".join((question, *options)), "user"))
    if message.images:
        _placed([message], [None] * pictures)
    question, *texts = message.text.split("\0")
    return question.strip(), tuple(texts)


def _turns(messages: Iterable[_Message]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    question: str | None = None
    for message in messages:
        if (message.role == "user") != (question is None):
            raise DataError("user and assistant must alternate, the user first")
        if question is None:
            question = message.text.strip()
        else:
            turns.append(_with_reply(Turn(question), message.text))
            question = None
    if question is not None:
        turns.append(Turn(question))
    if not turns:
        raise DataError("the conversation is empty")
    return tuple(turns)


def _with_reply(turn: Turn, reply: str) -> Turn:
    """The turn with a reply: response and conclusion if it is staged, else the standard answer."""
    parsed = parse(reply)
    if parsed.conclusion is None:
        return replace(turn, answer=reply.strip() or None)
    return replace(turn, answer=parsed.answer, response=reply)


def _hinted(turns: tuple[Turn, ...], hints: Any) -> tuple[Turn, ...]:
    """The turns with hints: one text for the first, or a list with one for each."""
    if not hints:
        return turns
    texts = [text_field({"hints": hint}, "hints", "", None) for hint in as_list(hints)]
    if len(texts) > len(turns):
        raise DataError(f"there are {len(texts)} hints for {len(turns)} questions")
    hinted = [replace(turn, hints=hint or None) for turn, hint in zip(turns, texts, strict=False)]
    return (*hinted, *turns[len(hinted) :])


def _read_100k(root: Path, split: str) -> Iterator[Record]:
    """`train.jsonl`, and `image.zip` in parts, which unpacks to folders like "pisc/image" beside it."""
    file = root / f"{split}.jsonl"
    for place, row in json_lines(file):
        with row_errors(file, place, row):
            found = read_conversation(row)
            for image in found.images:
                folder = path_inside(root, image).parent
                if not folder.is_dir():
                    raise DataError(
                        f"there is no folder {folder} for the picture {image}; join and unpack the pictures "
                        "there: cat image.zip.part-* > image.zip && unzip image.zip"
                    )
            name, license = LLAVA_COT_100K.name, LLAVA_COT_100K.license
            pictures = tuple(picture(name, root, image) for image in found.images)
            yield Record(str(row["id"]), found.turns, pictures, name, license)


LLAVA_COT_100K = Source(
    name="llava_cot_100k",
    title="LLaVA-CoT-100k",
    home="https://huggingface.co/datasets/Xkev/LLaVA-CoT-100k",
    license="Apache-2.0",
    needs=("{split}.jsonl",),
    read=_read_100k,
)
