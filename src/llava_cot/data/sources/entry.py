"""One source as a recipe names it, and its opening.

Owns what each source is told, beside a count. Knows no layout; recipes are `sampling/recipe.py`'s subject.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from llava_cot.data.record import Record
from llava_cot.data.sources import SOURCES, folder
from llava_cot.data.sources import chats as llava_cot_100k
from llava_cot.errors import DataError

FOLDERS = SOURCES | {source.name: source for source in (llava_cot_100k.SOURCE, folder.SOURCE)}
# What the other sources must be told, and what they may be.
_TOLD = {
    "chats": (("path",), ("root",)),
    "tsv": (("path",), ("root",)),
    "hf": (("path",), ("split", "config", "columns")),
    "scenes": ((), ("split", "seed", "size")),
}
SOURCE_NAMES = (*FOLDERS, *_TOLD)
Column = Literal["id", "question", "answer", "options", "image", "hints"]


class SourceEntry(BaseModel):
    """A source, where it is and how many of its records are wanted.

    `root` is the folder that it is in, `path` a file (or for hf a folder or a name on the Hub), `split` one
    of the source's. `name` stands before ids and pictures' names, save of scenes, whose ids say which they
    are; needed only to tell two entries of one source apart. `seed` and `size` are those of scenes: which,
    and how many there are to draw from (`count` if not said).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    count: PositiveInt | Literal["all"] | None = None
    name: str | None = Field(default=None, pattern=r"^[\w+-][\w.+-]*$")
    root: Path | None = None
    path: str | None = None
    split: str | None = None
    seed: int | None = None
    size: PositiveInt | None = None
    config: str | None = None
    columns: dict[Column, str] | None = None

    @model_validator(mode="after")
    def _fits(self) -> SourceEntry:
        if self.source not in SOURCE_NAMES:
            raise ValueError(
                f"there is no source {self.source!r}; choose one of {', '.join(sorted(SOURCE_NAMES))}"
            )
        must, may = _TOLD.get(self.source, (("root",), ("split",)))
        given = self.model_fields_set - {"source", "count", "name"}
        for field in must:
            if field not in given:
                raise ValueError(f"the source {self.source} needs `{field}`")
        for field in sorted(given - {*must, *may}):
            raise ValueError(f"the source {self.source} takes no `{field}`")
        if self.source == "scenes" and self.size is None and not isinstance(self.count, int):
            raise ValueError("the source scenes needs `size`, how many scenes there are to draw from")
        return self

    @property
    def label(self) -> str:
        """What the entry is called in a draw: its name, or else its file's, or its source's."""
        stem = Path(self.path).stem if self.path else ""
        return self.name or re.sub(r"[^\w.+-]", "_", stem) or self.source

    def located(self, base: Path) -> SourceEntry:
        """The entry with its places made absolute: relative ones begin at `base`. Raises DataError."""
        changed: dict[str, object] = {}
        if self.root is not None:
            changed["root"] = base / expanded(str(self.root))
        if self.path is not None:
            path = expanded(self.path)
            hub = self.source == "hf" and not (base / path).exists()
            changed["path"] = path if hub else str(base / path)
        return self.model_copy(update=changed)


def expanded(path: str) -> str:
    """A path with ${VARIABLE} and ~ replaced. Raises DataError for a variable that is not set."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if not os.environ.get(name):
            raise DataError(f"{path} names the environment variable {name}, which is not set; set it")
        return os.environ[name]

    return os.path.expanduser(re.sub(r"\$(?:\{(\w+)\}|(\w+))", value, path))


@dataclass(frozen=True)
class OpenedSource:
    """A source that can be read: each call of `records` reads it from the start."""

    name: str
    title: str
    home: str
    licence: str
    records: Callable[[], Iterator[Record]]


def open_source(entry: SourceEntry) -> OpenedSource:
    """The source of an entry whose places are absolute. Raises DataError if it lacks something."""
    label = entry.label
    if entry.source in FOLDERS:
        source, root = FOLDERS[entry.source], entry.root or Path()
        split = entry.split or source.splits[0]
        if not root.is_dir():
            raise DataError(
                f"there is no folder {root} for {source.title}; it is to be had from {source.home}"
            )
        source.records(root, split)  # raises if something is missing

        def read() -> Iterator[Record]:
            records = source.records(root, split)
            return (_named(record, entry.name) for record in records) if entry.name else records

        return OpenedSource(label, source.title, source.home, source.licence, read)
    if entry.source == "scenes":
        from llava_cot.data.sources import scenes_source as scenes

        size = entry.size or (entry.count if isinstance(entry.count, int) else 0)
        make = _reader(scenes.read_scenes, entry.split or "train", entry.seed or 0, size)
        return OpenedSource(label, "Scenes", "llava-cot", scenes.LICENCE, make)
    path, home = entry.path or "", ""
    if entry.source == "hf":
        home = "" if Path(path).exists() else f"https://huggingface.co/datasets/{path}"
        from llava_cot.data.sources.hf import read_hf

        make = _reader(read_hf, path, entry.split or "train", entry.config, entry.columns, label)
    elif entry.source == "tsv":
        from llava_cot.data.sources.tsv import read_tsv

        if not Path(path).is_file():
            raise DataError(f"there is no file {path}; VLMEvalKit keeps its own under ~/LMUData")
        make = _reader(read_tsv, Path(path), entry.root, label)
    else:
        from llava_cot.data.sources.chats import chat_files, read_chats

        chat_files(Path(path))  # raises if there is none
        make = _reader(read_chats, Path(path), entry.root, label)
    return OpenedSource(label, label, home, "", make)


def _reader(read: Callable[..., Iterator[Record]], *arguments: object) -> Callable[[], Iterator[Record]]:
    return lambda: read(*arguments)


def _named(record: Record, name: str) -> Record:
    """The record with a name before its id and its pictures' names."""
    pictures = tuple(replace(picture, name=f"{name}/{picture.name}") for picture in record.pictures)
    return replace(record, id=f"{name}/{record.id}", pictures=pictures)
