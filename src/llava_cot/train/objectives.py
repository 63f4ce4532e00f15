"""What a model learns: the text of its answers (the paper's target and its two ablations) and the loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from llava_cot.core.question import LoadedImage
from llava_cot.core.stages import LLAVA_COT, StageFormat, parse
from llava_cot.core.tags import find_tags
from llava_cot.data.record import Record, Turn
from llava_cot.models.base import Message
from llava_cot.train.recipe import TrainTarget

IGNORE = -100  # transformers' and torch's value for "no label"


def target_text(turn: Turn, target: TrainTarget, fmt: StageFormat = LLAVA_COT) -> str | None:
    """The text to learn as the answer to a turn's question; None if the record has none.

    `staged` is the response, `untagged` the same text without its tags, and `direct` the reference answer.
    Where a turn has no response, the first two take the reference answer; where it has no reference answer,
    `direct` takes the conclusion of the response.
    """
    if target == "direct":
        text = turn.answer or (parse(turn.response, fmt).answer if turn.response else None)
    else:
        text = turn.response or turn.answer
        if text and target == "untagged":
            text = without_tags(text, fmt)
    return text if text and text.strip() else None


def without_tags(text: str, fmt: StageFormat = LLAVA_COT) -> str:
    """The text between the tags, its parts separated by empty lines."""
    parts, start = [], 0
    for tag in find_tags(text, fmt.pairs):
        parts.append(text[start : tag.start])
        start = tag.end
    parts.append(text[start:])
    return "\n\n".join(part.strip() for part in parts if part.strip())


def conversation(record: Record, target: TrainTarget, images: Sequence[LoadedImage]) -> tuple[Message, ...]:
    """The record's turns as messages, with the images in the first; empty if there is nothing to learn.

    Turns without a text to learn are left out.
    """
    messages: list[Message] = []
    for turn in record.turns:
        answer = target_text(turn, target)
        if answer is not None:
            question = Message("user", turn.text, () if messages else tuple(images))
            messages += [question, Message("assistant", answer)]
    return tuple(messages)


def answer_loss(logits: Tensor, labels: Tensor, keep: int, count: Tensor | int | None = None) -> Tensor:
    """The cross-entropy of the labeled tokens, divided by `count`, or by their number.

    Args:
        logits: [rows, at least `keep`, vocabulary]; its last position is that of `labels`. Only labeled
            positions are converted to float32.
        labels: [rows, length].
        keep: How many positions at the end hold all labels and the position before the first one.
        count: The labeled tokens of the whole optimizer step.
    """
    targets = labels[:, labels.shape[1] - keep + 1 :]
    marked = targets != IGNORE
    chosen = logits[:, -keep:-1][marked].float()
    total = F.cross_entropy(chosen, targets[marked], reduction="sum")
    return total / (marked.sum() if count is None else count)
