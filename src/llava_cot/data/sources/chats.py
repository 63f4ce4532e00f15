"""Conversations in JSONL, JSON or Parquet files: ShareGPT's `conversations` and OpenAI's `messages`.

Owns the files and where their pictures are found. Knows no data set; what a row says is read by `talk.py`.
What the system said is kept in `extra`, for a record has no place of its own for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from llava_cot.data.record import Picture, Record
from llava_cot.data.sources.base import each, json_lines, picture
from llava_cot.data.sources.json_stream import json_items
from llava_cot.data.sources.made import MadePicture, file_name, suffix
from llava_cot.data.sources.talk import read_talk
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
    talk = read_talk(row)
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
        return MadePicture(f"{name}/{file_name(fallback)}.{file_name(kind)}", make=partial(_data_url, image))
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
