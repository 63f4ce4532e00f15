"""Annotating a set: every record once, many at a time, kept as it comes.

Owns a run, and what the store keeps of a record. What is done with one conversation is in `procedure.py`,
calls and what they cost in `calls.py`, what is written out at the end in `output.py`.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llava_cot.core.files import write_whole
from llava_cot.data.annotation import output as parquet
from llava_cot.data.annotation.data_card import data_card
from llava_cot.data.annotation.estimate import Estimate, Price, estimate
from llava_cot.data.annotation.output import AnnotationSummary, write_set
from llava_cot.data.annotation.procedure import (
    AGAIN,
    OUTCOME_KIND,
    AnnotationBudget,
    AnnotationStopped,
    CallCost,
    TeacherCalls,
    conversation,
    cost_of,
    outcomes,
)
from llava_cot.data.annotation.teachers import Teacher
from llava_cot.data.record import Record, record_key
from llava_cot.data.schedule import ImagePool, run_interruptible
from llava_cot.data.store import STORE_FILE, Store, check_store_folder, unique_records
from llava_cot.errors import DataError, ModelFailure


@dataclass(frozen=True)
class AnnotationEnd:
    """How a run ended: `why` it was before the end, if it was; how many records `failed`, and are owed still.

    `gave_up` is true if the teacher could do nothing any more.
    """

    why: str | None
    failed: int
    gave_up: bool


@dataclass(frozen=True)
class AnnotationProgress:
    """How far a run is. `done` counts settled records and `turns` theirs, those of earlier runs among them;
    `fresh` the ones of this run, `failed` those that stay owed."""

    done: int
    fresh: int
    failed: int
    turns: int
    rejected: int
    usd: float


async def annotate(
    records: Iterable[Record],
    teacher: Teacher,
    store: Store,
    *,
    at_once: int = 256,
    budget: AnnotationBudget | None = None,
    on_progress: Callable[[AnnotationProgress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> AnnotationEnd:
    """Annotate what the store does not have yet.

    Replies are kept in the store as they come, and what became of each record. A record whose calls fail is
    passed over and stays owed. Records are taken as there is room for them, so there may be any number.
    Raises ValueError (ModelError, DataError, StoreError), and KeyboardInterrupt after a Ctrl-C once what was
    asked has been answered.
    """
    store.match_settings({"purpose": "annotating"} | teacher.settings)
    run = _Run(teacher, store, budget or AnnotationBudget(), on_progress)

    def interrupt() -> None:
        run.calls.stop = run.calls.stop or "it was interrupted"
        on_interrupt()

    failure = await run_interruptible(
        run.owed(records), run.one, at_once, lambda: run.calls.ended is not None, interrupt
    )
    return AnnotationEnd(failure or run.calls.ended, run.failed, failure is not None)


class _Run:
    """One run over a set: its calls, its pictures, and how far it is."""

    def __init__(
        self,
        teacher: Teacher,
        store: Store,
        budget: AnnotationBudget,
        on_progress: Callable[[AnnotationProgress], None],
    ) -> None:
        self.calls = TeacherCalls(store, budget)
        self._teacher, self._store, self._tell = teacher, store, on_progress
        self._room = ImagePool()
        self._done = self._fresh = self.failed = self._turns = self._rejected = 0

    def owed(self, records: Iterable[Record]) -> Iterator[tuple[str, Record]]:
        """The records that are not settled, with their keys."""
        for record, first in unique_records(records, self._store):
            if not first:
                continue
            key = record_key(record)
            known = outcomes(self._store, key)
            if known is None or any(turn.why in AGAIN for turn in known):
                yield key, record
            else:
                self._done += 1
                self._turns += len(known)
                self._rejected += sum(turn.text is None for turn in known)
                self._progress()

    async def one(self, item: tuple[str, Record]) -> str | None:
        """Annotate one record; what its model could not do, if that was so."""
        key, record = item
        try:
            async with self._room.open(record.pictures) as images:
                found = await conversation(record, key, self._teacher, self.calls, images)
        except AnnotationStopped:
            return None
        except ModelFailure as failure:
            self.failed += 1
            self._progress()
            return str(failure)
        kept: list[dict[str, Any]] = [
            {"text": turn.text} if turn.text is not None else {"why": turn.why, "reason": turn.reason}
            for turn in found
        ]
        self._store.put(key, OUTCOME_KIND, kept)
        self._done += 1
        self._fresh += 1
        self._turns += len(found)
        self._rejected += sum(turn.text is None for turn in found)
        self._progress()
        return next((turn.reason for turn in found if turn.why == "refused"), None)

    def _progress(self) -> None:
        self._tell(
            AnnotationProgress(
                self._done, self._fresh, self.failed, self._turns, self._rejected, self.calls.usd
            )
        )


@dataclass(frozen=True)
class AnnotationResult:
    """What was written, what all runs cost together, and how this one ended."""

    summary: AnnotationSummary
    cost: CallCost
    end: AnnotationEnd


def check_folder(folder: Path) -> None:
    """Raises DataError or StoreError if a set cannot be begun or gone on with there; makes nothing."""
    parquet.check_installed()
    check_store_folder(folder)


def annotate_to(
    folder: Path,
    records: Iterable[Record],
    teacher: Teacher,
    *,
    at_once: int = 256,
    budget: AnnotationBudget | None = None,
    on_progress: Callable[[AnnotationProgress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> AnnotationResult:
    """Annotate records into a folder, or go on with it, and write its files.

    `records` are gone through twice, so it must be possible to do so. Raises ValueError (DataError,
    StoreError, ModelError), OSError, and KeyboardInterrupt, after which nothing is written but the store.
    """
    if iter(records) is records:
        raise DataError("the records are needed twice; give a list, or something that reads them anew")
    if at_once < 1:
        raise DataError(f"--at-once is {at_once}; at least 1 question must be in flight")
    if budget is not None and budget.usd is not None and not teacher.priced:
        raise DataError(
            f"there is no price for {teacher.name}, so a budget in money means nothing; put one into your "
            "endpoints.yaml, or give a number of questions"
        )
    check_folder(folder)
    with Store(folder) as store:
        end = asyncio.run(
            annotate(
                records, teacher, store,
                at_once=at_once, budget=budget, on_progress=on_progress, on_interrupt=on_interrupt,
            )
        )  # fmt: skip
        summary = write_set(records, store, folder)
        cost = cost_of(store)
        write_whole(folder / "README.md", data_card(summary, teacher, cost, end.why))
    return AnnotationResult(summary, cost, end)


def estimate_for(folder: Path, records: Iterable[Record], price: Price) -> Estimate:
    """What is still owed in a folder, and what it would take. Raises DataError, StoreError."""
    check_folder(folder)
    if (folder / STORE_FILE).is_file():
        with Store(folder) as store:
            return estimate(records, store, price)
    with tempfile.TemporaryDirectory() as nowhere, Store(Path(nowhere)) as store:
        return estimate(records, store, price)
