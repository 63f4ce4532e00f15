"""Scenes: a handful of objects on a plain floor, after CLEVR (Johnson et al., 2017, arXiv 1612.06890).

Owns the objects and how a scene is drawn from a seed. Knows nothing of pixels or questions.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

SHAPES = ("cube", "sphere", "cylinder")
COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
MATERIALS = ("metal", "rubber")
SIZES = ("large", "small")
SPLITS = ("train", "validation", "test")
MIN_OBJECTS, MAX_OBJECTS = 3, 10  # as in CLEVR

# Shares of the picture's width: far enough apart that left and right are never in doubt, and that
# each object keeps most of its face when a nearer one stands before it.
_MIN_GAP_X = 0.04
_MIN_DISTANCE = 0.15
RADIUS = {"large": 0.105, "small": 0.064}


@dataclass(frozen=True)
class SceneObject:
    """One object. `x` and `y` say where it stands: shares of the picture's width and height, from the
    top left; `turn` is its angle about the vertical in radians."""

    size: str
    color: str
    material: str
    shape: str
    x: float
    y: float
    turn: float

    @property
    def scale(self) -> float:
        """Perspective: what stands further up the picture is further away, and smaller."""
        return 0.7 + 0.4 * self.y

    @property
    def radius(self) -> float:
        """Half its width, as a share of the picture's width."""
        return RADIUS[self.size] * self.scale


@dataclass(frozen=True)
class Scene:
    """Objects from left to right, and the light: its side (-1 left to 1 right) and strength."""

    objects: tuple[SceneObject, ...]
    light: tuple[float, float]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def scene_rng(split: str, seed: int, index: int) -> random.Random:
    """The generator of one scene and its questions. Splits and seeds never share a stream."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    return random.Random(f"scenes/{split}/{seed}/{index}")


def draw_scene(rng: random.Random) -> Scene:
    """A scene of 3 to 10 objects, no two of them alike in place."""
    count = rng.randint(MIN_OBJECTS, MAX_OBJECTS)
    objects: list[SceneObject] = []
    while len(objects) < count:
        placed = _place(rng, objects)
        if placed is None:  # no room left: start again rather than crowd the picture
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
