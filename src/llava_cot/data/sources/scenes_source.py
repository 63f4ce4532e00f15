"""Scenes as a source: drawn from the generator itself, without a file.

Owns their ids and names. Knows nothing of how a scene is drawn. The responses are left to a teacher; that of
scenes writes them from the id.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import lru_cache, partial

from llava_cot.data.record import Record, Turn
from llava_cot.data.sources.base import LazyPicture
from llava_cot.scenes.items import make_items
from llava_cot.scenes.render import render
from llava_cot.scenes.world import Scene

LICENCE = "Apache-2.0"  # the project's own
_KEPT = 2000  # pictures, of 10 kB each


def read_scenes(split: str, seed: int, size: int) -> Iterator[Record]:
    """The first `size` scenes of a split and seed, each with its question. "scenes/train-0-12" is scene 12.

    A picture is drawn when it is read. Raises ValueError for a split that there is not.
    """
    for item in make_items(split, seed, size):
        turn = Turn(item.question.text, item.answer, item.question.options)
        image = LazyPicture(f"scenes/{item.id}.png", make=partial(_png, item.scene))
        extra = {"type": item.question.type}
        yield Record(f"scenes/{item.id}", (turn,), (image,), "scenes", LICENCE, extra)


# An evaluation reads each picture once for every method, and drawing one takes 7 ms.
@lru_cache(maxsize=_KEPT)
def _png(scene: Scene) -> bytes:
    data = io.BytesIO()
    render(scene).save(data, "PNG")
    return data.getvalue()
