"""Scenes as a source: drawn by the generator, without a file. The scenes teacher writes their responses."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache, partial

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import LazyPicture
from llava_cot.scenes.items import make_items
from llava_cot.scenes.world import Scene, render

LICENSE = "Apache-2.0"  # the project's own


def read_scenes(split: str, seed: int, size: int) -> Iterator[Record]:
    """The first `size` scenes of a split and seed, each with its question. "scenes/train-0-12" is scene 12.

    Raises ValueError for an unknown split.
    """
    for item in make_items(split, seed, size):
        turn = Turn(item.question.text, item.answer, item.question.options)
        image = LazyPicture(f"scenes/{item.id}.png", make=partial(_png, item.scene))
        extra = {"type": item.question.type}
        yield Record(f"scenes/{item.id}", (turn,), (image,), "scenes", LICENSE, extra)


# An evaluation reads each picture once for every method, and drawing one takes 7 ms. They have 10 kB each.
@lru_cache(maxsize=2000)
def _png(scene: Scene) -> bytes:
    data = io.BytesIO()
    render(scene).save(data, "PNG")
    return data.getvalue()
