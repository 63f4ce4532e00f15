"""HTTP to one server: the requests, their limits and their retries.

Owns what is tried again and what is not. Knows nothing of what requests and replies mean, beyond JSON. In a
thread of its own (`aside.py`), so that callers in any number of event loops share the connections and one set
of limits, and a loop that ends takes no connection with it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.background import BackgroundLoop
from llava_cot.models.endpoint.config import Provider, key_of

Json = dict[str, Any]
# Called with each event of a streamed reply; what it returns is not looked at.
OnChunk = Callable[[Json], None]

_T = TypeVar("_T")
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_PASSING = frozenset({429, 500, 502, 503, 504})
# Of a server that fails three requests in ten, one question in a hundred thousand is lost.
ATTEMPTS = 12
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 20.0
LONGEST_RETRY_AFTER = 300.0  # a server that asks for more is out of quota


class RequestRefused(ModelError):
    """The server will not do this, however often it is asked; `status` is its answer's."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class RetriesExhausted(ModelFailure):
    """The server failed as often as it was tried, and asks to wait for `after` seconds (0: it does not)."""

    def __init__(self, message: str, after: float) -> None:
        super().__init__(message)
        self.after = after


@dataclass(frozen=True)
class Server:
    """Where a server is and how hard it may be asked. `seconds` is for one whole reply.

    A request is tried `attempts` times: once where another server can be asked instead.
    """

    url: str
    key: str | None = field(repr=False)
    key_env: str
    in_flight: int = 64
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    seconds: float = 600.0
    attempts: int = ATTEMPTS


def server_of(provider: Provider, url: str, attempts: int) -> Server:
    """The server of this provider, at `url`. Raises ModelError where its key is missing."""
    return Server(
        url=url,
        key=key_of(provider),
        key_env=provider.key_env,
        in_flight=provider.in_flight,
        requests_per_minute=provider.requests_per_minute,
        tokens_per_minute=provider.tokens_per_minute,
        seconds=provider.seconds,
        attempts=attempts,
    )


class _Passing(Exception):
    """A failure that may pass; `after` is how long the server asks to wait."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class HttpClient:
    """Requests to one server. They are made in the thread `aside`, through which all callers go."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._connections = Connections(server.url, server.key)
        self._limits = RateLimits(server.in_flight, server.requests_per_minute, server.tokens_per_minute)
        self._reached = False
        self._tokens_of_one: float | None = None  # running mean of what a request took
        self.aside = BackgroundLoop("llava-cot requests", self._connections.close)

    async def get(self, path: str, needs: str) -> Json:
        """A JSON object that has the key `needs`. Raises ModelError."""
        return await self._insist(lambda: self._whole("GET", path, None, 0, needs))

    async def post(self, path: str, body: Json, tokens: int, needs: str) -> Json:
        """The same for a request of at most about so many tokens."""
        content = json.dumps(body).encode()
        return await self._insist(lambda: self._whole("POST", path, content, tokens, needs))

    async def stream(self, path: str, body: Json, tokens: int, attempt: Callable[[], OnChunk]) -> None:
        """Send a request whose reply is a stream of events; `attempt` is asked for a reader at each try."""
        content = json.dumps(body).encode()
        await self._insist(lambda: self._events(path, content, tokens, attempt()))

    async def _insist(self, once: Callable[[], Awaitable[_T]]) -> _T:
        for attempt in range(self._server.attempts):
            try:
                return await once()
            except _Passing as trouble:
                if attempt == self._server.attempts - 1 or trouble.after > LONGEST_RETRY_AFTER:
                    told = f", and asks to wait {trouble.after:.0f} seconds" if trouble.after else ""
                    tries = "once" if attempt == 0 else f"{attempt + 1} times"
                    raise RetriesExhausted(
                        f"{self._server.url} was asked {tries} in vain: {trouble}{told}; try again later",
                        trouble.after,
                    ) from None
                await asyncio.sleep(trouble.after + pause(attempt))
        raise AssertionError

    async def _whole(self, method: str, path: str, content: bytes | None, tokens: int, needs: str) -> Json:
        async def read(response: aiohttp.ClientResponse, sent: SentRequest) -> Json:
            try:
                reply = json.loads(await response.read())
            except ValueError:
                raise _Passing("its reply is not JSON") from None
            if not isinstance(reply, dict) or not isinstance(reply.get(needs), list):
                raise _Passing(f"its reply has no {needs}{self._and_says(reply)}")
            self._count(sent, reply)
            return reply

        return await self._send(method, path, content, tokens, read)

    async def _events(self, path: str, content: bytes, tokens: int, on_chunk: OnChunk) -> None:
        async def read(response: aiohttp.ClientResponse, sent: SentRequest) -> None:
            done = False
            async for line in _lines(response):
                data = line.removeprefix("data:").strip()
                if not line.startswith("data:") or not data:
                    continue
                if data == "[DONE]":
                    done = True  # and read on: a connection is used again only if nothing is left in it
                    continue
                try:
                    chunk = json.loads(data)
                except ValueError:
                    raise _Passing("an event of its reply is not JSON") from None
                if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list):
                    raise _Passing(f"an event of its reply has no choices{self._and_says(chunk)}")
                self._count(sent, chunk)
                on_chunk(chunk)
            if not done:
                raise _Passing("its reply broke off")

        await self._send("POST", path, content, tokens, read)

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        tokens: int,
        read: Callable[[aiohttp.ClientResponse, SentRequest], Awaitable[_T]],
    ) -> _T:
        guess = tokens if self._tokens_of_one is None else int(self._tokens_of_one)
        session, url = self._connections.session, self._server.url + path
        async with self._limits.request(guess) as sent:
            try:
                async with (
                    asyncio.timeout(self._server.seconds),
                    session.request(method, url, data=content, allow_redirects=False) as response,
                ):
                    self._reached = True
                    if response.status != 200:
                        await self._refuse(response)
                    return await read(response, sent)
            except aiohttp.ClientError as error:
                why = str(error) or type(error).__name__
                if isinstance(error, _NOT_CONNECTED) and not self._reached:
                    raise ModelFailure(
                        f"{self._server.url} cannot be reached ({why}); is the server running there?"
                    ) from None
                raise _Passing(f"the connection failed ({why})") from None
            except TimeoutError:
                raise _Passing(f"it did not answer within {self._server.seconds:g} seconds") from None

    async def _refuse(self, response: aiohttp.ClientResponse) -> NoReturn:
        status, body = response.status, await response.read()
        try:
            said = self._and_says(json.loads(body))
        except ValueError:
            said = self._and_says({"message": body[:300].decode(errors="replace")})
        sentence = f"it answered {status}{said}"
        if status in _PASSING:
            raise _Passing(sentence, _retry_after(response.headers.get("retry-after", "")))
        hints = {
            401: f"; put the right key into the environment variable {self._server.key_env}",
            403: f"; look at the key in the environment variable {self._server.key_env}",
            404: "; the address should be the one that ends before /chat/completions, mostly in /v1",
        }
        hint = hints.get(status, "")
        raise RequestRefused(f"{self._server.url} refused: {sentence}{hint}", status)

    def _and_says(self, reply: Any) -> str:
        """The message in an error's body, for the end of a sentence; never the key, should it be quoted."""
        found = reply
        for name in ("error", "message", "detail"):
            if isinstance(found, dict):
                found = found.get(name, found)
        text = " ".join(found.split()) if isinstance(found, str) else json.dumps(found) if found else ""
        if self._server.key:
            text = text.replace(self._server.key, "***")
        text = text if len(text) <= 500 else text[:497] + "..."
        return f": {text.rstrip('.')}" if text else ""

    def _count(self, sent: SentRequest, reply: Json) -> None:
        """Put what the server told of its usage in the place of the guess."""
        usage = reply.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("total_tokens"), int):
            sent.tokens = usage["total_tokens"]
            before = sent.tokens if self._tokens_of_one is None else self._tokens_of_one
            self._tokens_of_one = 0.9 * before + 0.1 * sent.tokens


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    try:
        async for line in response.content:
            yield line.decode(errors="replace")
    except ValueError:  # aiohttp's, of a line that is longer than its buffer
        raise _Passing("an event of its reply is too long") from None


def pause(attempt: int) -> float:
    """Seconds to wait after so many attempts and one: longer each time, and not the same for all who wait."""
    return min(_FIRST_WAIT * 2.0**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.0)


def _retry_after(value: str) -> float:
    """Seconds, from a number of them or a date (RFC 9110, section 10.2.3); 0 if it is neither."""
    try:
        return max(0.0, min(float(value), 1e9))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    return max(0.0, (then.astimezone(UTC) - datetime.now(UTC)).total_seconds())


_CONNECT_SECONDS, _CLOSE_SECONDS = 10.0, 2.0
_LINE_BYTES = 2**20  # of a streamed reply
_HERE = ("localhost", "127.0.0.1", "::1")


class Connections:
    """For one event loop: that of the first request."""

    def __init__(self, url: str, key: str | None) -> None:
        self._headers = {"User-Agent": "llava-cot", "Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers=self._headers,
                # The authorities that httpx trusts: those of certifi, or of SSL_CERT_FILE.
                connector=aiohttp.TCPConnector(limit=0, ssl=httpx.create_ssl_context()),
                timeout=aiohttp.ClientTimeout(total=None, connect=_CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=_LINE_BYTES,
                proxy=_proxy(self._url),
            )
        return self._session

    async def close(self) -> None:
        """What is under way fails."""
        if self._session is not None:
            # It waits for the other side, which may be gone: what is left then goes with the process.
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._session.close()


def _proxy(url: str) -> str | None:
    """The proxy that the environment names. None leads to this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _HERE or proxy_bypass(host):
        return None
    named = getproxies()
    return named.get(parts.scheme) or named.get("all")


MINUTE = 60.0


@dataclass
class SentRequest:
    """A request in the window; `tokens` is a guess until the server has told its usage."""

    at: float
    tokens: int


class RateLimits:
    """At most so many requests in flight, and so many requests and tokens in any minute (None: no limit)."""

    def __init__(
        self, in_flight: int, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> None:
        self._slots = asyncio.Semaphore(in_flight)
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._sent: deque[SentRequest] = deque()
        self._turn = asyncio.Lock()  # who came first goes first

    @asynccontextmanager
    async def request(self, tokens: int) -> AsyncIterator[SentRequest]:
        """Wait for a place for one request of about so many tokens, and hold it."""
        async with self._slots:
            sent = SentRequest(time.monotonic(), tokens)
            if self._requests is not None or self._tokens is not None:
                async with self._turn:
                    while (wait := self._wait(tokens)) > 0:
                        await asyncio.sleep(wait)
                    sent.at = time.monotonic()
                    self._sent.append(sent)
            yield sent

    def _wait(self, tokens: int) -> float:
        """Seconds until it is worth looking again; 0 if there is room now."""
        now = time.monotonic()
        while self._sent and self._sent[0].at <= now - MINUTE:
            self._sent.popleft()
        if not self._sent:
            return 0.0  # what alone is more than the limit would else wait for ever
        full = self._requests is not None and len(self._sent) >= self._requests
        if not full and self._tokens is not None:
            full = sum(sent.tokens for sent in self._sent) + tokens > self._tokens
        return max(self._sent[0].at + MINUTE - now, 0.001) if full else 0.0
