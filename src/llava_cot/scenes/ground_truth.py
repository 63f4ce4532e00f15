"""Which of two texts about a scene is right, by the scene itself: captions, reasonings, answers, and why.

A caption is a list of descriptions ("small red metal cube") from left to right. It is aligned with the true
list like a diff, so that one object missed or seen twice does not make everything after it wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal

from llava_cot.core.question import Question
from llava_cot.core.stages import Answer
from llava_cot.scenes.items import SceneItem, named_item
from llava_cot.scenes.questions import SceneQuestion, solve
from llava_cot.scenes.teacher import MENTION, ORDINALS, caption_of, describe, described, steps
from llava_cot.scenes.world import Scene, SceneObject

GAP = 2.25  # the cost of an object too many or too few, in wrong words
AGREES = "it agrees with the reasoning"  # why a conclusion is the better one

Ruling = tuple[int, str]  # the better one of two, 1 or 2, and why

_named_item = lru_cache(256)(named_item)


def wrong_words(seen: str, real: str) -> int:
    """How many words of a description are wrong."""
    return sum(a != b for a, b in zip(seen.split(" "), real.split(" "), strict=True))


@lru_cache(maxsize=4096)
def align(seen: tuple[str, ...], truth: tuple[str, ...]) -> tuple[float, tuple[int | None, ...]]:
    """Align the objects of a caption with the true ones.

    Returns:
        The least cost of turning `seen` into `truth`, in wrong words, and the place of the true object for
        each one seen; None where there is none. Of an object seen twice, the second one is too many.
    """
    rows, columns = len(seen), len(truth)
    cost = [[GAP * (rows - i + columns - j) for j in range(columns + 1)] for i in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            cost[i][j] = min(
                cost[i + 1][j + 1] + wrong_words(seen[i], truth[j]),
                cost[i + 1][j] + GAP,
                cost[i][j + 1] + GAP,
            )
    i = j = 0
    pairs: list[int | None] = [None] * rows
    while i < rows and j < columns:
        if cost[i][j] == cost[i + 1][j + 1] + wrong_words(seen[i], truth[j]):
            pairs[i] = j
            i, j = i + 1, j + 1
        elif cost[i][j] == cost[i + 1][j] + GAP:
            i += 1
        else:
            j += 1
    return cost[0][0], tuple(pairs)


def caption_verdict(a: Sequence[str], b: Sequence[str], truth: Sequence[str]) -> Ruling | None:
    """The caption nearer to the truth, and why; None if neither is.

    The reason is the first place where they differ and the better one is right: what each says there, and
    what the image shows. So the choice follows from something that can be looked at.
    """
    lists = [tuple(side) for side in (a, b, truth)]
    costs = [align(side, lists[2])[0] for side in lists[:2]]
    if costs[0] == costs[1]:
        return None
    choice = 1 if costs[0] < costs[1] else 2
    for place in range(min(len(ORDINALS), max(map(len, lists)))):
        there = [side[place] if place < len(side) else None for side in lists]
        if there[0] != there[1] and there[2] == there[choice - 1]:
            return choice, _reason(place, there)
    return None


def _reason(place: int, descriptions: Sequence[str | None]) -> str:
    """Names one word, where the two objects differ in one word, or else the whole objects."""
    where = ("in response 1", "in response 2", "in the image")
    words = [what.split(" ") if what else [] for what in descriptions]
    differing = [column for column in zip(*words, strict=False) if column[0] != column[1]]
    named = [f"a {what}" if what else "nothing" for what in descriptions]
    if len(differing) == 1:
        named = list(differing[0])
    first, second, third = (f"{what} {place}" for what, place in zip(named, where, strict=True))
    return f"the {ORDINALS[place]} is {first}, {second} and {third}"


def reasoning_verdict(a: str, b: str, truth: Sequence[str]) -> Ruling | None:
    """The reasoning that is true, and the first step that the other one gets wrong."""
    text = " ".join(truth)
    if (a == text) == (b == text):
        return None
    choice, other = (1, b) if a == text else (2, a)
    sentence = truth[_first_wrong(other, truth)]
    return choice, f"{sentence[0].lower()}{sentence[1:-1]}"


def read_caption(caption: str | None) -> list[str] | None:
    """The objects of a caption, from left to right; None if it is not in the teacher's form."""
    found = [" ".join(match.groups()[1:]) for match in MENTION.finditer(caption or "")]
    return found if len(found) <= len(ORDINALS) and caption == caption_of(found) else None


def caption_error(scene: Scene, caption: str | None) -> float | None:
    """How far a caption is from the truth, in wrong words; None if it cannot be read."""
    seen = read_caption(caption)
    return None if seen is None else align(tuple(seen), _truth(scene))[0]


def which_caption(scene: Scene, a: str | None, b: str | None) -> Ruling | None:
    """The better caption of two; None where the truth does not decide."""
    seen = read_caption(a), read_caption(b)
    if seen[0] is None or seen[1] is None:
        return None
    return caption_verdict(seen[0], seen[1], _truth(scene))


def which_reasoning(
    scene: Scene, question: SceneQuestion, caption: str | None, a: str | None, b: str | None
) -> Ruling | None:
    """The true reasoning of two after one caption; None where the truth does not decide.

    It decides only after a caption without an error: a reasoning from another caption is not about the image.
    """
    if a is None or b is None or caption_error(scene, caption) != 0:
        return None
    return reasoning_verdict(a, b, steps(scene, question))


def which_answer(scene: Scene, question: SceneQuestion, a: Answer, b: Answer) -> Ruling | None:
    """The better of two complete answers: by the caption, or after equal true captions by the reasoning.

    None where that does not decide, or the conclusions contradict it.
    """
    if a.stages["conclusion"] is None or b.stages["conclusion"] is None:
        return None
    captions = a.stages["caption"], b.stages["caption"]
    verdict = which_caption(scene, *captions)
    if verdict is None and captions[0] == captions[1]:
        verdict = which_reasoning(scene, question, captions[0], a.stages["reasoning"], b.stages["reasoning"])
    right = [side.stages["conclusion"] == question.conclusion for side in (a, b)]
    if verdict is None or (right[0] != right[1] and verdict[0] != (1 if right[0] else 2)):
        return None
    return verdict


def believed(
    scene: Scene, question: SceneQuestion, caption: str | None
) -> tuple[SceneQuestion, Scene] | None:
    """The question and the scene as they would be if the caption were true; None if it cannot be read."""
    names = read_caption(caption)
    if not names:
        return None
    return seen_answer(scene, [described(name) for name in names], question)


def seen_answer(
    scene: Scene, objects: Sequence[SceneObject], question: SceneQuestion
) -> tuple[SceneQuestion, Scene] | None:
    """The question and the scene with these objects instead; None where the question makes no sense then."""
    seen = Scene(tuple(objects), scene.light)
    result = solve(seen, question)
    if result is None or (question.options and result not in question.options):
        return None
    return replace(question, answer=result), seen


def check_verdict(question: SceneQuestion, seen: Scene, reasoning: str) -> tuple[bool, str]:
    """Whether a reasoning is true of a scene, and the true steps up to the first wrong one."""
    truth = steps(seen, question)
    return reasoning == " ".join(truth), " ".join(truth[: _first_wrong(reasoning, truth) + 1])


def known(question: Question) -> bool:
    """Whether the question is about a scene, by its id."""
    return _named_item(question.id or "") is not None


def better(question: Question, stage: str, a: Answer, b: Answer) -> Literal[1, 2] | None:
    """The better of two answers to a `known` question, whose `stage` is the one that was searched.

    A right conclusion comes first, then what the stage is worth, then the truth of a reasoning. None if they
    are equal, or the truth does not decide.
    """
    item = _item(question)
    right, other = (side.stages["conclusion"] == item.answer for side in (a, b))
    if right != other:
        return 1 if right else 2
    if stage in ("caption", "reasoning"):
        first, second = worth(question, stage, a), worth(question, stage, b)
        if first != second:
            return 1 if first > second else 2
    if stage == "reasoning" and a.stages["caption"] == b.stages["caption"]:
        reasonings = a.stages["reasoning"], b.stages["reasoning"]
        verdict = which_reasoning(item.scene, item.question, a.stages["caption"], *reasonings)
        return None if verdict is None else 1 if verdict[0] == 1 else 2
    return None


def worth(question: Question, stage: str, answer: Answer) -> float:
    """The score of one answer to a `known` question at a stage.

    For a caption, minus its wrong words, or the worst possible if it cannot be read. For a reasoning, 1 if
    it ends with the true answer, else 0. For all others, 1 if the conclusion is
    right, else 0.
    """
    item = _item(question)
    if stage == "caption":
        error = caption_error(item.scene, answer.stages.get("caption"))
        return 0.0 - (GAP * (len(ORDINALS) + len(item.scene.objects)) if error is None else error)
    if stage == "reasoning":
        return float((answer.stages.get("reasoning") or "").endswith(f" {item.question.conclusion}."))
    return float(answer.conclusion == item.answer)


def _item(question: Question) -> SceneItem:
    item = _named_item(question.id or "")
    assert item is not None
    return item


def _truth(scene: Scene) -> tuple[str, ...]:
    return tuple(describe(item) for item in scene.objects)


def _first_wrong(reasoning: str, truth: Sequence[str]) -> int:
    """The place of the first step that a reasoning gets wrong, or of the last step if there is none."""
    sentences = [f"{sentence}." for sentence in reasoning.rstrip(".").split(". ")]
    places = (place for place, step in enumerate(truth) if sentences[place : place + 1] != [step])
    return next(places, len(truth) - 1)
