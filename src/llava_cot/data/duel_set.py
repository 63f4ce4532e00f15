"""A folder of judge examples: each question searched once, kept as it comes, and written out at the end.

Owns a run, which questions are taken, and the folder's layout. What comes of one question is `duels.py`'s
subject. All that is written depends on the questions and the store alone, so however often the work was
broken off, the same files come of it.

    train.jsonl   a line an example (`records.to_json`): the judge's prompt and the reply to learn
    images/       the pictures of those that a judge is shown pictures with
    duels.json    counts by stage, settings and cost
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from llava_cot.data.annotate import Progress, key_of, unique
from llava_cot.data.duels import Settings, examples_of
from llava_cot.data.labelling import scene_of
from llava_cot.data.output import placed
from llava_cot.data.records import Record, Turn, to_json
from llava_cot.data.room import Room
from llava_cot.data.schedule import run_all
from llava_cot.files import whole, write_whole
from llava_cot.images import ImageError
from llava_cot.judges.prompts import CONSTANT_PIECES
from llava_cot.models.base import Model, ModelError
from llava_cot.question import LoadedImage, Question
from llava_cot.store import Store, check_own

_FOUND = "examples"  # the store's kind for what came of a question
# A standard answer with more words than this is a text of its own: no comparing of words tells what is right.
_WORDS = 8


@dataclass
class Summary:
    """What a folder holds. `left_out` counts records by the reason why nothing is asked of them, `owed` those
    that are still to be searched, `stages` has counts by stage, `checks` verdicts, `gaps` how many duels
    have which difference between the worths ("truth" where they did not decide)."""

    questions: int = 0
    owed: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    duels: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Counter[str]] = field(default_factory=dict)
    gaps: dict[str, Counter[str]] = field(default_factory=dict)
    usage: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Done:
    """What was written; how many questions `failed` in this run, the last for the reason `why`."""

    summary: Summary
    failed: int
    why: str | None


def why_not(record: Record) -> str | None:
    """Why nothing is asked about a record: its first turn's answer could not be checked. None if it could."""
    turn = record.turns[0] if record.turns else None
    if turn is None or not (turn.answer or "").strip():
        return "no standard answer"
    if not turn.options and len((turn.answer or "").split()) > _WORDS:
        return f"an answer of more than {_WORDS} words, which cannot be checked"
    return None


def checkable(records: Iterable[Record], limit: int | None) -> Iterator[Record]:
    """The first `limit` records whose answers can be checked."""
    return islice((record for record in records if why_not(record) is None), limit)


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
        store.agree(_told(model.name, settings))
        run = _Run(model, store, settings, on_progress)
        asyncio.run(run.all(records, limit, at_once))
        summary = _write(folder, records, limit, store, model.name, settings)
    return Done(summary, run.failed, run.why)


def _told(model: str, settings: Settings) -> dict[str, str]:
    """The settings that a set was begun with, and is gone on with."""
    words = sha256("\0".join(CONSTANT_PIECES).encode()).hexdigest()[:12]
    sampling = settings.sampling
    told = {key: str(value) for key, value in asdict(settings).items() if key not in ("stages", "sampling")}
    return {"purpose": "duels", "model": model} | told | {
        "stages": ",".join(settings.stages),
        "sampling": f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, "
        f"at most {sampling.max_tokens} tokens",
        "prompts": words,
    }  # fmt: skip


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
        self._usd = store.total(_FOUND, "usd")

    async def all(self, records: Iterable[Record], limit: int | None, at_once: int) -> None:
        self.why = await run_all(self._owed(records, limit), self._one, at_once, lambda: False) or self.why

    def _owed(self, records: Iterable[Record], limit: int | None) -> Iterator[tuple[str, Record]]:
        for record, first in unique(checkable(records, limit), self._store):
            key = key_of(record)
            if not first:
                continue
            if self._store.get(key, _FOUND) is None:
                yield key, record
            else:
                self._done += 1
                self._progress()

    async def _one(self, item: tuple[str, Record]) -> str | None:
        """Search one question; what its model could not do, if that was so."""
        key, record = item
        try:
            async with self._room.pictures(record) as images:
                found = await self._search(key, record, await images())
        except (ImageError, ModelError) as error:
            self.failed += 1
            self.why = f"{record.id}: {error}"
            self._progress()
            return None if isinstance(error, ImageError) else self.why
        self._store.put(key, _FOUND, found)
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


def _write(
    folder: Path, records: Iterable[Record], limit: int | None, store: Store, model: str, settings: Settings
) -> Summary:
    """Write pictures, `duels.json` and, last, `train.jsonl`."""
    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    summary = Summary()
    with whole(folder / "train.jsonl") as part:
        with part.open("w", encoding="utf-8") as lines:
            for record, first in unique(_counted(records, limit, summary), store):
                if not first:
                    summary.left_out["the id of an earlier one"] += 1
                    continue
                found = store.get(key_of(record), _FOUND)
                if found is None:
                    summary.owed += 1
                    continue
                for example in _examples(record, found, folder, model):
                    lines.write(json.dumps(to_json(example)) + "\n")
                _count(summary, found)
        for name in ("calls", "prompt_tokens", "completion_tokens"):
            summary.usage[name] = int(store.total(_FOUND, name))
        summary.usage["usd"] = store.total(_FOUND, "usd") or None
        report = {"settings": _told(model, settings)} | vars(summary)
        write_whole(folder / "duels.json", json.dumps(report, indent=2) + "\n")
    return summary


def _counted(records: Iterable[Record], limit: int | None, summary: Summary) -> Iterator[Record]:
    """The records that are asked about; those before the last of them that are not are counted."""

    def seen() -> Iterator[Record]:
        for record in records:
            why = why_not(record)
            if why is not None:
                summary.left_out[why] += 1
            yield record

    return checkable(seen(), limit)


def _examples(record: Record, found: dict[str, Any], folder: Path, model: str) -> Iterator[Record]:
    """The question's examples as records that a training reads like any other."""
    shown = any(example["picture"] for example in found["examples"])
    pictures = tuple(placed(picture, folder) for picture in record.pictures) if shown else ()
    numbers: Counter[str] = Counter()
    for example in found["examples"]:
        name = example["stage"] if example["kind"] == "duel" else "check"
        numbers[name] += 1
        yield Record(
            f"{record.id}/{name}-{numbers[name]}",
            (Turn(example["prompt"], response=example["reply"]),),
            pictures if example["picture"] else (),
            "duels",
            record.licence,
            {"of": record.id, "model": model}
            | {key: example[key] for key in ("kind", "stage", "by", "worths")},
        )


def _count(summary: Summary, found: dict[str, Any]) -> None:
    summary.questions += 1
    for stage, tally in found["stages"].items():
        summary.stages.setdefault(stage, Counter()).update(
            {"questions": 1, "duels": 0, "first is better": 0} | tally
        )
    for example in found["examples"]:
        stage = example["stage"]
        if example["kind"] == "check":
            summary.checks["correct" if example["reply"].endswith(" correct.") else "incorrect"] += 1
            continue
        summary.duels += 1
        first = example["reply"].endswith(" 1.")
        summary.stages[stage].update({"duels": 1, "first is better": int(first)})
        a, b = example["worths"]
        gap = "truth" if example["by"] == "truth" else f"{abs(a - b):.2f}"
        summary.gaps.setdefault(stage, Counter())[gap] += 1
