"""Answers hard questions from their English text and the picture's objects alone, without the programs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from llava_cot.scenes.world import SceneObject

_NOUNS = {"cube", "sphere", "cylinder", "object"}


class Senseless(Exception):
    """The text names no single object where it must, or more is taken away than there is."""


def numbers_of(text: str, objects: Sequence[SceneObject]) -> list[int]:
    """The number of objects at first and after each sentence but the last, which asks for it."""
    *orders, end = re.findall(r"[^.?]+[.?]", text)
    assert end.strip() in {
        "How many are there now?",
        "How many do you have now?",
        "What is the number now?",
    }
    pile: list[SceneObject | None] = list(objects)  # None for what is in no picture
    sizes = [len(pile)]
    for order in orders:
        pile = _obeyed(order.strip().rstrip("."), pile, objects)
        sizes.append(len(pile))
    return sizes


def _obeyed(
    order: str, pile: list[SceneObject | None], objects: Sequence[SceneObject]
) -> list[SceneObject | None]:
    if found := re.fullmatch(r"(?:Remove|Take away) all (.+)", order):
        gone = _named(found[1], objects)
        return [item for item in pile if item not in gone]
    if found := re.fullmatch(r"(?:Keep|Leave) only the (.+)", order):
        kept = _named(found[1], objects)
        return [item for item in pile if item in kept]
    if found := re.fullmatch(r"Add (\d+)", order):
        return [*pile, *[None] * int(found[1])]
    if found := re.fullmatch(r"Subtract (\d+)", order):
        if int(found[1]) > len(pile):
            raise Senseless(order)
        return pile[: len(pile) - int(found[1])]
    if order in ("Double the number", "Double it"):
        return pile * 2
    if order in ("If the number is even, halve it", "Halve it if it is even"):
        return pile[::2] if len(pile) % 2 == 0 else pile
    if found := re.fullmatch(r"Add as many as there are (.+)", order):
        return [*pile, *[None] * len(_named(found[1], objects))]
    found = re.fullmatch(r"Swap the (.+) for as many as there are (.+)", order)
    assert found, order
    gone, come = _named(found[1], objects), _named(found[2], objects)
    return [item for item in pile if item not in gone] + [None] * len(come)


def _named(words: str, objects: Sequence[SceneObject]) -> list[SceneObject]:
    """The objects of the picture that the words name."""
    if found := re.fullmatch(r"(.+) (left|right) of the (.+)", words):
        one = _single(found[3], objects)
        aside = [item for item in objects if (item.x < one.x if found[2] == "left" else item.x > one.x)]
        return [item for item in _named(found[1], objects) if item in aside]
    if found := re.fullmatch(r"(.+) of the (color|shape|material|size) of the (.+)", words):
        one = _single(found[3], objects)
        return [i for i in _named(found[1], objects) if getattr(i, found[2]) == getattr(one, found[2])]
    *adjectives, noun = words.split(" ")
    noun = noun.removesuffix("s")
    assert noun in _NOUNS, words
    wanted = {*adjectives, noun} - {"object"}
    return [i for i in objects if wanted <= {i.size, i.color, i.material, i.shape}]


def _single(words: str, objects: Sequence[SceneObject]) -> SceneObject:
    found = _named(words, objects)
    if len(found) != 1:
        raise Senseless(words)
    return found[0]
