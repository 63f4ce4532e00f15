"""An annotated set on disk: `train.jsonl`, `train.parquet`, `rejects.jsonl`, pictures, and a data card."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.util import find_spec
from math import ceil
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any, TextIO

from llava_cot.core.files import path_inside, whole
from llava_cot.core.stages import parse
from llava_cot.data.annotation.procedure import ATTEMPTS, CallCost, TurnOutcome, call_kind, saved_outcomes
from llava_cot.data.annotation.teachers import Teacher
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
        table = files.enter_context(whole(folder / "train.parquet"))
        _write_table(table, _written(records, store, folder, summary, train, rejects))
    return summary


def _written(
    records: Iterable[Record], store: Store, folder: Path, summary: AnnotationSummary, train: TextIO,
    rejects: TextIO,
) -> Iterator[Record]:  # fmt: skip
    """The annotated records. Their lines, those of rejected turns, and all counts are written on the way."""
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
            written = annotated(record, responses)
            written = replace(written, pictures=tuple(place_in_set(it, folder) for it in written.pictures))
            train.write(_line(to_json(written)))
            _count(summary, written)
            yield written


def _line(value: dict[str, Any]) -> str:
    return json.dumps(value) + "\n"


def _rejects(record: Record, key: str, outcomes: list[TurnOutcome], store: Store) -> Iterator[dict[str, Any]]:
    for number, outcome in enumerate(outcomes):
        if outcome.text is None:
            turn = record.turns[number]
            replies = [
                {call: reply.get("text", "") for call in ("write", "judge")
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


def _write_table(path: Path, records: Iterable[Record]) -> None:
    """Write records with their pictures as Parquet. Raises OSError.

    The column `extra` is JSON as text, since sources have different fields.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, List, Value

    text = Value("string")
    features = {
        "id": text,
        "images": List(Image()),
        "conversations": List({"from": text, "value": text}),
        "questions": List({"question": text, "answer": text, "options": List(text), "hints": text}),
        **dict.fromkeys(("source", "licence", "extra"), text),
    }
    schema = Features(features).arrow_schema
    with pq.ParquetWriter(path, schema, compression="zstd") as table:
        rows: list[dict[str, Any]] = []
        size = 0
        for record in records:
            rows.append(_table_row(record))
            size += sum(len(image["bytes"]) for image in rows[-1]["images"])
            if len(rows) >= _MAX_ROWS or size >= _MAX_BYTES:
                table.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows, size = [], 0
        if rows:
            table.write_table(pa.Table.from_pylist(rows, schema=schema))


def _table_row(record: Record) -> dict[str, Any]:
    row = {
        "id": record.id,
        "images": [{"path": picture.name} for picture in record.pictures],
        "conversations": to_json(record)["conversations"],
        "questions": [
            {"question": t.question, "answer": t.answer, "options": t.options, "hints": t.hints}
            for t in record.turns
        ],
        "source": record.source,
        "licence": record.license,
        "extra": json.dumps(dict(record.extra)),
    }
    # Parquet holds UTF-8 only: half of a surrogate pair, which JSON may have, becomes "?".
    sound: dict[str, Any] = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
    for image, picture in zip(sound["images"], record.pictures, strict=True):
        image["bytes"] = picture.read()
    return sound


# The licenses that the hub knows, by the same names in lower case; any other is "other".
_HUB = {
    "Apache-2.0", "MIT", "CC-BY-4.0", "CC-BY-SA-4.0", "CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "GPL-3.0"
}  # fmt: skip
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_FILES = """\
`train.jsonl` has a line for each record; the paths in it are relative to this folder. `train.parquet` has
the same with the pictures in it; `datasets.load_dataset` of this folder loads it. The rejected turns are in
`rejects.jsonl`, with the reasons.
"""
# Why turns and records are left out, in words.
REASONS = {
    "no answer": "the turn has no standard answer",
    "not the teacher's": "the teacher cannot answer such questions",
    "picture": "a picture cannot be read",
    "refused": "the teacher's server refused the question",
    "refusal": "the teacher refused to answer",
    "cut": "the text was cut off at the limit of tokens",
    "format": "the stages were not complete and in order",
    "leak": "the text mentions the standard answer or the hints",
    "conclusion": "the conclusion was judged to be another answer",
    "no verdict": "the verdict could not be read",
    "repeated": "an earlier record has the same id",
}


def data_card(
    summary: AnnotationSummary,
    teacher: Teacher,
    cost: CallCost,
    ended: str | None,
    failures: Mapping[str, int] | None = None,
) -> str:
    """The text of `README.md`, with the header that the Hugging Face hub reads.

    Args:
        summary: What the set has.
        teacher: Who wrote it.
        cost: What its calls cost.
        ended: Why the work ended early, if it did.
        failures: How many records failed in the last run, and stay pending, by reason.
    """
    counts: list[tuple[str, object]] = [
        ("records", summary.records),
        ("annotated turns", summary.turns),
        ("rejected turns", summary.rejected.total()),
        ("pictures of the records", summary.pictures),
    ]
    if summary.pending:
        counts.append(("records still pending", summary.pending))
    if summary.repeated:
        counts.append(("records skipped, with the id of another", summary.repeated))
    made_by: list[tuple[str, object]] = [
        *teacher.settings.items(),
        ("calls", cost.calls),
        ("tokens read", cost.prompt_tokens),
        ("tokens written", cost.completion_tokens),
        ("US dollars", f"{cost.usd:.2f}" if cost.usd is not None else "no price known"),
    ]
    rejected = [(REASONS.get(why, why), number) for why, number in sorted(summary.rejected.items())]
    lengths = [
        (name, f"{fmean(words.elements()):.1f}", _quantile(words, 0.5), _quantile(words, 0.95))
        for name, words in summary.words.items()
        if words
    ]
    sources = [
        (source or "not named", license or "not stated", number)
        for (source, license), number in sorted(summary.sources.items())
    ]
    parts = [
        hub_header(summary.records, summary.sources, "train.parquet"),
        "# Staged answers\n",
    ]
    if summary.pending:
        why = f" ({ended})" if ended else ""
        parts.append(
            f"**Not complete:** {summary.pending:,} of the records are still to be annotated{why}. "
            "Run the same command to resume.\n"
        )
    parts += [
        "Questions with answers in four stages (summary, caption, reasoning, conclusion), in the layout of "
        "LLaVA-CoT-100k, made by `llava-cot data annotate`.\n",
        card_table("", ("", ""), counts),
        card_table("Rejected", ("", ""), rejected),
        card_table("Failed in the last run, and pending", ("", ""), list((failures or {}).items())),
        card_table("Words in each stage", ("stage", "mean", "median", "95% have at most"), lengths),
        card_table("Made by", ("", ""), made_by),
        card_table("Sources", ("source", "license of its authors", "records"), sources, names=2),
        _FILES,
    ]
    return "\n".join(part for part in parts if part)


def hub_header(records: int, sources: Iterable[tuple[str, str]], file: str) -> str:
    """The header that the Hugging Face hub reads, by the sources with their licenses, and the data's file."""
    licenses = {license for _, license in sources}
    license = licenses.pop().lower() if len(licenses) == 1 and licenses <= _HUB else "other"
    size = next((name for most, name in _SIZES if records < most), "n>1M")
    return (
        f"---\nlicense: {license}\ntask_categories:\n- visual-question-answering\n"
        f"size_categories:\n- {size}\ntags:\n- chain-of-thought\n- llava-cot\n"
        f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {file}\n---\n"
    )


def _quantile(lengths: Counter[int], share: float) -> int:
    return sorted(lengths.elements())[max(ceil(share * lengths.total()) - 1, 0)]


def card_table(title: str, head: Sequence[str], rows: Sequence[Sequence[object]], names: int = 1) -> str:
    """A table under its title, the first `names` columns aligned left; empty without rows."""
    if not rows:
        return ""
    rule = ["---"] * names + ["---:"] * (len(head) - names)
    cells = ([f"{v:,}" if isinstance(v, int) else _cell(str(v)) for v in row] for row in rows)
    lines = ["".join(f"| {it} " if it else "| " for it in row) + "|" for row in (head, rule, *cells)]
    return "\n".join([*([f"## {title}\n"] if title else []), *lines, ""])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
