"""uvicorn's protocol with limits of number and time that it lacks, and a log that stays small."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from llava_cot.server.api_errors import ApiError, error_response
from llava_cot.server.auth import MAX_HEAD_BYTES

MAX_CONNECTIONS = 1024
BACKLOG = 128  # connections that are accepted at a time
OWN_FILES = 96  # that the process has open besides: the model's, those of decoders, downloads
# For the head of a request, and for anything that follows the reply to one. Nobody types one.
HEAD_SECONDS = 20.0
# In which a client must take some 50 kB of a reply that waits for it.
WRITE_SECONDS = 30.0
# Of one body, and bytes that allow one more: each part takes time, also one of a single byte.
MAX_PARTS, _BYTES_PER_PART = 4096, 256

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    b"Content-Type: application/json\r\n\r\n"
    b'{"error": {"message": "the server has as many connections as it takes; try again later", '
    b'"type": "server_error", "param": null, "code": "too_many_connections"}}'
)
_ARRIVING = (h11.IDLE, h11.SEND_BODY)  # of the client: its request is not complete


def connection_limits() -> tuple[int, int]:
    """The most connections, and how many are accepted at a time, for the files that this process may open.

    The number of files is raised as far as the system allows, up to what is needed. Without a free file, the
    event loop would log each attempt to accept a connection, thousands of times.
    """
    if sys.platform == "win32":
        return MAX_CONNECTIONS, BACKLOG
    import resource

    need = MAX_CONNECTIONS + BACKLOG + OWN_FILES
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files != resource.RLIM_INFINITY and files < need:
        files = need if most == resource.RLIM_INFINITY else min(need, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    left = need if files == resource.RLIM_INFINITY else files
    left = max(8, left - OWN_FILES)
    return min(MAX_CONNECTIONS, left * 3 // 4), min(BACKLOG, left // 4)


class OpenConnections:
    """The connections of one server whose requests have not arrived yet, the oldest first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.arriving: dict[Connection, None] = {}

    def protocol(self, *arguments: Any, **named: Any) -> Connection:
        """Make the protocol of a new connection, as uvicorn calls for it."""
        return Connection(self, *arguments, **named)


class _Parts(h11.Connection):
    """h11's reader of requests, which refuses a body in very many small parts.

    `fault` is why it refused what arrived.
    """

    _left = 0
    fault: h11.RemoteProtocolError | None = None

    def next_event(self) -> Any:
        try:
            return self._next_event()
        except h11.RemoteProtocolError as error:
            self.fault = error
            raise

    def _next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._left = MAX_PARTS * _BYTES_PER_PART
        elif isinstance(event, h11.Data):
            self._left += len(event.data) - _BYTES_PER_PART
            if self._left < 0:
                raise h11.RemoteProtocolError("the body is in too many small parts")
        return event


class Connection(H11Protocol):
    """One connection.

    Beyond the limit, a new one takes the place of the one that has waited the longest for its request, so
    that no number of silent ones keeps others out; if all requests are being answered, it is refused.
    """

    def __init__(self, others: OpenConnections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn: _Parts = _Parts(h11.SERVER, MAX_HEAD_BYTES)
        self._others = others
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._others.most:
            oldest = next(iter(self._others.arriving), None)
            if oldest is None:
                transport.write(_FULL)
                transport.close()
                return
            oldest.drop()
        self._follow()

    def drop(self) -> None:
        """Close the connection without waiting for the client."""
        self._others.arriving.pop(self, None)
        self.connections.discard(self)
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # a reply has begun
            self.drop()
            return
        fault = self.conn.fault
        error = ApiError(400, f"the request is not valid HTTP: {fault or msg}")
        if fault is not None and fault.error_status_hint == 431:
            error = ApiError(431, f"the head has more than the {MAX_HEAD_BYTES} bytes allowed")
        reply = error_response(error)
        head = h11.Response(
            status_code=reply.status_code, headers=[*reply.raw_headers, (b"connection", b"close")]
        )
        for event in (head, h11.Data(data=bytes(reply.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def handle_events(self) -> None:
        super().handle_events()
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def _follow(self) -> None:
        """Keep the list of those that arrive, and the time limit, in step with the state of the request."""
        if self.transport.is_closing() or self.conn.their_state not in _ARRIVING:
            self._others.arriving.pop(self, None)
        else:
            self._others.arriving.setdefault(self)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and self._late is not None:
            self._late.cancel()
            self._late = None
        elif not answering and self._late is None:
            # Also for a connection that is closing: the rest of the reply may never be read.
            self._late = self.loop.call_later(HEAD_SECONDS, self.drop)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(WRITE_SECONDS, self.drop)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._others.arriving.pop(self, None)
        for timer in (self._late, self._stuck):
            if timer is not None:
                timer.cancel()


class LogLimit(logging.Filter):
    """At most `most` messages a minute from one place in the code; the next says how many were left out."""

    def __init__(self, most: int = 10, seconds: float = 60.0) -> None:
        super().__init__()
        self._most, self._seconds = most, seconds
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}  # when a minute began, and its number

    def filter(self, record: logging.LogRecord) -> bool:
        place = record.pathname, record.lineno
        now = time.monotonic()
        began, count = self._seen.get(place, (now, 0))
        if now - began >= self._seconds:
            if count > self._most:
                more = f"{count - self._most} more messages like this one were left out"
                record.msg, record.args = f"{record.getMessage()} ({more})", ()
            began, count = now, 0
        self._seen[place] = began, count + 1
        return count < self._most


_LOG_LIMIT = LogLimit()


def limit_log() -> None:
    """Limit what clients can make the server write to its log."""
    for name in ("asyncio", "uvicorn.error", "llava_cot.server.api"):
        logging.getLogger(name).addFilter(_LOG_LIMIT)
