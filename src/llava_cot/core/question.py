"""A question: its text, its images, and what is known about its answer."""

from __future__ import annotations

from dataclasses import dataclass

from llava_cot.core.images import ImageLimits, ImageSource, LoadedImage, load_image
from llava_cot.errors import ImageError

__all__ = ["ImageError", "ImageLimits", "ImageSource", "LoadedImage", "Question", "load_image"]


@dataclass(frozen=True)
class Question:
    """A question.

    Attributes:
        text: The question itself.
        images: The images that it is about.
        id: Its name in a data set or benchmark.
        options: The options of multiple choice, without letters.
        reference: The right answer, where it is known.
    """

    text: str
    images: tuple[LoadedImage, ...] = ()
    id: str | None = None
    options: tuple[str, ...] = ()
    reference: str | None = None
