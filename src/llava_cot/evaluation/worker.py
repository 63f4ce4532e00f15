"""What each worker of a cluster does: it opens a model of its own and answers whole questions.

Owns how a question and its trace travel: pictures as the bytes of a file, the trace as JSON. Knows nothing of
how workers are started and lost; that is `cluster.py`'s subject.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from llava_cot.core.question import ImageLimits, LoadedImage, Question, load_image
from llava_cot.search.request import Request

# Pictures were held to the limits where they were loaded.
_NO_LIMITS = ImageLimits(max_bytes=2**40, max_pixels=2**40)


@dataclass(frozen=True)
class Opening:
    """What `open_model` is to open, and with how many threads it computes on a CPU."""

    spec: str
    settings: Mapping[str, Any]
    threads: int


@dataclass(frozen=True)
class Packed:
    """A question as it is sent; of each picture the name and the bytes of a PNG or JPEG file."""

    text: str
    id: str | None
    options: tuple[str, ...]
    reference: str | None
    pictures: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Reply:
    """What came of it: the trace as JSON (of opening: the model's name), or a sentence that says why nothing
    did, which may be the model's failure or the question's fault."""

    said: str
    trouble: bool = False
    failure: bool = False


def pack(question: Question) -> Packed:
    return Packed(
        question.text,
        question.id,
        question.options,
        question.reference,
        tuple((image.name, _bytes(image)) for image in question.images),
    )


def unpack(packed: Packed) -> Question:
    """The question, its pictures pixel by pixel the same."""
    images = tuple(load_image(data, limits=_NO_LIMITS, name=name) for name, data in packed.pictures)
    return Question(packed.text, images, packed.id, packed.options, packed.reference)


def _bytes(image: LoadedImage) -> bytes:
    if image.file is not None:
        return image.file
    data = io.BytesIO()
    image.pil.save(data, "PNG", compress_level=1)
    return data.getvalue()


class Worker:
    """Methods give a Reply rather than raise: not every exception survives the way to another process."""

    async def open(self, opening: Opening, wanted: str) -> Reply:
        """Open the model; `wanted` is the version of llava-cot that asks for it."""
        if (here := version("llava-cot")) != wanted:
            return Reply(
                f"a worker of the cluster has llava-cot {here}, and this is {wanted}; install the same "
                "everywhere",
                trouble=True,
            )
        os.environ["OMP_NUM_THREADS"] = str(opening.threads)  # before torch is imported
        from llava_cot.errors import ModelError
        from llava_cot.models.registry import open_model

        try:
            self._model = open_model(opening.spec, **opening.settings)
        except ModelError as error:
            return Reply(str(error), trouble=True)
        return Reply(self._model.name)

    async def answer(self, packed: Packed, request: Request) -> Reply:
        """The trace of one question."""
        from llava_cot.errors import ModelFailure
        from llava_cot.search.ask import answer

        try:
            trace = await answer(request, self._model, unpack(packed))
        except ValueError as error:
            return Reply(str(error), trouble=True, failure=isinstance(error, ModelFailure))
        return Reply(trace.model_dump_json())

    async def close(self) -> None:
        self._model.close()
