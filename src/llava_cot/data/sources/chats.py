"""Conversations in JSONL, JSON or Parquet files: ShareGPT's `conversations` and OpenAI's `messages`.

Owns the files and where their pictures are found. Knows no data set; what a row says is read by `talk.py`.
What the system said is kept in `extra`, for a record has no place of its own for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from llava_cot.core.files import path_inside
from llava_cot.core.stages import parse
from llava_cot.data.record import Picture, Record, Turn
from llava_cot.data.sources.base import LazyPicture, Source, each, file_name, json_lines, picture, suffix
from llava_cot.data.sources.json_stream import json_items
from llava_cot.errors import DataError, missing_package

SUFFIXES = (".jsonl", ".json", ".parquet")
_BATCH = 64  # rows of a Parquet file that are in memory together; each may hold pictures


def read_chats(path: Path, root: Path | None = None, name: str = "chats") -> Iterator[Record]:
    """The conversations of a file, or of all such files in a folder, lazily.

    `root` is where relative picture paths begin, the file's own folder if not given. Ids are the rows' own
    with a hash of their content behind it, for public files repeat ids. Raises DataError.
    """
    for file in chat_files(path):
        yield from each(file, rows(file), lambda row: [chat(row, root or _folder(path), name)])


def chat_files(path: Path) -> list[Path]:
    """The files that are read. Raises DataError if there is none."""
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise DataError(f"there is no conversation to read at {path}; name a file, or a folder of them")
    if files[0].suffix not in SUFFIXES:
        raise DataError(f"{path} is in none of the formats {', '.join(SUFFIXES)}, by its name")
    return files


def _folder(path: Path) -> Path:
    return path if path.is_dir() else path.parent


def rows(file: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file, each with its place, by the file's suffix; a JSON file is an array, or JSONL."""
    if file.suffix == ".parquet":
        return parquet_rows(file)
    if file.suffix == ".json" and _begins(file) == "[":
        return json_items(file)
    return json_lines(file)


def _begins(file: Path) -> str:
    with file.open(encoding="utf-8-sig", errors="replace") as text:
        return text.read(1000).lstrip()[:1]


def parquet_rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a Parquet file, some at a time, each with its place. Raises DataError without pyarrow."""
    try:
        import pyarrow as arrow
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as error:
        raise DataError(missing_package(f"reading {file}", error.name, extra="data")) from None
    try:
        with ParquetFile(file) as table:
            number = 0
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except arrow.ArrowException as error:
        raise DataError(f"{file} is no Parquet file that can be read ({error})") from None


def chat(row: Mapping[str, Any], root: Path, name: str) -> Record:
    """The record of a row; its pictures' paths begin at `root`."""
    talk = read_conversation(row)
    id = unique_id(row.get("id"), name, talk.turns, talk.images)
    pictures = tuple(shown(image, root, name, f"{id}-{n}") for n, image in enumerate(talk.images))
    extra = {"system": talk.system} if talk.system else {}
    return Record(id, talk.turns, pictures, name, extra=extra)


def unique_id(id: Any, name: str, *content: object) -> str:
    """The id of a row, its own or the source's name, with a hash of its content behind it."""
    digest = hashlib.blake2b(repr(content).encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
    return f"{name if id is None else id}-{digest}"


def shown(image: Any, root: Path, name: str, fallback: str) -> Picture:
    """The picture that a row names: a path below `root`, a data URL, or bytes as `datasets` has them.

    One without a path gets its name from `fallback`. Raises DataError for any other, and for an address on
    the network: data that are trained on do not change under one's hands.
    """
    if isinstance(image, Mapping):
        if image.get("bytes") is None:
            return shown(image.get("path"), root, name, fallback)
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


_ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "system": "system", "developer": "system",
}  # fmt: skip
MARK = "<image>"  # where a picture stands in a text; ours all stand before the first question


@dataclass(frozen=True)
class Conversation:
    """Turns, and what the system said. A picture is named by a path, a data URL, or its bytes and path."""

    turns: tuple[Turn, ...]
    images: tuple[Any, ...]
    system: str = ""


def read_conversation(row: Mapping[str, Any]) -> Conversation:
    """The conversation of a row.

    A row has `conversations` (`from`, `value`) or `messages` (`role`, `content`: a text, or parts of type
    text, image_url and image), and may have `image` or `images` for pictures, `system` and `hints`.
    Raises DataError for one that cannot be read.
    """
    said, images = _said(row)
    images = _listed(row, "image") + _listed(row, "images") + images
    marks = sum(text.count(MARK) for _, text in said)
    if marks > len(images):
        raise DataError(f"the texts speak of {marks} pictures ({MARK}), and there are {len(images)}")
    system = [row["system"]] if row.get("system") else []
    system += [text for role, text in said if role == "system"]
    turns = _turns((role, text) for role, text in said if role != "system")
    return Conversation(_hinted(turns, row.get("hints")), tuple(images), "\n".join(system))


def with_reply(turn: Turn, reply: str) -> Turn:
    """The turn with a reply: the response and its conclusion if it is in stages, else the standard answer."""
    parsed = parse(reply)
    if parsed.conclusion is None:
        return replace(turn, answer=reply.strip() or None)
    return replace(turn, answer=parsed.answer, response=reply)


def _said(row: Mapping[str, Any]) -> tuple[list[tuple[str, str]], list[Any]]:
    """Who said what, and the pictures that are among the texts."""
    images: list[Any] = []
    for key, who, what in (("conversations", "from", "value"), ("messages", "role", "content")):
        if row.get(key):
            said = []
            for message in row[key]:
                role = _ROLES.get(message[who])
                if role is None:
                    known = ", ".join(_ROLES)
                    raise DataError(f"a message is from {message[who]!r}, which is none of {known}")
                text, shown = _content(message[what])
                images += shown
                said.append((role, text))
            return said, images
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
        elif part["type"] == "image":  # with the picture in it, or a sign of one in `images`
            shown = next((part[key] for key in ("image", "path", "url") if part.get(key)), None)
            images += [] if shown is None else [shown]
            texts += [MARK] if shown is None else []
        else:
            raise DataError(
                f"a part of a message is of type {part['type']!r}; texts and pictures can be read"
            )
    return "\n".join(texts), images


def _listed(row: Mapping[str, Any], key: str) -> list[Any]:
    value = row.get(key)
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _turns(said: Iterable[tuple[str, str]]) -> tuple[Turn, ...]:
    turns: list[Turn] = []
    asked: str | None = None
    for role, text in said:
        if (role == "user") != (asked is None):
            raise DataError("user and assistant do not speak in turn, the user first")
        if asked is None:
            asked = without_marks(text)
        else:
            turns.append(with_reply(Turn(asked), text))
            asked = None
    if asked is not None:
        turns.append(Turn(asked))
    if not turns:
        raise DataError("the conversation is empty")
    return tuple(turns)


def without_marks(text: str) -> str:
    """A text without the signs of where its pictures stand."""
    return text.replace(MARK + "\n", "").replace("\n" + MARK, "").replace(MARK, "").strip()


def _hinted(turns: tuple[Turn, ...], hints: str | Sequence[str] | None) -> tuple[Turn, ...]:
    """The turns with hints: one text for the first, or a list with one for each."""
    if not hints:
        return turns
    each = [hints] if isinstance(hints, str) else list(hints)
    if len(each) > len(turns):
        raise DataError(f"there are {len(each)} hints for {len(turns)} questions")
    hinted = [replace(turn, hints=hint or None) for turn, hint in zip(turns, each, strict=False)]
    return (*hinted, *turns[len(hinted) :])


_NAME = "llava_cot_100k"


def _read(root: Path, split: str) -> Iterator[Record]:
    file = root / f"{split}.jsonl"
    return each(file, json_lines(file), lambda line: [_record(line, root)])


def _record(line: dict[str, Any], root: Path) -> Record:
    talk = read_conversation(line)
    for image in talk.images:
        folder = path_inside(root, image).parent
        if not folder.is_dir():
            raise DataError(
                f"there is no folder {folder} for the picture {image}; join and unpack the pictures there: "
                "cat image.zip.part-* > image.zip && unzip image.zip"
            )
    pictures = tuple(picture(_NAME, root, image) for image in talk.images)
    return Record(str(line["id"]), talk.turns, pictures, _NAME, SOURCE.licence)


SOURCE = Source(
    name=_NAME,
    title="LLaVA-CoT-100k",
    home="https://huggingface.co/datasets/Xkev/LLaVA-CoT-100k",
    licence="Apache-2.0",
    needs=("{split}.jsonl",),
    read=_read,
)
