"""The routes of the server.

Owns addresses, and which shapes they take and give. What happens to a request is in the modules it calls.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from llava_cot.core.trace import Trace
from llava_cot.search.request import make_request
from llava_cot.server.api_errors import ErrorReply, error_response
from llava_cot.server.chat_reply import ReplyStyle, reply
from llava_cot.server.chat_request import read_request
from llava_cot.server.names import listed, read_name
from llava_cot.server.schemas import ChatReply, ChatRequest, Health, ModelCard, ModelList
from llava_cot.server.service import Service, answer, unless_gone
from llava_cot.server.streaming import stream
from llava_cot.view.html import trace_page

_ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorReply, "description": "The request is refused; the message says what to do"},
    "5XX": {"model": ErrorReply, "description": "The server failed"},
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def make_app(service: Service) -> FastAPI:
    """The API alone."""
    model, settings = service.model, service.settings
    started = int(time.time())
    # The pages of FastAPI for people load scripts from elsewhere; the description itself stays.
    app = FastAPI(
        title="llava-cot", version=version("llava-cot"), docs_url=None, redoc_url=None, responses=_ERRORS
    )
    for kind in (RequestValidationError, HTTPException, ValueError, Exception):
        app.add_exception_handler(kind, _refuse)

    @app.post("/v1/chat/completions", response_model=ChatReply, responses=_STREAM)
    async def chat(body: ChatRequest, http: Request) -> Response:
        """Answer a question about pictures in stages."""
        asked = read_request(body, model.name, settings.fmt, settings.allow_urls, service.resources)
        raw = settings.raw if body.raw is None else body.raw
        style = ReplyStyle(body.model, raw, bool(body.include_trace), asked.stop)
        if body.stream:
            options = body.stream_options
            return await stream(service, asked, style, http, bool(options and options.include_usage))
        traces = await unless_gone(http, answer(service, asked, [None] * asked.choices))
        unwanted = None if style.trace else {"choices": {"__all__": {"trace"}}}
        return JSONResponse(reply(traces, style).model_dump(exclude=unwanted))

    @app.get("/v1/models")
    async def models() -> ModelList:
        """The model by itself, and with methods. Other numbers of candidates may be asked for too."""
        return ModelList(
            data=[ModelCard(id=name, created=started) for name in listed(model.name, service.resources)]
        )

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> ModelCard:
        named = read_name(name, model.name)
        if named.method is not None:
            fitting = service.resources.fitting(named.method, named.judge)
            make_request(named.method, judge=named.judge, resources=fitting)
        return ModelCard(id=name, created=started)

    @app.get("/traces/{name}.json", response_model=Trace)
    async def trace(name: str) -> Response:
        """A trace that the web app left here. Wants no key: its address is one."""
        return Response(service.traces.find(name), media_type="application/json")

    @app.get("/traces/{name}", include_in_schema=False)
    async def shown_trace(name: str) -> HTMLResponse:
        """The same, as a page."""
        return HTMLResponse(trace_page(Trace.model_validate_json(service.traces.find(name))))

    @app.get("/health")
    async def health() -> Health:
        """Whether the server is up. Wants no key."""
        return Health()

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts, for Prometheus. Wants no key."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return app


async def _refuse(_: Request, error: Exception) -> Response:
    return error_response(error)
