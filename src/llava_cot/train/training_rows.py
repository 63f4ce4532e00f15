"""The rows of a run: reading the recipe's records, measuring them once, and dropping what is too long."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch.utils.data import Dataset

from llava_cot.core.files import write_whole
from llava_cot.data.reading import RecordFile
from llava_cot.data.record import Record
from llava_cot.errors import DataError
from llava_cot.train.collate import run_order
from llava_cot.train.encode import RowEncoder, RowSize, TrainingRow
from llava_cot.train.recipe import TrainRecipe

OnNote = Callable[[str], None]  # called with a sentence for the user
_NOTE_EVERY = 10_000  # records


@dataclass
class RowCounts:
    """What became of the records. `tokens` are those of the training rows, images included."""

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
        text = f"{self.records:,} records: {self.rows:,} rows of {self.tokens:,} tokens"
        for count, what in (
            (self.dropped_over_long, "over-long dropped"),
            (self.cut_over_long, "over-long cut"),
            (self.without_answer, "without an answer left out"),
            (self.held_out, "held out for evaluation"),
            (self.not_reached, "rows come in none of the run's batches"),
            (self.evaluation_left_out, "over-long or without an answer left out of the evaluation"),
        ):
            text += f", {count:,} {what}" if count else ""
        return text


@dataclass
class RowSet:
    """Records with the size of each and how often it comes in an epoch."""

    records: list[Record] = field(default_factory=list)
    sizes: list[RowSize] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def pictured(self) -> list[bool]:
        return [bool(record.pictures) for record in self.records]

    @property
    def lengths(self) -> list[int]:
        return [size.length for size in self.sizes]

    def add(self, record: Record, size: RowSize, repeat: float = 1.0) -> None:
        self.records.append(record)
        self.sizes.append(size)
        self.repeats.append(repeat)


@dataclass(frozen=True)
class TrainingPlan:
    """The rows of a run and their order."""

    rows: RowSet  # to learn
    held: RowSet  # to evaluate on
    counts: RowCounts
    steps: int
    order: list[int]  # the row numbers of all steps
    max_tokens: int  # the length at which rows are cut
    per_epoch: float  # rows, on average
    per_step: int  # rows, over all processes

    def digest(self) -> str:
        """A hash of the rows to learn, which is that of the first run if a resumed one has the same data."""
        parts = [
            [record.id, size.length] for record, size in zip(self.rows.records, self.rows.sizes, strict=True)
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


class BatchDataset(Dataset[list[TrainingRow]]):
    """Rows in batches, given by their numbers; each is encoded when it is read."""

    def __init__(
        self, encoder: RowEncoder, rows: RowSet, batches: Sequence[Sequence[int]], max_tokens: int
    ) -> None:
        self._encoder, self._rows, self._batches, self._max_tokens = encoder, rows, batches, max_tokens

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, at: int) -> list[TrainingRow]:
        return [self._encoder.row(self._rows.records[i], self._max_tokens) for i in self._batches[at]]


def plan_run(
    recipe: TrainRecipe,
    base: Path,
    context: int,
    encoder: RowEncoder,
    cache: Path,
    here: PartialState,
    note: OnNote,
) -> TrainingPlan:
    """Read and measure the records of a recipe, and plan the run.

    Args:
        base: The folder of the checkpoint to start from.
        context: The most tokens that it takes.
        cache: The file to keep the sizes of records in.
        here: The processes; the first one measures for all.
        note: Called with the progress of measuring.

    Raises:
        DataError: Records cannot be read, or too few are left.
    """
    max_tokens = recipe.max_tokens or context
    if max_tokens > context:
        raise DataError(f"max_tokens: {base.name} takes at most {context:,} tokens, not {max_tokens:,}")
    files = [RecordFile(data.path) for data in recipe.data]
    evaluation = [RecordFile(recipe.evaluate.path)] if recipe.evaluate and recipe.evaluate.path else []
    read = [list(file) for file in files]
    records = [record for some in read for record in some]
    repeats = [data.repeat for data, some in zip(recipe.data, read, strict=True) for _ in some]
    evaluated = [record for file in evaluation for record in file]
    found: list[Any] = [None]
    if here.is_main_process:
        key = cache_key([file.file for file in (*files, *evaluation)], base, recipe)
        found = [measure(encoder, [*records, *evaluated], cache, key, note)]
    if here.num_processes > 1:
        broadcast_object_list(found)
    sizes: list[RowSize | None] = found[0]
    rows, held, counts = select(recipe, records, sizes[: len(records)], repeats, max_tokens)
    for record, size in zip(evaluated, sizes[len(records) :], strict=True):
        if size is not None and size.length <= max_tokens:
            held.add(record, size)
        else:
            counts.evaluation_left_out += 1
    if recipe.evaluate and not held:
        raise DataError("evaluate: no record is left to evaluate on; raise share, or name another path")
    per_step = recipe.batch * recipe.accumulate * here.num_processes
    per_epoch = sum(rows.repeats)
    steps = recipe.steps or max(1, math.ceil((recipe.epochs or 1) * per_epoch / per_step))
    order = run_order(
        steps=steps,
        batch=per_step,
        pictured=rows.pictured,
        repeats=rows.repeats,
        lengths=rows.lengths if recipe.group_by_length else None,
        seed=recipe.seed,
    )
    counts.not_reached = len(rows) - len(set(order))
    return TrainingPlan(rows, held, counts, steps, order, max_tokens, per_epoch, per_step)


def measure(
    encoder: RowEncoder, records: Sequence[Record], cache: Path, key: str, note: OnNote
) -> list[RowSize | None]:
    """The size of each record, saved in the file `cache` under the key."""
    if cache.is_file():
        saved = json.loads(cache.read_text(encoding="utf-8"))
        if saved["key"] == key and len(saved["sizes"]) == len(records):
            return [RowSize(*size) if size else None for size in saved["sizes"]]
    sizes = []
    for done, record in enumerate(records, 1):
        sizes.append(encoder.size(record))
        if done % _NOTE_EVERY == 0:
            note(f"measured {done:,} of {len(records):,} records")
    cache.parent.mkdir(parents=True, exist_ok=True)
    shown = [list(asdict(size).values()) if size else None for size in sizes]
    write_whole(cache, json.dumps({"key": key, "sizes": shown}))
    return sizes


def cache_key(files: Sequence[Path], model: Path, recipe: TrainRecipe) -> str:
    """A key that changes with everything that a size depends on."""
    parts: list[Any] = [recipe.target, recipe.double_bos]
    for file in (*files, *sorted(path for path in model.iterdir() if path.suffix in (".json", ".jinja"))):
        about = file.stat()
        parts.append([str(file.resolve()), about.st_size, about.st_mtime_ns])
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def select(
    recipe: TrainRecipe,
    records: Sequence[Record],
    sizes: Sequence[RowSize | None],
    repeats: Sequence[float],
    max_tokens: int,
) -> tuple[RowSet, RowSet, RowCounts]:
    """The rows to learn, the rows held out for evaluation, and the counts.

    A record longer than `max_tokens` is dropped, cut at its end, or refused, as the recipe says. One that
    would be cut before its first learned token is dropped. Raises DataError if one is refused, or none left.
    """
    rows, held, counts = RowSet(), RowSet(), RowCounts(records=len(records))
    share = recipe.evaluate.share if recipe.evaluate and recipe.evaluate.share else 0.0
    for record, size, repeat in zip(records, sizes, repeats, strict=True):
        if size is None:
            counts.without_answer += 1
            continue
        if size.length > max_tokens:
            if recipe.over_long == "refuse":
                raise DataError(
                    f"the record {record.id!r} takes {size.length:,} tokens, and {max_tokens:,} are allowed; "
                    "raise max_tokens, or set over_long to drop or cut"
                )
            if recipe.over_long == "drop" or size.first >= max_tokens:
                counts.dropped_over_long += 1
                continue
            counts.cut_over_long += 1
            size = RowSize(max_tokens, size.head, size.first)
        if share and random.Random(f"{recipe.seed}/held/{record.id}").random() < share:
            counts.held_out += 1
            held.add(record, size)
        else:
            rows.add(record, size, repeat)
    counts.rows, counts.tokens = len(rows), sum(rows.lengths)
    if not rows:
        raise DataError(f"no row is left to train on ({counts})")
    return rows, held, counts
