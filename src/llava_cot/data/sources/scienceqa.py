"""ScienceQA: multiple choice from school science, with lectures and solutions.

Owns its layout: the folder `data/scienceqa` of the authors' repository, with the pictures under `images`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, each, json_value, letter, picture, text
from llava_cot.data.sources.json_stream import json_pairs

LICENCE = "CC-BY-NC-SA-4.0"


def read(root: Path, split: str) -> Iterator[Record]:
    """Problems without a picture are left out, as LLaVA-CoT-100k does."""
    wanted = set(json_value(root / "pid_splits.json")[split])

    def make(pair: tuple[str, dict[str, Any]]) -> Iterator[Record]:
        id, problem = pair
        if id not in wanted or not problem["image"]:
            return
        options = tuple(text(choice) for choice in problem["choices"])
        # What the data set calls a hint is shown to who is to answer: a passage, or how to read the picture.
        asked = (text(problem["hint"]), text(problem["question"]))
        known = (text(problem["lecture"]), text(problem["solution"]))
        yield Record(
            id=f"scienceqa/{split}/{id}",
            turns=(
                Turn(
                    question="\n".join(filter(None, asked)),
                    answer=letter(problem["answer"], options),
                    options=options,
                    hints="\n\n".join(filter(None, known)) or None,
                ),
            ),
            pictures=(picture("scienceqa", root, f"images/{split}/{id}/{text(problem['image'])}"),),
            source="scienceqa",
            licence=LICENCE,
            extra={
                "type": problem["category"],
                "subject": problem["subject"],
                "topic": problem["topic"],
                "grade": problem["grade"],
            },
        )

    file = root / "problems.json"
    yield from each(file, json_pairs(file), make)


SCIENCEQA = Source(
    name="scienceqa",
    title="ScienceQA",
    home="https://github.com/lupantech/ScienceQA",
    licence=LICENCE,
    needs=("problems.json", "pid_splits.json", "images/{split}"),
    read=read,
    splits=("train", "val", "test"),
)
