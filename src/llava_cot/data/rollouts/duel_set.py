"""A folder of judge examples: each question searched once, kept as it comes, and written out at the end.

Owns a run, and what the store keeps of a question. What comes of one question is `duels.py`'s subject,
which are taken and what is written `duel_files.py`'s.
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

from llava_cot.core.files import whole, write_whole
from llava_cot.core.question import LoadedImage, Question
from llava_cot.data.annotation.annotate import AnnotationProgress
from llava_cot.data.annotation.output import place_in_set
from llava_cot.data.record import DUELS, Record, Turn, record_key, to_json
from llava_cot.data.rollouts.duels import DuelSettings, examples_of
from llava_cot.data.rollouts.scene_labeling import scene_of
from llava_cot.data.schedule import ImagePool, run_all
from llava_cot.data.store import Store, check_store_folder, unique_records
from llava_cot.errors import ImageError, ModelError
from llava_cot.models.base import Model
from llava_cot.search.judge_prompts import default_prompts


@dataclass(frozen=True)
class DuelsResult:
    """What was written; how many questions `failed` in this run, the last for the reason `why`."""

    summary: DuelsSummary
    failed: int
    why: str | None


def make_duels(
    folder: Path,
    records: Iterable[Record],
    model: Model,
    settings: DuelSettings,
    *,
    limit: int | None = None,
    at_once: int = 64,
    on_progress: Callable[[AnnotationProgress], None] = lambda progress: None,
) -> DuelsResult:
    """Search what the folder's store does not have yet, and write the folder's files.

    `records` are gone through twice, so it must be possible to do so. Only the first turn of each is asked: a
    search asks one question at a time, and a later turn may need what was said before. Raises ValueError
    (DataError, StoreError), OSError, and KeyboardInterrupt, after which nothing is written but the store.
    """
    check_store_folder(folder)
    with Store(folder) as store:
        store.match_settings(duel_settings_of(model.name, settings))
        run = _Run(model, store, settings, on_progress)
        asyncio.run(run.all(records, limit, at_once))
        summary = write_files(folder, records, limit, store, model.name, settings)
    return DuelsResult(summary, run.failed, run.why)


class _Run:
    """One run over a set."""

    def __init__(
        self,
        model: Model,
        store: Store,
        settings: DuelSettings,
        on_progress: Callable[[AnnotationProgress], None],
    ) -> None:
        self.failed = 0
        self.why: str | None = None
        self._model, self._store, self._settings, self._tell = model, store, settings, on_progress
        self._room = ImagePool()
        self._done = self._fresh = 0
        self._usd = store.total(FOUND, "usd")

    async def all(self, records: Iterable[Record], limit: int | None, at_once: int) -> None:
        self.why = await run_all(self._owed(records, limit), self._one, at_once, lambda: False) or self.why

    def _owed(self, records: Iterable[Record], limit: int | None) -> Iterator[tuple[str, Record]]:
        for record, first in unique_records(checkable(records, limit), self._store):
            key = record_key(record)
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
            async with self._room.open(record.pictures) as images:
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
        self._tell(AnnotationProgress(self._done, self._fresh, self.failed, 0, 0, self._usd))


FOUND = "examples"  # the store's kind for what came of a question
# A standard answer with more words than this is a text of its own: no comparing of words tells what is right.
_WORDS = 8


@dataclass
class DuelsSummary:
    """What a folder holds.

    `left_out` counts records by the reason why their question is not asked, `pending` those that are still to
    be searched; `stages` has counts by stage, `checks` the verdicts, `gaps` how many duels have which
    difference between the two candidates' values ("truth" where these did not decide).
    """

    questions: int = 0
    pending: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    duels: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    stages: dict[str, Counter[str]] = field(default_factory=dict)
    gaps: dict[str, Counter[str]] = field(default_factory=dict)
    usage: dict[str, float | None] = field(default_factory=dict)


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


def duel_settings_of(model: str, settings: DuelSettings) -> dict[str, str]:
    """The settings that a set was begun with, and is gone on with."""
    words = sha256("\0".join(default_prompts().constant_pieces()).encode()).hexdigest()[:12]
    sampling = settings.sampling
    duel_settings_of = {
        key: str(value) for key, value in asdict(settings).items() if key not in ("stages", "sampling")
    }
    return {"purpose": "duels", "model": model} | duel_settings_of | {
        "stages": ",".join(settings.stages),
        "sampling": f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, "
        f"at most {sampling.max_tokens} tokens",
        "prompts": words,
    }  # fmt: skip


def write_files(
    folder: Path,
    records: Iterable[Record],
    limit: int | None,
    store: Store,
    model: str,
    settings: DuelSettings,
) -> DuelsSummary:
    """Write pictures, `duels.json` and, last, `train.jsonl`."""
    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    summary = DuelsSummary()
    with whole(folder / "train.jsonl") as part:
        with part.open("w", encoding="utf-8") as lines:
            for record, first in unique_records(_counted(records, limit, summary), store):
                if not first:
                    summary.left_out["the id of an earlier one"] += 1
                    continue
                found = store.get(record_key(record), FOUND)
                if found is None:
                    summary.pending += 1
                    continue
                for example in _examples(record, found, folder, model):
                    lines.write(json.dumps(to_json(example)) + "\n")
                _count(summary, found)
        for name in ("calls", "prompt_tokens", "completion_tokens"):
            summary.usage[name] = int(store.total(FOUND, name))
        summary.usage["usd"] = store.total(FOUND, "usd") or None
        counts = {"owed" if name == "pending" else name: value for name, value in vars(summary).items()}
        report = {"settings": duel_settings_of(model, settings)} | counts
        write_whole(folder / "duels.json", json.dumps(report, indent=2) + "\n")
    return summary


def _counted(records: Iterable[Record], limit: int | None, summary: DuelsSummary) -> Iterator[Record]:
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
    pictures = tuple(place_in_set(picture, folder) for picture in record.pictures) if shown else ()
    numbers: Counter[str] = Counter()
    for example in found["examples"]:
        name = example["stage"] if example["kind"] == "duel" else "check"
        numbers[name] += 1
        yield Record(
            f"{record.id}/{name}-{numbers[name]}",
            (Turn(example["prompt"], response=example["reply"]),),
            pictures if example["picture"] else (),
            DUELS,
            record.license,
            {"of": record.id, "model": model}
            | {key: example[key] for key in ("kind", "stage", "by", "worths")},
        )


def _count(summary: DuelsSummary, found: dict[str, Any]) -> None:
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
