"""A question: its text, its images, what is known about its answer, and the text that prompts have of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from string import ascii_uppercase
from typing import TypeVar

from llava_cot.core.images import ImageLimits, ImageSource, LoadedImage, load_image
from llava_cot.core.wording import PLACE, shown_places
from llava_cot.errors import ImageError

__all__ = ["PLACE", "ImageError", "ImageLimits", "ImageSource", "LoadedImage", "Question", "load_image"]

_T = TypeVar("_T")


@dataclass(frozen=True)
class Question:
    """A text and the images that it is about.

    Attributes:
        text: The question itself.
        images: The images that it is about. They stand at the `PLACE`s in text and options, or before both.
        id: Its name in a data set or benchmark.
        options: The options of multiple choice, without letters. An empty text is a letter without an option.
        reference: The right answer, where it is known.
    """

    text: str
    images: tuple[LoadedImage, ...] = ()
    id: str | None = None
    options: tuple[str, ...] = ()
    reference: str | None = None


def answer_form(question: Question) -> str:
    """The form of the answer that a prompt requests."""
    letters = [letter for letter, _ in lettered(question.options)]
    if not letters:
        return "the answer alone, as briefly as the question allows"
    named = f"{', '.join(letters[:-1])} or {letters[-1]}" if len(letters) > 1 else letters[0]
    return f"the letter of the right option alone: {named}"


def question_text(question: Question) -> str:
    """The question, and below it its options, each on a line: "A. left". Raises ValueError for over 26."""
    if len(question.options) > len(ascii_uppercase):
        count, most = len(question.options), len(ascii_uppercase)
        raise ValueError(f"the question has {count} options; give at most {most}, one a letter")
    return "\n".join(
        (question.text, *(f"{letter}. {option}" for letter, option in lettered(question.options)))
    )


def lettered(options: Sequence[str]) -> list[tuple[str, str]]:
    """The options with their letters. A letter whose option is an empty text is left out."""
    return [(letter, option) for letter, option in zip(ascii_uppercase, options, strict=False) if option]


def in_order(text: str, images: Sequence[_T]) -> list[str | _T]:
    """A text and its images as parts, in their order.

    Images without a `PLACE` come first. A place without an image becomes the words "[picture]".
    """
    first, *rest = text.split(PLACE)
    before = max(0, len(images) - len(rest))
    parts: list[str | _T] = [*images[:before], first]
    for image, words in zip_longest(images[before:], rest):
        parts += [shown_places(PLACE) if image is None else image, words or ""]
    joined: list[str | _T] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return joined or [""]
