"""ASGI middleware that refuses requests before they are parsed: wrong keys, bodies too large or slow."""

from __future__ import annotations

import asyncio
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava_cot.server.api_errors import ApiError, error_response

# Two pictures of the largest size (20 MB) as base64, and their question.
MAX_BODY_BYTES = 64_000_000
MAX_BODY_SECONDS = 60.0


class RequestGuard:
    """Checks the size of bodies and, if there is a key, the bearer token of everything under /v1."""

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self._app = app
        self._key = api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            if self._key is not None and scope["path"].startswith("/v1"):
                _check_key(headers.get("authorization", ""), self._key)
            length = headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
                raise _too_large()
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, _limited(receive), send)


def _check_key(authorization: str, key: str) -> None:
    scheme, _, given = authorization.partition(" ")
    # Starlette decodes headers as Latin-1, whatever their encoding; this restores the bytes.
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
        raise ApiError(
            401,
            "the API key is wrong or missing; send the server's as Authorization: Bearer KEY",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _limited(receive: Receive) -> Receive:
    """`receive`, with limits of size and time until the body is complete."""
    size, complete, deadline = 0, False, asyncio.get_running_loop().time() + MAX_BODY_SECONDS

    async def limited() -> Message:
        nonlocal size, complete
        if complete:
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise ApiError(
                408, f"the body did not arrive within {MAX_BODY_SECONDS:g} seconds; send it again"
            ) from None
        size += len(message.get("body", b""))
        complete = not message.get("more_body", False)
        if size > MAX_BODY_BYTES:
            raise _too_large()
        return message

    return limited


def _too_large() -> ApiError:
    return ApiError(
        413, f"the body has more than the {MAX_BODY_BYTES / 1e6:g} MB allowed; send smaller pictures"
    )
