"""A pickle file of plain values and NumPy arrays, read without running anything that it names.

Owns what may stand in such a file. A pickle can name any function to be called; here the few names that NumPy
writes are understood as the values below, and any other one is refused. Knows no data set.
"""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

from llava_cot.errors import DataError

_NUMBERS = {"i1": "<b", "i4": "<i", "i8": "<q", "f4": "<f", "f8": "<d", "u1": "<B", "b1": "<?"}


class InertType:
    """The type of an array's elements: a code of NumPy's, such as "u1"."""

    def __init__(self, code: str, *_: object) -> None:
        self.code = code

    def __setstate__(self, state: object) -> None:
        """The byte order and fields, which the code implies for all that is read here."""


class InertArray:
    """An array as stored: its shape, the code of its elements' type, and their bytes in rows."""

    shape: tuple[int, ...] = ()
    code = ""
    data = b""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, self.shape, kind, by_column, self.data = state
        self.code = kind.code
        if by_column or not isinstance(self.data, bytes):
            raise DataError("an array in it is not stored by rows")


def _array(*_: object) -> InertArray:
    return InertArray()


def _number(kind: InertType, data: bytes) -> Any:
    return struct.unpack(_NUMBERS[kind.code], data)[0]


def _bytes(text: str, encoding: str) -> bytes:
    """How the older forms of pickle write bytes."""
    if encoding != "latin1":
        raise DataError(f"bytes in it are written as {encoding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): InertArray,
    ("numpy", "dtype"): InertType,
    ("_codecs", "encode"): _bytes,
} | {
    (module, name): made
    for module in ("numpy.core.multiarray", "numpy._core.multiarray")  # before NumPy 2, and since
    for name, made in (("_reconstruct", _array), ("scalar", _number))
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise DataError(f"it names {module}.{name}; only plain values and arrays are read") from None


def read_pickle(file: Path) -> Any:
    """What the file holds, whole; arrays as InertArray. Raises DataError that names the file."""
    with file.open("rb") as data:
        try:
            return _Reader(data).load()
        except DataError as error:
            raise DataError(f"{file}: {error}") from None
        except Exception as error:  # a broken pickle raises whatever its bytes happen to ask for
            raise DataError(f"{file}: this is no pickle, or a broken one ({error})") from None
