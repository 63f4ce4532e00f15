"""A folder of judge examples: made record by record, gone on with after an interruption.

Owns the files. `duels.jsonl` has a line for each record that is done, after one with the settings;
`train.jsonl`, which training reads, is written from it at the end.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llava_cot.data.records import DataError, Record, inside, to_json
from llava_cot.files import write_whole
from llava_cot.models.base import Model
from llava_cot.train.encode import load_pictures
from llava_cot.train.judging import Settings, duels

_AT_ONCE = 16  # records; a local model puts their samples into one batch


def write_duels(
    model: Model,
    records: Sequence[Record],
    out: Path,
    settings: Settings,
    seed: int,
    on_progress: Callable[[int], None] = lambda done: None,
) -> int:
    """Make the examples of all records; how many there are. The same call goes on where it was interrupted.

    Raises DataError if the folder has examples made in another way, or a picture cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "duels.jsonl"
    about = {"model": model.name, "seed": seed, "settings": asdict(settings)}
    about = json.loads(json.dumps(about))
    lines = _read(kept)
    if lines and lines[0] != about:
        raise DataError(f"{out} has duels that were made with other settings; name a new or empty folder")
    write_whole(kept, "".join(json.dumps(line) + "\n" for line in lines or [about]))
    done = {line["id"]: line["made"] for line in lines[1:]}
    owed = [record for record in records if record.id not in done]
    asyncio.run(_make(model, owed, kept, settings, seed, done, on_progress))
    by_id = {record.id: record for record in records}
    examples = [(by_id[id], example) for id, made in done.items() if id in by_id for example in made]
    for record, _ in examples:
        _copy_pictures(record, out)
    write_whole(out / "train.jsonl", "".join(json.dumps(example) + "\n" for _, example in examples))
    return len(examples)


async def _make(
    model: Model,
    owed: Sequence[Record],
    kept: Path,
    settings: Settings,
    seed: int,
    done: dict[str, Any],
    on_progress: Callable[[int], None],
) -> None:
    places = asyncio.Semaphore(_AT_ONCE)
    with kept.open("a", encoding="utf-8") as file:

        async def one(record: Record) -> None:
            async with places:
                made = await duels(model, record, load_pictures(record), settings, seed)
            done[record.id] = [to_json(example) for example in made]
            file.write(json.dumps({"id": record.id, "made": done[record.id]}) + "\n")
            file.flush()
            on_progress(len(done))

        async with asyncio.TaskGroup() as group:
            for record in owed:
                group.create_task(one(record))


def _read(kept: Path) -> list[dict[str, Any]]:
    """The lines of a file up to the first that is torn."""
    lines = []
    if kept.is_file():
        with suppress(ValueError):
            for line in kept.read_text(encoding="utf-8").splitlines():
                lines.append(json.loads(line))
    return lines


def _copy_pictures(record: Record, out: Path) -> None:
    for picture in record.pictures:
        target = inside(out, picture.name)
        if target.is_file():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        if picture.file is not None:
            shutil.copyfile(picture.file, part)
        else:
            part.write_bytes(picture.read())
        part.replace(target)
