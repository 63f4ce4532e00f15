"""The searches of a streamed reply as HTML, again and again while they grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from llava_cot.core.trace import Trace
from llava_cot.search.search import Began, Event, Finished, Search
from llava_cot.server.chat_reply import ReplyStyle
from llava_cot.server.schemas import ChatChunk, SearchUpdate
from llava_cot.server.service import RequestQueue
from llava_cot.view.html import trace_fragment

_PAUSE = 0.1  # seconds between two updates, at least
# Drawing takes time of the processor from the model and from other requests. All streams together may spend
# one part in so many of the time on it.
_SHARE = 10

Draw = Callable[[], Awaitable[ChatChunk]]


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
        self._pending = self._changed = False
        self._next = 0.0  # earliest time of the next drawing, by the event loop's clock

    def __call__(self, event: Event) -> None:
        if isinstance(event, Began):
            self._search = event.search
        self._changed = not isinstance(event, Finished)  # whose drawing is `finished_search`
        self._schedule()

    def _schedule(self) -> None:
        if self._changed and not self._pending:
            self._pending = True
            asyncio.get_running_loop().call_at(self._next, self._send, self._draw)

    async def _draw(self) -> ChatChunk:
        assert self._search is not None  # Began is the first event
        self._changed = False
        began, stage = time.perf_counter(), self._search.stage
        html = await _drawing(self._index, self._search.so_far(), running=True)
        pause = max(_PAUSE, _SHARE * self._queue.running * (time.perf_counter() - began))
        self._next = asyncio.get_running_loop().time() + pause
        self._pending = False
        self._schedule()
        return self._style.chunk(search=SearchUpdate(index=self._index, html=html, stage=stage))


async def finished_search(index: int, trace: Trace, id: str, style: ReplyStyle) -> ChatChunk:
    """The last update of a choice: its whole search, and the id of the trace that was stored."""
    html = await _drawing(index, trace, running=False)
    return style.chunk(search=SearchUpdate(index=index, html=html, trace=id))


async def _drawing(index: int, trace: Trace, running: bool) -> str:
    # A search of 1,024 candidates takes a tenth of a second, which the event loop cannot wait.
    name = f"choice-{index}"
    return await asyncio.to_thread(trace_fragment, trace, name, with_question=False, running=running)
