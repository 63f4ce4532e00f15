"""PISC (People in Social Context): the relation of two people in a photograph.

Owns its layout, that of the authors' Zenodo record, and the question that is made of a pair: the data set
has boxes and relations, and no questions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, each, json_value, letter, picture, text
from llava_cot.data.sources.json_stream import json_items
from llava_cot.errors import DataError

LICENCE = "as on its Zenodo page"
RELATIONS = ("friends", "family", "couple", "professional", "commercial", "no relation")  # 1 to 6


def read(root: Path, split: str) -> Iterator[Record]:
    """A record a pair. The relations and boxes of all pictures are held in memory."""
    pairs = json_value(root / "relationship.json")
    boxes = {text(image["id"]): image for image in json_value(root / "annotation_image_info.json")}

    def make(id: object) -> Iterator[Record]:
        image = text(id)
        if image not in boxes:
            raise DataError(f"picture {image} is not in annotation_image_info.json")
        about = boxes[image]
        shown = picture("pisc", root, f"image/{int(image):05}.jpg")
        for pair, relation in pairs.get(image, {}).items():
            first, second = (int(person) for person in pair.split())
            yield Record(
                id=f"pisc/{split}/{image}-{first}-{second}",
                turns=(Turn(_question(about, first, second), letter(relation - 1, RELATIONS), RELATIONS),),
                pictures=(shown,),
                source="pisc",
                licence=LICENCE,
                extra={"type": RELATIONS[relation - 1]},
            )

    file = root / "relationship_split" / f"relation_{split}idx.json"
    yield from each(file, json_items(file), make)


def _question(image: dict[str, Any], first: int, second: int) -> str:
    return (
        f"The picture is {image['imgW']} pixels wide and {image['imgH']} high. Person 1 is in the box "
        f"{_box(image, first)} and person 2 in the box {_box(image, second)}, each given by its left, top, "
        "right and bottom edge. What is the relation of the two?"
    )


def _box(image: dict[str, Any], person: int) -> str:
    """The box of a person, who are counted from 1."""
    if not 1 <= person <= len(image["bbox"]):
        raise DataError(f"there is no box of person {person} in picture {image['id']}")
    left, top, right, bottom = image["bbox"][person - 1]
    return f"({left:.0f}, {top:.0f}, {right:.0f}, {bottom:.0f})"


PISC = Source(
    name="pisc",
    title="PISC",
    home="https://zenodo.org/records/1059155",
    licence=LICENCE,
    needs=(
        "relationship.json",
        "annotation_image_info.json",
        "relationship_split/relation_{split}idx.json",
        "image",
    ),
    read=read,
    splits=("train", "val", "test"),
)
