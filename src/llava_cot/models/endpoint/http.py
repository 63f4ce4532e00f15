"""HTTP to one server: requests, their retries, and what its errors lead to.

Requests run in a background loop, so that callers in any number of event loops share the connections and one
set of limits, and a loop that ends closes no connection. The client is aiohttp's, since httpx's pool looks at
all of its connections whenever a request begins or ends (`benchmarks/endpoint.py`).
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

from llava_cot.core.wording import plural
from llava_cot.errors import (
    ModelError,
    ModelFailure,
    ModelRefusal,
    ModelUnavailable,
    ServerFailure,
    ServerRefusal,
)
from llava_cot.models.background import BackgroundLoop
from llava_cot.models.endpoint.config import Provider, key_of
from llava_cot.models.endpoint.event_stream import (
    LINE_BYTES,
    EventBlock,
    LineTooLong,
    read_events,
    read_lines,
)
from llava_cot.models.endpoint.rate_limits import RateLimits, SentRequest
from llava_cot.models.endpoint.refusals import (
    TRANSIENT,
    ServerError,
    is_filtered,
    is_unavailable,
    named_field,
    quote,
    read_error,
)
from llava_cot.models.endpoint.replies import BrokenReply, as_chunk
from llava_cot.models.endpoint.reply_types import Json, Secret, token_count

# Called with each event of a streamed reply.
OnChunk = Callable[[Json], None]

_T = TypeVar("_T")
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
# With a server that fails three requests in ten, one question in a hundred thousand is lost.
ATTEMPTS = 12
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 20.0
LONGEST_RETRY_AFTER = 300.0  # seconds; a server that asks for more is out of quota
_LONGEST_WISH = 1e9  # of those that a server can ask for
_CONNECT_SECONDS, _CLOSE_SECONDS = 10.0, 2.0
# Of one reply, and of all that are being read: 64 samples of 2,048 tokens with the likeliest 20 of each take
# less. aiohttp unpacks compressed ones piece by piece.
MAX_REPLY_BYTES = 64_000_000
MAX_REPLIES_BYTES = 256_000_000
# Commas and opening brackets in one, which bound the objects that it is parsed into.
MAX_REPLY_VALUES = 3_000_000
_ERROR_BYTES = 65_536  # that are read of an error
_OVER = 20  # times the estimate are counted at most: one lie would hold up all later requests
_PER_LINE = 100  # bytes that a line of a stream counts for besides its own, since each takes time
_QUOTED = 300  # characters of a body that is no JSON
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


class _Transient(Exception):
    """A failure that may not happen again. The server asks to wait `after` seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


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
                read_bufsize=LINE_BYTES,
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
        key = key_of(provider)
        self.secret = Secret(key)
        self._limits = RateLimits(
            provider.in_flight, provider.requests_per_minute, provider.tokens_per_minute
        )
        self._connections = Connections(url, key)
        self._reached = False
        self._tokens_per_request: float | None = None  # running mean
        self._arriving = 0  # bytes of all replies that are being read
        self.loop = BackgroundLoop("llava-cot requests", self._connections.close)

    async def models(self, path: str, attempts: int | None = None) -> list[Json]:
        """The models that the server lists at a path. Raises ModelError."""
        listed = await self._retry(lambda: self._whole("GET", path, None, 0, "data"), attempts)
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

    async def post(
        self,
        path: str,
        body: Json,
        tokens: int,
        needs: str,
        *,
        check: Callable[[Json], None] = lambda reply: None,
        probed: Collection[str] = (),
        attempts: int | None = None,
    ) -> Json:
        """Send a request and return its reply.

        Args:
            path: Where, below the address.
            body: The fields.
            tokens: About how many tokens it takes.
            needs: The field of the reply that must hold a list.
            check: Raises BrokenReply if another attempt is needed.
            probed: Fields that are tried out: an internal error that names one is a refusal of it.
            attempts: How often it is tried, if not as often as other requests.

        Raises:
            ModelError: There is no such reply.
        """
        content = json.dumps(body).encode()

        async def once() -> Json:
            reply = await self._whole("POST", path, content, tokens, needs, body.keys(), probed)
            check(reply)
            return reply

        return await self._retry(once, attempts)

    async def stream(
        self, path: str, body: Json, tokens: int, attempt: Callable[[], OnChunk], check: Callable[[], None]
    ) -> None:
        """Send a request whose reply is a stream of events.

        Each attempt calls `attempt` for a reader, and `check` at its end, which raises BrokenReply if another
        attempt is needed.
        """
        content = json.dumps(body).encode()

        async def once() -> None:
            await self._events(path, content, tokens, attempt(), body.keys())
            check()

        await self._retry(once)

    async def _retry(self, once: Callable[[], Awaitable[_T]], attempts: int | None = None) -> _T:
        last = (attempts or self._attempts) - 1
        for attempt in range(last + 1):
            try:
                try:
                    return await once()
                except BrokenReply as broken:
                    self._explain(broken.error, broken.reason)
            except _Transient as failure:
                if attempt == last or failure.after > LONGEST_RETRY_AFTER:
                    wait = f", and asks to wait {failure.after:.0f} seconds" if failure.after else ""
                    tries = plural(attempt + 1, "attempt")
                    raise ServerFailure(
                        f"{self._url} failed at {tries}: {failure}{wait}; try again later", failure.after
                    ) from None
                await asyncio.sleep(failure.after + pause(attempt))
        raise AssertionError

    async def _whole(
        self,
        method: str,
        path: str,
        content: bytes | None,
        tokens: int,
        needs: str,
        fields: Collection[str] = (),
        probed: Collection[str] = (),
    ) -> Json:
        async def read(response: aiohttp.ClientResponse, sent: SentRequest) -> Json:
            body = await self._body(response, MAX_REPLY_BYTES)
            self._check_values(sum(map(body.count, (b",", b"[", b"{"))))
            try:
                reply = self.secret.parse_json(body)
            except ValueError:
                raise _Transient("its reply is not JSON") from None
            if not isinstance(reply, dict) or not isinstance(reply.get(needs), list):
                self._explain(read_error(reply), f"its reply has no {needs}")
            self._count(sent, reply, tokens)
            return reply

        return await self._send(method, path, content, tokens, read, fields, probed)

    async def _events(
        self, path: str, content: bytes, tokens: int, on_chunk: OnChunk, fields: Collection[str]
    ) -> None:
        async def read(response: aiohttp.ClientResponse, sent: SentRequest) -> None:
            done, instead = False, list[str]()
            with self._bounded() as count:
                async for block in read_events(self._lines(response, count)):
                    instead += block.others
                    for data in self._data(block):
                        if data == "[DONE]":
                            done = True  # and read on: a connection is reused only if nothing is left in it
                        elif chunk := self._chunk(data, block.event):
                            self._count(sent, chunk, tokens)
                            on_chunk(chunk)
            if done:
                return
            found = self._json_in("\n".join(instead))
            whole = as_chunk(found)
            if whole is None:
                self._explain(None if found is None else read_error(found), "its reply was cut off")
            self._count(sent, whole, tokens)
            on_chunk(whole)

        await self._send("POST", path, content, tokens, read, fields)

    async def _lines(
        self, response: aiohttp.ClientResponse, count: Callable[[int], int]
    ) -> AsyncIterator[str]:
        """The lines of a stream, within the limits of its bytes and values."""
        values = 0
        try:
            async for line in read_lines(response.content.iter_chunked(2**16)):
                if count(len(line) + _PER_LINE) > MAX_REPLY_BYTES:
                    raise self._too_long()
                values += sum(map(line.count, ",[{"))
                self._check_values(values)
                yield line
        except LineTooLong:
            raise _Transient("an event of its reply is too long") from None

    def _data(self, block: EventBlock) -> list[str]:
        """The data of an event; of each line, where a server leaves out the empty line between events."""
        lines = [line.strip() for line in block.data if line.strip()]
        joined = "\n".join(lines)
        return [joined] if len(lines) > 1 and self._json_in(joined) is not None else lines

    def _chunk(self, data: str, event: str) -> Json | None:
        """The part of a reply that an event holds; None if it is of another kind, such as a ping."""
        try:
            chunk = self.secret.parse_json(data)
        except ValueError:
            raise _Transient("an event of its reply is not JSON") from None
        failed = event == "error" or (isinstance(chunk, dict) and chunk.get("object") == "error")  # vLLM's
        if isinstance(chunk, dict) and not failed and not {"choices", "error"} & set(chunk):
            return None
        if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list):
            self._explain(read_error(chunk), "an event of its reply has no choices")
        return chunk

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        tokens: int,
        read: Callable[[aiohttp.ClientResponse, SentRequest], Awaitable[_T]],
        fields: Collection[str] = (),
        probed: Collection[str] = (),
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
                        await self._refuse(response, fields, probed)
                    return await read(response, sent)
            except _NOT_CONNECTED as error:
                why = str(error) or type(error).__name__
                if not self._reached:
                    raise ModelFailure(
                        f"{self._url} cannot be reached ({why}); is the server running there?"
                    ) from None
                raise _Transient(f"the connection failed ({why})") from None
            except aiohttp.ClientError as error:
                # Not its message, which may quote a part of what the server sent, perhaps half of the key.
                raise _Transient(f"the connection failed ({type(error).__name__})") from None
            except TimeoutError:
                raise _Transient(f"it did not answer within {seconds:g} seconds") from None

    async def _body(self, response: aiohttp.ClientResponse, most: int, cut: bool = False) -> bytes:
        """A reply's body. A longer one than `most` is cut, or raises ModelFailure."""
        parts = []
        with self._bounded() as count:
            async for part in response.content.iter_chunked(2**16):
                parts.append(part)
                if count(len(part)) > most:
                    if not cut:
                        raise self._too_long()
                    break
        return b"".join(parts)

    @contextmanager
    def _bounded(self) -> Iterator[Callable[[int], int]]:
        """A function that counts bytes of a reply and returns their sum, within the limit of all."""
        size = 0

        def count(more: int) -> int:
            nonlocal size
            size += more
            self._arriving += more
            if self._arriving > MAX_REPLIES_BYTES:
                raise _Transient("its replies are together larger than what is read at once")
            return size

        try:
            yield count
        finally:
            self._arriving -= size

    def _check_values(self, values: int) -> None:
        if values > MAX_REPLY_VALUES:
            raise ModelFailure(f"{self._url}: its reply has more than {MAX_REPLY_VALUES} values")

    def _too_long(self) -> ModelFailure:
        return ModelFailure(f"{self._url}: its reply has more than {MAX_REPLY_BYTES / 1e6:g} MB")

    async def _refuse(
        self, response: aiohttp.ClientResponse, fields: Collection[str], probed: Collection[str]
    ) -> NoReturn:
        status, content = response.status, await self._body(response, _ERROR_BYTES, cut=True)
        body = content.decode(errors="replace")
        found = self._json_in(body)
        text = " ".join(self.secret.settled(body).split())  # what was cut may end with half of the key
        error = ServerError(text[:_QUOTED]) if found is None else read_error(found)
        after = _retry_after(response.headers.get("retry-after", ""))
        self._classify(status, error, f"it answered {status}", after, fields, probed)

    def _explain(self, error: ServerError | None, sentence: str) -> NoReturn:
        """Raise what an error in a reply of status 200 means. Without a status of its own, it may pass."""
        error = error or ServerError("")
        status = error.status if error.status is not None and 400 <= error.status < 600 else 500
        self._classify(status, error, sentence)

    def _classify(
        self,
        status: int,
        error: ServerError,
        sentence: str,
        after: float = 0.0,
        fields: Collection[str] = (),
        probed: Collection[str] = (),
    ) -> NoReturn:
        """Raise what an error means: _Transient, ModelUnavailable, ModelRefusal or ServerRefusal."""
        field = named_field(error, probed if status in TRANSIENT else fields)
        sentence += quote(error)
        refused = f"{self._url} refused: {sentence}"
        if is_unavailable(status, error, field, after):
            raise ModelUnavailable(refused + self._hint(status), status, field)
        if is_filtered(status, error):
            raise ModelRefusal(refused)
        if status in TRANSIENT and field is None:
            raise _Transient(sentence, after)
        raise ServerRefusal(refused + self._hint(status), status, field)

    def _hint(self, status: int) -> str:
        variable = self._provider.key_env
        hints = {
            401: f"; put the right key into the environment variable {variable}",
            403: f"; check the key in the environment variable {variable}",
            404: "; check --model-name, and give the address that ends before /chat/completions, as in /v1",
        }
        return hints.get(status, "")

    def _json_in(self, body: str) -> Any:
        """The JSON value of a body; None if it has none."""
        try:
            return self.secret.parse_json(body)
        except ValueError:
            return None

    def _count(self, sent: SentRequest, reply: Json, estimated: int) -> None:
        """Replace the guess by the usage that the server reports, as far as that can be."""
        total = token_count(reply, "total_tokens")
        if total is not None:
            sent.tokens = min(total, _OVER * estimated)
            before = sent.tokens if self._tokens_per_request is None else self._tokens_per_request
            self._tokens_per_request = 0.9 * before + 0.1 * sent.tokens


def pause(attempt: int) -> float:
    """Seconds to wait after attempt number `attempt`, from 0: longer each time, random to spread clients."""
    return min(_FIRST_WAIT * 2.0**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.0)


def _retry_after(value: str) -> float:
    """Seconds, from a number of them or a date (RFC 9110, section 10.2.3); 0 if it is neither."""
    try:
        return max(0.0, min(float(value), _LONGEST_WISH))
    except ValueError:
        pass
    try:
        then = parsedate_to_datetime(value).astimezone(UTC)
    except (ValueError, OverflowError):  # no date, or one beyond the year 9999 here
        return 0.0
    return min(max(0.0, (then - datetime.now(UTC)).total_seconds()), _LONGEST_WISH)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names; none for this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if host in _LOCAL_HOSTS or proxy_bypass(host):
        return None
    named = getproxies()
    return named.get(parts.scheme) or named.get("all")
