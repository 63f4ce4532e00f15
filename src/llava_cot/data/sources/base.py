"""A source, which is one public data set on disk, and the helpers that readers of data sets share."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import ascii_uppercase
from typing import Any
from urllib.parse import unquote_to_bytes

from llava_cot.core.files import path_inside, relative_name
from llava_cot.data.record import Picture, Record, Turn
from llava_cot.errors import DataError

# How the files of the formats begin that `images.load_image` reads.
_BEGINNINGS = (
    (b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"RIFF", "webp"), (b"GIF8", "gif"), (b"BM", "bmp"),
    (b"II*\0", "tiff"), (b"MM\0*", "tiff"),
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One public data set, read from the files that its authors publish.

    Other packages add their own by the entry point group `llava_cot.sources`.

    Attributes:
        name: What recipes call it.
        title: What its authors call it.
        home: Where to get it.
        license: An SPDX identifier where there is one, "not stated" if its authors do not say.
        needs: Files and folders below the root, with `{split}` for the split's name. A glob is allowed and
            needs at least one match.
        read: Yields the records of a split, given root and split: lazily, in the files' order, the same ones
            each time.
        splits: The first one is the default.
    """

    name: str
    title: str
    home: str
    license: str
    needs: tuple[str, ...]
    read: Callable[[Path, str], Iterator[Record]]
    splits: tuple[str, ...] = ("train",)

    def records(self, root: Path, split: str = "train") -> Iterator[Record]:
        """The records of a split. Raises DataError for an unknown split, or if a file is missing."""
        if split not in self.splits:
            raise DataError(f"{self.title} has no split {split!r}; it has {', '.join(self.splits)}")
        needs = [need.format(split=split) for need in self.needs]
        missing = [need for need in needs if next(root.glob(need), None) is None]
        if missing:
            raise DataError(
                f"{self.title} is incomplete under {root}: there is no {', no '.join(missing)}; "
                f"get it from {self.home}"
            )
        return self.read(root, split)

    def record(
        self, id: str, turns: tuple[Turn, ...], pictures: tuple[Picture, ...], extra: Mapping[str, Any]
    ) -> Record:
        """A record of this source, whose name begins its id."""
        return Record(f"{self.name}/{id}", turns, pictures, self.name, self.license, extra)


@dataclass(frozen=True)
class LazyPicture(Picture):
    """A picture that is in no file of its own: `make` draws or decodes its bytes each time it is read."""

    make: Callable[[], bytes] = field(kw_only=True, repr=False, compare=False)

    def read(self) -> bytes:
        """The bytes of a picture's file. Raises DataError."""
        return self.make()


def picture(source: str, root: Path, path: str) -> Picture:
    """The picture at a path below the root, named "SOURCE/PATH" with the path from there.

    Raises DataError if the path leads out of the root. A file that is missing is noticed when it is read:
    large sets always lack a few, which sampling and annotation skip and count.
    """
    return Picture(f"{source}/{relative_name(root, path)}", path_inside(root, path))


def decoded_data_url(url: str) -> bytes:
    """The content of a data URL. Raises DataError."""
    head, comma, payload = url.partition(",")
    if not comma:
        raise DataError(f"a data URL has no comma after its type: {url[:60]}")
    data = unquote_to_bytes(payload)
    return decoded_base64(data.decode("latin-1")) if head.lower().rstrip().endswith(";base64") else data


def decoded_base64(text: str) -> bytes:
    """The bytes that base64 stands for. Raises DataError."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except ValueError as error:
        raise DataError(f"its base64 is damaged ({error}): {text[:40]}...") from None


def suffix(data: bytes) -> str:
    """The suffix of a picture's file by how it begins, "bin" if that is unknown."""
    return next((name for beginning, name in _BEGINNINGS if data.startswith(beginning)), "bin")


def file_name(text: str) -> str:
    """A text as the name of a file, without what a path or a system may not have."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".")[:100] or "_"


def text(value: object) -> str:
    """A string of a row, or a whole number in digits. Raises DataError for anything else."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DataError(f"expected a text, not {str(value)[:100]!r}")


def letter(index: int, options: tuple[str, ...]) -> str:
    """The letter of an option, counted from 0. Raises DataError if there is no such option."""
    if not 0 <= index < min(len(options), len(ascii_uppercase)):
        raise DataError(f"the answer is option {index}, of {len(options)} counted from 0")
    return ascii_uppercase[index]
