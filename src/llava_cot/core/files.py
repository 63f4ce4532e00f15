"""Files: writing one completely or not at all, checks before writing, and paths below a root."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from llava_cot.errors import DataError


def output_file(path: str | Path) -> Path:
    """The path of a file to write, checked before any work is spent on it. Raises ValueError."""
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {target.parent}; make it first")
    if target.exists() and not target.is_file():
        raise ValueError(f"cannot write {path}: it exists and is not an ordinary file; choose another name")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: the folder {target.parent} may not be written to")
    return target


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file; a reader sees the old one or the new one, never a part.

    Raises ValueError if it cannot be written there, OSError if writing fails.
    """
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


@contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A temporary file to write to, which replaces the target at the end if nothing failed.

    Raises like `write_whole`.
    """
    target = output_file(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def path_inside(root: Path, name: str) -> Path:
    """The file of a relative name under a root. Raises DataError for a name that leads out of the root."""
    path = PurePosixPath(name.replace("\\", "/"))
    target = (root / path).resolve()
    if path.is_absolute() or not target.is_relative_to(root.resolve()):
        raise DataError(f"the picture {name!r} lies outside of {root}; a name is a path below it")
    return target
