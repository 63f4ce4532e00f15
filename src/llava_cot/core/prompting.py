"""How a question is put to a model.

Owns the text of a question with its options. Knows no model, method or judge: the answer's prompt,
the judges' prompts and training data all write a question in this one way.
"""

from __future__ import annotations

from string import ascii_uppercase

from llava_cot.core.question import Question


def question_text(question: Question) -> str:
    """The question as it is, and under it its options, each on a line: "A. left"."""
    if len(question.options) > len(ascii_uppercase):
        count, most = len(question.options), len(ascii_uppercase)
        raise ValueError(f"the question has {count} options; give at most {most}, one a letter")
    options = (
        f"{letter}. {option}" for letter, option in zip(ascii_uppercase, question.options, strict=False)
    )
    return "\n".join((question.text, *options))
