"""An annotated set on disk: `train.jsonl`, `train.parquet`, `rejects.jsonl` and pictures; see `write_set`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from llava_cot.core.files import path_inside, whole
from llava_cot.core.stages import parse
from llava_cot.data.annotation.procedure import ATTEMPTS, TurnOutcome, call_kind, saved_outcomes
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
# Small row groups, so that a row can be read without its neighbors; each takes 11 kB of memory until the end.
_MAX_ROWS = 2000
_MAX_BYTES = 64_000_000


@dataclass
class AnnotationSummary:
    """What a set has; `turns`, `pictures`, `words` and `sources` are those of its annotated records."""

    records: int = 0
    turns: int = 0
    rejected: Counter[str] = field(default_factory=Counter)  # turns, by reason
    pending: int = 0  # records
    repeated: int = 0  # records that were skipped because an earlier one has the same id
    words: dict[str, Counter[int]] = field(default_factory=dict)  # by stage: how many texts have how many
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)  # records, by source and license
    pictures: int = 0


def check_installed() -> None:
    """Check that a set can be written. Raises DataError."""
    for package in ("pyarrow", "datasets"):
        if find_spec(package) is None:
            raise DataError(missing_package("a data set", package, extra="data"))


def write_set(records: Iterable[Record], store: Store, folder: Path) -> AnnotationSummary:
    """Write a set's files, each whole or not at all, from the records and the store alone.

        train.jsonl     a line for each record (`record.to_json`), with paths of pictures below the folder
        train.parquet   the same with the pictures in it, for `datasets.load_dataset`
        rejects.jsonl   a line for each rejected turn: id, turn, why, reason, question, answer, attempts
        images/         the pictures, as hard links where the file system allows, else as copies

    The data card, `README.md`, is written by `annotate_to`. Raises OSError, DataError and StoreError.
    """
    for left in folder.glob("*.part"):  # of a process that was killed
        left.unlink()
    summary = AnnotationSummary()
    with ExitStack() as files:

        def text_file(name: str) -> TextIO:
            part = files.enter_context(whole(folder / name))
            return files.enter_context(part.open("w", encoding="utf-8"))

        train, rejects = text_file("train.jsonl"), text_file("rejects.jsonl")
        table = files.enter_context(_Parquet(files.enter_context(whole(folder / "train.parquet"))))
        for record, first in unique_records(records, store):
            if not first:
                summary.repeated += 1
                reason = "an earlier record has its id"
                rejects.write(_line({"id": record.id, "why": "repeated", "reason": reason}))
                continue
            key = record_key(record)
            outcomes = saved_outcomes(store, key)
            if outcomes is None:
                summary.pending += 1
                continue
            for reject in _rejects(record, key, outcomes, store):
                summary.rejected[reject["why"]] += 1
                rejects.write(_line(reject))
            responses = {number: it.text for number, it in enumerate(outcomes) if it.text is not None}
            if responses:
                pictures = tuple(place_in_set(picture, folder) for picture in record.pictures)
                written = replace(annotated(record, responses), pictures=pictures)
                train.write(_line(to_json(written)))
                table.add(written)
                _count(summary, written)
    return summary


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _rejects(record: Record, key: str, outcomes: list[TurnOutcome], store: Store) -> Iterator[dict[str, Any]]:
    for number, outcome in enumerate(outcomes):
        if outcome.text is None:
            turn = record.turns[number]
            replies = [
                {call: reply["text"] for call in ("write", "judge")
                 if (reply := store.get(f"{key} {number}", call_kind(call, attempt))) is not None}
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
    """Put a picture into a set's folder. If another picture has its name, a hash is added to the name."""
    below = PurePosixPath(picture.name.replace("\\", "/"))
    name = below if below.parts[:1] == (IMAGES,) else PurePosixPath(IMAGES, below)
    target = path_inside(folder, str(name))
    if target.exists() and not holds_picture(target, picture):
        name = name.with_name(f"{name.stem}-{sha256(picture.read()).hexdigest()[:8]}{name.suffix}")
        target = path_inside(folder, str(name))
    if not target.exists():
        place_picture(picture, target)
    return Picture(str(name), target)


class _Parquet:
    """The Parquet file of a set, written as it goes; complete when closed. Raises OSError.

    The column `extra` is JSON as text, since sources have different fields.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq
        from datasets import Features, Image, List, Value

        text = Value("string")
        questions = {"question": text, "answer": text, "options": List(text), "hints": text}
        features = {
            "id": text,
            "images": List(Image()),
            "conversations": List({"from": text, "value": text}),
            "questions": List(questions),
            **dict.fromkeys(("source", "licence", "extra"), text),
        }
        self._schema = Features(features).arrow_schema
        self._table = pa.Table
        self._writer = pq.ParquetWriter(path, self._schema, compression="zstd")
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
        if len(self._rows) >= _MAX_ROWS or self._bytes >= _MAX_BYTES:
            self._write()

    def _write(self) -> None:
        if self._rows:
            self._writer.write_table(self._table.from_pylist(self._rows, schema=self._schema))
        self._rows, self._bytes = [], 0

    def __enter__(self) -> _Parquet:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._write()
        finally:
            self._writer.close()


def _sound(value: Any) -> Any:
    """The value with texts that UTF-8 can hold: half of a surrogate pair, as JSON may have, becomes "?"."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, dict):
        return {key: _sound(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_sound(item) for item in value]
    return value
