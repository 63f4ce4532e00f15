"""Saved traces, one at a time, from files and folders of them, and the pictures that are in them.

Owns where traces are found and what their pictures are called. Knows nothing of searches.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path

from llava_cot.core.images import load_image
from llava_cot.core.trace import Trace
from llava_cot.errors import DataError, ImageError

_DATA_URL = re.compile(r"data:image/(png|jpeg|webp|gif);base64,(.*)", re.DOTALL)


def trace_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and those of folders. Raises DataError for a path that holds none."""
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise DataError(f"there is no {path}; name traces that `ask --trace` saved, or a folder of them")
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


def keep_pictures(trace: Trace, out: Path) -> list[str] | None:
    """Write the question's pictures under `out`, byte for byte as the trace holds them, named by their hash.

    Their names; None if one is not in the trace. Raises DataError for one that cannot be read.
    """
    names = []
    for image in trace.question.images:
        found = _DATA_URL.fullmatch(image.data or "")
        if found is None:
            return None
        try:
            data = base64.b64decode(found[2], validate=True)
            load_image(data, name=image.name)
        except (binascii.Error, ImageError) as error:
            raise DataError(f"its picture {image.name} cannot be read: {error}") from None
        suffix = "jpg" if found[1] == "jpeg" else found[1]
        name = f"images/{sha256(data).hexdigest()[:32]}.{suffix}"
        if not (out / name).exists():
            (out / "images").mkdir(exist_ok=True)
            part = out / f"{name}.part"
            part.write_bytes(data)
            part.replace(out / name)
        names.append(name)
    return names
