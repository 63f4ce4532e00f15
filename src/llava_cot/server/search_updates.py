"""The searches of a streamed reply as HTML, again and again while they grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from llava_cot.core.trace import Trace
from llava_cot.search.search import Began, Event, Finished, Search
from llava_cot.server.chat_reply import ReplyStyle
from llava_cot.server.schemas import ChatChunk, SearchUpdate
from llava_cot.server.service import RequestQueue
from llava_cot.view.html import trace_fragment

_PAUSE = 0.1  # seconds between two updates, at least
# Drawing happens on the event loop. All streams together may spend one part in so many of the time on it.
_SHARE = 10

Draw = Callable[[], ChatChunk]


class SearchDrawer:
    """Requests a drawing of one choice's search after its events.

    The drawing is made when it can be sent, and shows the search as it is then. At most one is pending, so
    that nothing piles up for a slow client.

    Args:
        index: The choice.
        style: Of the reply.
        queue: Says how many requests share the time for drawing.
        send: Called with the function that draws.
    """

    def __init__(
        self, index: int, style: ReplyStyle, queue: RequestQueue, send: Callable[[Draw], None]
    ) -> None:
        self._index, self._style, self._queue, self._send = index, style, queue, send
        self._search: Search | None = None
        self._pending = False
        self._next = 0.0  # earliest time of the next drawing, by the event loop's clock

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            self._search = event.search
        if self._pending or isinstance(event, Finished):
            return
        self._pending = True
        asyncio.get_running_loop().call_at(self._next, self._send, self._draw)

    def _draw(self) -> ChatChunk:
        assert self._search is not None  # Began is the first event
        self._pending = False
        began = time.perf_counter()
        html = _draw(self._index, self._search.so_far(), running=True)
        update = SearchUpdate(index=self._index, html=html, stage=self._search.stage)
        pause = max(_PAUSE, _SHARE * self._queue.running * (time.perf_counter() - began))
        self._next = asyncio.get_running_loop().time() + pause
        return self._style.chunk(search=update)


def finished_search(index: int, trace: Trace, id: str, style: ReplyStyle) -> ChatChunk:
    """The last update of a choice: its whole search, and the id of the trace that was stored."""
    html = _draw(index, trace, running=False)
    return style.chunk(search=SearchUpdate(index=index, html=html, trace=id))


def _draw(index: int, trace: Trace, running: bool) -> str:
    return str(trace_fragment(trace, f"choice-{index}", with_question=False, running=running))
