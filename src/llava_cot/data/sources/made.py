"""Pictures that are in no file of their own: made, or decoded, when they are read.

Owns the lazy picture, and the names of pictures that have none. Knows no source.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from llava_cot.data.record import Picture
from llava_cot.errors import DataError

# How the files of the formats begin that `images.load_image` reads.
_BEGINNINGS = (
    (b"\x89PNG", "png"), (b"\xff\xd8", "jpg"), (b"RIFF", "webp"), (b"GIF8", "gif"), (b"BM", "bmp"),
    (b"II*\0", "tiff"), (b"MM\0*", "tiff"),
)  # fmt: skip


@dataclass(frozen=True)
class MadePicture(Picture):
    """A picture whose bytes `make` gives, each time they are read; none are kept here."""

    make: Callable[[], bytes] | None = field(default=None, repr=False, compare=False)

    def read(self) -> bytes:
        """The bytes of a picture's file. Raises DataError."""
        if self.make is None:
            raise DataError(f"the picture {self.name} cannot be made: nothing says how")
        return self.make()


def suffix(data: bytes) -> str:
    """The suffix of a picture's file by how it begins, "bin" if that is unknown."""
    return next((name for beginning, name in _BEGINNINGS if data.startswith(beginning)), "bin")


def file_name(text: str) -> str:
    """A text as the name of a file, without what a path or a system may not have."""
    return re.sub(r"[^\w.-]+", "_", text).strip(".")[:100] or "_"
