"""Conversations in JSONL, JSON or Parquet files: ShareGPT's `conversations` and OpenAI's `messages`.

LLaVA-CoT-100k, the paper's own data set, is one of these. A system message is kept in a record's `extra`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from llava_cot.core.files import path_inside
from llava_cot.core.stages import parse
from llava_cot.data.record import Picture, Record, Turn, digest
from llava_cot.data.sources.base import LazyPicture, Source, file_name, picture, suffix
from llava_cot.data.sources.row_files import json_items, json_lines, parquet_rows, row_errors
from llava_cot.errors import DataError

SUFFIXES = (".jsonl", ".json", ".parquet")
IMAGE_MARK = "<image>"  # where a picture stands in a text; in a record, all stand before the first question
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
    """The rows by the file's suffix; a .json file is a list, or JSONL."""
    if file.suffix == ".parquet":
        return parquet_rows(file)
    if file.suffix == ".json":
        with file.open(encoding="utf-8-sig", errors="replace") as text:
            if text.read(1000).lstrip()[:1] == "[":
                return json_items(file)
    return json_lines(file)


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
        return Picture(f"{name}/{file_name(fallback)}.{suffix(image['bytes'])}", data=image["bytes"])
    if not isinstance(image, str) or not image:
        raise DataError(
            f"a picture is given as {type(image).__name__}; a path, a data URL or bytes can be read"
        )
    if image[:5].lower() == "data:":
        head = image[:100].partition(",")[0].lower()
        kind = head[5:].partition(";")[0].removeprefix("image/").replace("jpeg", "jpg")
        return LazyPicture(f"{name}/{file_name(fallback)}.{file_name(kind)}", make=partial(_data_url, image))
    if "://" in image[:20]:
        raise DataError(f"the picture {image[:200]} is on the network; download it, and name the file")
    return picture(name, root, image)


def _data_url(url: str) -> bytes:
    head, _, payload = url.partition(",")
    data = unquote_to_bytes(payload)
    if not head.lower().rstrip().endswith(";base64"):
        return data
    try:
        return base64.b64decode(data)
    except binascii.Error as error:
        raise DataError(f"the base64 of a data URL is damaged ({error}): {url[:60]}...") from None


def read_conversation(row: Mapping[str, Any]) -> Conversation:
    """Read the conversation of a row.

    Args:
        row: Has `conversations` (`from`, `value`) or `messages` (`role`, `content`: a text, or parts of type
            text, image_url and image), and may have `image` or `images`, `system` and `hints`.

    Raises:
        DataError: It cannot be read.
    """
    messages, images = _messages(row)
    images = as_list(row.get("image")) + as_list(row.get("images")) + images
    marks = sum(text.count(IMAGE_MARK) for _, text in messages)
    if marks > len(images):
        raise DataError(f"the texts mark {marks} pictures ({IMAGE_MARK}), and there are {len(images)}")
    system = [row["system"]] if row.get("system") else []
    system += [text for role, text in messages if role == "system"]
    turns = _turns((role, text) for role, text in messages if role != "system")
    return Conversation(_hinted(turns, row.get("hints")), tuple(images), "\n".join(system))


def _messages(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Any]]:
    """Roles and texts, and the pictures among the texts."""
    images: list[Any] = []
    for key, speaker, content in (("conversations", "from", "value"), ("messages", "role", "content")):
        if row.get(key):
            messages = []
            for message in row[key]:
                role = _ROLES.get(message[speaker])
                if role is None:
                    raise DataError(f"a message is from {message[speaker]!r}, not one of {', '.join(_ROLES)}")
                text, more = _content(message[content])
                images += more
                messages.append((role, text))
            return messages, images
    raise DataError(f"there is no conversation: neither `conversations` nor `messages` in {sorted(row)}")


def _content(content: str | Sequence[Mapping[str, Any]]) -> tuple[str, list[Any]]:
    if isinstance(content, str):
        return content, []
    texts, images = [], []
    for part in content:
        if part["type"] == "text":
            texts.append(part["text"])
        elif part["type"] == "image_url":
            url = part["image_url"]
            images.append(url if isinstance(url, str) else url["url"])
        elif part["type"] == "image":  # with the picture in it, or a mark for one in `images`
            image = next((part[key] for key in ("image", "path", "url") if part.get(key)), None)
            images += [] if image is None else [image]
            texts += [IMAGE_MARK] if image is None else []
        else:
            raise DataError(
                f"a part of a message is of type {part['type']!r}; texts and pictures can be read"
            )
    return "\n".join(texts), images


def as_list(value: Any) -> list[Any]:
    """A field that may hold one value, several or none, as a list."""
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _turns(messages: Iterable[tuple[str, str]]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    question: str | None = None
    for role, text in messages:
        if (role == "user") != (question is None):
            raise DataError("user and assistant must alternate, the user first")
        if question is None:
            question = without_marks(text)
        else:
            turns.append(_with_reply(Turn(question), text))
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


def without_marks(text: str) -> str:
    """A text without the marks of its pictures' places."""
    return text.replace(IMAGE_MARK + "\n", "").replace("\n" + IMAGE_MARK, "").replace(IMAGE_MARK, "").strip()


def _hinted(turns: tuple[Turn, ...], hints: str | Sequence[str] | None) -> tuple[Turn, ...]:
    """The turns with hints: one text for the first, or a list with one for each."""
    if not hints:
        return turns
    texts = [hints] if isinstance(hints, str) else list(hints)
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
