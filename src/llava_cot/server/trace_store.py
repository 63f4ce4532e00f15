"""The traces that a server keeps for whoever has their address.

Owns the bounds: the newest, as many as there is room for, for as long as the server runs. An address cannot
be guessed.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict

from llava_cot.core.trace import Trace
from llava_cot.server.api_errors import ApiError

_MOST_BYTES = 64_000_000


class TraceStore:
    """TraceStore by their ids, as JSON."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def add(self, trace: Trace) -> str:
        """Keep a trace; its id."""
        name, data = secrets.token_urlsafe(16), trace.model_dump_json().encode()
        self._kept[name] = data
        self._size += len(data)
        while self._size > _MOST_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._size -= len(oldest)
        return name

    def find(self, name: str) -> bytes:
        """The trace's JSON. Raises ApiError where there is none."""
        data = self._kept.get(name)
        if data is None:
            raise ApiError(
                404, "there is no such trace, or no more: the newest are kept, while the server runs"
            )
        return data
