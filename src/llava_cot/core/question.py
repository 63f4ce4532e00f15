"""A question: its text, its images, and what is known about its answer.

Owns the values only; where images come from is `images.py`'s subject. Knows no model, stage or method.
"""

from __future__ import annotations

from dataclasses import dataclass

from llava_cot.core.images import ImageLimits, ImageSource, LoadedImage, load_image
from llava_cot.errors import ImageError

__all__ = ["ImageError", "ImageLimits", "ImageSource", "LoadedImage", "Question", "load_image"]


@dataclass(frozen=True)
class Question:
    """A text and the images it is about, with an id, options and a reference answer where known."""

    text: str
    images: tuple[LoadedImage, ...] = ()
    id: str | None = None
    options: tuple[str, ...] = ()
    reference: str | None = None
