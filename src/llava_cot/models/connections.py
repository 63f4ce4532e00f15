"""Connections to one server, each of which is used again and again.

A pool of httpx looks at all of its connections whenever a request begins or ends, which takes longer than the
request where hundreds are in flight (`benchmarks/endpoint.py`). So each is a client of its own here; how many
there are at once is for whoever asks for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx

_CONNECT_SECONDS = 10.0


class Clients:
    """Clients of one connection each. For one event loop."""

    def __init__(self, key: str | None) -> None:
        self._headers = {"User-Agent": "llava-cot", "Content-Type": "application/json"}
        if key is not None:
            self._headers["Authorization"] = f"Bearer {key}"
        self._trusted = httpx.create_ssl_context()  # takes longer than all the rest of a client
        self._idle: list[httpx.AsyncClient] = []  # the one that was used last comes first

    @asynccontextmanager
    async def one(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client that nobody else has meanwhile."""
        client = self._idle.pop() if self._idle else self._new()
        usable = True
        try:
            yield client
        except asyncio.CancelledError:
            # httpcore may never count its only connection as free again: the next request would wait for it.
            usable = False
            raise
        finally:
            if usable:
                self._idle.append(client)
            else:
                await client.aclose()

    def _new(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1),
            verify=self._trusted,
            # A proxy that the environment names does not lead to this machine.
            mounts={"all://localhost": None, "all://127.0.0.1": None},
        )

    async def close(self) -> None:
        """Once nobody has one."""
        for client in self._idle:
            await client.aclose()
