"""No request makes the server read a file that it names, or keep one on its disk.

The page of 0.1.0 copied any file of the server into a public folder, if a request described it in the place
of the method's name; with /dev/zero or a FIFO the server stopped for good.
"""

from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import Served, get, noisy, served

from llava_cot.models.scripted import ScriptedModel

SECONDS = 20.0  # after which a server that answers nothing has stopped
SECRET = "a secret of the server"

_watched: set[str] = set()
_opened: list[str] = []


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and str(arguments[0]).removeprefix("file://") in _watched:
        _opened.append(str(arguments[0]))


sys.addaudithook(_note)


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ScriptedModel(noisy)) as running:
        yield running


@pytest.fixture(params=["file", "/dev/zero", "fifo", "/proc/self/environ"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A file that the server could read, or that would stop it; nothing opens it during the test."""
    name = request.param
    if name == "file":
        (tmp_path / "secret.txt").write_text(SECRET)
        name = str(tmp_path / "secret.txt")
    elif name == "fifo":
        os.mkfifo(tmp_path / "fifo")
        name = str(tmp_path / "fifo")
    _watched.add(name)
    yield name
    _watched.clear()
    opened = _opened.copy()
    _opened.clear()
    assert opened == []


def bodies(file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Requests that have this value in one place each."""
    text = {"type": "text", "text": "How many?"}

    def ask(content: Any = "How many?", **fields: Any) -> dict[str, Any]:
        return {"model": "scripted:single", "messages": [{"role": "user", "content": content}]} | fields

    for field in ("model", "messages", "n", "stop", "seed", "temperature", "stream", "stream_options"):
        yield field, ask(**{field: file})
    for field in ("method", "n", "judge", "budget"):
        yield f"search.{field}", ask(model="scripted", search={field: file})
    for field in ("data", "fn_index", "session_hash", "files", "path"):  # of Gradio and others
        yield field, ask(**{field: [file]})
    yield "content", ask(file)
    yield "part", ask([file, text])
    yield "text", ask([{"type": "text", "text": file}])
    yield "image_url", ask([{"type": "image_url", "image_url": file}, text])
    yield "url", ask([{"type": "image_url", "image_url": {"url": file}}, text])
    yield "beside the url", ask([{"type": "image_url", "image_url": {"url": "data:,", "path": file}}, text])
    yield "file part", ask([{"type": "file", "file": file}, text])


def test_a_file_that_a_request_names_is_not_read(server: Served, path: str) -> None:
    described = {"path": path, "meta": {"_type": "gradio.FileData"}}
    with httpx.Client(base_url=server.url, timeout=SECONDS) as client:
        requests = [
            (place, body)
            for value in (described, path, f"file://{path}", {"url": path}, {"url": f"file://{path}"})
            for place, body in bodies(value)
        ]
        for place, body in requests:
            reply = client.post("/chat/completions", json=body)
            assert reply.status_code in (200, 400, 404), (place, reply.text)
            assert SECRET not in reply.text and "PATH=" not in reply.text, place
    assert get(f"{server.root}/health").status_code == 200


def test_the_door_of_the_former_page_is_gone(server: Served, path: str) -> None:
    described = {"path": path, "meta": {"_type": "gradio.FileData"}}
    data = [None, "How many?", described, 4, "self", 0, 0.6, None]  # in the place of the method's name
    for number in range(4):
        join = {"data": data, "fn_index": number, "session_hash": "attack"}
        reply = httpx.post(f"{server.root}/gradio_api/queue/join", json=join, timeout=SECONDS)
        assert reply.status_code == 404, reply.text


@pytest.mark.parametrize(
    "address",
    [
        "/static/../page.py",
        "/static/..%2fpage.py",
        "/static/%2e%2e/page.py",
        "/static/examples/../../page.py",
        "/static/examples/..%5c..%5cpage.py",
        "/static//etc/passwd",
        "/static/%00",
        "/static/",
        "/static",
        "/static/examples",
        "//etc/passwd",
        "/traces/../../../../etc/passwd",
        "/traces/..%2f..%2f..%2f..%2fetc%2fpasswd.json",
        "/file=/etc/passwd",
        "/gradio_api/file=/etc/passwd",
        "/config",
    ],
)
def test_no_address_leads_to_a_file_of_the_server(server: Served, address: str) -> None:
    connection = http.client.HTTPConnection(*server.root.removeprefix("http://").split(":"), timeout=SECONDS)
    connection.request("GET", address)  # as it is written
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    assert reply.status == 404, text
    assert "message" in json.loads(text)["error"] and "root:" not in text


def test_nothing_can_be_uploaded(server: Served) -> None:
    for address in ("/gradio_api/upload", "/upload", "/static/examples/chain.png", "/"):
        reply = httpx.post(server.root + address, files={"files": b"x" * 100_000}, timeout=SECONDS)
        assert reply.status_code in (404, 405), reply.text
