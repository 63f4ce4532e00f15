"""Replies without an end, and small ones that grow: each has a limit, and so have all together."""

from __future__ import annotations

import asyncio
import gzip
import json
import resource
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.endpoint import http
from llava_cot.models.endpoint.config import Provider
from llava_cot.models.endpoint.http import HttpClient
from llava_cot.models.endpoint.replies import StreamedReply
from llava_cot.models.endpoint.reply_types import Secret

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"


@asynccontextmanager
async def client(answer: Answer) -> AsyncIterator[HttpClient]:
    """A client of a server that answers each request in this way."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    made = HttpClient(Provider(url=url, seconds=20), url, attempts=1)
    try:
        yield made
    finally:
        made.loop.close()
        server.close()


async def post(made: HttpClient) -> Any:
    return await made.loop.run(made.post("/x", {}, 10, "choices"))


async def stream(made: HttpClient) -> list[Any]:
    chunks: list[Any] = []
    await made.loop.run(made.stream("/x", {}, 10, lambda: chunks.append, lambda: None))
    return chunks


def body(content: bytes, head: bytes = b"") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + head + b"Content-Length: %d\r\n\r\n" % len(content) + content)

    return answer


def endless(part: bytes, head: bytes = b"", status: bytes = b"200 OK") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n" + head + b"\r\n")
        while True:
            writer.write(part)
            await writer.drain()

    return answer


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("read", [post, stream])
async def test_a_reply_without_an_end(read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 1_000_000)
    event = b"data: " + json.dumps({"choices": [{"delta": {"content": "x" * 1000}}]}).encode() + b"\n\n"
    async with client(endless(event)) as made:
        with pytest.raises(ModelFailure, match="its reply has more than 1 MB"):
            await read(made)


@pytest.mark.parametrize("part", [b"x" * 10_000, b"\n", b": wait\n\n", b"data: x" + b"x" * 10_000])
async def test_a_stream_without_an_event(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 3_000_000)
    async with client(endless(part * 100)) as made:
        with pytest.raises(ModelError, match=r"too long|more than 3 MB"):
            await stream(made)


async def test_a_line_without_an_end() -> None:
    async with client(endless(b"data: " + b"x" * 100_000)) as made:
        with pytest.raises(ModelError, match="an event of its reply is too long"):
            await stream(made)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
@pytest.mark.parametrize("read", [post, stream])
async def test_a_small_reply_that_grows(
    read: Any, pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_BYTES", 4_000_000)
    content = pack(b"\n" * 60_000_000)
    assert len(content) < 1_000_000
    kind = b"gzip" if pack is gzip.compress else b"deflate"
    before = peak()
    async with client(body(content, b"Content-Encoding: " + kind + b"\r\n")) as made:
        with pytest.raises(ModelFailure, match="its reply has more than 4 MB"):
            await read(made)
    assert peak() - before < 50_000_000


async def test_an_error_without_an_end() -> None:
    async with client(endless(b"no " * 10_000, status=b"400 Bad Request")) as made:
        with pytest.raises(ModelError, match="it answered 400: no no") as caught:
            await post(made)
    assert len(str(caught.value)) < 700


async def test_a_reply_of_very_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_VALUES", 1000)
    async with client(body(b'{"choices": [' + b"[]," * 1000 + b"0]}")) as made:
        with pytest.raises(ModelFailure, match="more than 1000 values"):
            await post(made)


async def test_a_stream_of_very_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLY_VALUES", 1000)
    async with client(endless(b'data: {"choices": [], "logprobs": [' + b"{}," * 100 + b"0]}\n\n")) as made:
        with pytest.raises(ModelFailure, match="more than 1000 values"):
            await stream(made)


def test_a_long_stream_is_not_read_again_at_each_event(monkeypatch: pytest.MonkeyPatch) -> None:
    read, settled = [0], Secret.settled

    def counting(self: Secret, text: str) -> str:
        read[0] += len(text)
        return settled(self, text)

    monkeypatch.setattr(Secret, "settled", counting)
    shown: list[str] = []
    reply = StreamedReply(("</X>",), shown.append, Secret(None))
    events = 10_000
    for _ in range(events):
        reply._take({"choices": [{"index": 0, "delta": {"content": "ten of it."}}]})
    assert 9.8 * events < len("".join(shown)) <= 10 * events
    assert read[0] < 10 * events * events / 4


@pytest.mark.parametrize("read", [post, stream])
async def test_a_reply_that_is_nested_very_deep(read: Any) -> None:
    async with client(body(b'data: {"choices": ' + b"[" * 200_000 + b"\n\n")) as made:
        with pytest.raises(ModelFailure, match="is not JSON"):
            await read(made)


async def test_heads_have_a_limit() -> None:
    for head in (b"X: " + b"x" * 100_000 + b"\r\n", b"X: x\r\n" * 10_000):
        async with client(body(b"{}", head)) as made:
            with pytest.raises(ModelError):
                await post(made)


async def test_all_replies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_REPLIES_BYTES", 1_000_000)
    go = asyncio.Event()

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"\r\n" + b'{"choices": ["' + b"x" * 400_000)
        await writer.drain()
        await go.wait()
        writer.write(b'"]}')

    async with client(answer) as made:
        waiting = [asyncio.create_task(post(made)) for _ in range(2)]
        while made._arriving < 800_000:
            await asyncio.sleep(0.01)
        with pytest.raises(ModelFailure, match="together larger"):
            await post(made)
        go.set()
        for reply in await asyncio.gather(*waiting):
            assert len(reply["choices"][0]) == 400_000
        assert made._arriving == 0
        assert len((await post(made))["choices"]) == 1


async def test_a_usage_that_cannot_be_holds_up_no_later_request() -> None:
    content = json.dumps({"choices": [0], "usage": {"total_tokens": 10**9}}).encode()
    async with client(body(content)) as made:
        for _ in range(2):
            await post(made)
        assert made._tokens_per_request is not None and made._tokens_per_request <= 200
