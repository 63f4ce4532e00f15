"""Questions about charts (ChartQA) and scanned pages (DocVQA)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, picture, text
from llava_cot.data.sources.row_files import each, json_items, numbered


def _read_chartqa(root: Path, split: str) -> Iterator[Record]:
    """Questions by people (`human`) and by a model (`augmented`), in the folder "ChartQA Dataset"."""
    for origin in ("human", "augmented"):

        def make(item: tuple[int, dict[str, Any]], origin: str = origin) -> Iterator[Record]:
            number, row = item
            yield Record(
                id=f"chartqa/{split}/{origin}-{number}",
                turns=(Turn(text(row["query"]), text(row["label"])),),
                pictures=(picture("chartqa", root, f"{split}/png/{text(row['imgname'])}"),),
                source="chartqa",
                license=CHARTQA.license,
                extra={"type": origin},
            )

        file = root / split / f"{split}_{origin}.json"
        yield from each(file, numbered(json_items(file)), make)


def _read_docvqa(root: Path, split: str) -> Iterator[Record]:
    """The folders of the archives `spdocvqa_qas` and `spdocvqa_images`, side by side."""

    def make(row: dict[str, Any]) -> Iterator[Record]:
        answers = [text(answer) for answer in row["answers"]]
        # The questions name "documents/x.png", after an older archive that had the pictures there.
        page = text(row["image"]).removeprefix("documents/")
        yield Record(
            id=f"docvqa/{split}/{text(row['questionId'])}",
            turns=(Turn(text(row["question"]), answers[0]),),
            pictures=(picture("docvqa", root, f"spdocvqa_images/{page}"),),
            source="docvqa",
            license=DOCVQA.license,
            extra={"types": list(row["question_types"]), "answers": answers},
        )

    file = root / "spdocvqa_qas" / f"{split}_v1.0_withQT.json"
    yield from each(file, json_items(file, "data"), make)


CHARTQA = Source(
    name="chartqa",
    title="ChartQA",
    home="https://huggingface.co/datasets/ahmed-masry/ChartQA",
    license="GPL-3.0",
    needs=("{split}/{split}_human.json", "{split}/{split}_augmented.json", "{split}/png"),
    read=_read_chartqa,
    splits=("train", "val", "test"),
)
DOCVQA = Source(
    name="docvqa",
    title="DocVQA",
    home="https://rrc.cvc.uab.es/?ch=17&com=downloads",
    license="not stated",
    needs=("spdocvqa_qas/{split}_v1.0_withQT.json", "spdocvqa_images"),
    read=_read_docvqa,
    splits=("train", "val"),  # the answers of test are not public
)
