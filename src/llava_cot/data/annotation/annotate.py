"""`llava-cot data annotate`: annotates every record of a set once, many at a time, and writes the set."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from llava_cot.core.files import write_whole
from llava_cot.data.annotation.estimate import Estimate, Price, estimate
from llava_cot.data.annotation.output import AnnotationSummary, check_installed, data_card, write_set
from llava_cot.data.annotation.procedure import (
    RETRIED,
    AnnotationBudget,
    CallCost,
    TeacherCalls,
    TurnOutcome,
    annotate_turns,
    cost_of,
    save_outcomes,
    saved_outcomes,
)
from llava_cot.data.annotation.teachers import Teacher
from llava_cot.data.record import Record, record_key
from llava_cot.data.schedule import ImagePool, run_interruptible
from llava_cot.data.store import STORE_FILE, Store, check_store_folder, unique_records
from llava_cot.errors import AnnotationStopped, DataError, ModelFailure, ModelUnavailable


@dataclass
class AnnotationProgress:
    """The state of a run: `fresh` counts the records of this run, the failed ones stay pending.

    `turns` and `rejected` count the turns of the done records; `usd` is the cost of all runs.
    """

    done: int = 0
    fresh: int = 0
    failed: int = 0
    turns: int = 0
    rejected: int = 0
    usd: float = 0.0


@dataclass(frozen=True)
class AnnotationResult:
    """What was written, what all runs cost together, and how this one ended."""

    summary: AnnotationSummary
    cost: CallCost
    why: str | None  # it ended before all records were done
    failed: int  # records, which stay pending
    gave_up: bool  # the teacher failed too many times in a row, or will not answer any more
    failures: Mapping[str, int] = field(default_factory=dict)  # the failed records, by reason

    @property
    def complete(self) -> bool:
        """Whether nothing failed, and not every turn was rejected."""
        all_rejected = self.summary.rejected.total() > 0 and not self.summary.records
        refused = self.summary.rejected["refused"]
        return not (self.failed or self.gave_up or refused or all_rejected)


def check_folder(folder: Path) -> None:
    """Check that a set can be begun or resumed in a folder. Raises DataError and StoreError."""
    check_installed()
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
    """Annotate records into a folder, or resume that, and write the folder's files.

    Replies and outcomes are saved as they arrive; a record whose calls fail is skipped and stays pending. The
    folder is new, empty, or of an earlier run with the same teacher. Records are iterated over twice, so not
    an iterator. `budget` is the most that all runs may cost. `on_progress` is called after each record, and
    `on_interrupt` at Ctrl-C, after which calls in progress are still waited for.

    Raises:
        DataError, StoreError, ModelError, OSError: It cannot be done.
        KeyboardInterrupt: After Ctrl-C; then only the store is up to date.
    """
    if iter(records) is records:
        raise DataError("the records are needed twice; pass a list, or an object that reads them anew")
    if at_once < 1:
        raise DataError(f"--at-once is {at_once}; at least 1 question must be in flight")
    if budget is not None and budget.usd is not None and not teacher.priced:
        raise DataError(
            f"there is no price for {teacher.name}, so a budget in money means nothing; put one into your "
            "endpoints.yaml, or give a number of questions"
        )
    check_folder(folder)
    with Store(folder) as store:
        store.match_settings({"purpose": "annotating"} | teacher.settings)
        run = _AnnotationRun(teacher, store, TeacherCalls(store, budget or AnnotationBudget()), on_progress)
        failure = asyncio.run(run.all(records, at_once, on_interrupt))
        summary, cost, why = write_set(records, store, folder), cost_of(store), failure or run.calls.ended
        failures = dict(run.failures.most_common())
        write_whole(folder / "README.md", data_card(summary, teacher, cost, why, failures))
    return AnnotationResult(summary, cost, why, run.progress.failed, failure is not None, failures)


def estimate_for(folder: Path, records: Iterable[Record], price: Price) -> Estimate:
    """Estimate what is still pending in a folder, and what it would cost. Raises DataError and StoreError."""
    check_folder(folder)
    with tempfile.TemporaryDirectory() as empty:
        store_folder = folder if (folder / STORE_FILE).is_file() else Path(empty)
        with Store(store_folder) as store:
            return estimate(records, store, price)


@dataclass(frozen=True)
class _AnnotationRun:
    """One run over a set: its calls, its pictures, and its progress."""

    teacher: Teacher
    store: Store
    calls: TeacherCalls
    on_progress: Callable[[AnnotationProgress], None]
    images: ImagePool = field(default_factory=ImagePool)
    progress: AnnotationProgress = field(default_factory=AnnotationProgress)
    failures: Counter[str] = field(default_factory=Counter)

    async def all(
        self, records: Iterable[Record], at_once: int, on_interrupt: Callable[[], None]
    ) -> str | None:
        """Annotate what the store does not have yet; returns the teacher's last failure if it gave up."""

        def interrupt() -> None:
            self.calls.stop = self.calls.stop or "it was interrupted"
            on_interrupt()

        return await run_interruptible(
            self.pending(records), self.one, at_once, lambda: self.calls.ended is not None, interrupt
        )

    def pending(self, records: Iterable[Record]) -> Iterator[tuple[str, Record]]:
        """The records that are not done, with their keys."""
        for record, first in unique_records(records, self.store):
            if not first:
                continue
            key = record_key(record)
            known = saved_outcomes(self.store, key)
            if known is None or any(turn.why in RETRIED for turn in known):
                yield key, record
            else:
                self._count(known)

    async def one(self, item: tuple[str, Record]) -> str | None:
        """Annotate one record; returns the teacher's failure, if there was one."""
        key, record = item
        try:
            async with self.images.open(record.pictures) as images:
                outcomes = await annotate_turns(record, key, self.teacher, self.calls, images)
        except AnnotationStopped:
            return None
        except ModelFailure as failure:
            self.progress.failed += 1
            self.failures[str(failure)] += 1
            self._report()
            return str(failure)
        except ModelUnavailable as error:
            self.calls.stop = self.calls.stop or str(error)
            raise
        save_outcomes(self.store, key, outcomes)
        self.progress.fresh += 1
        self._count(outcomes)
        return next((turn.reason for turn in outcomes if turn.why == "refused"), None)

    def _count(self, outcomes: list[TurnOutcome]) -> None:
        self.progress.done += 1
        self.progress.turns += len(outcomes)
        self.progress.rejected += sum(turn.text is None for turn in outcomes)
        self._report()

    def _report(self) -> None:
        self.on_progress(replace(self.progress, usd=self.calls.usd))
