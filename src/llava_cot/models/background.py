"""An event loop in a thread of its own, for what must stay in one loop whichever loop asks for it.

Owns the way there and back: cancelling, text that is told on the way, and the end. Knows no model.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

from llava_cot.errors import ModelError
from llava_cot.models.base import OnText

_T = TypeVar("_T")
_JOIN_SECONDS = 30.0


class BackgroundLoop:
    """Work that is handed in runs in the thread. Every method may be called from any event loop, or none.

    `end` is awaited there once all work has been cancelled: at `close`, or when nobody holds this any more.
    """

    def __init__(self, name: str, end: Callable[[], Awaitable[None]]) -> None:
        self._loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        thread.start()
        self._finalizer = weakref.finalize(self, _close, self._loop, thread, end)

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do some work in the thread; cancelled, it is cancelled there."""
        future = asyncio.wrap_future(self._start(work))
        try:
            return await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._finalizer.alive and not (task and task.cancelling()):
                raise ModelError("the model has been closed") from None
            raise

    async def run_telling(self, work: Callable[[OnText], Coroutine[Any, Any, _T]], on_text: OnText) -> _T:
        """The same for work that tells text: `on_text` is called here, and if it fails, so does this."""
        loop, waiting = asyncio.get_running_loop(), asyncio.current_task()
        failures: list[Exception] = []

        def show(text: str) -> None:
            try:
                if not failures:
                    on_text(text)
            except Exception as error:
                failures.append(error)
                if waiting is not None:
                    waiting.cancel()

        def tell(text: str) -> None:
            loop.call_soon_threadsafe(show, text)

        try:
            return await self.run(work(tell))
        except asyncio.CancelledError:
            if failures and waiting is not None and not waiting.uncancel():
                raise failures[0] from None
            raise

    def run_blocking(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The same for callers outside an event loop."""
        future = self._start(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        if not self._finalizer.alive:
            work.close()
            raise ModelError("the model has been closed; open it again")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        self._finalizer()


async def together(works: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """What comes of them all, in order; if one fails, the others are of no use, and are cancelled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _close(
    loop: asyncio.AbstractEventLoop, thread: threading.Thread, end: Callable[[], Awaitable[None]]
) -> None:
    async def finish() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            await end()
        finally:
            loop.call_soon(loop.stop)

    loop.call_soon_threadsafe(lambda: loop.create_task(finish()))
    if thread is not threading.current_thread():
        thread.join(_JOIN_SECONDS)
        if not thread.is_alive():
            loop.close()
