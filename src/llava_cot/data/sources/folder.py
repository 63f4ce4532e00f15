"""Our own folders: records as lines of JSON, in `questions.jsonl` before a teacher and `train.jsonl` after.

Owns where the lines are. Knows nothing of who wrote them; a line is `records.py`'s subject.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llava_cot.data.record import Record, from_json
from llava_cot.data.sources.base import Source, each, json_lines


def _read(root: Path, split: str) -> Iterator[Record]:
    file = root / f"{split}.jsonl"
    return each(file, json_lines(file), lambda line: [from_json(line, root)])


SOURCE = Source(
    name="records",
    title="A folder of llava-cot",
    home="`llava-cot data sample` (questions) or `llava-cot data annotate` (train)",
    licence="",
    needs=("{split}.jsonl",),
    read=_read,
    splits=("train", "questions"),
)
