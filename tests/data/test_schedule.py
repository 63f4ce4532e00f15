"""The pictures that concurrent work has in memory."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import hostile
import pytest
from PIL import Image

from llava_cot.core import decoder_pool
from llava_cot.data import schedule
from llava_cot.data.record import Picture
from llava_cot.data.schedule import ImagePool
from llava_cot.errors import ImageError


def picture(name: str, width: int, height: int, form: str = "PNG") -> Picture:
    return Picture(name, data=hostile.encoded(Image.new("L", (width, height)), form))


async def test_a_picture_that_is_named_40_times_is_loaded_once() -> None:
    pool = ImagePool(pixels=10_000, each=10_000)
    async with pool.open([picture("a", 100, 100)] * 40) as images:
        loaded = await images()
        assert len(loaded) == 40 and len({id(image) for image in loaded}) == 1
        assert pool._left == 0
    assert pool._left == 10_000


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
async def test_the_pictures_of_a_record_have_a_limit_together(form: str) -> None:
    pool = ImagePool(pixels=30_000, each=20_000)
    async with pool.open([picture(str(n), 100, 100, form) for n in range(3)]) as images:
        with pytest.raises(ImageError, match="megapixels allowed"):
            await images()
    assert pool._left == 30_000
    async with pool.open([picture(str(n), 100, 100, form) for n in range(2)]) as images:
        assert len(await images()) == 2
        assert pool._left == 10_000


async def test_the_files_of_a_record_have_a_limit_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_MAX_FILE_BYTES", 1000)
    async with ImagePool().open([Picture(str(n), data=bytes([n]) * 600) for n in range(2)]) as images:
        with pytest.raises(ImageError, match="have together more than the"):
            await images()


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
async def test_all_pictures_together_keep_to_the_limit(form: str) -> None:
    pool = ImagePool(pixels=40_000, each=20_000)
    most = now = 0

    async def one(number: int) -> None:
        nonlocal most, now
        async with pool.open([picture(f"{number}", 100, 100, form)]) as images:
            [image] = await images()
            now += image.pil.width * image.pil.height
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= image.pil.width * image.pil.height

    await asyncio.gather(*(one(number) for number in range(30)))
    assert 0 < most <= 40_000
    assert pool._left == 40_000


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits there")
async def test_slow_pictures_hold_up_no_quick_one(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = decoder_pool.DecoderPool(2)
    monkeypatch.setattr(decoder_pool, "_pool", processes)
    monkeypatch.setattr(decoder_pool, "MAX_SECONDS", 0.5)
    pool, slow = ImagePool(at_once=64), hostile.long_comment()

    async def load(one: Picture) -> None:
        async with pool.open([one]) as images:
            await images()

    waiting = [asyncio.create_task(load(Picture(f"slow {n}", data=slow))) for n in range(12)]
    await asyncio.sleep(0.2)
    began = time.perf_counter()
    await load(picture("quick", 100, 100))
    assert time.perf_counter() - began < 0.5 and not all(task.done() for task in waiting)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    processes.close()


async def test_a_picture_without_a_file_is_an_image_error(tmp_path: Path) -> None:
    for missing in (Picture("a", tmp_path / "none.png"), Picture("a")):
        async with ImagePool().open([missing]) as images:
            with pytest.raises(ImageError):
                await images()
