"""Concurrent work over a stream of items, and the pictures that it has in memory."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from itertools import chain, repeat
from typing import Any, TypeVar

from llava_cot.core.decoder_pool import POOL_SIZE
from llava_cot.core.decoding import quick_pixels
from llava_cot.core.images import ImageLimits, LoadedImage, load_image, read_image
from llava_cot.data.record import Picture
from llava_cot.errors import ImageError, ModelUnavailable

_T = TypeVar("_T")
# After so many failures without a success between them, the model is taken to be gone.
MAX_FAILURES_IN_A_ROW = 20
# Seconds between two items at the start: replies that arrive together are handled together and so start new
# requests together, which keeps all requests in step and makes each wait for the slowest.
_APART = 0.002
_YIELD_EVERY = 32  # items that may be taken before running work has its turn
# Decoded, these take 1.2 GB, at four bytes each: 256 pictures of a megapixel, or 80 scanned pages.
_MAX_PIXELS = 300_000_000
_RECORD_PIXELS = 100_000_000  # of the pictures of one record: 25 scanned pages
_MAX_FILE_BYTES = 100_000_000  # of the files of one record
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

    Belongs to one event loop. Pictures that are decoded quickly do not wait for those that may take long.

    Args:
        pixels: The most of all pictures together, those that are being loaded included.
        each: The most of the pictures that are opened together.
        at_once: How many are loading.
    """

    def __init__(
        self, pixels: int = _MAX_PIXELS, each: int = _RECORD_PIXELS, at_once: int = _LOADERS
    ) -> None:
        self._left, self._each = pixels, each
        self._loading, self._decoding = asyncio.Semaphore(at_once), asyncio.Semaphore(POOL_SIZE)
        # Of its own, so that slow pictures hold up no other work in threads.
        self._threads = ThreadPoolExecutor(at_once, "llava-cot pictures")
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def open(
        self, pictures: Sequence[Picture]
    ) -> AsyncIterator[Callable[[], Awaitable[tuple[LoadedImage, ...]]]]:
        """A function that loads the pictures, once, or raises ImageError; they are released at the end.

        A picture that is there several times is loaded once.
        """
        loaded: dict[Picture, LoadedImage] = {}
        held = 0

        async def images() -> tuple[LoadedImage, ...]:
            nonlocal held
            if pictures and not loaded:
                async with self._loading:
                    files = await self._run(_read_all, dict.fromkeys(pictures))
                    known = [quick_pixels(file) for file in files.values()]
                    quick = sum(pixels for pixels in known if pixels is not None)
                    slow = nullcontext() if None not in known else self._decoding
                    async with slow:
                        need = self._each if None in known else min(quick, self._each)
                        await self._take(need)
                        held = need
                        loaded.update(await self._run(_decode_all, files, self._each))
                        held = _pixels(loaded.values())
                        self._give(need - held)
            return tuple(loaded[picture] for picture in pictures)

        try:
            yield images
        finally:
            self._give(held)

    async def _run(self, function: Callable[..., _T], *arguments: Any) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def _take(self, pixels: int) -> None:
        while self._left < pixels:
            self._freed.clear()
            await self._freed.wait()
        self._left -= pixels

    def _give(self, pixels: int) -> None:
        self._left += pixels
        self._freed.set()


def _read_all(pictures: Iterable[Picture]) -> dict[Picture, bytes]:
    """The files of pictures. Raises ImageError."""
    files: dict[Picture, bytes] = {}
    for picture in pictures:
        if picture.file is not None and picture.data is None:
            files[picture] = read_image(picture.file, name=picture.name)
        else:
            try:
                files[picture] = picture.read()
            except ImageError:
                raise
            except ValueError as error:
                raise ImageError(str(error)) from None
        if sum(map(len, files.values())) > _MAX_FILE_BYTES:
            raise ImageError(
                f"the pictures have together more than the {_MAX_FILE_BYTES / 1e6:g} MB allowed; "
                "make them smaller, or fewer"
            )
    return files


def _decode_all(files: dict[Picture, bytes], pixels: int) -> dict[Picture, LoadedImage]:
    """Decode pictures that may have so many pixels together. Raises ImageError."""
    loaded: dict[Picture, LoadedImage] = {}
    for picture, file in files.items():
        left = min(pixels - _pixels(loaded.values()), ImageLimits().max_pixels)
        loaded[picture] = load_image(file, limits=ImageLimits(max_pixels=left), name=picture.name)
    return loaded


def _pixels(images: Iterable[LoadedImage]) -> int:
    return sum(image.pil.width * image.pil.height for image in images)
