"""The whole of `llava-cot data annotate`: the folder is looked at, the set annotated, the files written.

Owns the order of these. Knows no command line, and shows nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from llava_cot.core.files import write_whole
from llava_cot.data.annotation import parquet
from llava_cot.data.annotation.annotate import End, Progress, annotate
from llava_cot.data.annotation.calls import Budget, Cost, cost_of
from llava_cot.data.annotation.card import card
from llava_cot.data.annotation.estimate import Estimate, Price, estimate
from llava_cot.data.annotation.output import Summary, write_set
from llava_cot.data.annotation.teachers import Teacher
from llava_cot.data.record import Record
from llava_cot.data.store import NAME, Store, check_own
from llava_cot.errors import DataError


@dataclass(frozen=True)
class Done:
    """What was written, what all runs cost together, and how this one ended."""

    summary: Summary
    cost: Cost
    end: End


def check_folder(folder: Path) -> None:
    """Raises DataError or StoreError if a set cannot be begun or gone on with there; makes nothing."""
    parquet.check_installed()
    check_own(folder)


def annotate_to(
    folder: Path,
    records: Iterable[Record],
    teacher: Teacher,
    *,
    at_once: int = 256,
    budget: Budget | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> Done:
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
        write_whole(folder / "README.md", card(summary, teacher, cost, end.why))
    return Done(summary, cost, end)


def estimate_for(folder: Path, records: Iterable[Record], price: Price) -> Estimate:
    """What is still owed in a folder, and what it would take. Raises DataError, StoreError."""
    check_folder(folder)
    if (folder / NAME).is_file():
        with Store(folder) as store:
            return estimate(records, store, price)
    with tempfile.TemporaryDirectory() as nowhere, Store(Path(nowhere)) as store:
        return estimate(records, store, price)
