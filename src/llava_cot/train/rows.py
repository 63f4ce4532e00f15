"""The rows of a run: its records, how long each will be, and what becomes of those that are too long.

Owns reading the files that a recipe names, measuring them once, and the count of all that is left out.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from llava_cot.core.files import write_whole
from llava_cot.data.record import Record
from llava_cot.errors import DataError
from llava_cot.train.encode import Row, RowEncoder, Size
from llava_cot.train.recipe import Recipe

Progress = Callable[[int, int], None]  # records done, of how many


@dataclass
class Counts:
    """What became of the records. `tokens` are those of the rows that are kept, images included."""

    records: int = 0
    rows: int = 0
    tokens: int = 0
    dropped_over_long: int = 0
    cut_over_long: int = 0
    without_answer: int = 0
    held_out: int = 0
    not_reached: int = 0
    evaluation_left_out: int = 0

    def __str__(self) -> str:
        told = f"{self.records:,} records: {self.rows:,} rows of {self.tokens:,} tokens"
        for count, what in (
            (self.dropped_over_long, "over-long dropped"),
            (self.cut_over_long, "over-long cut"),
            (self.without_answer, "without an answer left out"),
            (self.held_out, "kept for evaluation"),
            (self.not_reached, "rows come in none of the run's batches"),
            (self.evaluation_left_out, "over-long or without an answer left out of the evaluation"),
        ):
            told += f", {count:,} {what}" if count else ""
        return told


@dataclass
class Rows:
    """Records to train on, with the size of each and how often it comes in an epoch."""

    records: list[Record] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def pictured(self) -> list[bool]:
        return [bool(record.pictures) for record in self.records]

    @property
    def lengths(self) -> list[int]:
        return [size.length for size in self.sizes]

    def add(self, record: Record, size: Size, repeat: float) -> None:
        self.records.append(record)
        self.sizes.append(size)
        self.repeats.append(repeat)


class RunSet(Dataset[Row]):
    """The rows of a run in the order of a list, each encoded when it is asked for."""

    def __init__(self, encoder: RowEncoder, rows: Rows, order: Sequence[int], most: int) -> None:
        self._encoder, self._rows, self._order, self._most = encoder, rows, order, most

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, at: int) -> Row:
        return self._encoder.row(self._rows.records[self._order[at]], self._most)


class BatchSet(Dataset[list[Row]]):
    """Rows in batches that are made already."""

    def __init__(self, encoder: RowEncoder, rows: Rows, batches: Sequence[Sequence[int]], most: int) -> None:
        self._encoder, self._rows, self._batches, self._most = encoder, rows, batches, most

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, at: int) -> list[Row]:
        return [self._encoder.row(self._rows.records[i], self._most) for i in self._batches[at]]


def measured(
    encoder: RowEncoder, records: Sequence[Record], cache: Path, key: str, on_progress: Progress
) -> list[Size | None]:
    """The size of each record; kept in the file `cache` under the key."""
    if cache.is_file():
        kept = json.loads(cache.read_text(encoding="utf-8"))
        if kept["key"] == key and len(kept["sizes"]) == len(records):
            return [Size(*size) if size else None for size in kept["sizes"]]
    sizes = []
    for done, record in enumerate(records, 1):
        sizes.append(encoder.size(record))
        on_progress(done, len(records))
    shown = [list(asdict(size).values()) if size else None for size in sizes]
    write_whole(cache, json.dumps({"key": key, "sizes": shown}))
    return sizes


def cache_key(files: Sequence[Path], model: Path, recipe: Recipe) -> str:
    """Changes whenever a size might."""
    parts: list[Any] = [recipe.target, recipe.double_bos]
    for file in (*files, *sorted(path for path in model.iterdir() if path.suffix in (".json", ".jinja"))):
        about = file.stat()
        parts.append([str(file.resolve()), about.st_size, about.st_mtime_ns])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def choose(
    recipe: Recipe,
    records: Sequence[Record],
    sizes: Sequence[Size | None],
    repeats: Sequence[float],
    most: int,
) -> tuple[Rows, Rows, Counts]:
    """Rows to learn, rows held out for evaluation, and the counts. Raises DataError if none is left.

    A record that is too long for `most` tokens is dropped, cut at its end, or refused, as the recipe says;
    one whose pictures or question alone are too long is dropped where it would be cut.
    """
    rows, held, counts = Rows(), Rows(), Counts(records=len(records))
    share = recipe.evaluate.share if recipe.evaluate and recipe.evaluate.share else 0.0
    for record, size, repeat in zip(records, sizes, repeats, strict=True):
        if size is None:
            counts.without_answer += 1
            continue
        if size.length > most:
            if recipe.over_long == "refuse":
                raise DataError(
                    f"the record {record.id!r} takes {size.length:,} tokens, and {most:,} are allowed; "
                    "raise max_tokens, or set over_long to drop or cut"
                )
            if recipe.over_long == "drop" or size.first >= most:
                counts.dropped_over_long += 1
                continue
            counts.cut_over_long += 1
            size = Size(most, size.head, size.first)
        if share and random.Random(f"{recipe.seed}/held/{record.id}").random() < share:
            counts.held_out += 1
            held.add(record, size, 1.0)
        else:
            rows.add(record, size, repeat)
    counts.rows, counts.tokens = len(rows), sum(rows.lengths)
    if not rows:
        raise DataError(f"nothing is left to train on ({counts})")
    return rows, held, counts
