"""What a model is to learn to say: the three targets of the paper and its ablations.

Owns the text of a record's answers, and the conversation that they stand in. Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from llava_cot.core.question import LoadedImage
from llava_cot.core.stages import LLAVA_COT, StageFormat, parse
from llava_cot.core.tags import find_tags
from llava_cot.data.record import Record, Turn
from llava_cot.models.base import Message

Target = Literal["staged", "untagged", "direct"]


def answer_text(turn: Turn, target: Target, fmt: StageFormat = LLAVA_COT) -> str | None:
    """What is to be said to a turn's question; None if nothing is known.

    `staged` is the response, `untagged` the same text without its tags, `direct` the standard answer. Where
    there is no response the first two take the standard answer; where there is no standard answer the last
    takes what the response concludes.
    """
    if target == "direct":
        text = turn.answer or (parse(turn.response, fmt).answer if turn.response else None)
    else:
        text = turn.response or turn.answer
        if text and target == "untagged":
            text = without_tags(text, fmt)
    return text if text and text.strip() else None


def without_tags(text: str, fmt: StageFormat = LLAVA_COT) -> str:
    """The text between the tags, parts of it parted by an empty line."""
    parts, start = [], 0
    for tag in find_tags(text, fmt.pairs):
        parts.append(text[start : tag.start])
        start = tag.end
    parts.append(text[start:])
    return "\n\n".join(part.strip() for part in parts if part.strip())


def conversation(record: Record, target: Target, images: Sequence[LoadedImage]) -> tuple[Message, ...]:
    """The record's turns as messages, the pictures with the first; empty if there is nothing to learn.

    A turn without an answer is left out, and with it what nobody said.
    """
    answered = [(turn, answer_text(turn, target)) for turn in record.turns]
    messages: list[Message] = []
    for turn, answer in answered:
        if answer is not None:
            messages += [
                Message("user", turn.text, () if messages else tuple(images)),
                Message("assistant", answer),
            ]
    return tuple(messages)
