"""Writing a file whole or not at all, and finding out beforehand that it cannot be written."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import NamedTemporaryFile


def output_file(path: str | Path) -> Path:
    """Where a file will be written, checked before any work is spent on it. Raises ValueError."""
    target = Path(path).resolve()
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {path}: there is no folder {target.parent}; make it first")
    if target.exists() and not target.is_file():
        raise ValueError(f"cannot write {path}: it is there and is no ordinary file; choose another name")
    if not os.access(target.parent, os.W_OK):
        raise ValueError(f"cannot write {path}: the folder {target.parent} may not be written to")
    return target


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file; a reader sees the old one or the new one, never a part. Raises OSError."""
    target = output_file(path)
    with NamedTemporaryFile(
        "w", encoding="utf-8", dir=target.parent, prefix=target.name, suffix=".part", delete=False
    ) as part:
        try:
            part.write(text)
            part.close()
            os.chmod(part.name, 0o666 & ~_umask())
            os.replace(part.name, target)
        except BaseException:
            os.unlink(part.name)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
