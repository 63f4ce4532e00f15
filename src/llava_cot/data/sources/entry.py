"""What a data recipe says: its fields, checked, and the sources that its entries name, opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from llava_cot.data.reading import read_records
from llava_cot.data.record import Record
from llava_cot.data.sources import SOURCES
from llava_cot.data.sources.base import Source
from llava_cot.data.sources.chats import LLAVA_COT_100K, chat_files, read_chats
from llava_cot.errors import DataError

RECORDS = Source(
    name="records",
    title="A folder of llava-cot",
    home="`llava-cot data sample` (questions) or `llava-cot data annotate` (train)",
    license="",
    needs=("{split}.jsonl",),
    read=lambda root, split: read_records(root / f"{split}.jsonl"),
    splits=("train", "questions"),
)
# Sources that are in a folder, besides those of SOURCES.
_OTHER_FOLDERS = {source.name: source for source in (LLAVA_COT_100K, RECORDS)}
# The fields that the other sources need, and those that they may have.
_FIELDS = {
    "chats": (("path",), ("root",)),
    "tsv": (("path",), ("root",)),
    "hf": (("path",), ("split", "config", "columns")),
    "scenes": ((), ("split", "seed", "size", "difficulty", "types")),
}
Column = Literal["id", "question", "answer", "options", "image", "hints"]


class SourceEntry(BaseModel):
    """One source of a recipe: where it is, and how many of its records are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(description="The source's name.")
    count: PositiveInt | Literal["all"] | None = Field(None, description="How many records to draw.")
    name: str | None = Field(
        default=None,
        pattern=r"^[\w+-][\w.+-]*$",
        description="Stands before ids and pictures' names (but not those of scenes); tells two entries of "
        "one source apart.",
    )
    root: Path | None = Field(None, description="The folder that the source, or its pictures, are in.")
    path: str | None = Field(
        None, description="A file; for hf a folder or a name on the Hub (`org/name` or `org/name@REVISION`)."
    )
    split: str | None = Field(None, description="One of the source's splits; by default the first.")
    seed: int | None = Field(None, description="Of scenes: which ones.")
    size: PositiveInt | None = Field(
        None, description="Of scenes: how many there are to draw from; by default `count`."
    )
    difficulty: Literal["standard", "hard"] | None = Field(
        None, description="Of scenes: standard (the default), or hard, with up to 12 objects and 8 steps."
    )
    types: tuple[str, ...] | None = Field(
        None, min_length=1, description="Of scenes: the types of question to take; by default all."
    )
    config: str | None = Field(None, description="Of hf: the data set's configuration.")
    columns: dict[Column, str] | None = Field(None, description="Of hf: the columns to read.")

    @model_validator(mode="after")
    def _check_fields(self) -> SourceEntry:
        names = [*SOURCES, *_OTHER_FOLDERS, *_FIELDS]
        if self.source not in names:
            raise ValueError(f"there is no source {self.source!r}; choose one of {', '.join(sorted(names))}")
        required, optional = _FIELDS.get(self.source, (("root",), ("split",)))
        given = self.model_fields_set - {"source", "count", "name"}
        for field in required:
            if field not in given:
                raise ValueError(f"the source {self.source} needs `{field}`")
        for field in sorted(given - {*required, *optional}):
            raise ValueError(f"the source {self.source} takes no `{field}`")
        if self.source == "scenes" and self.size is None and not isinstance(self.count, int):
            raise ValueError("the source scenes needs `size`, how many scenes there are to draw from")
        if self.types is not None:
            from llava_cot.scenes.questions import HARD_TYPES, TYPES

            difficulty = self.difficulty or "standard"
            known = HARD_TYPES if difficulty == "hard" else TYPES
            for name in self.types:
                if name not in known:
                    raise ValueError(
                        f"{difficulty} scenes have no type {name!r}; choose from {', '.join(known)}"
                    )
        return self

    @property
    def label(self) -> str:
        """What the entry is called in a draw: its name, or its file's, or its source's."""
        stem = Path(self.path).stem if self.path else ""
        return self.name or re.sub(r"[^\w.+-]", "_", stem) or self.source

    def located(self, base: Path) -> SourceEntry:
        """The entry with absolute paths: relative ones begin at `base`. Raises DataError."""
        changed: dict[str, object] = {}
        if self.root is not None:
            changed["root"] = base / expanded(str(self.root))
        if self.path is not None:
            path = expanded(self.path)
            hub = self.source == "hf" and not os.path.exists(base / path)  # also for names of any length
            changed["path"] = path if hub else str(base / path)
        return self.model_copy(update=changed)


class DataRecipe(BaseModel):
    """What is drawn. The same seed draws the same records, wherever they are on disk."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, description="The seed of the draw.")
    sources: list[SourceEntry] = Field(min_length=1, description="What to draw from.")
    exclude: list[SourceEntry] = Field([], description="Benchmarks whose questions are left out.")

    @model_validator(mode="after")
    def _check_entries(self) -> DataRecipe:
        for part, entries in (("sources", self.sources), ("exclude", self.exclude)):
            labels = [entry.label for entry in entries]
            for number, entry in enumerate(entries):
                where = f"{part}[{number}] ({entry.label})"
                if part == "sources" and entry.count is None:
                    raise ValueError(f"{where} needs `count`, a number or 'all'")
                if part == "exclude" and entry.count is not None:
                    raise ValueError(f"{where} takes no `count`: all of a benchmark counts")
                if labels.count(entry.label) > 1:
                    raise ValueError(f"two {part} are called {entry.label!r}; give one of them a `name`")
        return self

    def located(self, base: Path) -> DataRecipe:
        """The recipe with absolute paths: relative ones begin at `base`. Raises DataError."""
        located = {
            part: [entry.located(base) for entry in getattr(self, part)] for part in ("sources", "exclude")
        }
        return self.model_copy(update=located)


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
    license: str
    records: Callable[[], Iterator[Record]]


def open_source(entry: SourceEntry) -> OpenedSource:
    """The source of an entry with absolute paths. Raises DataError if a file is missing."""
    if entry.source not in _FIELDS:
        return _open_folder(entry)
    label, path = entry.label, entry.path or ""
    title, home, license = label, "", ""
    read: Callable[[], Iterator[Record]]
    if entry.source == "scenes":
        from llava_cot.data.sources.rendered import LICENSE, read_scenes

        size = entry.size or (entry.count if isinstance(entry.count, int) else 0)
        title, home, license = "Scenes", "llava-cot", LICENSE
        difficulty = entry.difficulty or "standard"
        read = partial(
            read_scenes, entry.split or "train", entry.seed or 0, size, difficulty, entry.types or ()
        )
    elif entry.source == "hf":
        from llava_cot.data.sources.hf import pinned_data_set, read_hf

        path = pinned_data_set(path)
        if not Path(path).exists():
            repo, _, commit = path.partition("@")
            home = f"https://huggingface.co/datasets/{repo}" + (f"/tree/{commit}" if commit else "")
        columns = {str(key): column for key, column in (entry.columns or {}).items()}
        read = partial(read_hf, path, entry.split or "train", entry.config, columns, label)
    elif entry.source == "tsv":
        from llava_cot.data.sources.tsv import read_tsv

        if not Path(path).is_file():
            raise DataError(f"there is no file {path}; VLMEvalKit keeps its own under ~/LMUData")
        read = partial(read_tsv, Path(path), entry.root, label)
    else:
        chat_files(Path(path))  # raises if there is none
        read = partial(read_chats, Path(path), entry.root, label)
    return OpenedSource(label, title, home, license, read)


def _open_folder(entry: SourceEntry) -> OpenedSource:
    source = _OTHER_FOLDERS.get(entry.source) or SOURCES[entry.source]
    root, split = entry.root or Path(), entry.split or source.splits[0]
    if not root.is_dir():
        raise DataError(f"there is no folder {root} for {source.title}; get it from {source.home}")
    source.records(root, split)  # raises if something is missing

    def read() -> Iterator[Record]:
        records = source.records(root, split)
        return (_named(record, entry.name) for record in records) if entry.name else records

    return OpenedSource(entry.label, source.title, source.home, source.license, read)


def _named(record: Record, name: str) -> Record:
    pictures = tuple(replace(picture, name=f"{name}/{picture.name}") for picture in record.pictures)
    return replace(record, id=f"{name}/{record.id}", pictures=pictures)
