"""ASGI middleware that refuses requests before they are parsed: of other sites, without key, too large."""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llava_cot.server.api_errors import ApiError, error_response

# Two pictures of the largest size (20 MB) as base64, and their question.
MAX_BODY_BYTES = 64_000_000
MAX_BODY_SECONDS = 60.0
MAX_HEAD_BYTES = 16_384
# Of all requests that arrive, wait or are answered. Parsing takes up to three times as much.
MAX_BODIES_BYTES = 256_000_000
# Commas and opening brackets of a body, which bound the values in it: the longest question may be all commas.
MAX_BODY_VALUES = 300_000
_READING = ("GET", "HEAD", "OPTIONS")


class RequestGuard:
    """Checks every request before the application sees it.

    - The Host header names this server; otherwise a page of another site could read replies, after its own
      name has been made to point here (DNS rebinding).
    - What is not just read comes from no page of another site.
    - If there is a key, everything under /v1 has it.
    - Heads and bodies have limits of size, bodies also of time, and all together.

    Args:
        app: The application.
        api_key: The key, if there is one.
        allowed_hosts: Names by which it may be addressed, besides those of this machine, and whose pages may
            use it. "*.example.org" is any name below, "*" any at all.
    """

    def __init__(self, app: ASGIApp, api_key: str | None, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._key = api_key
        self._allowed = {name.lower().rstrip(".") for name in allowed_hosts}
        name = socket.gethostname().lower()
        self._own = {"localhost", name, f"{name}.local"}
        self._held = 0  # bytes of all bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            # uvicorn limits a head that arrives in parts.
            if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEAD_BYTES:
                raise ApiError(431, f"the head has more than the {MAX_HEAD_BYTES} bytes allowed")
            self._check_host(headers.get("host"))
            if scope["method"] not in _READING:
                self._check_origin(headers)
            if self._key is not None and scope["path"].startswith("/v1"):
                _check_key(headers.get("authorization", ""), self._key)
            length = headers.get("content-length", "")
            if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
                raise _too_large()
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        body, begun = _Body(self, receive), False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, body.receive, sending)
        except asyncio.CancelledError:  # the server stops, and its time to finish requests is over
            if not begun:
                stopped = ApiError(503, "the server was stopped; send the request again later")
                await error_response(stopped)(scope, receive, send)
        finally:
            self._held -= body.size

    def hold(self, size: int) -> None:
        """Count bytes of a body. Raises ApiError if there are too many of all requests."""
        self._held += size
        if self._held > MAX_BODIES_BYTES:
            raise ApiError(
                429,
                f"the requests in progress have together more than {MAX_BODIES_BYTES / 1e6:g} MB; "
                "try again later",
                code="queue_full",
                headers={"Retry-After": "1"},
            )

    def _check_host(self, host: str | None) -> None:
        name = _host_name(host or "")
        # An attacker's page is found by a name, so that addresses are safe; browsers always send the header.
        own = name in self._own or name.endswith(".localhost") or _is_address(name)
        if host is not None and not own and not self._allows(name):
            raise ApiError(
                403,
                f"this server is not known by the name {name[:100]!r}; if it should be, start it with "
                "--allowed-host",
                code="host_not_allowed",
            )

    def _check_origin(self, headers: Headers) -> None:
        origin = headers.get("origin")
        # Browsers send the one with all that does more than read, and the other too if the page is secure or
        # of this machine. No page can write them, and programs send neither.
        if origin is None or headers.get("sec-fetch-site") == "same-origin":
            return
        try:
            place = urlsplit(origin).netloc.lower()
        except ValueError:
            place = ""
        if place != headers.get("host", "").lower() and not (place and self._allows(_host_name(place))):
            raise ApiError(
                403,
                f"pages of {origin[:100]!r} may not use this server; if they should, start it with "
                "--allowed-host",
                code="origin_not_allowed",
            )

    def _allows(self, name: str) -> bool:
        return any(
            one in ("*", name) or (one.startswith("*.") and name.endswith(one[1:])) for one in self._allowed
        )


def _host_name(host: str) -> str:
    """The name or address of a Host header, without the port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return name.strip().rstrip(".").lower()


def _is_address(name: str) -> bool:
    try:
        return bool(ip_address(name))
    except ValueError:
        return False


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


class _Body:
    """The body of one request, with limits until it is complete."""

    def __init__(self, guard: RequestGuard, receive: Receive) -> None:
        self.size = 0
        self._values = 0
        self._complete = False
        self._guard, self._receive = guard, receive
        self._deadline = asyncio.get_running_loop().time() + MAX_BODY_SECONDS

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise ApiError(
                408, f"the body did not arrive within {MAX_BODY_SECONDS:g} seconds; send it again"
            ) from None
        part: bytes = message.get("body", b"")
        self._complete = not message.get("more_body", False)
        self.size += len(part)
        self._guard.hold(len(part))
        if self.size > MAX_BODY_BYTES:
            raise _too_large()
        self._values += part.count(b",") + part.count(b"[") + part.count(b"{")
        if self._values > MAX_BODY_VALUES:
            raise ApiError(413, f"the body has more than the {MAX_BODY_VALUES} values allowed")
        return message


def _too_large() -> ApiError:
    return ApiError(
        413, f"the body has more than the {MAX_BODY_BYTES / 1e6:g} MB allowed; send smaller pictures"
    )
