"""Annotating a set: every record once, many at a time, kept as it comes.

Owns a run, and what the store keeps of a record. What is done with one conversation is in `procedure.py`,
calls and what they cost in `calls.py`, what is written out at the end in `output.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from json import dumps
from typing import Any

from llava_cot.data.annotation.calls import Budget, Calls, Stopped
from llava_cot.data.annotation.procedure import AGAIN, Outcome, conversation
from llava_cot.data.annotation.teachers import Teacher
from llava_cot.data.record import Record
from llava_cot.data.room import Room
from llava_cot.data.schedule import run_interruptible
from llava_cot.data.store import Store
from llava_cot.errors import ModelFailure

OUTCOME = "record"  # the store's kind for what became of a record


@dataclass(frozen=True)
class End:
    """How a run ended: `why` it was before the end, if it was; how many records `failed`, and are owed still.

    `gave_up` is true if the teacher could do nothing any more.
    """

    why: str | None
    failed: int
    gave_up: bool


@dataclass(frozen=True)
class Progress:
    """How far a run is. `done` counts settled records and `turns` theirs, those of earlier runs among them;
    `fresh` the ones of this run, `failed` those that stay owed."""

    done: int
    fresh: int
    failed: int
    turns: int
    rejected: int
    usd: float


def key_of(record: Record) -> str:
    """The record's key: its id, and a hash of what is asked, so that a question that changed is a new one."""
    asked = [[turn.question, turn.answer, turn.options, turn.hints] for turn in record.turns]
    names = [picture.name for picture in record.pictures]
    return f"{dumps(record.id)[1:-1]} {sha256(dumps([asked, names]).encode()).hexdigest()[:16]}"


def outcomes(store: Store, key: str) -> list[Outcome] | None:
    """What became of the record's turns, None if it is still owed."""
    kept = store.get(key, OUTCOME)
    return None if kept is None else [Outcome(**turn) for turn in kept]


def unique(records: Iterable[Record], store: Store) -> Iterator[tuple[Record, bool]]:
    """The records, each with whether it is the first of its id; only that one counts."""
    first = store.first_times()
    for record in records:
        yield record, first(record.id)


async def annotate(
    records: Iterable[Record],
    teacher: Teacher,
    store: Store,
    *,
    at_once: int = 256,
    budget: Budget | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_interrupt: Callable[[], None] = lambda: None,
) -> End:
    """Annotate what the store does not have yet.

    Replies are kept in the store as they come, and what became of each record. A record whose calls fail is
    passed over and stays owed. Records are taken as there is room for them, so there may be any number.
    Raises ValueError (ModelError, DataError, StoreError), and KeyboardInterrupt after a Ctrl-C once what was
    asked has been answered.
    """
    store.agree({"purpose": "annotating"} | teacher.settings)
    run = _Run(teacher, store, budget or Budget(), on_progress)

    def interrupt() -> None:
        run.calls.stop = run.calls.stop or "it was interrupted"
        on_interrupt()

    failure = await run_interruptible(
        run.owed(records), run.one, at_once, lambda: run.calls.ended is not None, interrupt
    )
    return End(failure or run.calls.ended, run.failed, failure is not None)


class _Run:
    """One run over a set: its calls, its pictures, and how far it is."""

    def __init__(
        self, teacher: Teacher, store: Store, budget: Budget, on_progress: Callable[[Progress], None]
    ) -> None:
        self.calls = Calls(store, budget)
        self._teacher, self._store, self._tell = teacher, store, on_progress
        self._room = Room()
        self._done = self._fresh = self.failed = self._turns = self._rejected = 0

    def owed(self, records: Iterable[Record]) -> Iterator[tuple[str, Record]]:
        """The records that are not settled, with their keys."""
        for record, first in unique(records, self._store):
            if not first:
                continue
            key = key_of(record)
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
            async with self._room.pictures(record.pictures) as images:
                found = await conversation(record, key, self._teacher, self.calls, images)
        except Stopped:
            return None
        except ModelFailure as failure:
            self.failed += 1
            self._progress()
            return str(failure)
        kept: list[dict[str, Any]] = [
            {"text": turn.text} if turn.text is not None else {"why": turn.why, "reason": turn.reason}
            for turn in found
        ]
        self._store.put(key, OUTCOME, kept)
        self._done += 1
        self._fresh += 1
        self._turns += len(found)
        self._rejected += sum(turn.text is None for turn in found)
        self._progress()
        return next((turn.reason for turn in found if turn.why == "refused"), None)

    def _progress(self) -> None:
        self._tell(
            Progress(self._done, self._fresh, self.failed, self._turns, self._rejected, self.calls.usd)
        )
