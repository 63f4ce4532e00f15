"""Descriptions of objects by some of their attributes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from llava_cot.scenes.world import COLORS, MATERIALS, SHAPES, SIZES, Scene, SceneObject

VALUES = {"color": COLORS, "shape": SHAPES, "material": MATERIALS, "size": SIZES}


@dataclass(frozen=True)
class Filter:
    """A description of objects by some of their attributes; None for those that it does not name."""

    size: str | None = None
    color: str | None = None
    material: str | None = None
    shape: str | None = None

    def matches(self, item: SceneObject) -> bool:
        return (
            self.size in (None, item.size)
            and self.color in (None, item.color)
            and self.material in (None, item.material)
            and self.shape in (None, item.shape)
        )

    def places(self, objects: Sequence[SceneObject]) -> list[int]:
        """The indices of the objects that match."""
        return [i for i, item in enumerate(objects) if self.matches(item)]

    def of(self, item: SceneObject) -> str:
        """What an object has for the attributes that the description names: "small sphere"."""
        names = ("size", "color", "material", "shape")
        return " ".join(getattr(item, name) for name in names if getattr(self, name))

    @property
    def one(self) -> str:
        """The description in the singular, without an article: "small metal sphere"."""
        named = [word for word in (self.size, self.color, self.material) if word]
        return " ".join([*named, self.shape or "object"])

    @property
    def many(self) -> str:
        return self.one + "s"


ANYTHING = Filter()


def draw_filter(rng: random.Random, scene: Scene, named: int | None = None, changed: float = 0.35) -> Filter:
    """A description of 1 to 3 attributes of an object in the scene; with chance `changed`, one is redrawn."""
    item = rng.choice(scene.objects)
    keys = rng.sample(("size", "color", "material", "shape"), named or rng.choice((1, 1, 2, 2, 3)))
    chosen = {key: getattr(item, key) for key in keys}
    if rng.random() < changed:
        key = rng.choice(keys)
        chosen[key] = rng.choice(VALUES[key])
    return Filter(**chosen)


def draw_unique(rng: random.Random, scene: Scene, without: str | None = None) -> Filter | None:
    """A description that fits exactly one object and does not name the attribute `without`."""
    keys = [key for key in ("size", "color", "material", "shape") if key != without]
    item = rng.choice(scene.objects)
    for named in (rng.choice((1, 2)), 2, 3):
        chosen = Filter(**{key: getattr(item, key) for key in rng.sample(keys, min(named, len(keys)))})
        if sum(map(chosen.matches, scene.objects)) == 1:
            return chosen
    return None
