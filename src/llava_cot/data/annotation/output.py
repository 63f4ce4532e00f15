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
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

from llava_cot.core.files import path_inside, whole
from llava_cot.core.stages import parse
from llava_cot.data.annotation.procedure import ATTEMPTS, TurnOutcome, call_kind, outcomes
from llava_cot.data.record import (
    Picture,
    Record,
    annotated,
    holds_picture,
    place_picture,
    record_key,
    to_json,
)
from llava_cot.data.store import Store, unique_records
from llava_cot.errors import DataError, missing_package

IMAGES = "images"
_REPEATED = "an earlier record has its id"


@dataclass
class AnnotationSummary:
    """What became of a set. `words` has, for each stage, how many texts have how many words."""

    records: int = 0
    turns: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    repeated: int = 0
    words: dict[str, Counter[int]] = field(default_factory=dict)
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)
    pictures: int = 0


def write_set(records: Iterable[Record], store: Store, folder: Path) -> AnnotationSummary:
    """Write all but the card, each file whole or not at all. Raises OSError, DataError, StoreError."""
    from llava_cot.data.annotation.output import Parquet

    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    summary = AnnotationSummary()
    with ExitStack() as files:
        lines = files.enter_context(
            files.enter_context(whole(folder / "train.jsonl")).open("w", encoding="utf-8")
        )
        rejects = files.enter_context(
            files.enter_context(whole(folder / "rejects.jsonl")).open("w", encoding="utf-8")
        )
        table = files.enter_context(Parquet(files.enter_context(whole(folder / "train.parquet"))))
        for record, first in unique_records(records, store):
            if not first:
                summary.repeated += 1
                rejects.write(_line({"id": record.id, "why": "repeated", "reason": _REPEATED}))
                continue
            key = record_key(record)
            found = outcomes(store, key)
            if found is None:
                summary.pending += 1
                continue
            for reject in _rejects(record, key, found, store):
                summary.rejected[reject["why"]] += 1
                rejects.write(_line(reject))
            responses = {number: one.text for number, one in enumerate(found) if one.text is not None}
            if responses:
                kept = annotated(record, responses)
                kept = replace(
                    kept, pictures=tuple(place_in_set(picture, folder) for picture in record.pictures)
                )
                lines.write(_line(to_json(kept)))
                table.add(kept)
                _count(summary, kept)
    return summary


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _rejects(record: Record, key: str, found: list[TurnOutcome], store: Store) -> Iterator[dict[str, Any]]:
    for number, outcome in enumerate(found):
        if outcome.text is None:
            turn = record.turns[number]
            replies = [
                {what: reply["text"] for what in ("write", "judge")
                 if (reply := store.get(f"{key} {number}", call_kind(what, attempt))) is not None}
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


def _count(summary: AnnotationSummary, record: Record) -> None:
    summary.records += 1
    summary.turns += len(record.turns)
    summary.pictures += len(record.pictures)
    summary.sources[record.source, record.license] += 1
    for turn in record.turns:
        for name, text in parse(turn.response or "").stages.items():
            summary.words.setdefault(name, Counter())[len((text or "").split())] += 1


def place_in_set(picture: Picture, folder: Path) -> Picture:
    """The picture below the set's own folder. A name that another picture has already gets its hash."""
    below = PurePosixPath(picture.name.replace("\\", "/"))
    name = below if below.parts[:1] == (IMAGES,) else PurePosixPath(IMAGES, below)
    target = path_inside(folder, str(name))
    if not _put(picture, target):
        name = name.with_name(f"{name.stem}-{sha256(picture.read()).hexdigest()[:8]}{name.suffix}")
        target = path_inside(folder, str(name))
        _put(picture, target)
    return Picture(str(name), target)


def _put(picture: Picture, target: Path) -> bool:
    """Whether the picture is there now; false if another one is."""
    if target.exists():
        return holds_picture(target, picture)
    place_picture(picture, target)
    return True


# Small groups, so that one row can be had without reading much; each takes 11 kB of memory until the end.
_ROWS = 2000
_BYTES = 64_000_000


def _value(kind: str) -> dict[str, str]:
    return {"dtype": kind, "_type": "Value"}


def _list(of: object) -> dict[str, object]:
    return {"feature": of, "_type": "List"}


_FEATURES = {
    "id": _value("string"),
    "images": _list({"_type": "Image"}),
    "conversations": _list({"from": _value("string"), "value": _value("string")}),
    "questions": _list(
        {
            "question": _value("string"),
            "answer": _value("string"),
            "options": _list(_value("string")),
            "hints": _value("string"),
        }
    ),
    "source": _value("string"),
    "licence": _value("string"),
    "extra": _value("string"),
}


def check_installed() -> None:
    """To be called before any work. Raises DataError."""
    if find_spec("pyarrow") is None:
        raise DataError(missing_package("a data set", "pyarrow", extra="data"))


class Parquet:
    """A file that rows are added to; complete when closed. Raises OSError."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        text = pa.string()
        images = pa.list_(pa.struct({"bytes": pa.binary(), "path": text}))
        said = pa.list_(pa.struct({"from": text, "value": text}))
        asked = pa.list_(
            pa.struct({"question": text, "answer": text, "options": pa.list_(text), "hints": text})
        )
        columns = {"id": text, "images": images, "conversations": said, "questions": asked}
        note = {"huggingface": json.dumps({"info": {"features": _FEATURES}})}
        schema = pa.schema(columns | {"source": text, "licence": text, "extra": text}, metadata=note)
        self._table = pa.Table
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self._rows: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, record: Record) -> None:
        """Add a record, whose pictures are read."""
        images = [{"bytes": picture.read(), "path": picture.name} for picture in record.pictures]
        row = {
            "id": record.id,
            "images": images,
            "conversations": to_json(record)["conversations"],
            "questions": [
                {"question": t.question, "answer": t.answer, "options": list(t.options), "hints": t.hints}
                for t in record.turns
            ],
            "source": record.source,
            "licence": record.license,
            "extra": json.dumps(dict(record.extra)),
        }
        self._rows.append(_sound(row))
        self._bytes += sum(len(image["bytes"]) for image in images)
        if len(self._rows) >= _ROWS or self._bytes >= _BYTES:
            self._write()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0

    def __enter__(self) -> Parquet:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            self._writer.close()


def _sound(value: Any) -> Any:
    """The value with its texts as UTF-8 has them: half of a surrogate pair, which JSON may hold, is "?"."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _sound(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_sound(each) for each in value]
    return value
