"""Records, folders of records and tiny checkpoints to train."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from llava_cot.data.record import Picture, Record, Turn, to_json

STAGED = (
    "<SUMMARY> I will count. </SUMMARY>\n\n<CAPTION> There are {n} cubes. </CAPTION>\n\n"
    "<REASONING> One by one: {n}. </REASONING>\n\n<CONCLUSION> {n} </CONCLUSION>"
)


def picture(folder: Path, number: int, size: tuple[int, int] = (24, 20)) -> Picture:
    name = f"images/{number}.png"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return Picture(name, path)


def record(folder: Path, number: int, pictures: int = 1, turns: int = 1, words: int = 0) -> Record:
    asked = tuple(
        Turn(
            f"How many cubes are there? {'Look well. ' * words}({i})",
            str(number % 10),
            response=STAGED.format(n=number % 10),
        )
        for i in range(turns)
    )
    shown = tuple(picture(folder, 10 * number + i, (24 + 8 * (number % 3), 20)) for i in range(pictures))
    return Record(f"made/{number}", asked, shown)


def write(folder: Path, records: list[Record]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(to_json(one)) + "\n" for one in records), encoding="utf-8")
    return file
