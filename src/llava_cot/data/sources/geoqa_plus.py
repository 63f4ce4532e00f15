"""GeoQA+: multiple choice about plane geometry, in Chinese as its authors publish it.

Owns its layout: pickled lists of problems with their pictures in them, read by `inert_pickle.py`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Picture, Record, Turn
from llava_cot.data.sources.base import Source, each, letter, numbered, text
from llava_cot.data.sources.inert_pickle import InertArray, read_pickle
from llava_cot.errors import DataError

LICENCE = "not stated"
_FILE = "Backtrans-train.pk"


def read(root: Path, split: str) -> Iterator[Record]:
    """The file is read whole, pictures included, since a pickle cannot be read in pieces.

    A problem and its rewording by translation and back have one id, so the number in the file follows it.
    """

    def make(row: tuple[int, dict[str, Any]]) -> Iterator[Record]:
        number, problem = row
        options = tuple(text(choice) for choice in problem["choices"])
        yield Record(
            id=f"geoqa_plus/{split}/{text(problem['id'])}-{number}",
            turns=(
                Turn(
                    question=text(problem["subject"]),
                    answer=letter(problem["label"], options),
                    options=options,
                    hints=text(problem.get("answer") or "") or None,
                ),
            ),
            pictures=(Picture(f"geoqa_plus/{split}/{number}.png", data=_png(problem["image"])),),
            source="geoqa_plus",
            licence=LICENCE,
            extra={"points": list(problem["formal_point"])},
        )

    file = root / _FILE
    problems = read_pickle(file)
    if not isinstance(problems, list):
        raise DataError(f"{file}: a list of problems is wanted, not {type(problems).__name__}")
    yield from each(
        file, numbered((f"entry {number}", problem) for number, problem in enumerate(problems, 1)), make
    )


def _png(array: InertArray) -> bytes:
    """The grey picture that an array of bytes is, (height, width)."""
    from PIL import Image

    if array.code != "u1" or len(array.shape) != 2 or len(array.data) != array.shape[0] * array.shape[1]:
        raise DataError(f"a grey picture is wanted, not {array.code or 'nothing'} of shape {array.shape}")
    height, width = array.shape
    data = io.BytesIO()
    Image.frombytes("L", (width, height), array.data).save(data, "PNG")
    return data.getvalue()


GEOQA_PLUS = Source(
    name="geoqa_plus",
    title="GeoQA+",
    home="https://github.com/SCNU203/GeoQA-Plus",
    licence=LICENCE,
    needs=(_FILE,),
    read=read,
)
