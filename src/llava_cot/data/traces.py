"""Saved traces, one at a time, from files and folders of them.

Owns where traces are found. Knows nothing of what they hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from llava_cot.data.records import DataError
from llava_cot.trace import Trace


def trace_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and those of folders. Raises DataError for a path that holds none."""
    files: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*.json")) + sorted(path.rglob("*.jsonl")) if path.is_dir() else [path]
        if not inside:
            raise DataError(
                f"{path} holds no traces, which are .json or .jsonl files; `ask --trace` saves them"
            )
        files += inside
    return files


def read_traces(files: Sequence[Path]) -> Iterator[tuple[str, Trace]]:
    """Each trace with its place, one at a time. Raises DataError for what is none."""
    for file in files:
        if file.suffix.lower() != ".jsonl":
            yield str(file), Trace.load(file)
            continue
        try:
            with file.open("rb") as lines:
                for number, line in enumerate(lines, 1):
                    if line.strip():
                        yield f"{file}, line {number}", Trace.parse(line, f"{file}, line {number},")
        except OSError as error:
            raise DataError(f"cannot read the traces {file}: {error.strerror}") from None
