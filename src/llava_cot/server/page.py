"""The web page: static files from the package, whose script is a client of the API like any other.

Each file is read once and has a route of its own, so no path of a request ever names a file.
"""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llava_cot.view.html import stylesheet

_FOLDER = Path(__file__).with_name("static")
_MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' blob:; script-src 'self'; style-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def page_routes() -> list[Route]:
    """The routes of the page at / and of its files under /static."""
    contents = {"trace.css": stylesheet().encode()}
    for path in sorted(_FOLDER.rglob("*")):
        if path.suffix in _MEDIA_TYPES:
            contents[path.relative_to(_FOLDER).as_posix()] = path.read_bytes()
    return [
        _route("/" if name == "index.html" else f"/static/{name}", content, _MEDIA_TYPES[Path(name).suffix])
        for name, content in contents.items()
    ]


def _route(address: str, content: bytes, media_type: str) -> Route:
    async def file(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return Route(address, file)
