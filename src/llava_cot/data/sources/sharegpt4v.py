"""ShareGPT4V: conversations about pictures of many collections; its mix for instruction tuning.

Owns its layout: the folder `data` that the authors describe, with the pictures of eight collections.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import Source, each, numbered, picture, text
from llava_cot.data.sources.json_stream import json_items
from llava_cot.errors import DataError

LICENCE = "CC-BY-NC-4.0"
_FILE = "sharegpt4v/sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k.json"


def read(root: Path, split: str) -> Iterator[Record]:
    """Conversations without a picture are left out, as LLaVA-CoT-100k does.

    Ids of the file are those of its pictures and come again, so the number of the entry follows them.
    """

    def make(row: tuple[int, dict[str, Any]]) -> Iterator[Record]:
        number, talk = row
        if talk.get("image") is None:
            return
        image = text(talk["image"])
        yield Record(
            id=f"sharegpt4v/{split}/{text(talk['id'])}-{number}",
            turns=tuple(_turns(talk["conversations"])),
            pictures=(picture("sharegpt4v", root, image),),
            source="sharegpt4v",
            licence=LICENCE,
            extra={"collection": image.split("/")[0]},
        )

    yield from each(root / _FILE, numbered(json_items(root / _FILE)), make)


def _turns(messages: list[dict[str, Any]]) -> Iterator[Turn]:
    speakers = [message["from"] for message in messages]
    if not messages or speakers != ["human", "gpt"] * (len(messages) // 2):
        raise DataError(f"human and gpt are to speak in turn, not {', '.join(speakers) or 'nobody'}")
    for asked, said in zip(messages[::2], messages[1::2], strict=True):
        yield Turn(text(text(asked["value"]).replace("<image>", "")), text(said["value"]))


SHAREGPT4V = Source(
    name="sharegpt4v",
    title="ShareGPT4V",
    home="https://github.com/InternLM/InternLM-XComposer/blob/main/projects/ShareGPT4V/docs/Data.md",
    licence=LICENCE,
    needs=(
        _FILE,
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
    read=read,
)
