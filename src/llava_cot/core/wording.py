"""Plain text for terminals, files and pages: without control characters, on one line, counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

# Where a picture stands in a text: a code point that Unicode keeps for internal use, so that nothing that
# people write means it. Without any in a text, its pictures come before it.
PLACE = "\ufdd1"
_PICTURE = "[picture]"  # a place in a text that is shown without its pictures

# C0 and C1 control characters other than tab and newline, and the marks that reorder text: a model's
# words may hold escape sequences, and a terminal would obey them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

_LONGEST_REASON = 500  # characters; one that quotes a whole value would fill the screen


def printable(text: str) -> str:
    """Text without the control characters that would steer a terminal, with words in place of pictures."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", shown_places(text).replace("\r\n", "\n"))


def shown_places(text: str) -> str:
    """A text with words at its pictures' places."""
    return text.replace(PLACE, _PICTURE)


def writable(text: str) -> str:
    """Printable text that a file can hold: what UTF-8 cannot encode is replaced."""
    return printable(text.encode("utf-8", "replace").decode())


def one_line(text: str) -> str:
    """Printable text with all its white space collapsed."""
    return " ".join(printable(text).split())


def shortened(text: str, most: int = 40) -> str:
    """One line of at most so many characters."""
    line = one_line(text)
    return line if len(line) <= most else line[: most - 3] + "..."


def meant(name: str, known: Iterable[str]) -> str:
    """The name that an unknown one resembles, as part of a sentence: "did you mean top_p? "; else nothing."""
    similar = get_close_matches(name, list(known), 1)
    return f"did you mean {similar[0]}? " if similar else ""


class PrintableStream:
    """A text stream that writes printable text to another one, and is like that one otherwise."""

    def __init__(self, stream: IO[str]) -> None:
        self.rich_proxied_file = stream  # rich's name for it: its consoles write there, and clean themselves

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, and where: "sources[2].count: Input should be ...".

    An unknown field goes before an absent one at the same place, which may be the one that was meant.
    """
    fault, *others = error.errors(include_url=False)
    if fault["type"] == "missing":
        siblings = (one for one in others if one["loc"][:-1] == fault["loc"][:-1])
        fault = next((one for one in siblings if one["type"] == "extra_forbidden"), fault)
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault["loc"])
    unknown = fault["type"] == "extra_forbidden"
    reason = "there is no such field" if unknown else fault["msg"].removeprefix("Value error, ")
    reason = shortened(reason, _LONGEST_REASON)
    return f"{shortened(where.lstrip('.'), 200)}: {reason}" if where else reason


def plural(count: int, noun: str) -> str:
    """A count with its noun, as in "1 duel" or "1,234 tokens"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
