"""Pictures of the questions in flight: loaded once each, and no more at once than memory has room for.

Owns the bound. Knows nothing of what is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from llava_cot.core.images import LoadedImage, load_image
from llava_cot.data.record import Picture
from llava_cot.errors import ImageError

# Decoded, these take 1.2 GB: 256 pictures of 1.5 megapixels, or 80 scanned pages.
PIXELS = 400_000_000
_LOADERS = 4


class Room:
    """Room for so many pixels, which may be passed by as many pictures as are loaded together."""

    def __init__(self, pixels: int = PIXELS) -> None:
        self._left = pixels
        self._loaders = asyncio.Semaphore(_LOADERS)
        self._freed = asyncio.Event()

    @asynccontextmanager
    async def pictures(
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
