"""Concurrent work over a stream of items, and the pictures that it has in memory."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import chain, repeat
from typing import TypeVar

from llava_cot.core.images import LoadedImage, load_image
from llava_cot.data.record import Picture
from llava_cot.errors import ImageError, ModelUnavailable

_T = TypeVar("_T")
# After so many failures without a success between them, the model is taken to be gone.
MAX_FAILURES_IN_A_ROW = 20
# Seconds between two items at the start: replies that arrive together are handled together and so start new
# requests together, which keeps all requests in step and makes each wait for the slowest.
_APART = 0.002
_YIELD_EVERY = 32  # items that may be taken before running work has its turn
# Decoded, these take 1.2 GB: 256 pictures of 1.5 megapixels, or 80 scanned pages.
_MAX_PIXELS = 400_000_000
_LOADERS = 4


async def run_all(
    items: Iterable[_T],
    work: Callable[[_T], Awaitable[str | None]],
    at_once: int,
    stopped: Callable[[], bool],
) -> str | None:
    """Do the work on every item; returns the last failure if `MAX_FAILURES_IN_A_ROW` came in a row.

    Then no more items are taken, nor after the first ModelUnavailable of `work`, whose message is returned.
    Started work is always waited for, since it may have been paid for, also if taking an item raises. Only
    another exception of `work` ends everything.

    Args:
        items: Taken lazily, as there is capacity for them.
        work: Returns what failed, if something did.
        at_once: The most items in progress.
        stopped: Once it returns true, no more items are taken.
    """
    slots = asyncio.Semaphore(at_once)
    failures, last = 0, ""
    unavailable: str | None = None
    taking_failed: Exception | None = None

    async def one(item: _T) -> None:
        nonlocal failures, last, unavailable
        try:
            failure = await work(item)
        except ModelUnavailable as error:
            unavailable = unavailable or str(error)
            return
        finally:
            slots.release()
        if failure is None:
            failures = 0
        elif failures < MAX_FAILURES_IN_A_ROW:
            failures, last = failures + 1, failure

    try:
        async with asyncio.TaskGroup() as group:
            try:
                for number, item in enumerate(items):
                    if number < at_once:
                        await asyncio.sleep(_APART)
                    elif number % _YIELD_EVERY == 0:
                        await asyncio.sleep(0)
                    await slots.acquire()
                    if stopped() or unavailable is not None or failures >= MAX_FAILURES_IN_A_ROW:
                        break
                    group.create_task(one(item))
            except Exception as error:
                taking_failed = error
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    if taking_failed is not None:
        raise taking_failed
    if unavailable is not None:
        return unavailable
    return last if failures >= MAX_FAILURES_IN_A_ROW else None


async def run_interruptible(
    items: Iterable[_T],
    work: Callable[[_T], Awaitable[str | None]],
    at_once: int,
    stopped: Callable[[], bool],
    on_interrupt: Callable[[], None],
) -> str | None:
    """`run_all`, which ends early at Ctrl-C: no more items are taken, and started work is waited for.

    `on_interrupt` is called at the first Ctrl-C. A second one drops that work too. Then KeyboardInterrupt is
    raised.
    """
    this, interrupted = asyncio.current_task(), False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        on_interrupt()

    with _interrupts(interrupt, lambda: this and this.cancel()):
        try:
            failure = await run_all(items, work, at_once, lambda: interrupted or stopped())
        except asyncio.CancelledError:
            if interrupted:
                raise KeyboardInterrupt from None
            raise
    if interrupted:
        raise KeyboardInterrupt
    return failure


@contextmanager
def _interrupts(first: Callable[[], None], later: Callable[[], object]) -> Iterator[None]:
    """What the first and any later Ctrl-C do inside. Where signals cannot be caught, nothing changes."""
    loop, handlers = asyncio.get_running_loop(), chain([first], repeat(later))
    try:
        loop.add_signal_handler(signal.SIGINT, lambda: next(handlers)())
    except (NotImplementedError, RuntimeError, ValueError):  # Windows; a thread that is not the main one
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


class ImagePool:
    """Bounds the decoded pixels in memory, for work that loads pictures when it needs them.

    Belongs to one event loop. The bound may be exceeded by the pictures that are being loaded.
    """

    def __init__(self, pixels: int = _MAX_PIXELS) -> None:
        self._left = pixels
        self._loaders = asyncio.Semaphore(_LOADERS)
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def open(
        self, pictures: tuple[Picture, ...]
    ) -> AsyncIterator[Callable[[], Awaitable[tuple[LoadedImage, ...]]]]:
        """A function that loads the pictures, once, or raises ImageError; they are released at the end."""
        loaded: list[LoadedImage] = []

        async def images() -> tuple[LoadedImage, ...]:
            if pictures and not loaded:
                async with self._loaders:
                    while self._left <= 0:
                        self._freed.clear()
                        await self._freed.wait()
                    loaded.extend(await asyncio.to_thread(lambda: [_load(it) for it in pictures]))
                    self._left -= _pixels(loaded)
            return tuple(loaded)

        try:
            yield images
        finally:
            self._left += _pixels(loaded)
            self._freed.set()


def _load(picture: Picture) -> LoadedImage:
    if picture.file is not None and picture.data is None:
        return load_image(picture.file, name=picture.name)
    try:
        return load_image(picture.read(), name=picture.name)
    except ImageError:
        raise
    except ValueError as error:
        raise ImageError(str(error)) from None


def _pixels(images: list[LoadedImage]) -> int:
    return sum(image.pil.width * image.pil.height for image in images)
