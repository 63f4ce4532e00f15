"""A question: its text, its images, what is known about its answer, and the text that prompts have of it."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase

from llava_cot.core.images import ImageLimits, ImageSource, LoadedImage, load_image
from llava_cot.errors import ImageError

__all__ = ["ImageError", "ImageLimits", "ImageSource", "LoadedImage", "Question", "load_image"]


@dataclass(frozen=True)
class Question:
    """A text and the images that it is about.

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


def question_text(question: Question) -> str:
    """The question, and below it its options, each on a line: "A. left". Raises ValueError for over 26."""
    if len(question.options) > len(ascii_uppercase):
        count, most = len(question.options), len(ascii_uppercase)
        raise ValueError(f"the question has {count} options; give at most {most}, one a letter")
    options = (
        f"{letter}. {option}" for letter, option in zip(ascii_uppercase, question.options, strict=False)
    )
    return "\n".join((question.text, *options))
