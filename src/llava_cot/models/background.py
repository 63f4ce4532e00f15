"""An event loop in a thread of its own, for what must stay in one loop whichever loop calls it.

Not anyio's blocking portal: a call through it takes 121 microseconds of CPU time against 54 here (256 calls
at once, a coroutine that yields once), and it leaves no place for closing connections between the end of the
work and the end of the loop.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

from llava_cot.errors import ModelError
from llava_cot.models.base import OnText

_T = TypeVar("_T")


class BackgroundLoop:
    """Runs coroutines in its thread, until `close` or until the last reference to this is gone.

    Args:
        name: The thread's name.
        end: Awaited in the thread after all work has been canceled.
        patience: Seconds to wait then for the thread. None, without a limit, if it may be inside torch: were
            it there when the interpreter ends, the process would abort.
    """

    def __init__(
        self, name: str, end: Callable[[], Awaitable[None]] | None = None, patience: float | None = 30.0
    ) -> None:
        self._loop, self._ended = asyncio.new_event_loop(), threading.Event()
        self._thread = threading.Thread(target=_serve, args=(self._loop, self._ended), name=name, daemon=True)
        self._thread.start()
        ending = self._loop, self._thread, self._ended
        self._finalizer = weakref.finalize(self, _close, *ending, end, patience)

    async def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in the thread and wait for it. Canceling this cancels it there."""
        future = asyncio.wrap_future(self._start(work))
        try:
            return await future
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self._finalizer.alive and not (task and task.cancelling()):
                raise ModelError("the model has been closed") from None
            raise

    async def run_streaming(
        self, work: Callable[[OnText | None], Coroutine[Any, Any, _T]], on_text: OnText | None
    ) -> _T:
        """Run a coroutine that may stream to `on_text`, in the caller's loop. Raises what that raises."""
        if on_text is None:
            return await self.run(work(None))
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

        def send(text: str) -> None:
            with suppress(RuntimeError):  # the caller's loop was closed meanwhile
                loop.call_soon_threadsafe(show, text)

        try:
            return await self.run(work(send))
        except asyncio.CancelledError:
            if failures and waiting is not None and not waiting.uncancel():
                raise failures[0] from None
            raise

    def open(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run the first coroutine and block until it is done. If it fails, the thread ends."""
        try:
            return self._start(work).result()
        except BaseException:
            self.close()
            raise

    def _start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        if not self._finalizer.alive:
            work.close()
            raise ModelError("the model has been closed; open it again")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """Cancel all work, and end the thread. An interrupt meanwhile is raised once it has ended."""
        if self._finalizer():
            raise KeyboardInterrupt


async def gather_or_cancel(works: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of all coroutines, in order. If one fails, the others are canceled."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _serve(loop: asyncio.AbstractEventLoop, ended: threading.Event) -> None:
    try:
        loop.run_forever()
    finally:
        loop.close()
        ended.set()


def _close(
    loop: asyncio.AbstractEventLoop,
    thread: threading.Thread,
    ended: threading.Event,
    end: Callable[[], Awaitable[None]] | None,
    patience: float | None,
) -> bool:
    """End the thread. True if an interrupt came meanwhile."""

    async def finish() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        try:
            if end is not None:
                await end()
        finally:
            loop.stop()

    loop.call_soon_threadsafe(lambda: loop.create_task(finish()))
    interrupted = False
    while thread is not threading.current_thread():
        try:
            if ended.wait(patience):  # an interrupted `join` would take the thread for ended
                thread.join()
            break
        except KeyboardInterrupt:
            interrupted = True
    return interrupted
