"""Events are read with every line end of the standard, wherever the connection cuts them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from llava_cot.models.endpoint import event_stream
from llava_cot.models.endpoint.event_stream import EventBlock, LineTooLong, read_events, read_lines


async def parts(body: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("size", [1, 2, 3, 1000])
async def test_line_ends(end: bytes, size: int) -> None:
    lines = ["\N{ZERO WIDTH NO-BREAK SPACE}: begins", "data: Zwölf", "", "", "event:x", "data"]
    body = end.join(line.encode() for line in lines)
    expected = [": begins", *lines[1:]]
    assert [line async for line in read_lines(parts(body, size))] == expected
    assert [line async for line in read_lines(parts(body + end, size))] == expected


async def test_events() -> None:
    body = b': wait\ndata: {"a":\ndata:  1}\nid: 3\nevent: late\n\nretry: 5\n\n'
    body += b'data\n{"choices": []}\ndata:[DONE]'
    assert [block async for block in read_events(read_lines(parts(body, 5)))] == [
        EventBlock("late", ['{"a":', " 1}"]),
        EventBlock(),
        EventBlock("", ["", "[DONE]"], ['{"choices": []}']),
    ]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_line_has_a_limit(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "LINE_BYTES", 10)
    assert [line async for line in read_lines(parts(b"x" * 10 + b"\ny", size))] == ["x" * 10, "y"]
    for body in (b"x" * 11, b"x" * 11 + b"\n"):
        with pytest.raises(LineTooLong):
            [line async for line in read_lines(parts(body, size))]
