"""Large JSON files, read one entry at a time.

Owns the reading of a list, or of an object's pairs, in a file that may be larger than memory; CLEVR's
questions and ShareGPT4V's conversations take 1 GB and more. Knows no data set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from llava_cot.errors import DataError

_CHUNK = 1 << 18  # characters
_MOST = 1 << 26  # characters of one entry
# What a value lacks at the end of the text shows at most this far before it, or at a string's beginning.
_CUT = 32
_SPACE = " \t\r\n"


def json_items(file: Path, key: str | None = None) -> Iterator[tuple[str, Any]]:
    """The entries of a list, each with its place: of the file's list, or of the one under `key`.

    What stands behind the list is not read. Raises DataError that names file and line.
    """
    with file.open(encoding="utf-8-sig") as source:
        text = _Text(file, source)
        if key is not None:
            _find(text, key)
        text.take("[")
        if text.peek() == "]":
            return
        number = 1
        while True:
            text.peek()
            place = f"entry {number} (line {text.line()})"
            yield place, text.value()
            number += 1
            if text.take(",", "]") == "]":
                return


def json_pairs(file: Path) -> Iterator[tuple[str, tuple[str, Any]]]:
    """The keys and values of the object that the file is, each pair with its place.

    Raises DataError that names file and line.
    """
    with file.open(encoding="utf-8-sig") as source:
        text = _Text(file, source)
        text.take("{")
        if text.peek() == "}":
            return
        while True:
            name = text.name()
            place = f"entry {name!r} (line {text.line()})"
            yield place, (name, text.value())
            if text.take(",", "}") == "}":
                return


def _find(text: _Text, key: str) -> None:
    """Go to the value of that key in the object that begins here."""
    text.take("{")
    while text.peek() != "}":
        if text.name() == key:
            return
        text.value()
        if text.take(",", "}") == "}":
            break
    raise text.broken(f"there is no list {key!r} in it")


class _Text:
    """A text of which a part is in memory: what is next is at `at` in `buffer`."""

    def __init__(self, file: Path, source: IO[str]) -> None:
        self.file = file
        self.source = source
        self.buffer = ""
        self.at = 0
        self.ended = False
        self.lines = 1  # the line of what is at `counted`
        self.counted = 0

    def line(self) -> int:
        """The line of what is next."""
        self.lines += self.buffer.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.lines

    def broken(self, what: str, further: int = 0) -> DataError:
        """The error of what is next, or of what stands so many characters further."""
        line = self.line() + self.buffer.count("\n", self.at, self.at + further)
        return DataError(f"{self.file}, line {line}: {what}")

    def more(self) -> None:
        """Forget what has been read, and take as much again as is left."""
        self.line()
        self.buffer = self.buffer[self.at :]
        self.at = self.counted = 0
        try:
            found = self.source.read(max(_CHUNK, len(self.buffer)))
        except UnicodeDecodeError as error:
            raise self.broken(f"this is no UTF-8 text ({error.reason}), here or below") from None
        self.ended = not found
        self.buffer += found

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if self.ended:
                return ""
            self.more()

    def take(self, *signs: str) -> str:
        found = self.peek()
        if found not in signs:
            wanted = " or ".join(repr(sign) for sign in signs)
            raise self.broken(f"this is no JSON: {wanted} is wanted, not {found or 'the end'!r}")
        self.at += 1
        return found

    def name(self) -> str:
        self.peek()
        found = self.value()
        if not isinstance(found, str):
            raise self.broken(f"this is no JSON: a key is wanted, not {found!r:.50}")
        self.take(":")
        self.peek()
        return found

    def value(self) -> Any:
        """The value that begins here, read whole."""
        while True:
            try:
                found, end = json.JSONDecoder().raw_decode(self.buffer, self.at)
                if end < len(self.buffer) - _CUT or self.ended:  # else "1" may be the beginning of "1.5"
                    self.at = end
                    return found
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or error.pos >= len(self.buffer) - _CUT
                if self.ended or not cut or len(self.buffer) - self.at > _MOST:
                    raise self.broken(f"this is no JSON ({error.msg})", error.pos - self.at) from None
            except RecursionError:
                raise self.broken("this is nested too deeply") from None
            self.more()
