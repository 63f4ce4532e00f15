"""LLaVA-CoT-100k: the paper's own data set, questions of ten others with staged responses by GPT-4o.

Owns its layout, as its card (Hugging Face, Xkev/LLaVA-CoT-100k) describes it: `train.jsonl` with `id`,
`image` and `conversations`, and `image.zip` in parts, which unpacks to folders beside it
("pisc/image/24231.jpg"). Knows nothing of how its questions were chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, inside
from llava_cot.data.sources.base import Source, each, json_lines, picture
from llava_cot.data.sources.talk import read_talk
from llava_cot.errors import DataError

_NAME = "llava_cot_100k"


def _read(root: Path, split: str) -> Iterator[Record]:
    file = root / f"{split}.jsonl"
    return each(file, json_lines(file), lambda line: [_record(line, root)])


def _record(line: dict[str, Any], root: Path) -> Record:
    talk = read_talk(line)
    for image in talk.images:
        folder = inside(root, image).parent
        if not folder.is_dir():
            raise DataError(
                f"there is no folder {folder} for the picture {image}; join and unpack the pictures there: "
                "cat image.zip.part-* > image.zip && unzip image.zip"
            )
    pictures = tuple(picture(_NAME, root, image) for image in talk.images)
    return Record(str(line["id"]), talk.turns, pictures, _NAME, SOURCE.licence)


SOURCE = Source(
    name=_NAME,
    title="LLaVA-CoT-100k",
    home="https://huggingface.co/datasets/Xkev/LLaVA-CoT-100k",
    licence="Apache-2.0",
    needs=("{split}.jsonl",),
    read=_read,
)
