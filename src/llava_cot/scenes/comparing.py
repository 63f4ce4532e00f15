"""Two captions, or two reasonings, against the truth: which is nearer, and the one difference that shows it.

A caption is a list of descriptions ("small red metal cube") from left to right. It is laid beside the true
list as a diff would be, so that an object missed or seen twice does not make all that follow wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from llava_cot.scenes.teacher import ORDINALS

GAP = 2.25  # the cost of an object too many or too few, in wrong words

Alignment = tuple[int | None, ...]


def wrong_words(said: str, real: str) -> int:
    return sum(a != b for a, b in zip(said.split(" "), real.split(" "), strict=True))


@lru_cache(maxsize=4096)
def align(seen: tuple[str, ...], truth: tuple[str, ...]) -> tuple[float, Alignment]:
    """The least cost of making `truth` of `seen`, and the true object, if any, of each one seen.

    Of an object seen twice, the second one is too many.
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


def caption_verdict(a: Sequence[str], b: Sequence[str], truth: Sequence[str]) -> tuple[int, str] | None:
    """Which of two captions is nearer to the truth, 1 or 2, and why; None if neither is.

    The reason is the first place where they differ and the better one is right: what stands there in each,
    and what the image shows there. So the choice follows from what was looked at.
    """
    lists = [tuple(side) for side in (a, b, truth)]
    costs = [align(side, lists[2])[0] for side in lists[:2]]
    if costs[0] == costs[1]:
        return None
    choice = 1 if costs[0] < costs[1] else 2
    for place in range(min(len(ORDINALS), max(map(len, lists)))):
        said = [side[place] if place < len(side) else None for side in lists]
        if said[0] != said[1] and said[2] == said[choice - 1]:
            return choice, _reason(place, said)
    return None


def _reason(place: int, said: Sequence[str | None]) -> str:
    """Of one word where one word tells the two apart, else of the whole object."""
    where = ("in response 1", "in response 2", "in the image")
    words = [what.split(" ") if what else [] for what in said]
    apart = [column for column in zip(*words, strict=False) if column[0] != column[1]]
    named = [f"a {what}" if what else "nothing" for what in said]
    if len(apart) == 1:
        named = list(apart[0])
    first, second, third = (f"{what} {place}" for what, place in zip(named, where, strict=True))
    return f"the {ORDINALS[place]} is {first}, {second} and {third}"


def reasoning_verdict(a: str, b: str, truth: Sequence[tuple[str, str]]) -> tuple[int, str] | None:
    """Which of two reasonings is the true one; why: the work of the first step that the other gets wrong."""
    text = " ".join(said for said, _ in truth)
    if (a == text) == (b == text):
        return None
    choice, other = (1, b) if a == text else (2, a)
    sentences = [f"{said}." for said in other.rstrip(".").split(". ")]
    for place, (said, work) in enumerate(truth):
        if place >= len(sentences) or sentences[place] != said:
            return choice, work
    return choice, truth[-1][1]
