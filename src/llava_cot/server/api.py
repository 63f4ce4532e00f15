"""The routes of the server (HTTP API, streamed replies, the page), and running it."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from importlib.metadata import version
from typing import Any, cast

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from llava_cot.core.trace import Trace
from llava_cot.models.base import Model, ignored_sampling_of
from llava_cot.search.request import DEFAULT_METHOD
from llava_cot.search.resources import Resources
from llava_cot.search.search import Event, OnEvent
from llava_cot.server.api_errors import ErrorReply, api_error, error_response
from llava_cot.server.auth import RequestGuard
from llava_cot.server.chat_reply import ChunkWriter, ReplyStyle, make_reply, total_usage
from llava_cot.server.chat_request import (
    ChatQuestion,
    method_cards,
    model_names,
    read_choices,
    read_request,
)
from llava_cot.server.connections import OpenConnections, connection_limits, limit_log
from llava_cot.server.page import page_routes
from llava_cot.server.schemas import (
    ChatChunk,
    ChatReply,
    ChatRequest,
    Health,
    MethodList,
    ModelCard,
    ModelList,
    StreamOptions,
)
from llava_cot.server.search_updates import Draw, SearchDrawer, finished_search
from llava_cot.server.service import ServerSettings, Service, cancel_on_disconnect
from llava_cot.view.html import trace_page

_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # the latter is for nginx
_log = logging.getLogger(__name__)

_Chunks = asyncio.Queue[ChatChunk | Draw | None]  # None ends it
_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "The request is refused; the message says what to do"},
    "5XX": {"model": ErrorReply, "description": "The server failed"},
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def make_app(model: Model, settings: ServerSettings, resources: Resources | None = None) -> ASGIApp:
    """The server as an ASGI application: API and page. It does not close the model or the resources."""
    service = Service.of(model, resources or Resources(), settings)
    return RequestGuard(make_api(service), settings.api_key, settings.allowed_hosts)


def make_api(service: Service) -> FastAPI:
    """The HTTP API, and the page that uses it."""
    model, settings = service.model, service.settings
    started = int(time.time())
    # FastAPI's documentation pages load scripts from elsewhere, so only /openapi.json is served.
    api = FastAPI(
        title="llava-cot", version=version("llava-cot"), docs_url=None, redoc_url=None, responses=_ERRORS
    )
    for kind in (RequestValidationError, HTTPException, ValueError, Exception):
        api.add_exception_handler(kind, _refuse)

    @api.post("/v1/chat/completions", response_model=ChatReply, responses=_STREAM)
    async def chat(body: ChatRequest, http: Request) -> Response:
        """Answer a question about pictures in stages."""
        question = read_request(
            body, model, settings.fmt, settings.allow_urls, service.resources, settings.staging
        )
        raw = settings.raw if body.raw is None else body.raw
        style = ReplyStyle(body.model, raw, bool(body.include_trace), question.stop)
        if body.stream:
            return await stream(service, question, style, http, body.stream_options or StreamOptions())
        traces = await cancel_on_disconnect(http, service.answer(question, [None] * question.choices))
        excluded = None if style.with_trace else {"choices": {"__all__": {"trace"}}}
        return JSONResponse(make_reply(traces, style).model_dump(exclude=excluded))

    @api.get("/v1/models")
    async def models() -> ModelList:
        """List the model alone and with methods; other numbers of candidates work too."""
        names = model_names(model, service.resources)
        return ModelList(data=[ModelCard(id=name, created=started) for name in names])

    @api.get("/v1/models/{name:path}")
    async def one_model(name: str) -> ModelCard:
        """Describe the model, alone or with a method that can run."""
        read_choices(name, model, service.resources)
        return ModelCard(id=name, created=started)

    @api.get("/v1/methods")
    async def methods() -> MethodList:
        """List the methods that this server can run, each with its judges."""
        return MethodList(
            model=model.name,
            default=DEFAULT_METHOD,
            data=method_cards(model, service.resources),
            ignored=list(ignored_sampling_of(model)),
        )

    @api.get("/traces/{name}.json", response_model=Trace)
    async def trace(name: str) -> Response:
        """Return a trace that a stream named. No key is needed, since its address is secret."""
        return Response(service.traces.find(name), media_type="application/json")

    @api.get("/traces/{name}", include_in_schema=False)
    async def show_trace(name: str) -> HTMLResponse:
        return HTMLResponse(trace_page(Trace.model_validate_json(service.traces.find(name))))

    @api.get("/health")
    async def health() -> Health:
        """Say that the server is up. No key is needed."""
        return Health()

    @api.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return metrics in Prometheus' format. No key is needed."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    api.router.routes.extend(page_routes())
    return api


async def _refuse(_: Request, error: Exception) -> Response:
    return error_response(error)


async def stream(
    service: Service, question: ChatQuestion, style: ReplyStyle, http: Request, options: StreamOptions
) -> StreamingResponse:
    """Answer a request; returns the response once its first chunk is there.

    Raises ApiError or ValueError if it fails before that, so that the reply can have an error status.
    """
    chunks: _Chunks = asyncio.Queue()
    listeners = [
        _listener(index, service, style, chunks, bool(options.include_search))
        for index in range(question.choices)
    ]
    work = asyncio.create_task(service.answer(question, listeners))
    work.add_done_callback(lambda _: chunks.put_nowait(None))
    try:
        first = await cancel_on_disconnect(http, chunks.get())
        if first is None:
            await work  # raises its failure
    except BaseException:
        work.cancel()
        raise
    return _CancellingResponse(work, _events(service, work, chunks, first, style, options))


def _listener(index: int, service: Service, style: ReplyStyle, chunks: _Chunks, with_search: bool) -> OnEvent:
    """Turns the events of one choice's search into chunks."""
    writer = ChunkWriter(index, service.settings.fmt, style, chunks.put_nowait)
    if not with_search:
        return writer
    drawer = SearchDrawer(index, style, service.queue, chunks.put_nowait)

    def both(event: Event) -> None:
        writer(event)
        drawer(event)

    return both


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
    service: Service,
    work: asyncio.Task[list[Trace]],
    chunks: _Chunks,
    first: ChatChunk | Draw | None,
    style: ReplyStyle,
    options: StreamOptions,
) -> AsyncIterator[str]:
    chunk = first
    while chunk is not None:
        yield _event(_chunk_json(chunk if isinstance(chunk, ChatChunk) else await chunk()))
        chunk = await chunks.get()
    try:
        traces = work.result()
    except Exception as error:
        reply = api_error(error)
        if reply.status_code >= 500:
            _log.error("a streamed answer failed", exc_info=error)
        yield _event(ErrorReply(error=reply.body).model_dump())
        return
    if options.include_search:
        for index, trace in enumerate(traces):
            last = await finished_search(index, trace, service.traces.add(trace), style)
            yield _event(_chunk_json(last))
    if options.include_usage:
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


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket before the model is loaded. Raises ValueError if the address cannot be used."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server((address[0], port), family=family, backlog=2048)
        # Without it, the second part of a reply waits some 40 ms for the client's acknowledgment of the
        # first. asyncio sets it only on sockets that it creates itself.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        return listening
    except (OSError, OverflowError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ValueError(
            f"cannot listen on {host}, port {port}: {reason.lower()}; choose another --host or --port"
        ) from None


def api_url(listening: socket.socket) -> str:
    """The URL of the API on a listening socket."""
    host, port, *_ = listening.getsockname()
    return f"http://[{host}]:{port}/v1" if ":" in host else f"http://{host}:{port}/v1"


def server_config(app: ASGIApp, settings: ServerSettings) -> uvicorn.Config:
    """How uvicorn runs the application: with limits of connections, of time and of the log."""
    limit_log()
    most, backlog = connection_limits()
    return uvicorn.Config(
        app,
        http=cast(type[asyncio.Protocol], OpenConnections(most).protocol),
        ws="none",
        backlog=backlog,
        access_log=False,
        log_level="error",  # warnings are about requests that are malformed, of which there is no end
        server_header=False,
        use_colors=False,  # the command line prints no control characters
        timeout_graceful_shutdown=math.ceil(settings.time_limit) + 1,
    )


def run_server(
    model: Model, settings: ServerSettings, listening: socket.socket, resources: Resources
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that run or wait."""
    config = server_config(make_app(model, settings, resources), settings)
    # After its shutdown, uvicorn raises the signal that stopped it again; being stopped is no failure here.
    signal.signal(signal.SIGTERM, lambda *_: None)
    with suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
