"""Scenes: objects on a floor, drawn from a seed, after CLEVR (Johnson et al., 2017, arXiv 1612.06890)."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

SHAPES = ("cube", "sphere", "cylinder")
COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
MATERIALS = ("metal", "rubber")
SIZES = ("large", "small")
SPLITS = ("train", "validation", "test")
MIN_OBJECTS, MAX_OBJECTS = 3, 10  # as in CLEVR

# Shares of the picture's width: left and right are never in doubt, and nearer objects hide little of others.
_MIN_GAP_X = 0.04
_MIN_DISTANCE = 0.15
RADIUS = {"large": 0.105, "small": 0.064}


@dataclass(frozen=True)
class SceneObject:
    """One object.

    Attributes:
        size: One of `SIZES`.
        color: One of `COLORS`.
        material: One of `MATERIALS`.
        shape: One of `SHAPES`.
        x: Where it stands, as a share of the picture's width, from the left.
        y: And of its height, from the top.
        turn: Its angle about the vertical, in radians.
    """

    size: str
    color: str
    material: str
    shape: str
    x: float
    y: float
    turn: float

    @property
    def scale(self) -> float:
        """Its size by perspective: an object higher up in the picture is further away."""
        return 0.7 + 0.4 * self.y

    @property
    def radius(self) -> float:
        """Half of its width, as a share of the picture's width."""
        return RADIUS[self.size] * self.scale


@dataclass(frozen=True)
class Scene:
    """Objects from left to right, and the light: its side, from -1 (left) to 1, and its strength."""

    objects: tuple[SceneObject, ...]
    light: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def scene_rng(split: str, seed: int, index: int) -> random.Random:
    """The random generator of one scene and its question; no two splits or seeds share one."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    return random.Random(f"scenes/{split}/{seed}/{index}")


def draw_scene(rng: random.Random) -> Scene:
    """Draw a scene of 3 to 10 objects that stand apart from one another."""
    count = rng.randint(MIN_OBJECTS, MAX_OBJECTS)
    objects: list[SceneObject] = []
    while len(objects) < count:
        placed = _place(rng, objects)
        if placed is None:  # no room is left: start again
            objects = []
        else:
            objects.append(placed)
    light = (round(rng.uniform(-0.8, 0.8), 3), round(rng.uniform(0.85, 1.1), 3))
    return Scene(tuple(sorted(objects, key=lambda item: item.x)), light)


def _place(rng: random.Random, others: list[SceneObject]) -> SceneObject | None:
    for _ in range(40):
        item = SceneObject(
            size=rng.choice(SIZES),
            color=rng.choice(COLORS),
            material=rng.choice(MATERIALS),
            shape=rng.choice(SHAPES),
            x=round(rng.uniform(0.12, 0.88), 4),
            y=round(rng.uniform(0.34, 0.86), 4),
            turn=round(rng.uniform(0.0, 1.5708), 4),
        )
        if all(_apart(item, other) for other in others):
            return item
    return None


def _apart(a: SceneObject, b: SceneObject) -> bool:
    dx, dy = abs(a.x - b.x), abs(a.y - b.y)
    near = max(_MIN_DISTANCE, 0.85 * (a.radius + b.radius))
    return dx >= _MIN_GAP_X and dx * dx + dy * dy >= near * near
