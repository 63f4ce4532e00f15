"""Many pieces of work at once, taken from a stream of any length.

Owns how many run, what becomes of failures, and how it ends early. Knows nothing of the work.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

from llava_cot.core.images import LoadedImage, load_image
from llava_cot.data.record import Picture
from llava_cot.errors import ImageError

_T = TypeVar("_T")
# So many failures without a success between them, and whatever is asked is taken to be gone.
MAX_FAILURES_IN_A_ROW = 20
# Seconds between two at the start. Replies that come together are handled together and leave together, so
# that a crowd stays one, and all of it waits for all of it each time.
_APART = 0.002
_BREATH = 32  # items that may be passed over before running work has its turn


async def run_all(
    items: Iterable[_T],
    work: Callable[[_T], Awaitable[str | None]],
    at_once: int,
    stopped: Callable[[], bool],
) -> str | None:
    """Do the work on every item, at most so many at once, until `stopped` says so.

    Work returns what went wrong, if something did; after `MAX_FAILURES_IN_A_ROW` of these no item is taken
    any more, and the last is returned. What runs is always waited for, since it may have been paid for,
    also where taking an item raises; only what work itself raises ends all.
    """
    slots = asyncio.Semaphore(at_once)
    failed, last = 0, ""
    broken: Exception | None = None

    async def one(item: _T) -> None:
        nonlocal failed, last
        try:
            trouble = await work(item)
        finally:
            slots.release()
        if trouble is None:
            failed = 0
        elif failed < MAX_FAILURES_IN_A_ROW:
            failed, last = failed + 1, trouble

    try:
        async with asyncio.TaskGroup() as group:
            try:
                for number, item in enumerate(items):
                    if number < at_once:
                        await asyncio.sleep(_APART)
                    elif number % _BREATH == 0:
                        await asyncio.sleep(0)
                    await slots.acquire()
                    if stopped() or failed >= MAX_FAILURES_IN_A_ROW:
                        break
                    group.create_task(one(item))
            except Exception as error:
                broken = error
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    if broken is not None:
        raise broken
    return last if failed >= MAX_FAILURES_IN_A_ROW else None


async def run_interruptible(
    items: Iterable[_T],
    work: Callable[[_T], Awaitable[str | None]],
    at_once: int,
    stopped: Callable[[], bool],
    on_interrupt: Callable[[], None],
) -> str | None:
    """`run_all`, with an early end by Ctrl-C, of which `on_interrupt` is told: nothing more is taken, what
    runs is waited for, or dropped at the second Ctrl-C; then KeyboardInterrupt is raised."""
    this, interrupted = asyncio.current_task(), False

    def interrupt() -> None:
        nonlocal interrupted
        interrupted = True
        on_interrupt()

    with interrupts(interrupt, lambda: this and this.cancel()):
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
def interrupts(first: Callable[[], None], second: Callable[[], object]) -> Iterator[None]:
    """What the first Ctrl-C does inside, and what any other does. Where signals cannot be had, all is as
    usual."""
    loop, come = asyncio.get_running_loop(), 0

    def handle() -> None:
        nonlocal come
        come += 1
        if come == 1:
            first()
        else:
            second()

    try:
        loop.add_signal_handler(signal.SIGINT, handle)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows; a thread that is not the main one
        yield
        return
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


# Decoded, these take 1.2 GB: 256 pictures of 1.5 megapixels, or 80 scanned pages.
PIXELS = 400_000_000
_LOADERS = 4


class ImagePool:
    """Room for so many pixels, which may be passed by as many pictures as are loaded together."""

    def __init__(self, pixels: int = PIXELS) -> None:
        self._left = pixels
        self._loaders = asyncio.Semaphore(_LOADERS)
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def open(
        self, pictures: tuple[Picture, ...]
    ) -> AsyncIterator[Callable[[], Awaitable[tuple[LoadedImage, ...]]]]:
        """A function that gives the pictures, loaded when first asked for and let go at the end.

        It raises ImageError.
        """
        held: list[LoadedImage] = []

        async def images() -> tuple[LoadedImage, ...]:
            if pictures and not held:
                async with self._loaders:
                    while self._left <= 0:
                        self._freed.clear()
                        await self._freed.wait()
                    held.extend(await asyncio.to_thread(_load, pictures))
                    self._left -= _pixels(held)
            return tuple(held)

        try:
            yield images
        finally:
            self._left += _pixels(held)
            self._freed.set()


def _load(pictures: tuple[Picture, ...]) -> list[LoadedImage]:
    return [_one(picture) for picture in pictures]


def _one(picture: Picture) -> LoadedImage:
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
