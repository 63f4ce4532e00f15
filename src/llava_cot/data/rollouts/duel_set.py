"""A folder of judge examples: each question is searched once, its results are saved, the set is written."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from llava_cot.core.files import whole, write_whole
from llava_cot.core.question import LoadedImage, Question
from llava_cot.data.annotation.annotate import AnnotationProgress
from llava_cot.data.annotation.output import place_in_set
from llava_cot.data.record import DUELS, Record, Turn, pictures_until, record_key, to_json
from llava_cot.data.rollouts.duels import DuelSettings, examples_of
from llava_cot.data.rollouts.labeling import scene_of
from llava_cot.data.schedule import ImagePool, run_all
from llava_cot.data.store import Store, check_store_folder, unique_records
from llava_cot.errors import ImageError, ModelError, ModelRefusal, ModelUnavailable
from llava_cot.models.base import Model
from llava_cot.search.judge_prompts import default_prompts

_FOUND = "examples"  # the store's kind for the results of a question
_MAX_WORDS = 8  # of a standard answer: comparing the words of a longer one does not tell what is right


@dataclass
class DuelsSummary:
    """What a folder holds; `left_out` counts records whose question is not searched, by reason."""

    questions: int = 0
    pending: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    duels: int = 0
    checks: Counter[str] = field(default_factory=Counter)  # of one candidate, by verdict
    stages: dict[str, Counter[str]] = field(default_factory=dict)
    # By stage: how many duels have which difference of the candidates' values, or were decided by the truth.
    gaps: dict[str, Counter[str]] = field(default_factory=dict)
    usage: dict[str, float | None] = field(default_factory=dict)  # over all runs


@dataclass(frozen=True)
class DuelsResult:
    """What was written; how many questions `failed` in this run, and why the last one did."""

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
    """Search the pending questions of a folder, `limit` in all, then write its files (`write_files`).

    Only the first turn of each record is used: a later one may depend on it, and a search has one question.
    The folder is new, empty, or of an earlier run with the same model and settings. Records are iterated over
    twice, so not an iterator. `at_once` questions are in progress; `on_progress` is called after each.

    Raises:
        DataError, StoreError, OSError: It cannot be done.
        KeyboardInterrupt: At Ctrl-C; then only the store is up to date.
    """
    check_store_folder(folder)
    with Store(folder) as store:
        store.match_settings(_settings_of(model.name, settings))
        progress = AnnotationProgress(usd=store.total(_FOUND, "usd"))
        run = _DuelsRun(model, store, settings, on_progress, progress)
        failure = asyncio.run(run_all(run.pending(records, limit), run.one, at_once, lambda: False))
        summary = write_files(folder, records, limit, store, model.name, settings)
    return DuelsResult(summary, run.progress.failed, failure or run.why)


@dataclass
class _DuelsRun:
    model: Model
    store: Store
    settings: DuelSettings
    on_progress: Callable[[AnnotationProgress], None]
    progress: AnnotationProgress
    why: str | None = None
    images: ImagePool = field(default_factory=ImagePool)

    def pending(self, records: Iterable[Record], limit: int | None) -> Iterator[tuple[str, Record]]:
        for record, first in unique_records(checkable(records, limit), self.store):
            key = record_key(record)
            if not first:
                continue
            if self.store.get(key, _FOUND) is None:
                yield key, record
            else:
                self.progress.done += 1
                self.on_progress(replace(self.progress))

    async def one(self, item: tuple[str, Record]) -> str | None:
        """Search one question; returns the model's failure, if there was one."""
        key, record = item
        try:
            async with self.images.open(record.pictures[: pictures_until(record, 0)]) as images:
                found = await self._search(key, record, await images())
        except ModelUnavailable:
            raise
        except (ImageError, ModelError) as error:
            self.progress.failed += 1
            self.why = f"{record.id}: {error}"
            self.on_progress(replace(self.progress))
            return None if isinstance(error, ImageError | ModelRefusal) else self.why
        self.store.put(key, _FOUND, found)
        self.progress.usd += found["usd"] or 0.0
        self.progress.done += 1
        self.progress.fresh += 1
        self.on_progress(replace(self.progress))
        return None

    async def _search(self, key: str, record: Record, images: tuple[LoadedImage, ...]) -> dict[str, Any]:
        turn = record.turns[0]
        question = Question(turn.question, images, record.id, turn.options, turn.answer)
        rng = random.Random(f"{self.settings.seed}/{key}")
        found = await examples_of(question, scene_of(record), self.model, self.settings, rng)
        return {
            "examples": [asdict(example) for example in found.examples],
            "stages": {
                stage: {
                    "labelled" if name == "labeled" else name: count for name, count in vars(tally).items()
                }
                for stage, tally in found.tallies.items()
            },
            "calls": found.usage.model_calls,
            "prompt_tokens": found.usage.prompt_tokens,
            "completion_tokens": found.usage.completion_tokens,
            "usd": found.usage.usd,
        }


def why_not(record: Record) -> str | None:
    """Why a record is left out: the answers to its first turn could not be checked. None if they can."""
    turn = record.turns[0] if record.turns else None
    if turn is None or not (turn.answer or "").strip():
        return "no standard answer"
    if not turn.options and len((turn.answer or "").split()) > _MAX_WORDS:
        return f"an answer of more than {_MAX_WORDS} words, which cannot be checked"
    return None


def checkable(
    records: Iterable[Record], limit: int | None, left_out: Counter[str] | None = None
) -> Iterator[Record]:
    """The first `limit` records whose answers can be checked; `left_out` counts the others before these."""
    counts = Counter[str]() if left_out is None else left_out

    def all_of_them() -> Iterator[Record]:
        for record in records:
            if (why := why_not(record)) is None:
                yield record
            else:
                counts[why] += 1

    return islice(all_of_them(), limit)


def _settings_of(model: str, settings: DuelSettings) -> dict[str, str]:
    prompts = sha256("\0".join(default_prompts().constant_pieces()).encode()).hexdigest()[:12]
    sampling = settings.sampling
    values = {key: str(value) for key, value in asdict(settings).items() if key not in ("stages", "sampling")}
    return {"purpose": "duels", "model": model} | values | {
        "stages": ",".join(settings.stages),
        "sampling": f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, "
        f"at most {sampling.max_tokens} tokens",
        "prompts": prompts,
    }  # fmt: skip


def write_files(
    folder: Path,
    records: Iterable[Record],
    limit: int | None,
    store: Store,
    model: str,
    settings: DuelSettings,
) -> DuelsSummary:
    """Write a set's files, from the records and the store alone.

    train.jsonl   a line for each example (`record.to_json`): the judge's prompt and the reply to learn
    images/       the pictures of those with which a judge sees some
    duels.json    counts by stage, settings and cost
    """
    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    summary = DuelsSummary()
    with whole(folder / "train.jsonl") as part:
        with part.open("w", encoding="utf-8") as lines:
            for record, first in unique_records(checkable(records, limit, summary.left_out), store):
                if not first:
                    summary.left_out["the id of an earlier one"] += 1
                    continue
                found = store.get(record_key(record), _FOUND)
                if found is None:
                    summary.pending += 1
                    continue
                with store.reading():
                    for example in _examples(record, found, folder, model):
                        lines.write(json.dumps(to_json(example)) + "\n")
                    _count(summary, found)
        for name in ("calls", "prompt_tokens", "completion_tokens"):
            summary.usage[name] = int(store.total(_FOUND, name))
        summary.usage["usd"] = store.total(_FOUND, "usd") or None
        counts = {"owed" if name == "pending" else name: value for name, value in vars(summary).items()}
        report = {"settings": _settings_of(model, settings)} | counts
        write_whole(folder / "duels.json", json.dumps(report, indent=2) + "\n")
    return summary


def _examples(record: Record, found: dict[str, Any], folder: Path, model: str) -> Iterator[Record]:
    """The question's examples as records, which a training reads like any others."""
    with_pictures = any(example["picture"] for example in found["examples"])
    pictures = tuple(place_in_set(picture, folder) for picture in record.pictures) if with_pictures else ()
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
