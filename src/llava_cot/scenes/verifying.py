"""Which of two answers about a scene is the better one, for the judge that knows the truth.

Owns the order: a right conclusion first, then the stage that was searched; and what one is worth by itself.
Knows no judge.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from llava_cot.core.question import Question
from llava_cot.core.stages import Answer
from llava_cot.scenes.comparing import GAP
from llava_cot.scenes.judging import caption_error, which_reasoning
from llava_cot.scenes.teacher import ORDINALS, steps
from llava_cot.scenes.write import Item, named_item


def known(question: Question) -> bool:
    """Whether the question is about a scene, by its id."""
    return _item(question.id or "") is not None


def better(question: Question, stage: str, a: Answer, b: Answer) -> Literal[1, 2] | None:
    """1 or 2; None where both are as good, or the truth does not tell (a summary). Of `known` questions."""
    item = _item(question.id or "")
    assert item is not None
    right, other = (side.stages["conclusion"] == item.answer for side in (a, b))
    if right != other:
        return 1 if right else 2
    captions = a.stages["caption"], b.stages["caption"]
    if stage == "caption":
        errors = [_error(item, caption) for caption in captions]
        return None if errors[0] == errors[1] else 1 if errors[0] < errors[1] else 2
    if stage == "reasoning" and captions[0] == captions[1]:
        told = a.stages["reasoning"], b.stages["reasoning"]
        verdict = which_reasoning(item.scene, item.question, captions[0], *told)
        return None if verdict is None else 1 if verdict[0] == 1 else 2
    return None


def worth(question: Question, stage: str, answer: Answer) -> float:
    """What one answer is worth at a stage. Of `known` questions.

    A caption: minus its wrong words, or as many as any can have if it cannot be read. A reasoning: 1 if it
    comes to what the true one comes to, else 0. All else: 1 for the right conclusion, else 0.
    """
    item = _item(question.id or "")
    assert item is not None
    if stage == "caption":
        error = caption_error(item.scene, answer.stages.get("caption"))
        return 0.0 - (GAP * (len(ORDINALS) + len(item.scene.objects)) if error is None else error)
    if stage == "reasoning":
        last, _ = steps(item.scene, item.question)[-1]
        return float((answer.stages.get("reasoning") or "").endswith(last))
    return float(answer.conclusion == item.answer)


def _error(item: Item, caption: str | None) -> float:
    error = caption_error(item.scene, caption)
    return float("inf") if error is None else error


@lru_cache(256)
def _item(id: str) -> Item | None:
    return named_item(id)
