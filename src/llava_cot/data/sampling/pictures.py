"""Looking at pictures, many at a time, and putting them into a new folder.

Owns the threads' work and the picture files. Knows no recipe. Pillow lets go of Python's lock while it
decodes, so threads use all cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar

from llava_cot.core.images import ImageLimits
from llava_cot.data.overlap import Fingerprint, fingerprint
from llava_cot.data.placing import is_there, put
from llava_cot.data.record import Picture, Record, inside
from llava_cot.errors import DataError, ImageError

Item = TypeVar("Item")
FOLDER = "images"


class Looked(NamedTuple):
    """A picture's fingerprint, or why it has none; and its bytes where they would have to be made again."""

    fingerprint: Fingerprint | None = None
    data: bytes | None = None
    why: str = ""


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """The items, `size` at a time."""
    left = iter(items)
    while batch := list(islice(left, size)):
        yield batch


def threads() -> ThreadPoolExecutor:
    """As many as there are cores."""
    return ThreadPoolExecutor(os.cpu_count() or 1)


def look(
    records: Sequence[Record],
    pool: ThreadPoolExecutor,
    *,
    known: Callable[[str], Fingerprint | None],
    perceptual: bool,
) -> dict[str, Looked]:
    """What is seen of the records' pictures, by name.

    `known` has those that were looked at before. Without `perceptual` that hash is left 0.
    """
    found: dict[str, Looked] = {}
    waiting: dict[str, Future[Looked]] = {}
    for picture in (picture for record in records for picture in record.pictures):
        if picture.name in found or picture.name in waiting:
            continue
        before = known(picture.name)
        if before is None:
            waiting[picture.name] = pool.submit(_look_at, picture, perceptual)
        else:
            found[picture.name] = Looked(before)
    return found | {name: future.result() for name, future in waiting.items()}


def _look_at(picture: Picture, perceptual: bool) -> Looked:
    most = ImageLimits().max_bytes
    try:
        if picture.file is not None and picture.file.stat().st_size > most:
            return Looked(why=f"{picture.name}: it has more than the {most / 1e6:g} MB allowed")
        data = picture.read()
    except OSError as error:
        return Looked(why=f"{picture.name}: {(error.strerror or 'it cannot be opened').lower()}")
    except DataError as error:
        return Looked(why=str(error))
    try:
        seen = fingerprint(data, picture.name, perceptual=perceptual)
    except ImageError as error:
        return Looked(why=str(error))
    return Looked(seen, data if picture.file is None else None)


def path_of(name: str) -> str:
    """Where the picture of that name goes, relative to the new folder."""
    return f"{FOLDER}/{name.removeprefix(FOLDER + '/')}"


class Placed:
    """The pictures that have been put under a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._from: dict[str, str] = {}  # a path that is there, and the source that it came from

    def put(self, label: str, picture: Picture, data: bytes | None = None) -> None:
        """Put a source's picture there, once; `data` are its bytes, where they have been read.

        Raises OSError, and DataError if another picture is there.
        """
        path = path_of(picture.name)
        if self._from.get(path) == label:
            return
        target = inside(self._folder, path)
        if target.exists():
            if not is_there(picture, target):
                raise DataError(
                    f"two sources have different pictures called {picture.name}; "
                    "give one of the sources a `name`"
                )
        else:
            put(picture, target, data)
        self._from[path] = label
