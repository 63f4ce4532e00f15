"""What strangers do to a server: requests of other sites, endless ones, silent connections, many at once."""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import hostile
import httpx
import pytest
from serving import ASK, PATIENCE, Patient, Served, get, noisy, running, served, until

from llava_cot.core import decoder_pool
from llava_cot.models.scripted import ScriptedModel
from llava_cot.server import auth, connections
from llava_cot.server.connections import LogLimit
from llava_cot.server.service import ServerSettings

BODY = {"model": "scripted:single", "messages": ASK}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ScriptedModel(noisy)) as running:
        yield running


def post(server: Served, body: Any = BODY, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(f"{server.url}/chat/completions", json=body, headers=names, timeout=PATIENCE)


def code(reply: httpx.Response) -> str:
    found: str = reply.json()["error"]["code"]
    return found


# Names of the server, and pages of other sites


@pytest.mark.parametrize(
    "host", ["127.0.0.1:1", "localhost", "LOCALHOST.:80", "a.localhost", "[::1]:8000", "10.0.0.1"]
)
def test_a_name_of_the_server_itself(server: Served, host: str) -> None:
    assert get(f"{server.url}/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_name_that_was_made_to_point_here(server: Served, host: str) -> None:
    """DNS rebinding: the browser takes the page of evil.example and this server for one site."""
    for path in ("/", "/v1/models", "/traces/x", "/metrics", "/static/page.js"):
        reply = get(f"{server.root}{path}", headers={"Host": host})
        assert (reply.status_code, code(reply)) == (403, "host_not_allowed"), path
    assert post(server, Host=host).status_code == 403


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "http://[", "file://", "http://127.0.0.1"],
)
def test_a_page_of_another_site_cannot_post(server: Served, origin: str) -> None:
    for site in ({}, {"Sec_Fetch_Site": "cross-site"}, {"Sec_Fetch_Site": "same-site"}):
        reply = post(server, Origin=origin, **site)
        assert (reply.status_code, code(reply)) == (403, "origin_not_allowed")


def test_the_servers_own_page_can_post(server: Served) -> None:
    assert post(server, Origin=server.root).status_code == 200
    # Behind a proxy that names the server by its address.
    assert post(server, Origin="https://vlm.example.org", Sec_Fetch_Site="same-origin").status_code == 200


def test_names_that_are_allowed() -> None:
    settings = ServerSettings(allowed_hosts=("vlm.example.org", "*.example.net"))
    with served(ScriptedModel(noisy), settings) as server:
        for name, status in (
            ("vlm.example.org", 200), ("VLM.example.org:8000", 200), ("a.b.example.net", 200),
            ("example.net", 403), ("example.org", 403), ("notexample.net", 403),
        ):  # fmt: skip
            assert post(server, Host=name).status_code == status, name
            assert post(server, Origin=f"https://{name}").status_code == status, name
    with served(ScriptedModel(noisy), ServerSettings(allowed_hosts=("*",))) as server:
        assert post(server, Host="any.example").status_code == 200
        assert post(server, Origin="null").status_code == 403


# Bodies


def test_all_bodies_together_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_BODIES_BYTES", 1_000_000)
    model = Patient()
    body = BODY | {"user": "x" * 300_000}
    with served(model, ServerSettings(max_running=1)) as server, ThreadPoolExecutor(3) as pool:
        try:
            waiting = [pool.submit(post, server, body) for _ in range(3)]
            until(lambda: server.counted("llava_cot_waiting") == 2)
            reply = post(server, body)
            assert (reply.status_code, code(reply)) == (429, "queue_full")
            assert reply.headers["Retry-After"] == "1"
            assert get(f"{server.root}/health").status_code == 200
        finally:
            model.go.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        assert post(server, body).status_code == 200


def test_the_key_is_checked_before_the_body_arrives() -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{"
    settings = ServerSettings(api_key="k")
    with served(ScriptedModel(noisy), settings) as server, opened(server, 1, head) as [connection]:
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")


def test_a_body_in_very_many_parts(server: Served) -> None:
    """Each byte a part: they would hold up everybody, the more connections the longer."""
    content = json.dumps(BODY).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    head += b"Content-Type: application/json\r\nConnection: close\r\n\r\n"
    bytewise = b"".join(b"1\r\n%c\r\n" % byte for byte in content)
    for spaces, status in ((1000, 200), (20_000, 400)):
        parts = b"1\r\n \r\n" * spaces
        with opened(server, 1, head + parts + bytewise + b"0\r\n\r\n") as [connection]:
            assert connection.recv(12).split()[1] == b"%d" % status
    large = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    with opened(server, 1, head + large * 600 + bytewise + b"0\r\n\r\n") as [connection]:
        assert connection.recv(12).split()[1] == b"200"


def test_what_is_broken_after_a_reply_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    settings = ServerSettings(api_key="k")
    with served(ScriptedModel(noisy), settings) as server, opened(server, 1, head) as [connection]:
        assert connection.recv(1000).startswith(b"HTTP/1.1 401 ")
        connection.sendall(b"no chunk\r\n")
        until(lambda: closed(connection))
    assert not caplog.records


def test_a_body_of_very_many_values_is_not_parsed(server: Served) -> None:
    for value in ("[" + "[],[]," * 1_000_000 + "0]", "[" + "0," * 1_000_000 + "0]", "[" * 1_000_000):
        content = json.dumps(BODY)[:-1] + f', "user": {value}}}'
        reply = httpx.post(
            f"{server.url}/chat/completions",
            content=content,
            headers={"Content-Type": "application/json"},
            timeout=PATIENCE,
        )
        assert reply.status_code == 413 and "values allowed" in reply.text
    commas = BODY | {"messages": [{"role": "user", "content": "?" + "," * 199_999}]}
    assert post(server, commas).status_code == 200


# Pictures


def with_picture(url: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": url}}
    return BODY | {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "How many?"}]}]}


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits there")
def test_hostile_pictures_hold_nobody_up(server: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_pool, "MAX_SECONDS", 0.5)
    slow = with_picture(data_url(hostile.many_scans()))
    plain = with_picture(data_url(hostile.plain_files()[0]))
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(post, server, slow) for _ in range(8)]
        until(lambda: server.counted("llava_cot_running") >= 4 or all(one.done() for one in waiting))
        began = time.perf_counter()
        assert post(server, plain).status_code == 200
        assert time.perf_counter() - began < 2
        for one in waiting:
            assert one.result().status_code == 400
            assert "seconds of computing" in one.result().text


# Connections


@contextmanager
def opened(server: Served, count: int, begin: bytes = b"") -> Iterator[list[socket.socket]]:
    """So many connections that send the beginning of a request."""
    host, port = server.root.removeprefix("http://").split(":")
    with ExitStack() as stack:
        yield [_connect(stack, host, int(port), begin) for _ in range(count)]


def _connect(stack: ExitStack, host: str, port: int, begin: bytes) -> socket.socket:
    connection = stack.enter_context(closing(socket.create_connection((host, port), timeout=PATIENCE)))
    if begin:
        connection.sendall(begin)
    return connection


def closed(connection: socket.socket) -> bool:
    """Whether the server closes it; waits until it does, or sends something."""
    try:
        return connection.recv(1000) == b""
    except ConnectionError:
        return True


HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nX: "
HALF_BODY = HALF + b"y\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"


@pytest.mark.parametrize("begin", [b"", HALF, HALF_BODY], ids=["nothing", "half a head", "half a body"])
def test_silent_connections_keep_nobody_out(begin: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 8)
    with served(ScriptedModel(noisy)) as server, opened(server, 40, begin) as silent:
        assert post(server).status_code == 200
        assert all(closed(connection) for connection in silent[:20])


def test_connections_beyond_the_limit_are_refused_while_all_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    model = Patient()
    with served(model) as server, ThreadPoolExecutor(3) as pool:
        try:
            waiting = [pool.submit(post, server) for _ in range(3)]
            until(lambda: model.waiting == 3)
            try:
                reply = post(server)
                assert (reply.status_code, code(reply)) == (503, "too_many_connections")
            except httpx.TransportError:  # the connection was closed before the request was sent
                pass
        finally:
            model.go.set()
        assert [one.result().status_code for one in waiting] == [200] * 3
        assert post(server).status_code == 200


@pytest.mark.parametrize("trickle", [False, True])
def test_a_head_that_does_not_arrive(trickle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    with served(ScriptedModel(noisy)) as server, opened(server, 1, HALF) as [connection]:
        began = time.monotonic()
        if trickle:
            with pytest.raises(ConnectionError):
                while time.monotonic() < began + 10:
                    connection.sendall(b"x")
                    time.sleep(0.02)
        else:
            assert closed(connection)
        assert time.monotonic() - began < 5
        with httpx.Client(timeout=PATIENCE) as client:  # each request has the time anew
            for _ in range(3):
                assert client.get(f"{server.root}/health").status_code == 200
                time.sleep(0.15)


def test_a_head_that_is_too_long(server: Served) -> None:
    reply = get(f"{server.root}/health", headers={"X": "x" * 20_000})
    assert reply.status_code == 431 and "the head has more" in reply.text
    with opened(server, 1, HALF) as [connection], pytest.raises(ConnectionError):
        for _ in range(1000):  # without an end
            connection.sendall(b"x" * 10_000)


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host: header"),
        (b"GET\r\n\r\n", 400, "the request is not valid HTTP: illegal request line"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, "the request is not valid HTTP: illegal request line"),
        (HALF_BODY.replace(b": 1000", b": x"), 400, "bad Content-Length"),
        (HALF + b"x" * 17_000, 431, "the head has more than the 16384 bytes allowed"),
    ],
    ids=["no host", "no request", "TLS", "no length", "long"],
)
def test_a_head_that_is_none(server: Served, sent: bytes, status: int, words: str) -> None:
    with opened(server, 1, sent) as [connection]:
        reply = b"".join(iter(lambda: connection.recv(1000), b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status) and b"application/json" in head
    error = json.loads(body)["error"]
    assert words in error["message"] and error["type"] == "invalid_request_error"


def test_a_reply_that_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "WRITE_SECONDS", 0.3)
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(ScriptedModel(noisy)) as server, opened(server, 1) as [connection]:
        connection.sendall(request * 2000)  # 40 MB of replies
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                connection.sendall(b"x")
                time.sleep(0.01)
        until(lambda: get(f"{server.root}/health").status_code == 200)


def test_the_log_has_a_limit() -> None:
    limit, records = LogLimit(most=2, seconds=0.05), []

    def log() -> None:
        record = logging.LogRecord("asyncio", logging.ERROR, "events.py", 7, "no %s", ("files",), None)
        if limit.filter(record):
            records.append(record.getMessage())

    for _ in range(5):
        log()
    assert records == ["no files"] * 2
    time.sleep(0.06)
    log()
    assert records[2:] == ["no files (3 more messages like this one were left out)"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no limit of files")
def test_256_files_and_400_half_heads() -> None:
    """Others are answered meanwhile, the log stays small, and SIGTERM ends the server with all of them."""
    with running("--time-limit", "60", files=256) as (process, url):
        server = Served(url)
        with opened(server, 400, HALF) as silent:
            for _ in range(5):
                assert get(f"{server.url}/models").status_code == 200
            reply = httpx.post(
                f"{server.url}/chat/completions",
                json=BODY | {"model": "mini:single", "max_tokens": 5},
                timeout=PATIENCE,
            )
            assert reply.status_code == 200
            assert len(silent) == 400
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            _, log = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < 40
        assert process.returncode == 0 and len(log) < 5000


def test_a_signal_ends_the_server_while_a_picture_is_decoded(tmp_path: Path) -> None:
    """And a body that does not arrive, a reply that is not read, and a request in the queue."""
    slow = with_picture(data_url(hostile.long_comment())) | {"model": "mini"}
    with running("--time-limit", "4", "--at-once", "1") as (process, url):
        server = Served(url)
        with opened(server, 2, HALF_BODY) as halves, ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                pool.submit(post, server, slow)
            until(lambda: server.counted("llava_cot_running") == 1)
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            _, log = process.communicate(timeout=PATIENCE)
            assert time.monotonic() - began < 40
            assert process.returncode == 0
            assert b"Traceback" not in log and log.count(b"\n") <= 1, log
            for connection in halves:
                assert b'"the server was stopped; send the request again later"' in connection.recv(1000)


def test_threads_do_not_grow_with_requests(server: Served) -> None:
    before = threading.active_count()
    for _ in range(20):
        assert post(server, with_picture(data_url(hostile.plain_files()[0]))).status_code == 200
    assert threading.active_count() <= before + 70
