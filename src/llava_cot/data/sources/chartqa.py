"""ChartQA: questions about charts, written by people (`human`) and by a model (`augmented`).

Owns its layout, which is the folder "ChartQA Dataset" of the authors' archive.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, each, numbered, picture, text
from llava_cot.data.sources.json_stream import json_items

LICENCE = "GPL-3.0"


def read(root: Path, split: str) -> Iterator[Record]:
    for origin in ("human", "augmented"):

        def make(row: tuple[int, dict[str, Any]], origin: str = origin) -> Iterator[Record]:
            number, asked = row
            yield Record(
                id=f"chartqa/{split}/{origin}-{number}",
                turns=(Turn(text(asked["query"]), text(asked["label"])),),
                pictures=(picture("chartqa", root, f"{split}/png/{text(asked['imgname'])}"),),
                source="chartqa",
                licence=LICENCE,
                extra={"type": origin},
            )

        file = root / split / f"{split}_{origin}.json"
        yield from each(file, numbered(json_items(file)), make)


CHARTQA = Source(
    name="chartqa",
    title="ChartQA",
    home="https://huggingface.co/datasets/ahmed-masry/ChartQA",
    licence=LICENCE,
    needs=("{split}/{split}_human.json", "{split}/{split}_augmented.json", "{split}/png"),
    read=read,
    splits=("train", "val", "test"),
)
