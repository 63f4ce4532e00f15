"""Folders of records about scenes, annotated by the programmatic teacher, to be spoilt by tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llava_cot.core.stages import render
from llava_cot.data.record import Picture, Record, Turn, to_json
from llava_cot.scenes.items import SceneItem, make_items

Lines = list[dict[str, Any]]


def record_of(item: SceneItem) -> Record:
    turn = Turn(item.question.text, item.answer, item.question.options, response=render(item.stages))
    return Record(item.id, (turn,), (Picture(f"images/{item.id}.png"),), "scenes", "Apache-2.0")


def write_set(
    folder: Path,
    count: int = 6,
    spoil: Callable[[Lines], object] | None = None,
    *,
    seed: int = 0,
    split: str = "train",
    name: str = "train.jsonl",
) -> Path:
    """A folder of `count` annotated scenes. `spoil` may change the lines of JSON before they are written."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for item in make_items(split, seed, count):
        item.picture().save(folder / f"images/{item.id}.png")
        lines.append(to_json(record_of(item)))
    if spoil is not None:
        spoil(lines)
    write_lines(folder / name, lines)
    return folder


def write_lines(file: Path, lines: Iterable[object]) -> None:
    """A line of JSON each; a text is written as it is."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text("".join(f"{text}\n" for text in texts))
