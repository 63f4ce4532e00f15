"""The rows of a run: reading the recipe's records, measuring them once, and dropping what is too long."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from llava_cot.core.files import write_whole
from llava_cot.core.wording import plural
from llava_cot.data.record import Record
from llava_cot.errors import DataError
from llava_cot.models.registry import CheckpointFiles
from llava_cot.train.collate import run_order
from llava_cot.train.encode import RowEncoder, RowSize
from llava_cot.train.examine import Examined, OnNote, base_digest, examine
from llava_cot.train.labeled_rows import RowLabel, read_labeled
from llava_cot.train.pairing import is_pair, make_units
from llava_cot.train.recipe import TrainData, TrainRecipe
from llava_cot.train.run_folder import RunFolder

PAIR_COUNTS = ("pairs", "questions_without_pairs")  # of right and wrong answers, where they are compared
_NAMED = 10  # records whose pictures cannot be used, in notes


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
    unreadable_dropped: int = 0
    pairs: int = 0
    questions_without_pairs: int = 0

    def __str__(self) -> str:
        text = f"{self.records:,} records: {self.rows:,} rows of {self.tokens:,} tokens"
        for count, what in (
            (self.dropped_over_long, "over-long dropped"),
            (self.cut_over_long, "over-long cut"),
            (self.without_answer, "without an answer left out"),
            (self.held_out, "held out for evaluation"),
            (self.not_reached, "rows come in none of the run's batches"),
            (self.evaluation_left_out, "over-long or without an answer left out of the evaluation"),
            (self.unreadable_dropped, "with unreadable pictures dropped"),
            (self.pairs, "pairs of a right and a wrong answer"),
            (self.questions_without_pairs, "questions without both"),
        ):
            text += f", {count:,} {what}" if count else ""
        return text


@dataclass
class RowSet:
    """Records with their labels, the size of each, how often it comes in an epoch, a hash of its content."""

    records: list[Record] = field(default_factory=list)
    labels: list[RowLabel] = field(default_factory=list)
    sizes: list[RowSize] = field(default_factory=list)
    repeats: list[float] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

    @property
    def pictured(self) -> list[bool]:
        return [bool(record.pictures) for record in self.records]

    @property
    def lengths(self) -> list[int]:
        return [size.length for size in self.sizes]

    def add(self, record: Record, label: RowLabel, size: RowSize, digest: str, repeat: float = 1.0) -> None:
        self.records.append(record)
        self.labels.append(label)
        self.sizes.append(size)
        self.repeats.append(repeat)
        self.digests.append(digest)


@dataclass(frozen=True)
class TrainingPlan:
    """The rows of a run and their order. A unit is one row, or rows that are in one batch together."""

    rows: RowSet  # to learn
    held: RowSet  # to evaluate on
    units: list[tuple[int, ...]]  # row numbers
    held_units: list[tuple[int, ...]]
    counts: RowCounts
    steps: int
    order: list[int]  # the unit numbers of all steps
    max_tokens: int  # the length at which rows are cut
    per_epoch: float  # units, on average
    per_step: int  # units, over all processes
    base: str  # a hash of the checkpoint to start from

    def contents(self) -> list[list[Any]]:
        """The rows to learn and to evaluate on: id, digest, length, how often each comes in an epoch, and
        whether it is right, where that matters.
        """
        return [
            [record.id, digest, size.length, repeat, kind, *([] if label.right is None else [label.right])]
            for kind, rows in (("train", self.rows), ("evaluate", self.held))
            for record, label, digest, size, repeat in zip(
                rows.records, rows.labels, rows.digests, rows.sizes, rows.repeats, strict=True
            )
        ]


def plan_run(
    recipe: TrainRecipe,
    base: CheckpointFiles,
    context: int,
    encoder: RowEncoder,
    folder: RunFolder,
    here: PartialState,
    note: OnNote,
) -> TrainingPlan:
    """Read and examine the records of a recipe, and plan the run.

    Args:
        base: The checkpoint to start from.
        context: The most tokens that it takes.
        folder: The run's folder, which keeps what was found.
        here: The processes; the first one examines for all.
        note: Called with the progress, and with records whose pictures cannot be used.

    Raises:
        DataError: Records cannot be read, or too few are left; the data of a run to be resumed have changed.
    """
    max_tokens = recipe.max_tokens or context
    if max_tokens > context:
        raise DataError(f"max_tokens: {recipe.model} takes at most {context:,} tokens, not {max_tokens:,}")
    paths = [recipe.evaluate.path] if recipe.evaluate and recipe.evaluate.path else []
    evaluation = [TrainData.model_validate({"path": path}) for path in paths]
    evaluated, evaluated_labels, _ = read_labeled(recipe, evaluation)
    records, labels, repeats = read_labeled(recipe, recipe.data)
    found: list[Any] = [None]
    digest = ""
    if here.is_main_process:
        digest = base_digest((base.folder, *base.adapters), folder.store)
        found = [examine(encoder, [*records, *evaluated], folder.store, recipe, digest, note)]
        _list_unreadable(recipe, [*records, *evaluated], found[0], folder, note)
    if here.num_processes > 1:
        broadcast_object_list(found)
    examined: list[Examined] = found[0]
    room = max_tokens - (recipe.grpo_settings.tokens if recipe.objective == "grpo" else 0)
    rows, held, counts = select(recipe, records, labels, examined[: len(records)], repeats, room)
    for record, label, one in zip(evaluated, evaluated_labels, examined[len(records) :], strict=True):
        if one.problem:
            counts.unreadable_dropped += 1
        elif one.size is not None and one.size.length <= max_tokens:
            held.add(record, label, one.size, one.digest)
        else:
            counts.evaluation_left_out += 1
    if recipe.loss_every and not held:
        raise DataError("evaluate: no record is left to evaluate on; raise share, or name another path")
    units, held_units = make_units(recipe, rows.labels), make_units(recipe, held.labels)
    if recipe.labeled:
        paired = {rows.labels[unit[0]].question for unit in units if is_pair(rows.labels, unit)}
        counts.pairs = sum(is_pair(rows.labels, unit) for unit in units)
        counts.questions_without_pairs = len({label.question for label in rows.labels} - paired)
        for some, made in ((rows, units), (held, held_units)):
            if some and not any(is_pair(some.labels, unit) for unit in made):
                raise DataError(
                    f"{'' if some is rows else 'evaluate: '}no question has both a right and a wrong answer "
                    f"({counts}); sample more answers to each question"
                )
    lengths = [max(rows.sizes[i].length for i in unit) for unit in units]
    unit_repeats = [rows.repeats[unit[0]] for unit in units]
    per_step = recipe.batch * recipe.accumulate * here.num_processes
    per_epoch = sum(unit_repeats)
    steps = recipe.steps or max(1, math.ceil((recipe.epochs or 1) * per_epoch / per_step))
    order = run_order(
        steps=steps,
        batch=per_step,
        pictured=[bool(rows.records[unit[0]].pictures) for unit in units],
        repeats=unit_repeats,
        lengths=lengths if recipe.group_by_length else None,
        seed=recipe.seed,
    )
    counts.not_reached = len(rows) - len({i for unit in set(order) for i in units[unit]})
    return TrainingPlan(
        rows, held, units, held_units, counts, steps, order, max_tokens, per_epoch, per_step, digest
    )


def _list_unreadable(
    recipe: TrainRecipe, records: Sequence[Record], found: Sequence[Examined], folder: RunFolder, note: OnNote
) -> None:
    """List the records whose pictures cannot be used. Raises DataError if the recipe does not drop them."""
    folder.unreadable.unlink(missing_ok=True)
    bad = [(record, one.problem) for record, one in zip(records, found, strict=True) if one.problem]
    if not bad:
        return
    lines = (json.dumps({"id": record.id, "problem": problem}) + "\n" for record, problem in bad)
    write_whole(folder.unreadable, "".join(lines))
    for record, problem in bad[:_NAMED]:
        note(f"in the record {record.id!r}: {problem}")
    if len(bad) > _NAMED:
        note(f"... and in {len(bad) - _NAMED:,} more; {folder.unreadable} has all of them")
    if recipe.unreadable == "refuse":
        raise DataError(
            f"in the record {bad[0][0].id!r}: {bad[0][1]} ({plural(len(bad), 'record')} of this kind in "
            f"{folder.unreadable}; repair the pictures, or set unreadable: drop)"
        )


def select(
    recipe: TrainRecipe,
    records: Sequence[Record],
    labels: Sequence[RowLabel],
    examined: Sequence[Examined],
    repeats: Sequence[float],
    max_tokens: int,
) -> tuple[RowSet, RowSet, RowCounts]:
    """The rows to learn, the rows held out for evaluation, and the counts.

    A record longer than `max_tokens` is dropped, cut at its end, or refused, as the recipe says. One that
    would be cut before its first learned token is dropped. All answers to a question are held out, or none.
    Raises DataError if one is refused, or none left.
    """
    rows, held, counts = RowSet(), RowSet(), RowCounts(records=len(records))
    share = recipe.evaluate.share if recipe.evaluate and recipe.evaluate.share else 0.0
    for record, label, one, repeat in zip(records, labels, examined, repeats, strict=True):
        size = one.size
        if one.problem:
            counts.unreadable_dropped += 1
            continue
        if size is None:
            counts.without_answer += 1
            continue
        if size.length > max_tokens:
            if recipe.over_long == "refuse":
                raise DataError(
                    f"the record {record.id!r} takes {size.length:,} tokens, and {max_tokens:,} are allowed; "
                    "raise max_tokens, or set over_long to drop or cut"
                )
            if recipe.over_long == "drop" or size.first >= max_tokens or size.head > max_tokens:
                counts.dropped_over_long += 1
                continue
            counts.cut_over_long += 1
            size = RowSize(max_tokens, size.head, size.first)
        if share and random.Random(f"{recipe.seed}/held/{label.question}").random() < share:
            counts.held_out += 1
            held.add(record, label, size, one.digest)
        else:
            rows.add(record, label, size, one.digest, repeat)
    counts.rows, counts.tokens = len(rows), sum(rows.lengths)
    if not rows:
        raise DataError(f"no row is left to train on ({counts})")
    return rows, held, counts
