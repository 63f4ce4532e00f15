"""The text of a question with its options, in answers' prompts, judges' prompts and training data."""

from __future__ import annotations

from string import ascii_uppercase

from llava_cot.core.question import Question


def question_text(question: Question) -> str:
    """The question, and below it its options, each on a line: "A. left". Raises ValueError for over 26."""
    if len(question.options) > len(ascii_uppercase):
        count, most = len(question.options), len(ascii_uppercase)
        raise ValueError(f"the question has {count} options; give at most {most}, one a letter")
    options = (
        f"{letter}. {option}" for letter, option in zip(ascii_uppercase, question.options, strict=False)
    )
    return "\n".join((question.text, *options))
