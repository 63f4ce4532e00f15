"""Questions about rendered scenes (CLEVR), and sums about the same scenes (CLEVR-Math)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, picture, text
from llava_cot.data.sources.row_files import each, json_items


def _read_clevr(root: Path, split: str) -> Iterator[Record]:
    """The folder `CLEVR_v1.0`. Its file of 700,000 questions has over a gigabyte."""

    def make(row: dict[str, Any]) -> Iterator[Record]:
        yield Record(
            id=f"clevr/{split}/{text(row['question_index'])}",
            turns=(Turn(text(row["question"]), text(row["answer"])),),
            pictures=(picture("clevr", root, f"images/{split}/{text(row['image_filename'])}"),),
            source="clevr",
            license=CLEVR.license,
            # The last function of a question's program gives the kind of answer: a count, a color, ...
            extra={"type": row["program"][-1]["function"], "family": row["question_family_index"]},
        )

    file = root / "questions" / f"CLEVR_{split}_questions.json"
    yield from each(file, json_items(file, "questions"), make)


def _read_math(root: Path, split: str) -> Iterator[Record]:
    def make(row: dict[str, Any]) -> Iterator[Record]:
        image = f"CLEVR_v1.0/images/{text(row['split'])}/{text(row['image_filename'])}"
        yield Record(
            id=f"clevr_math/{split}/{text(row['question_index'])}",
            turns=(Turn(text(row["question"]), text(row["answer"])),),
            pictures=(picture("clevr_math", root, image),),
            source="clevr_math",
            license=CLEVR_MATH.license,
            extra={"type": text(row["template_filename"]).removesuffix(".json")},
        )

    file = root / f"clevr-math-{split}.json"
    yield from each(file, json_items(file, "questions"), make)


CLEVR = Source(
    name="clevr",
    title="CLEVR",
    home="https://cs.stanford.edu/people/jcjohns/clevr/",
    license="CC-BY-4.0",
    needs=("questions/CLEVR_{split}_questions.json", "images/{split}"),
    read=_read_clevr,
    splits=("train", "val"),  # test has no answers
)
CLEVR_MATH = Source(
    name="clevr_math",
    title="CLEVR-Math",
    home="https://huggingface.co/datasets/dali-does/clevr-math",
    license="CC-BY-4.0 by its card, CC-BY-SA-4.0 by its loading script",
    needs=("clevr-math-{split}.json", "CLEVR_v1.0/images/{split}"),
    read=_read_math,
    splits=("train", "val", "test"),
)
