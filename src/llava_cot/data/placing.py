"""Putting a data set's pictures into a folder: a hard link where that can be, else a copy.

Owns how a picture's file comes to be there, whole or not at all. Where it goes, and what is done about two
pictures of one name, is for whoever puts it there.
"""

from __future__ import annotations

import filecmp
import os
from pathlib import Path

from llava_cot.data.record import Picture


def put(picture: Picture, target: Path, data: bytes | None = None) -> None:
    """Put a picture where nothing is yet; `data` are its bytes, where they have been read. Raises OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if picture.file is None or picture.data is not None or not _linked(picture.file, target):
        part = target.with_name(target.name + ".part")
        part.write_bytes(picture.read() if data is None else data)
        part.replace(target)


def _linked(file: Path, target: Path) -> bool:
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, or a file system without links
        return False
    return True


def is_there(picture: Picture, target: Path) -> bool:
    """Whether the file at `target`, which exists, is this picture's. Raises OSError."""
    if picture.file is not None and picture.data is None:
        return target.samefile(picture.file) or filecmp.cmp(target, picture.file, shallow=False)
    return target.read_bytes() == picture.read()
