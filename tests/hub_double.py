"""A small hub on a local port, as huggingface_hub's client sees one: commits of files, tokens, faults."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from huggingface_hub import constants

from llava_cot.server.api import listen

TOKEN = "hf_thisisatokenofthetests"
_LARGE = 2000  # bytes; larger files are in large-file storage, by their SHA-256


@dataclass
class Repo:
    """A repository. `commits` maps a commit to its files, `refs` a branch or tag to its commit."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    private: bool = False
    gated: bool = False


@dataclass
class Hub:
    """What the hub has, the requests it got ("GET /path"), and its faults."""

    url: str
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    breaks: dict[str, int] = field(default_factory=dict)  # connections of a file that break at its middle
    damaged: set[str] = field(default_factory=set)  # files that arrive with other bytes
    down: bool = False
    etag: str | None = None  # in the place of every file's own

    def add(self, name: str, files: dict[str, bytes] | Path, ref: str = "main") -> str:
        """Add a commit to a repository (a new one if there is none of the name), and return it."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir() if path.is_file()}
        repo = self.repos.setdefault(name, Repo())
        commit = hashlib.sha1(f"{name} {len(repo.commits)}".encode()).hexdigest()
        repo.commits[commit] = files
        repo.refs[ref] = commit
        return commit

    def asked_for(self, file: str) -> int:
        """How often the content of a file was sent."""
        return sum(line.startswith("GET") and line.endswith(f"/{file}") for line in self.requests)


def _sums(data: bytes) -> tuple[str, str | None]:
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return blob, hashlib.sha256(data).hexdigest() if len(data) > _LARGE else None


def _refused(status: int, code: str | None = None) -> Response:
    return JSONResponse({"error": "no"}, status, {"X-Error-Code": code} if code else {})


def _app(hub: Hub) -> FastAPI:
    app = FastAPI()

    def find(request: Request, name: str, revision: str) -> tuple[str, dict[str, bytes]] | Response:
        hub.requests.append(f"{request.method} {request.url.path}")
        if hub.down:
            return _refused(503)
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if sent:
            hub.tokens.add(sent)
        repo = hub.repos.get(name)
        if sent and sent != TOKEN:
            return JSONResponse({}, 401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        if repo is None or (repo.private and not sent):
            return _refused(404 if sent else 401, "RepoNotFound")
        commit = repo.refs.get(revision, revision)
        if commit not in repo.commits:
            return _refused(404, "RevisionNotFound")
        if repo.gated and "/resolve/" in request.url.path:
            return _refused(403 if sent else 401, "GatedRepo")
        return commit, repo.commits[commit]

    @app.api_route(methods=["GET", "HEAD"], path="/api/{kind}/{org}/{name}")
    @app.api_route(methods=["GET", "HEAD"], path="/api/{kind}/{org}/{name}/revision/{revision:path}")
    def info(request: Request, kind: str, org: str, name: str, revision: str = "main") -> Any:
        found = find(request, f"{org}/{name}", revision)
        if isinstance(found, Response):
            return found
        commit, files = found
        siblings = []
        for file, data in files.items():
            blob, sha = _sums(data)
            about: dict[str, Any] = {"rfilename": file, "size": len(data), "blobId": blob}
            if sha:
                about["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 130}
            siblings.append(about)
        return {"id": f"{org}/{name}", "modelId": f"{org}/{name}", "sha": commit, "siblings": siblings}

    @app.api_route(methods=["GET", "HEAD"], path="/api/{kind}/{org}/{name}/tree/{revision}")
    @app.api_route(methods=["GET", "HEAD"], path="/api/{kind}/{org}/{name}/tree/{revision}/{folder:path}")
    def tree(request: Request, kind: str, org: str, name: str, revision: str, folder: str = "") -> Any:
        found = find(request, f"{org}/{name}", revision)
        if isinstance(found, Response):
            return found
        if folder:
            return _refused(404, "EntryNotFound")  # all files are at the top
        rows = []
        for file, data in found[1].items():
            blob, sha = _sums(data)
            row: dict[str, Any] = {"type": "file", "path": file, "size": len(data), "oid": blob}
            if sha:
                row["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 130}
            rows.append(row)
        return rows

    @app.post("/api/{kind}/{org}/{name}/paths-info/{revision}")
    async def paths(request: Request, kind: str, org: str, name: str, revision: str) -> Any:
        asked_for = parse_qs((await request.body()).decode())["paths"]
        rows = tree(request, kind, org, name, revision)
        return rows if isinstance(rows, Response) else [row for row in rows if row["path"] in asked_for]

    @app.api_route("/{org}/{name}/resolve/{revision}/{file:path}", methods=["GET", "HEAD"])
    @app.api_route("/datasets/{org}/{name}/resolve/{revision}/{file:path}", methods=["GET", "HEAD"])
    def resolve(request: Request, org: str, name: str, revision: str, file: str) -> Response:
        found = find(request, f"{org}/{name}", revision)
        if isinstance(found, Response):
            return found
        commit, files = found
        if file not in files:
            return JSONResponse({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        data = files[file]
        blob, sha = _sums(data)
        etag = hub.etag or sha or blob
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if request.method == "HEAD":
            return Response(status_code=200, headers={**headers, "Content-Length": str(len(data))})
        if file in hub.damaged:
            data = bytes(len(data))
        start = 0
        if wanted := request.headers.get("range"):
            hub.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        headers["Content-Length"] = str(len(data) - start)
        end = len(data)
        if hub.breaks.get(file, 0) > 0:
            hub.breaks[file] -= 1
            end = (start + end) // 2

        def body() -> Iterator[bytes]:
            yield data[start:end]
            if end < len(data):
                raise ConnectionError("broken on purpose")

        return StreamingResponse(body(), 206 if start else 200, headers)

    return app


@contextmanager
def running_hub() -> Iterator[Hub]:
    with closing(listen("127.0.0.1", 0)) as listening:
        hub = Hub(f"http://127.0.0.1:{listening.getsockname()[1]}")
        server = uvicorn.Server(uvicorn.Config(_app(hub), log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield hub
        finally:
            server.should_exit = True
            thread.join()


def use_hub(hub: Hub, home: Path, patch: pytest.MonkeyPatch) -> None:
    """Let huggingface_hub, which reads its environment when it is imported, use this hub and a new cache."""
    patch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    patch.setattr(constants, "HF_HOME", str(home))
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.delenv("HF_TOKEN", raising=False)
