"""Server-sent events in the bytes of a reply, as the HTML standard defines them (section 9.2.6)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

LINE_BYTES = 2**20  # at most
_LINE_END = re.compile(rb"\r\n|\r|\n")
_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"
_FIELDS = ("data", "event", "id", "retry", "")  # the last is that of a comment


class LineTooLong(Exception):
    """A line of more than LINE_BYTES."""


@dataclass
class EventBlock:
    """The lines up to an empty one. `others` are those of no field: of a body that is no stream."""

    event: str = ""
    data: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


async def read_lines(parts: AsyncIterable[bytes]) -> AsyncIterator[str]:
    """The lines of a body that arrives in parts, without their ends: CR, LF or both. Raises LineTooLong."""
    held: list[bytes] = []  # parts of a line whose end has not arrived
    size, after_cr, first = 0, False, True
    async for part in parts:
        if not part:
            continue
        *ended, rest = _LINE_END.split(part[1:] if after_cr and part.startswith(b"\n") else part)
        after_cr = part.endswith(b"\r")
        for end in ended:
            if size + len(end) > LINE_BYTES:
                raise LineTooLong
            line = b"".join([*held, end]).decode(errors="replace")
            yield line.removeprefix(_BOM) if first else line
            held, size, first = [], 0, False
        if rest:
            held.append(rest)
            size += len(rest)
        if size > LINE_BYTES:
            raise LineTooLong
    if held:
        line = b"".join(held).decode(errors="replace")
        yield line.removeprefix(_BOM) if first else line


async def read_events(lines: AsyncIterable[str]) -> AsyncIterator[EventBlock]:
    """The blocks of a stream. Its last counts without an empty line at its end, too."""
    block = EventBlock()
    async for line in lines:
        if not line:
            yield block
            block = EventBlock()
            continue
        name, _, value = line.partition(":")
        if name == "data":
            block.data.append(value.removeprefix(" "))
        elif name == "event":
            block.event = value.strip()
        elif name not in _FIELDS:
            block.others.append(line)
    yield block
