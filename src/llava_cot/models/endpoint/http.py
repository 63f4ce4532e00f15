"""HTTP to one server: requests, their rate limits and their retries.

Requests run in a background loop, so that callers in any number of event loops share the connections and one
set of limits, and a loop that ends closes no connection. The client is aiohttp's, since httpx's pool looks at
all of its connections whenever a request begins or ends (`benchmarks/endpoint.py`).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from llava_cot.core.wording import plural
from llava_cot.errors import ModelError, ModelFailure, ServerFailure, ServerRefusal
from llava_cot.models.background import BackgroundLoop
from llava_cot.models.endpoint.config import Provider, key_of
from llava_cot.models.endpoint.replies import Json

# Called with each event of a streamed reply.
OnChunk = Callable[[Json], None]

_T = TypeVar("_T")
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
_RETRIED = frozenset({429, 500, 502, 503, 504})
# With a server that fails three requests in ten, one question in a hundred thousand is lost.
ATTEMPTS = 12
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 20.0
LONGEST_RETRY_AFTER = 300.0  # seconds; a server that asks for more is out of quota
MINUTE = 60.0
_CONNECT_SECONDS, _CLOSE_SECONDS = 10.0, 2.0
_LINE_BYTES = 2**20  # of a streamed reply
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class _Transient(Exception):
    """A failure that may not happen again. The server asks to wait `after` seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


@dataclass
class SentRequest:
    """A request of the last minute; `tokens` is a guess until the server reports its usage."""

    at: float
    tokens: int


class RateLimits:
    """Limits of one server: requests in flight, and requests and tokens in any minute (None: no limit).

    Lives in one event loop.
    """

    def __init__(
        self, in_flight: int, requests_per_minute: int | None, tokens_per_minute: int | None
    ) -> None:
        self._slots = asyncio.Semaphore(in_flight)
        self._requests = requests_per_minute
        self._tokens = tokens_per_minute
        self._sent: deque[SentRequest] = deque()
        self._turn = asyncio.Lock()  # first come, first served

    @asynccontextmanager
    async def request(self, tokens: int) -> AsyncIterator[SentRequest]:
        """Wait for a place for one request of about `tokens` tokens, and hold it."""
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
        """Seconds until it is worth checking again; 0 if there is room now."""
        now = time.monotonic()
        while self._sent and self._sent[0].at <= now - MINUTE:
            self._sent.popleft()
        if not self._sent:
            return 0.0  # a request that alone exceeds the limit would wait forever
        full = self._requests is not None and len(self._sent) >= self._requests
        if not full and self._tokens is not None:
            full = sum(sent.tokens for sent in self._sent) + tokens > self._tokens
        return max(self._sent[0].at + MINUTE - now, 0.001) if full else 0.0


class Connections:
    """The connections to one server, for one event loop: that of the first request."""

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
        """Close all connections; requests under way fail."""
        if self._session is not None:
            # This waits for the other side, which may be gone: what is left then ends with the process.
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await self._session.close()


class HttpClient:
    """Requests to the server at `url`, which are tried up to `attempts` times.

    Its coroutines run in `loop`, which all callers use. Raises ModelError if the server's key is missing.
    """

    def __init__(self, provider: Provider, url: str, attempts: int = ATTEMPTS) -> None:
        self._provider, self._url, self._attempts = provider, url, attempts
        self._key = key_of(provider)
        self._limits = RateLimits(
            provider.in_flight, provider.requests_per_minute, provider.tokens_per_minute
        )
        self._connections = Connections(url, self._key)
        self._reached = False
        self._tokens_per_request: float | None = None  # running mean
        self.loop = BackgroundLoop("llava-cot requests", self._connections.close)

    async def models(self, path: str) -> list[Json]:
        """The models that the server lists at a path. Raises ModelError."""
        listed = await self._retry(lambda: self._whole("GET", path, None, 0, "data"))
        return [one for one in listed["data"] if isinstance(one, dict) and isinstance(one.get("id"), str)]

    async def only_model(self, path: str, hint: str) -> tuple[str, str]:
        """The name and the owner of the server's only model. `hint` helps if there is no such path."""
        try:
            models = await self.models(path)
        except ServerRefusal as refusal:
            if refusal.status != 404:
                raise
            raise ModelError(
                f"{self._url}{path} does not exist, so the model's name is not known; {hint}"
            ) from None
        if len(models) == 1:
            return models[0]["id"], str(models[0].get("owned_by", ""))
        if not models:
            raise ModelError(f"{self._url} lists no models; name one with --model-name")
        names = ", ".join(one["id"] for one in models[:10]) + (", ..." if len(models) > 10 else "")
        raise ModelError(f"{self._url} has {len(models)} models; choose one with --model-name: {names}")

    async def post(self, path: str, body: Json, tokens: int, needs: str) -> Json:
        """The reply to a request of about `tokens` tokens, with a list under `needs`. Raises ModelError."""
        content = json.dumps(body).encode()
        return await self._retry(lambda: self._whole("POST", path, content, tokens, needs))

    async def stream(self, path: str, body: Json, tokens: int, attempt: Callable[[], OnChunk]) -> None:
        """Send a request whose reply is a stream of events; each attempt calls `attempt` for a reader."""
        content = json.dumps(body).encode()
        await self._retry(lambda: self._events(path, content, tokens, attempt()))

    async def _retry(self, once: Callable[[], Awaitable[_T]]) -> _T:
        for attempt in range(self._attempts):
            try:
                return await once()
            except _Transient as failure:
                if attempt == self._attempts - 1 or failure.after > LONGEST_RETRY_AFTER:
                    wait = f", and asks to wait {failure.after:.0f} seconds" if failure.after else ""
                    tries = plural(attempt + 1, "attempt")
                    raise ServerFailure(
                        f"{self._url} failed at {tries}: {failure}{wait}; try again later", failure.after
                    ) from None
                await asyncio.sleep(failure.after + pause(attempt))
        raise AssertionError

    async def _whole(self, method: str, path: str, content: bytes | None, tokens: int, needs: str) -> Json:
        async def read(response: aiohttp.ClientResponse, sent: SentRequest) -> Json:
            try:
                reply = json.loads(await response.read())
            except ValueError:
                raise _Transient("its reply is not JSON") from None
            if not isinstance(reply, dict) or not isinstance(reply.get(needs), list):
                raise _Transient(f"its reply has no {needs}{self._quote(reply)}")
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
                    done = True  # and read on: a connection is reused only if nothing is left in it
                    continue
                try:
                    chunk = json.loads(data)
                except ValueError:
                    raise _Transient("an event of its reply is not JSON") from None
                if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list):
                    raise _Transient(f"an event of its reply has no choices{self._quote(chunk)}")
                self._count(sent, chunk)
                on_chunk(chunk)
            if not done:
                raise _Transient("its reply was cut off")

        await self._send("POST", path, content, tokens, read)

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        tokens: int,
        read: Callable[[aiohttp.ClientResponse, SentRequest], Awaitable[_T]],
    ) -> _T:
        guess = tokens if self._tokens_per_request is None else int(self._tokens_per_request)
        seconds = self._provider.seconds
        async with self._limits.request(guess) as sent:
            try:
                async with (
                    asyncio.timeout(seconds),
                    self._connections.session.request(
                        method, self._url + path, data=content, allow_redirects=False
                    ) as response,
                ):
                    self._reached = True
                    if response.status != 200:
                        await self._refuse(response)
                    return await read(response, sent)
            except aiohttp.ClientError as error:
                why = str(error) or type(error).__name__
                if isinstance(error, _NOT_CONNECTED) and not self._reached:
                    raise ModelFailure(
                        f"{self._url} cannot be reached ({why}); is the server running there?"
                    ) from None
                raise _Transient(f"the connection failed ({why})") from None
            except TimeoutError:
                raise _Transient(f"it did not answer within {seconds:g} seconds") from None

    async def _refuse(self, response: aiohttp.ClientResponse) -> NoReturn:
        status, body = response.status, await response.read()
        try:
            quote = self._quote(json.loads(body))
        except ValueError:
            quote = self._quote({"message": body[:300].decode(errors="replace")})
        sentence = f"it answered {status}{quote}"
        if status in _RETRIED:
            raise _Transient(sentence, _retry_after(response.headers.get("retry-after", "")))
        variable = self._provider.key_env
        hints = {
            401: f"; put the right key into the environment variable {variable}",
            403: f"; check the key in the environment variable {variable}",
            404: "; give the address that ends before /chat/completions, usually in /v1",
        }
        raise ServerRefusal(f"{self._url} refused: {sentence}{hints.get(status, '')}", status)

    def _quote(self, reply: Any) -> str:
        """The message in an error's body, for the end of a sentence. A key in it is masked."""
        found = reply
        for name in ("error", "message", "detail"):
            if isinstance(found, dict):
                found = found.get(name, found)
        text = " ".join(found.split()) if isinstance(found, str) else json.dumps(found) if found else ""
        if self._key:
            text = text.replace(self._key, "***")
        text = text if len(text) <= 500 else text[:497] + "..."
        return f": {text.rstrip('.')}" if text else ""

    def _count(self, sent: SentRequest, reply: Json) -> None:
        """Replace the guess by the usage that the server reports."""
        usage = reply.get("usage")
        if isinstance(usage, dict) and isinstance(usage.get("total_tokens"), int):
            sent.tokens = usage["total_tokens"]
            before = sent.tokens if self._tokens_per_request is None else self._tokens_per_request
            self._tokens_per_request = 0.9 * before + 0.1 * sent.tokens


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[str]:
    try:
        async for line in response.content:
            yield line.decode(errors="replace")
    except ValueError:  # aiohttp's, for a line that is longer than its buffer
        raise _Transient("an event of its reply is too long") from None


def pause(attempt: int) -> float:
    """Seconds to wait after attempt number `attempt`, from 0: longer each time, random to spread clients."""
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


def _proxy(url: str) -> str | None:
    """The proxy that the environment names; none for this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _LOCAL_HOSTS or proxy_bypass(host):
        return None
    named = getproxies()
    return named.get(parts.scheme) or named.get("all")
