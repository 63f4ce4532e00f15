"""A-OKVQA: questions about photographs that ask for knowledge beyond them, with rationales.

Owns its layout: the authors' folders `aokvqa` (questions) and `coco` (pictures of COCO 2017) side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, each, letter, picture, text
from llava_cot.data.sources.json_stream import json_items

LICENCE = "Apache-2.0"


def read(root: Path, split: str) -> Iterator[Record]:
    def make(asked: dict[str, Any]) -> Iterator[Record]:
        options = tuple(text(choice) for choice in asked["choices"])
        direct = [text(answer) for answer in asked["direct_answers"]]
        yield Record(
            id=f"aokvqa/{split}/{text(asked['question_id'])}",
            turns=(
                Turn(
                    question=text(asked["question"]),
                    answer=letter(asked["correct_choice_idx"], options),
                    options=options,
                    hints="\n".join(text(rationale) for rationale in asked["rationales"]) or None,
                ),
            ),
            pictures=(picture("aokvqa", root, f"coco/{split}2017/{asked['image_id']:012}.jpg"),),
            source="aokvqa",
            licence=LICENCE,
            extra={
                # Of the ten answers without options, the one given most often; of several, the first given.
                "direct_answer": Counter(direct).most_common(1)[0][0],
                "difficult_direct_answer": asked["difficult_direct_answer"],
            },
        )

    file = root / "aokvqa" / f"aokvqa_v1p0_{split}.json"
    yield from each(file, json_items(file), make)


AOKVQA = Source(
    name="aokvqa",
    title="A-OKVQA",
    home="https://github.com/allenai/aokvqa",
    licence=LICENCE,
    needs=("aokvqa/aokvqa_v1p0_{split}.json", "coco/{split}2017"),
    read=read,
    splits=("train", "val"),  # the answers of test are kept back
)
