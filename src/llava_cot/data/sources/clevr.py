"""CLEVR: questions about rendered scenes, and CLEVR-Math: sums about the same scenes.

Owns their layouts. A file of CLEVR's questions holds some 700,000 with their programs, over a gigabyte.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, each, picture, text
from llava_cot.data.sources.json_stream import json_items

CLEVR_LICENCE = "CC-BY-4.0"
MATH_LICENCE = "CC-BY-4.0 by its card, CC-BY-SA-4.0 by its loading script"


def read_clevr(root: Path, split: str) -> Iterator[Record]:
    def make(asked: dict[str, Any]) -> Iterator[Record]:
        yield Record(
            id=f"clevr/{split}/{text(asked['question_index'])}",
            turns=(Turn(text(asked["question"]), text(asked["answer"])),),
            pictures=(picture("clevr", root, f"images/{split}/{text(asked['image_filename'])}"),),
            source="clevr",
            licence=CLEVR_LICENCE,
            # The last function of a question's program says what is asked for: a count, a colour, ...
            extra={
                "type": asked["program"][-1]["function"],
                "family": asked["question_family_index"],
            },
        )

    file = root / "questions" / f"CLEVR_{split}_questions.json"
    yield from each(file, json_items(file, "questions"), make)


def read_math(root: Path, split: str) -> Iterator[Record]:
    def make(asked: dict[str, Any]) -> Iterator[Record]:
        image = f"CLEVR_v1.0/images/{text(asked['split'])}/{text(asked['image_filename'])}"
        yield Record(
            id=f"clevr_math/{split}/{text(asked['question_index'])}",
            turns=(Turn(text(asked["question"]), text(asked["answer"])),),
            pictures=(picture("clevr_math", root, image),),
            source="clevr_math",
            licence=MATH_LICENCE,
            extra={"type": text(asked["template_filename"]).removesuffix(".json")},
        )

    file = root / f"clevr-math-{split}.json"
    yield from each(file, json_items(file, "questions"), make)


CLEVR = Source(
    name="clevr",
    title="CLEVR",
    home="https://cs.stanford.edu/people/jcjohns/clevr/",
    licence=CLEVR_LICENCE,
    needs=("questions/CLEVR_{split}_questions.json", "images/{split}"),
    read=read_clevr,
    splits=("train", "val"),  # test has no answers
)

CLEVR_MATH = Source(
    name="clevr_math",
    title="CLEVR-Math",
    home="https://huggingface.co/datasets/dali-does/clevr-math",
    licence=MATH_LICENCE,
    needs=("clevr-math-{split}.json", "CLEVR_v1.0/images/{split}"),
    read=read_math,
    splits=("train", "val", "test"),
)
