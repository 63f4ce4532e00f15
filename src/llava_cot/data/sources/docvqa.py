"""DocVQA (single page): questions about scanned documents.

Owns its layout: the folders of the archives `spdocvqa_qas` and `spdocvqa_images`, side by side.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, each, picture, text
from llava_cot.data.sources.json_stream import json_items

LICENCE = "not stated"


def read(root: Path, split: str) -> Iterator[Record]:
    def make(asked: dict[str, Any]) -> Iterator[Record]:
        answers = [text(answer) for answer in asked["answers"]]
        # The questions name "documents/x.png", after an older archive that had the pictures there.
        page = text(asked["image"]).removeprefix("documents/")
        yield Record(
            id=f"docvqa/{split}/{text(asked['questionId'])}",
            turns=(Turn(text(asked["question"]), answers[0]),),
            pictures=(picture("docvqa", root, f"spdocvqa_images/{page}"),),
            source="docvqa",
            licence=LICENCE,
            extra={"types": list(asked["question_types"]), "answers": answers},
        )

    file = root / "spdocvqa_qas" / f"{split}_v1.0_withQT.json"
    yield from each(file, json_items(file, "data"), make)


DOCVQA = Source(
    name="docvqa",
    title="DocVQA",
    home="https://rrc.cvc.uab.es/?ch=17&com=downloads",
    licence=LICENCE,
    needs=("spdocvqa_qas/{split}_v1.0_withQT.json", "spdocvqa_images"),
    read=read,
    splits=("train", "val"),  # the answers of test are kept back
)
