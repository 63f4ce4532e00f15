"""The Parquet file of a set, with its pictures in it, so that it can be moved and loaded by itself.

Owns its columns, and the note by which `datasets` (4.0 and later) knows a column of pictures. Writes as it
goes.

    id              text
    images          a list of {bytes, path}: `datasets.Image`
    conversations   a list of {from, value}, as in LLaVA-CoT-100k
    questions       a list of {question, answer, options, hints}, what is known of each turn
    source, licence text
    extra           JSON, as text: sources tell different things
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, to_json
from llava_cot.errors import DataError, missing_package

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
            "licence": record.licence,
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
