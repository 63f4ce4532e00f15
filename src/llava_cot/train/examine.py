"""Looking at a run's input before its first step: every picture is decoded, every record measured, the base
model's files are hashed. What was found is kept in the run's folder, and a resumed run looks at what changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from llava_cot.core.images import load_image
from llava_cot.data.overlap import reading_threads
from llava_cot.data.record import Picture, Record
from llava_cot.data.store import Store
from llava_cot.errors import DataError, ImageError
from llava_cot.train.encode import RowEncoder, RowSize, target_text
from llava_cot.train.recipe import TrainRecipe

OnNote = Callable[[str], None]  # called with a sentence for the user
_NOTE_EVERY = 10_000  # records or pictures
_AT_ONCE = 1000  # pictures whose results are saved together
# Kinds of values in the run's store: by the file and its state, by a picture's bytes, by a record's digest.
_FILE, _BYTES, _SIZE = "file", "bytes", "size"
# The files of a checkpoint that decide what is learned.
_BASE = (".json", ".jinja", ".model", ".safetensors", ".txt")


@dataclass(frozen=True)
class Examined:
    """What was found of a record.

    Attributes:
        digest: A hash of its texts and its pictures' pixels.
        size: The size of its row; None if it has nothing to learn, or cannot be used.
        problem: Why it cannot be used, if so.
    """

    digest: str
    size: RowSize | None
    problem: str = ""


@dataclass(frozen=True)
class _Seen:
    """What was found of a picture: a hash of its pixels, its width and height, or why it cannot be used."""

    sha256: str = ""
    size: tuple[int, int] = (0, 0)
    problem: str = ""


def examine(
    encoder: RowEncoder, records: Sequence[Record], store: Store, recipe: TrainRecipe, base: str, note: OnNote
) -> list[Examined]:
    """Look at all records and their pictures, on all cores.

    Args:
        store: Keeps what was found. A picture is looked at again if its file has changed, a record if its
            texts or pictures have.
        base: A hash of the checkpoint, on which sizes depend.
        note: Called with the progress.
    """
    pictures = {_key(picture): picture for record in records for picture in record.pictures}
    seen = _look(pictures, store, note)
    saved = dict(store.items(_SIZE))
    found, fresh = [], {}
    for done, record in enumerate(records, 1):
        shown = [seen[_key(picture)] for picture in record.pictures]
        texts = [[turn.text, target_text(turn, recipe.target)] for turn in record.turns]
        content = [record.id, texts, [one.sha256 for one in shown]]
        digest = _hash(content)
        problem = next((one.problem for one in shown if one.problem), "")
        size = None
        if not problem:
            template = [recipe.chat_template_kwargs] if recipe.chat_template_kwargs else []
            key = _hash([base, recipe.target, recipe.double_bos, digest, *template])
            if key not in saved:
                measured = encoder.size(record, tuple(one.size for one in shown))
                saved[key] = fresh[key] = measured and astuple(measured)
            size = RowSize(*saved[key]) if saved[key] else None
        found.append(Examined(digest, size, problem))
        if done % _NOTE_EVERY == 0:
            note(f"measured {done:,} of {len(records):,} records")
    store.put_all(_SIZE, fresh.items())
    return found


def base_digest(folders: Sequence[Path], store: Store) -> str:
    """A hash of the weights, configuration and tokenizer in the folders of a checkpoint and of its adapters.

    A file is read again if it has changed.
    """
    files = {
        f"{number or ''}{path.name}": path
        for number, folder in enumerate(folders)
        for path in sorted(folder.iterdir())
        if path.suffix in _BASE and path.is_file()
    }
    known: dict[str, Any] = {name: store.get(_state(path), _FILE) for name, path in files.items()}
    new = [name for name in files if known[name] is None]
    with ThreadPoolExecutor() as pool:
        for name, digest in zip(new, pool.map(lambda name: _file_hash(files[name]), new), strict=True):
            known[name] = digest
            store.put(_state(files[name]), _FILE, digest)
    return _hash(known)


def _look(pictures: dict[str, Picture], store: Store, note: OnNote) -> dict[str, _Seen]:
    """What is found of each picture, by its key."""
    saved = {key: value for kind in (_FILE, _BYTES) for key, value in store.items(kind) if key in pictures}
    seen = {key: _Seen(value[0], tuple(value[1]), value[2]) for key, value in saved.items()}
    new = [(key, picture) for key, picture in pictures.items() if key not in seen]
    pool = reading_threads()
    try:
        for start in range(0, len(new), _AT_ONCE):
            part = new[start : start + _AT_ONCE]
            found = list(zip(part, pool.map(_look_at, (picture for _, picture in part)), strict=True))
            for kind in (_FILE, _BYTES):
                of_kind = [(key, astuple(one)) for (key, _), one in found if key.startswith(f"{kind} ")]
                store.put_all(kind, of_kind)
            seen |= {key: one for (key, _), one in found}
            if (done := start + len(part)) // _NOTE_EVERY > start // _NOTE_EVERY:
                note(f"looked at {done:,} of {len(new):,} pictures")
    finally:
        pool.shutdown(cancel_futures=True)
    return seen


def _look_at(picture: Picture) -> _Seen:
    try:
        image = load_image(picture.file or picture.read(), name=picture.name)
    except (DataError, ImageError) as error:
        return _Seen(problem=str(error))
    except OSError as error:
        return _Seen(problem=f"cannot read the image {picture.name}: {error.strerror or error}")
    return _Seen(image.sha256, image.pil.size)


def _key(picture: Picture) -> str:
    if picture.file is not None and picture.data is None:
        return _state(picture.file)
    try:
        return f"{_BYTES} {hashlib.sha256(picture.read()).hexdigest()}"
    except (DataError, OSError):
        return f"{_BYTES} of {picture.name}"


def _state(path: Path) -> str:
    """A file with what changes when it is written to. (The time of its last change cannot be set back.)"""
    try:
        about = path.stat()
    except OSError:
        return f"missing {path}"  # and so not saved
    return f"{_FILE} {str(path.resolve())!a} {about.st_size} {about.st_mtime_ns} {about.st_ctime_ns}"


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _by_id(rows: Iterable[Sequence[Any]]) -> dict[Any, list[str]]:
    """The rest of each row by its id, in one order; several records may have one id."""
    found: dict[Any, list[str]] = {}
    for id, *rest in rows:
        found.setdefault(id, []).append(json.dumps(rest))
    return {id: sorted(rests) for id, rests in found.items()}


def changes(before: Iterable[Sequence[Any]], now: Iterable[Sequence[Any]]) -> str:
    """What differs between the rows of a run (id, digest and more) and those of its start, in words."""
    old, new = (_by_id(rows) for rows in (before, now))
    parts = []
    for what, ids in (
        ("changed", [id for id in old if id in new and old[id] != new[id]]),
        ("missing", [id for id in old if id not in new]),
        ("new", [id for id in new if id not in old]),
    ):
        if ids:
            more = f" and {len(ids) - 3:,} more" if len(ids) > 3 else ""
            parts.append(f"{what}: {', '.join(repr(id) for id in ids[:3])}{more}")
    return "; ".join(parts) or "they are in another order, or come more or less often"
