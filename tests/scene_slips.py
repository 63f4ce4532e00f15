"""Answers about scenes with a slip in what is seen, or in the reasoning: what a small model gets wrong."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from llava_cot.scenes.filters import VALUES
from llava_cot.scenes.ground_truth import seen_answer
from llava_cot.scenes.questions import SceneQuestion
from llava_cot.scenes.teacher import reasoning
from llava_cot.scenes.world import MAX_OBJECTS, Scene, SceneObject

# Shapes are the hardest to see.
_SLIPS = ("shape", "shape", "shape", "size", "material", "color")


def misperceive(objects: Sequence[SceneObject], rng: random.Random) -> list[SceneObject]:
    """The objects with one slip: a wrong attribute, or one missed, seen twice, imagined or out of order."""
    seen = list(objects)
    kind, at = rng.random(), rng.randrange(len(seen))
    if kind < 0.4:
        name = rng.choice(_SLIPS)
        wrong = rng.choice([value for value in VALUES[name] if value != getattr(seen[at], name)])
        seen[at] = _changed(seen[at], name, wrong)
    elif kind < 0.66 and len(seen) > 2:
        del seen[at]
    elif kind < 0.92 and len(seen) < MAX_OBJECTS:
        at = rng.choice((at, len(seen) - 1))  # the last one is repeated where the count reasoned more
        again = seen[at]
        for name in rng.sample(tuple(VALUES), rng.choice((0, 0, 0, 1, 2))):
            again = _changed(again, name, rng.choice(VALUES[name]))
        seen.insert(at + 1, again)
    else:
        other = max(0, at - 1)
        seen[at], seen[other] = seen[other], seen[at]
    return seen


def _changed(item: SceneObject, attribute: str, value: str) -> SceneObject:
    values: dict[str, Any] = {attribute: value}
    return replace(item, **values)


def misreason(scene: Scene, question: SceneQuestion, rng: random.Random) -> str | None:
    """A reasoning with a slip: an object misread, or a number off by one."""
    truth = reasoning(scene, question)
    if rng.random() < 0.3:
        words = truth.split(" ")
        numbers = [i for i, word in enumerate(words) if word.rstrip(".,").isdigit()]
        if numbers:
            at = rng.choice(numbers)
            number = words[at].rstrip(".,")
            words[at] = words[at].replace(number, str(max(0, int(number) + rng.choice((-1, 1)))))
            return " ".join(words)
    seen = seen_answer(scene, misperceive(scene.objects, rng), question)
    return seen and reasoning(seen[1], seen[0])
