"""Connections to one server, each of which is used again and again.

Owns what is the same for all requests: who is trusted, the way through a proxy, the time to connect. How many
there are at once is for whoever asks for them (`limits.py`). aiohttp, since a pool of httpx
looks at all of its connections whenever a request begins or ends (`benchmarks/endpoint.py`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx

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
