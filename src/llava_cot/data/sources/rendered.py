"""Questions about rendered scenes (CLEVR, CLEVR-Math and our own), charts (ChartQA) and scans (DocVQA)."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator
from functools import lru_cache, partial
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import LazyPicture, Source, picture, text
from llava_cot.data.sources.row_files import json_items, row_errors

if TYPE_CHECKING:
    from llava_cot.scenes.world import Scene


def _read_clevr(root: Path, split: str) -> Iterator[Record]:
    """The folder `CLEVR_v1.0`. Its file of 700,000 questions has over a gigabyte."""
    file = root / "questions" / f"CLEVR_{split}_questions.json"
    for place, row in json_items(file, "questions"):
        with row_errors(file, place, row):
            yield CLEVR.record(
                id=f"{split}/{text(row['question_index'])}",
                turns=(Turn(text(row["question"]), text(row["answer"])),),
                pictures=(picture("clevr", root, f"images/{split}/{text(row['image_filename'])}"),),
                # The last function of a question's program gives the kind of answer: a count, a color, ...
                extra={"type": row["program"][-1]["function"], "family": row["question_family_index"]},
            )


def _read_math(root: Path, split: str) -> Iterator[Record]:
    file = root / f"clevr-math-{split}.json"
    for place, row in json_items(file, "questions"):
        with row_errors(file, place, row):
            image = f"CLEVR_v1.0/images/{text(row['split'])}/{text(row['image_filename'])}"
            yield CLEVR_MATH.record(
                id=f"{split}/{text(row['question_index'])}",
                turns=(Turn(text(row["question"]), text(row["answer"])),),
                pictures=(picture("clevr_math", root, image),),
                extra={"type": text(row["template_filename"]).removesuffix(".json")},
            )


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


def _read_chartqa(root: Path, split: str) -> Iterator[Record]:
    """Questions by people (`human`) and by a model (`augmented`), in the folder "ChartQA Dataset"."""
    for origin in ("human", "augmented"):
        file = root / split / f"{split}_{origin}.json"
        for number, (place, row) in enumerate(json_items(file)):
            with row_errors(file, place, row):
                yield CHARTQA.record(
                    id=f"{split}/{origin}-{number}",
                    turns=(Turn(text(row["query"]), text(row["label"])),),
                    pictures=(picture("chartqa", root, f"{split}/png/{text(row['imgname'])}"),),
                    extra={"type": origin},
                )


def _read_docvqa(root: Path, split: str) -> Iterator[Record]:
    """The folders of the archives `spdocvqa_qas` and `spdocvqa_images`, side by side."""
    file = root / "spdocvqa_qas" / f"{split}_v1.0_withQT.json"
    for place, row in json_items(file, "data"):
        with row_errors(file, place, row):
            answers = [text(answer) for answer in row["answers"]]
            # The questions name "documents/x.png", after an older archive that had the pictures there.
            page = text(row["image"]).removeprefix("documents/")
            yield DOCVQA.record(
                id=f"{split}/{text(row['questionId'])}",
                turns=(Turn(text(row["question"]), answers[0]),),
                pictures=(picture("docvqa", root, f"spdocvqa_images/{page}"),),
                extra={"types": list(row["question_types"]), "answers": answers},
            )


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


LICENSE = "Apache-2.0"  # the project's own


def read_scenes(
    split: str, seed: int, size: int, difficulty: str = "standard", types: Collection[str] = ()
) -> Iterator[Record]:
    """The first `size` scenes of a split and seed, each with its question. "scenes/train-0-12" is scene 12.

    With `types`, those with a question of one of these types. Raises ValueError for an unknown split or
    difficulty.
    """
    from llava_cot.scenes.items import make_item

    items = (make_item(split, seed, index, difficulty) for index in count())
    for item in islice((item for item in items if not types or item.question.type in types), size):
        turn = Turn(item.question.text, item.answer, item.question.options)
        image = LazyPicture(f"scenes/{item.id}.png", make=partial(_png, item.scene))
        extra = {"type": item.question.type, "depth": item.question.depth}
        yield Record(f"scenes/{item.id}", (turn,), (image,), "scenes", LICENSE, extra)


# An evaluation reads each picture once for every method, and drawing one takes 7 ms. They have 10 kB each.
@lru_cache(maxsize=2000)
def _png(scene: Scene) -> bytes:
    from llava_cot.scenes.world import render

    data = io.BytesIO()
    render(scene).save(data, "PNG")
    return data.getvalue()
