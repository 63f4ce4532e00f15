"""A folder of judge examples: each question searched once, kept as it comes, and written out at the end.

Owns a run, and what the store keeps of a question. What comes of one question is `duels.py`'s subject,
which are taken and what is written `duel_files.py`'s.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llava_cot.core.question import LoadedImage, Question
from llava_cot.data.annotation.annotate import Progress, key_of, unique
from llava_cot.data.record import Record
from llava_cot.data.rollouts.duel_files import FOUND, Summary, checkable, told, write_files
from llava_cot.data.rollouts.duels import Settings, examples_of
from llava_cot.data.rollouts.scene_labeling import scene_of
from llava_cot.data.room import Room
from llava_cot.data.schedule import run_all
from llava_cot.data.store import Store, check_own
from llava_cot.errors import ImageError, ModelError
from llava_cot.models.base import Model


@dataclass(frozen=True)
class Done:
    """What was written; how many questions `failed` in this run, the last for the reason `why`."""

    summary: Summary
    failed: int
    why: str | None


def make_duels(
    folder: Path,
    records: Iterable[Record],
    model: Model,
    settings: Settings,
    *,
    limit: int | None = None,
    at_once: int = 64,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Done:
    """Search what the folder's store does not have yet, and write the folder's files.

    `records` are gone through twice, so it must be possible to do so. Only the first turn of each is asked: a
    search asks one question at a time, and a later turn may need what was said before. Raises ValueError
    (DataError, StoreError), OSError, and KeyboardInterrupt, after which nothing is written but the store.
    """
    check_own(folder)
    with Store(folder) as store:
        store.agree(told(model.name, settings))
        run = _Run(model, store, settings, on_progress)
        asyncio.run(run.all(records, limit, at_once))
        summary = write_files(folder, records, limit, store, model.name, settings)
    return Done(summary, run.failed, run.why)


class _Run:
    """One run over a set."""

    def __init__(
        self, model: Model, store: Store, settings: Settings, on_progress: Callable[[Progress], None]
    ) -> None:
        self.failed = 0
        self.why: str | None = None
        self._model, self._store, self._settings, self._tell = model, store, settings, on_progress
        self._room = Room()
        self._done = self._fresh = 0
        self._usd = store.total(FOUND, "usd")

    async def all(self, records: Iterable[Record], limit: int | None, at_once: int) -> None:
        self.why = await run_all(self._owed(records, limit), self._one, at_once, lambda: False) or self.why

    def _owed(self, records: Iterable[Record], limit: int | None) -> Iterator[tuple[str, Record]]:
        for record, first in unique(checkable(records, limit), self._store):
            key = key_of(record)
            if not first:
                continue
            if self._store.get(key, FOUND) is None:
                yield key, record
            else:
                self._done += 1
                self._progress()

    async def _one(self, item: tuple[str, Record]) -> str | None:
        """Search one question; what its model could not do, if that was so."""
        key, record = item
        try:
            async with self._room.pictures(record.pictures) as images:
                found = await self._search(key, record, await images())
        except (ImageError, ModelError) as error:
            self.failed += 1
            self.why = f"{record.id}: {error}"
            self._progress()
            return None if isinstance(error, ImageError) else self.why
        self._store.put(key, FOUND, found)
        self._usd += found["usd"] or 0.0
        self._done += 1
        self._fresh += 1
        self._progress()
        return None

    async def _search(self, key: str, record: Record, images: tuple[LoadedImage, ...]) -> dict[str, Any]:
        turn = record.turns[0]
        question = Question(turn.question, images, record.id, turn.options, turn.answer)
        rng = random.Random(f"{self._settings.seed}/{key}")
        found = await examples_of(question, scene_of(record), self._model, self._settings, rng)
        return {
            "examples": [asdict(example) for example in found.examples],
            "stages": {stage: asdict(tally) for stage, tally in found.tallies.items()},
            "calls": found.usage.model_calls,
            "prompt_tokens": found.usage.prompt_tokens,
            "completion_tokens": found.usage.completion_tokens,
            "usd": found.usage.usd,
        }

    def _progress(self) -> None:
        self._tell(Progress(self._done, self._fresh, self.failed, 0, 0, self._usd))
