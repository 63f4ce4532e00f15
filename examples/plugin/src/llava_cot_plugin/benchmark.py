"""A benchmark of counting: how many disks are in a picture, from 1 to 9."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

from PIL import Image, ImageDraw

from llava_cot.data.record import Picture
from llava_cot.evaluation.benchmarks import RULES
from llava_cot.evaluation.types import Benchmark, BenchmarkItem

SIZE, CELL = 192, 64


def disks() -> Benchmark:
    """The benchmark; its pictures are drawn when they are needed."""
    return Benchmark("disks", "Disks", "https://example.org/disks", items, RULES["number"])


def items() -> Iterator[BenchmarkItem]:
    """90 questions, always the same."""
    for number in range(90):
        count = number % 9 + 1
        name = f"disks/{number}.png"
        yield BenchmarkItem(
            id=f"disks-{number}",
            text="How many disks are there?",
            answer=str(count),
            pictures=(Picture(name, data=draw(count, random.Random(number))),),
            skill="up to 4" if count <= 4 else "5 and more",
        )


def draw(count: int, rng: random.Random) -> bytes:
    """A PNG with disks in `count` of 9 cells."""
    image = Image.new("RGB", (SIZE, SIZE), "white")
    pen = ImageDraw.Draw(image)
    for cell in rng.sample(range(9), count):
        x, y = cell % 3 * CELL + CELL // 2, cell // 3 * CELL + CELL // 2
        pen.circle((x, y), rng.randint(12, 28), fill=rng.choice(("red", "green", "blue")))
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()
