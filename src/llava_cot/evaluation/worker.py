"""The worker of a Ray cluster: how a question is sent to it, and how it answers."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from llava_cot.core.images import ImageLimits, LoadedImage, load_image
from llava_cot.core.question import Question
from llava_cot.errors import ModelError, ModelFailure
from llava_cot.models.base import Model
from llava_cot.search.request import Request

# Pictures were held to the limits where they were loaded.
_NO_LIMITS = ImageLimits(max_bytes=2**40, max_pixels=2**40)


@dataclass(frozen=True)
class ModelOpening:
    """What each worker opens: the model, the arguments of `open_model`, and its number of CPU threads."""

    spec: str
    arguments: Mapping[str, Any]
    threads: int
    version: str  # of the llava-cot that asks for it


@dataclass(frozen=True)
class PackedQuestion:
    """A question as it is sent: each picture is its name and the bytes of an image file."""

    text: str
    id: str | None
    options: tuple[str, ...]
    reference: str | None
    pictures: tuple[tuple[str, bytes], ...]

    @classmethod
    def pack(cls, question: Question) -> PackedQuestion:
        pictures = tuple((image.name, _file_bytes(image)) for image in question.images)
        return cls(question.text, question.id, question.options, question.reference, pictures)

    def unpack(self) -> Question:
        """Return the question, with the same pixels."""
        images = tuple(load_image(data, limits=_NO_LIMITS, name=name) for name, data in self.pictures)
        return Question(self.text, images, self.id, self.options, self.reference)


class Worker:
    """The actor that answers questions. It opens its model at the first call, also after a restart."""

    def __init__(self, opening: ModelOpening) -> None:
        self._opening = opening
        self._model: Any = None

    async def model_name(self) -> str:
        """Open the model and return its name. Raises ModelError."""
        return self._open().name

    async def answer(self, question: PackedQuestion, request: Request) -> str:
        """Return the trace as JSON. Raises ModelError."""
        from llava_cot.search.ask import answer

        model = self._open()
        try:
            trace = await answer(request, model, question.unpack())
        except ValueError as error:  # not every exception can be sent to another process
            raise (ModelFailure if isinstance(error, ModelFailure) else ModelError)(str(error)) from None
        return trace.model_dump_json()

    async def close(self) -> None:
        if self._model is not None:
            self._model.close()

    def _open(self) -> Model:
        if self._model is None:
            opening = self._opening
            if (here := version("llava-cot")) != opening.version:
                raise ModelError(
                    f"a worker of the cluster has llava-cot {here}, and this is {opening.version}; install "
                    "the same version everywhere"
                )
            os.environ["OMP_NUM_THREADS"] = str(opening.threads)  # before torch is imported
            from llava_cot.models.registry import open_model

            self._model = open_model(opening.spec, **opening.arguments)
        model: Model = self._model
        return model


def _file_bytes(image: LoadedImage) -> bytes:
    if image.file is not None:
        return image.file
    data = io.BytesIO()
    image.pil.save(data, "PNG", compress_level=1)
    return data.getvalue()
