"""All that a server answers: the API, and the web app at every other address.

Owns which of the two a request goes to.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from llava_cot.models.base import Model
from llava_cot.search.resources import Resources
from llava_cot.server.api import make_app
from llava_cot.server.auth import PagePassword, RequestGuard
from llava_cot.server.page import make_page
from llava_cot.server.service import ServerSettings, make_service

_API = re.compile(r"/(v1|health|metrics|traces|openapi\.json)(/|$)")


def make_site(model: Model, settings: ServerSettings, resources: Resources | None = None) -> ASGIApp:
    """A server of one model, and of what methods have besides. It closes none of it."""
    service = make_service(model, settings, resources or Resources())
    api: ASGIApp = make_app(service)
    page: ASGIApp = make_page(service)
    if settings.key is not None:
        page = PagePassword(page, settings.key)

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        # Only the page has something to begin and end with the server.
        is_api = scope["type"] == "http" and _API.match(scope["path"])
        await (api if is_api else page)(scope, receive, send)

    return RequestGuard(site, settings.key)
