"""A streamed reply as server-sent events."""

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
from llava_cot.server.chat_reply import ChunkWriter, ReplyStyle, total_usage
from llava_cot.server.chat_request import ChatQuestion
from llava_cot.server.schemas import ChatChunk
from llava_cot.server.service import Service, cancel_on_disconnect

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the latter is for nginx
_log = logging.getLogger(__name__)

_Chunks = asyncio.Queue[ChatChunk | None]  # None ends it


async def stream(
    service: Service, question: ChatQuestion, style: ReplyStyle, http: Request, with_usage: bool
) -> StreamingResponse:
    """Answer a request; returns the response once its first chunk is there.

    Raises:
        ApiError, ValueError: It failed before the first chunk, so that the reply can have an error status.
    """
    chunks: _Chunks = asyncio.Queue()
    writers = [
        ChunkWriter(index, service.settings.fmt, style, chunks.put_nowait)
        for index in range(question.choices)
    ]
    work = asyncio.create_task(service.answer(question, writers))
    work.add_done_callback(lambda _: chunks.put_nowait(None))
    try:
        first = await cancel_on_disconnect(http, chunks.get())
        if first is None:
            await work  # raises its failure
    except BaseException:
        work.cancel()
        raise
    return _CancellingResponse(work, _events(work, chunks, first, style, with_usage))


class _CancellingResponse(StreamingResponse):
    """Cancels the work when the client disconnects, even before the first chunk was sent."""

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
    chunks: _Chunks,
    first: ChatChunk | None,
    style: ReplyStyle,
    with_usage: bool,
) -> AsyncIterator[str]:
    chunk = first
    while chunk is not None:
        yield _event(_chunk_json(chunk))
        chunk = await chunks.get()
    try:
        traces = work.result()
    except Exception as error:
        reply = api_error(error)
        if reply.status_code >= 500:
            _log.error("a streamed answer failed", exc_info=error)
        yield _event(ErrorReply(error=reply.body).model_dump())
        return
    if with_usage:
        yield _event(_chunk_json(style.chunk(usage=total_usage(traces))))
    yield "data: [DONE]\n\n"


def _chunk_json(chunk: ChatChunk) -> dict[str, Any]:
    """A chunk without absent fields, except finish_reason, which clients read in every chunk."""
    values = chunk.model_dump(exclude_none=True)
    for choice in values["choices"]:
        choice.setdefault("finish_reason", None)
    return values


def _event(values: dict[str, Any]) -> str:
    return f"data: {json.dumps(values, ensure_ascii=False)}\n\n"
