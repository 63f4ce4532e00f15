"""Questions and conversations about photographs: ShareGPT4V, A-OKVQA and PISC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, letter, picture, text
from llava_cot.data.sources.row_files import json_items, json_value, row_errors
from llava_cot.errors import DataError

_SHAREGPT4V = "sharegpt4v/sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json"
RELATIONS = ("friends", "family", "couple", "professional", "commercial", "no relation")  # 1 to 6


def _read_sharegpt4v(root: Path, split: str) -> Iterator[Record]:
    """The mix for instruction tuning, in the folder `data` with the pictures of eight collections.

    Conversations without a picture are left out, as in LLaVA-CoT-100k. Ids in the file are those of its
    pictures and repeat, so the number of the entry follows them.
    """
    file = root / _SHAREGPT4V
    for number, (place, row) in enumerate(json_items(file)):
        with row_errors(file, place, row):
            if row.get("image") is None:
                continue
            image = text(row["image"])
            yield SHAREGPT4V.record(
                id=f"{split}/{text(row['id'])}-{number}",
                turns=tuple(_turns(row["conversations"])),
                pictures=(picture("sharegpt4v", root, image),),
                extra={"collection": image.split("/")[0]},
            )


def _turns(messages: list[dict[str, Any]]) -> Iterator[Turn]:
    speakers = [message["from"] for message in messages]
    if not messages or speakers != ["human", "gpt"] * (len(messages) // 2):
        raise DataError(f"human and gpt must alternate, not {', '.join(speakers) or 'nothing'}")
    for question, reply in zip(messages[::2], messages[1::2], strict=True):
        yield Turn(text(text(question["value"]).replace("<image>", "")), text(reply["value"]))


def _read_aokvqa(root: Path, split: str) -> Iterator[Record]:
    """The authors' folders `aokvqa` (questions) and `coco` (pictures of COCO 2017), side by side."""
    file = root / "aokvqa" / f"aokvqa_v1p0_{split}.json"
    for place, row in json_items(file):
        with row_errors(file, place, row):
            options = tuple(text(choice) for choice in row["choices"])
            answer = letter(row["correct_choice_idx"], options)
            hints = "\n".join(text(rationale) for rationale in row["rationales"])
            direct = Counter(text(answer) for answer in row["direct_answers"])
            yield AOKVQA.record(
                id=f"{split}/{text(row['question_id'])}",
                turns=(Turn(text(row["question"]), answer, options, hints or None),),
                pictures=(picture("aokvqa", root, f"coco/{split}2017/{row['image_id']:012}.jpg"),),
                extra={
                    # Of the ten answers without options, the most frequent; of several, the first.
                    "direct_answer": direct.most_common(1)[0][0],
                    "difficult_direct_answer": row["difficult_direct_answer"],
                },
            )


def _read_pisc(root: Path, split: str) -> Iterator[Record]:
    """A record for each pair of people, of the authors' Zenodo record.

    The data set has boxes and relations, and no questions: they are made here. The relations and boxes of
    all pictures are in memory.
    """
    pairs = json_value(root / "relationship.json")
    boxes = {text(image["id"]): image for image in json_value(root / "annotation_image_info.json")}
    file = root / "relationship_split" / f"relation_{split}idx.json"
    for place, id in json_items(file):
        with row_errors(file, place, id):
            image = text(id)
            if image not in boxes:
                raise DataError(f"picture {image} is not in annotation_image_info.json")
            shown = picture("pisc", root, f"image/{int(image):05}.jpg")
            for pair, relation in pairs.get(image, {}).items():
                first, second = (int(person) for person in pair.split())
                question = _relation_question(boxes[image], first, second)
                yield PISC.record(
                    id=f"{split}/{image}-{first}-{second}",
                    turns=(Turn(question, letter(relation - 1, RELATIONS), RELATIONS),),
                    pictures=(shown,),
                    extra={"type": RELATIONS[relation - 1]},
                )


def _relation_question(image: dict[str, Any], first: int, second: int) -> str:
    return (
        f"The picture is {image['imgW']} pixels wide and {image['imgH']} high. Person 1 is in the box "
        f"{_box(image, first)} and person 2 in the box {_box(image, second)}, each given by its left, top, "
        "right and bottom edge. What is the relation of the two?"
    )


def _box(image: dict[str, Any], person: int) -> str:
    if not 1 <= person <= len(image["bbox"]):
        raise DataError(f"there is no box of person {person} in picture {image['id']}")
    left, top, right, bottom = image["bbox"][person - 1]
    return f"({left:.0f}, {top:.0f}, {right:.0f}, {bottom:.0f})"


SHAREGPT4V = Source(
    name="sharegpt4v",
    title="ShareGPT4V",
    home="https://github.com/InternLM/InternLM-XComposer/blob/main/projects/ShareGPT4V/docs/Data.md",
    license="CC-BY-NC-4.0",
    needs=(
        _SHAREGPT4V,
        "coco/train2017",
        "gqa/images",
        "llava/llava_pretrain/images",
        "ocr_vqa/images",
        "sam/images",
        "share_textvqa/images",
        "textvqa/train_images",
        "vg/VG_100K",
        "vg/VG_100K_2",
        "web-celebrity/images",
        "web-landmark/images",
        "wikiart/images",
    ),
    read=_read_sharegpt4v,
)
AOKVQA = Source(
    name="aokvqa",
    title="A-OKVQA",
    home="https://github.com/allenai/aokvqa",
    license="Apache-2.0",
    needs=("aokvqa/aokvqa_v1p0_{split}.json", "coco/{split}2017"),
    read=_read_aokvqa,
    splits=("train", "val"),  # the answers of test are not public
)
PISC = Source(
    name="pisc",
    title="PISC",
    home="https://zenodo.org/records/1059155",
    license="as on its Zenodo page",
    needs=(
        "relationship.json",
        "annotation_image_info.json",
        "relationship_split/relation_{split}idx.json",
        "image",
    ),
    read=_read_pisc,
    splits=("train", "val", "test"),
)
