"""An annotated set on disk: `train.jsonl`, `train.parquet`, `rejects.jsonl`, pictures and a data card.

Owns the folder's layout, and going through records and store in the input's order. Everything that is written
depends on these two alone, so however often the work was broken off, the same files come of it. What the card
says is in `card.py`, the columns of the Parquet file in `parquet.py`.

    train.jsonl     a line a record (`records.to_json`), its pictures as paths relative to the folder
    train.parquet   the same with the pictures in it, as `datasets` loads it
    rejects.jsonl   a line a rejected turn: id, turn, why, reason, question, answer, attempts
    images/         the pictures, as hard links where the file system allows, else as copies
    README.md       the card
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from llava_cot.core.files import whole
from llava_cot.core.stages import parse
from llava_cot.data.annotation.annotate import key_of, outcomes, unique
from llava_cot.data.annotation.calls import ATTEMPTS, kind
from llava_cot.data.annotation.procedure import Outcome
from llava_cot.data.placing import is_there, put
from llava_cot.data.record import Picture, Record, annotated, inside, to_json
from llava_cot.data.store import Store

IMAGES = "images"
_REPEATED = "an earlier record has its id"


@dataclass
class Summary:
    """What became of a set. `words` has, for each stage, how many texts have how many words."""

    records: int = 0
    turns: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    owed: int = 0
    repeated: int = 0
    words: dict[str, Counter[int]] = field(default_factory=dict)
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)
    pictures: int = 0


def write_set(records: Iterable[Record], store: Store, folder: Path) -> Summary:
    """Write all but the card, each file whole or not at all. Raises OSError, DataError, StoreError."""
    from llava_cot.data.annotation.parquet import Parquet

    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    summary = Summary()
    with ExitStack() as files:
        lines = files.enter_context(
            files.enter_context(whole(folder / "train.jsonl")).open("w", encoding="utf-8")
        )
        rejects = files.enter_context(
            files.enter_context(whole(folder / "rejects.jsonl")).open("w", encoding="utf-8")
        )
        table = files.enter_context(Parquet(files.enter_context(whole(folder / "train.parquet"))))
        for record, first in unique(records, store):
            if not first:
                summary.repeated += 1
                rejects.write(_line({"id": record.id, "why": "repeated", "reason": _REPEATED}))
                continue
            key = key_of(record)
            found = outcomes(store, key)
            if found is None:
                summary.owed += 1
                continue
            for reject in _rejects(record, key, found, store):
                summary.rejected[reject["why"]] += 1
                rejects.write(_line(reject))
            responses = {number: one.text for number, one in enumerate(found) if one.text is not None}
            if responses:
                kept = annotated(record, responses)
                kept = replace(kept, pictures=tuple(placed(picture, folder) for picture in record.pictures))
                lines.write(_line(to_json(kept)))
                table.add(kept)
                _count(summary, kept)
    return summary


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _rejects(record: Record, key: str, found: list[Outcome], store: Store) -> Iterator[dict[str, Any]]:
    for number, outcome in enumerate(found):
        if outcome.text is None:
            turn = record.turns[number]
            replies = [
                {what: reply["text"] for what in ("write", "judge")
                 if (reply := store.get(f"{key} {number}", kind(what, attempt))) is not None}
                for attempt in range(1, ATTEMPTS + 1)
            ]  # fmt: skip
            yield {
                "id": record.id,
                "turn": number,
                "why": outcome.why,
                "reason": outcome.reason,
                "question": turn.text,
                "answer": turn.answer,
                "attempts": [reply for reply in replies if reply],
            }


def _count(summary: Summary, record: Record) -> None:
    summary.records += 1
    summary.turns += len(record.turns)
    summary.pictures += len(record.pictures)
    summary.sources[record.source, record.licence] += 1
    for turn in record.turns:
        for name, text in parse(turn.response or "").stages.items():
            summary.words.setdefault(name, Counter())[len((text or "").split())] += 1


def placed(picture: Picture, folder: Path) -> Picture:
    """The picture below the set's own folder. A name that another picture has already gets its hash."""
    below = PurePosixPath(picture.name.replace("\\", "/"))
    name = below if below.parts[:1] == (IMAGES,) else PurePosixPath(IMAGES, below)
    target = inside(folder, str(name))
    if not _put(picture, target):
        name = name.with_name(f"{name.stem}-{sha256(picture.read()).hexdigest()[:8]}{name.suffix}")
        target = inside(folder, str(name))
        _put(picture, target)
    return Picture(str(name), target)


def _put(picture: Picture, target: Path) -> bool:
    """Whether the picture is there now; false if another one is."""
    if target.exists():
        return is_there(picture, target)
    put(picture, target)
    return True
