"""Which answers are in a batch together: pairs of a right and a wrong one to the same question."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from llava_cot.train.labeled_rows import RowLabel
from llava_cot.train.recipe import TrainRecipe

# A question whose answers are all right, or all wrong, gives no more of them than this.
_MOST_ALIKE = 2


def make_units(recipe: TrainRecipe, labels: Sequence[RowLabel]) -> list[tuple[int, ...]]:
    """The numbers of the rows that are in one batch together: pairs, where answers are compared."""
    if not recipe.labeled:
        return [(i,) for i in range(len(labels))]
    if recipe.objective == "dpo":
        return pair_units(labels, recipe.dpo_settings.pairs, recipe.seed)
    if recipe.objective == "reward":
        mixed = pair_units(labels, recipe.reward_settings.pairs, recipe.seed)
        return mixed + alike_units(labels, recipe.seed)
    settings = recipe.implicit_settings
    units = pair_units(labels, settings.pairs, recipe.seed)
    return units + (alike_units(labels, recipe.seed) if settings.loss == "ce" else [])


def is_pair(labels: Sequence[RowLabel], unit: Sequence[int]) -> bool:
    """Whether a unit is a pair of a right and a wrong answer."""
    return {labels[i].right for i in unit} == {True, False}


def pair_units(labels: Sequence[RowLabel], most: int, seed: int) -> list[tuple[int, ...]]:
    """Pairs of a right and a wrong answer to one question, in this order: `most` of a question at most.

    No pair comes twice; the answers of one kind are in equally many pairs of their question, or nearly so.
    """
    units: list[tuple[int, ...]] = []
    for right, wrong in _by_outcome(labels, seed):
        longer, shorter = (right, wrong) if len(right) >= len(wrong) else (wrong, right)
        for number in range(min(most, len(right) * len(wrong))):
            lap, at = divmod(number, len(longer))
            # Each lap goes on where the last one ended, or one further where that would repeat its pairs.
            shift = number - at + lap * math.gcd(len(longer), len(shorter)) // len(shorter)
            pair = longer[at], shorter[(at + shift) % len(shorter)]
            units.append(pair if longer is right else pair[::-1])
    return units


def alike_units(labels: Sequence[RowLabel], seed: int) -> list[tuple[int, ...]]:
    """Some answers of each question whose answers are all right, or all wrong."""
    groups = _by_outcome(labels, seed)
    return [tuple((right or wrong)[:_MOST_ALIKE]) for right, wrong in groups if not (right and wrong)]


def _by_outcome(labels: Sequence[RowLabel], seed: int) -> list[tuple[list[int], list[int]]]:
    """The numbers of the right rows and of the wrong ones that are compared, in random order."""
    groups: dict[str, tuple[list[int], list[int]]] = {}
    for number, label in enumerate(labels):
        groups.setdefault(label.pair or label.question, ([], []))[not label.right].append(number)
    for question, rows in groups.items():
        rng = random.Random(f"{seed}/pairs/{question}")
        for one in rows:
            rng.shuffle(one)
    return list(groups.values())
