"""A reply in pieces, as server-sent events.

Owns the order of events and their end. What is in a piece is decided in `chunks.py`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from llava_cot.core.trace import Trace
from llava_cot.server.api_errors import ErrorReply, api_error
from llava_cot.server.chat_reply import ReplyStyle, usage
from llava_cot.server.chat_request import ChatQuestion
from llava_cot.server.chunks import ChunkWriter, chunk
from llava_cot.server.schemas import ChatChunk
from llava_cot.server.service import Service, answer, unless_gone

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the latter is for nginx
_log = logging.getLogger(__name__)

_Pieces = asyncio.Queue[ChatChunk | None]


async def stream(
    service: Service, asked: ChatQuestion, style: ReplyStyle, http: Request, with_usage: bool
) -> StreamingResponse:
    """The response, once it has something to say: what is refused before is refused with a status."""
    pieces: _Pieces = asyncio.Queue()
    listeners = [
        ChunkWriter(index, service.settings.fmt, style, pieces.put_nowait) for index in range(asked.choices)
    ]
    work = asyncio.create_task(answer(service, asked, listeners))
    work.add_done_callback(lambda _: pieces.put_nowait(None))
    try:
        first = await unless_gone(http, pieces.get())
        if first is None:
            await work  # raises what it failed with
    except BaseException:
        work.cancel()
        raise
    return _Stream(work, _events(work, pieces, first, style, with_usage))


class _Stream(StreamingResponse):
    """Stops the work when the client goes away, even before the first piece was sent."""

    def __init__(self, work: asyncio.Task[list[Trace]], events: AsyncIterator[str]) -> None:
        super().__init__(events, media_type="text/event-stream", headers=_HEADERS)
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._work.cancel()


async def _events(
    work: asyncio.Task[list[Trace]],
    pieces: _Pieces,
    first: ChatChunk | None,
    style: ReplyStyle,
    with_usage: bool,
) -> AsyncIterator[str]:
    piece = first
    while piece is not None:
        yield _event(_shown(piece))
        piece = await pieces.get()
    try:
        traces = work.result()
    except Exception as error:
        told = api_error(error)
        if told.status_code >= 500:
            _log.error("a streamed answer failed", exc_info=error)
        yield _event(ErrorReply(error=told.body).model_dump())
        return
    if with_usage:
        yield _event(_shown(chunk(style, usage=usage(traces))))
    yield "data: [DONE]\n\n"


def _shown(piece: ChatChunk) -> dict[str, Any]:
    """Without what is absent, save the reason of the end, which clients look for in every piece."""
    values = piece.model_dump(exclude_none=True)
    for choice in values["choices"]:
        choice.setdefault("finish_reason", None)
    return values


def _event(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"
