"""Judge examples on disk: which questions are taken, and what is written of those that were searched.

Owns the folder's layout. All that is written depends on the questions and the store alone, so however often
the work was broken off, the same files come of it.

    train.jsonl   a line an example (`records.to_json`): the judge's prompt and the reply to learn
    images/       the pictures of those that a judge is shown pictures with
    duels.json    counts by stage, settings and cost
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

from llava_cot.core.files import whole, write_whole
from llava_cot.data.annotation.annotate import key_of, unique
from llava_cot.data.annotation.output import placed
from llava_cot.data.record import DUELS, Record, Turn, to_json
from llava_cot.data.rollouts.duels import Settings
from llava_cot.data.store import Store
from llava_cot.search.judge_prompts import default_prompts

FOUND = "examples"  # the store's kind for what came of a question
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


def told(model: str, settings: Settings) -> dict[str, str]:
    """The settings that a set was begun with, and is gone on with."""
    words = sha256("\0".join(default_prompts().constant_pieces()).encode()).hexdigest()[:12]
    sampling = settings.sampling
    told = {key: str(value) for key, value in asdict(settings).items() if key not in ("stages", "sampling")}
    return {"purpose": "duels", "model": model} | told | {
        "stages": ",".join(settings.stages),
        "sampling": f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, "
        f"at most {sampling.max_tokens} tokens",
        "prompts": words,
    }  # fmt: skip


def write_files(
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
                found = store.get(key_of(record), FOUND)
                if found is None:
                    summary.owed += 1
                    continue
                for example in _examples(record, found, folder, model):
                    lines.write(json.dumps(to_json(example)) + "\n")
                _count(summary, found)
        for name in ("calls", "prompt_tokens", "completion_tokens"):
            summary.usage[name] = int(store.total(FOUND, name))
        summary.usage["usd"] = store.total(FOUND, "usd") or None
        report = {"settings": told(model, settings)} | vars(summary)
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
            DUELS,
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
