"""Scenes after CLEVR (Johnson et al., 2017, arXiv 1612.06890), and their pictures.

A picture is drawn in a few milliseconds: every surface is shaded analytically over the object's bounding box,
at twice the picture's resolution, and then averaged down.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SHAPES = ("cube", "sphere", "cylinder")
COLORS = ("gray", "red", "blue", "green", "brown", "purple", "cyan", "yellow")
MATERIALS = ("metal", "rubber")
SIZES = ("large", "small")
SPLITS = ("train", "validation", "test")
DIFFICULTIES = ("standard", "hard")
MIN_OBJECTS = 3  # as in CLEVR, like the 10 of standard scenes
MOST_OBJECTS = {"standard": 10, "hard": 12}
MAX_OBJECTS = max(MOST_OBJECTS.values())

# Shares of the picture's width: left and right are never in doubt, and nearer objects hide little of others.
_MIN_GAP_X = 0.04
_MIN_DISTANCE = 0.15
RADIUS = {"large": 0.105, "small": 0.064}


@dataclass(frozen=True)
class SceneObject:
    """One object, with an entry of each of `SIZES`, `COLORS`, `MATERIALS` and `SHAPES`."""

    size: str
    color: str
    material: str
    shape: str
    x: float  # where it stands, as a share of the picture's width, from the left
    y: float  # and of its height, from the top
    turn: float  # its angle about the vertical, in radians

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


def scene_rng(split: str, seed: int, index: int, difficulty: str = "standard") -> random.Random:
    """The random generator of one scene and its question; no two splits, seeds or difficulties share one."""
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if difficulty not in DIFFICULTIES:
        raise ValueError(f"unknown difficulty {difficulty!r}: choose one of {', '.join(DIFFICULTIES)}")
    kind = "" if difficulty == "standard" else f"{difficulty}/"
    return random.Random(f"scenes/{kind}{split}/{seed}/{index}")


def draw_scene(rng: random.Random, difficulty: str = "standard") -> Scene:
    """Draw a scene of 3 to 10 objects that stand apart from one another; of 3 to 12 if it is "hard".

    Each number is equally likely; in hard scenes smaller ones are likelier (the lesser of two draws), since
    the length of their answers grows with it.
    """
    count = rng.randint(MIN_OBJECTS, MOST_OBJECTS[difficulty])
    if difficulty == "hard":
        count = min(count, rng.randint(MIN_OBJECTS, MOST_OBJECTS[difficulty]))
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


PICTURE_SIZE = 192  # pixels, both ways

RGB = {
    "gray": (110, 112, 115),
    "red": (190, 40, 40),
    "blue": (45, 80, 205),
    "green": (35, 135, 45),
    "brown": (130, 78, 38),
    "purple": (135, 45, 175),
    "cyan": (45, 195, 205),
    "yellow": (235, 215, 60),
}
_TILT = 0.45  # how much the floor's depth is foreshortened
_OVERSAMPLE = 2

Floats = NDArray[np.floating[Any]]


def render(scene: Scene) -> Image.Image:
    """The scene as an RGB picture of `PICTURE_SIZE` x `PICTURE_SIZE` pixels."""
    side, strength = scene.light
    canvas = _floor(PICTURE_SIZE, side, strength)
    back_to_front = sorted(scene.objects, key=lambda item: item.y)
    for item in back_to_front:
        _shadow(canvas, item, side)
    for item in back_to_front:
        _draw(canvas, item, side, strength)
    return Image.fromarray((np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8))


def _floor(size: int, side: float, strength: float) -> Floats:
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, size, dtype=np.float32)[None, :]
    gray = strength * (0.58 + 0.14 * y + 0.05 * side * x - 0.05 * x * x)
    return np.repeat(gray[:, :, None], 3, axis=2)


def _box(size: int, left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
    x0, y0 = max(0, int(left * size)), max(0, int(top * size))
    return slice(y0, max(y0, min(size, int(bottom * size) + 2))), slice(x0, min(size, int(right * size) + 2))


def _grid(size: int, rows: slice, columns: slice, over: int) -> tuple[Floats, Floats]:
    step = 1.0 / (size * over)
    x = (np.arange(columns.start * over, columns.stop * over, dtype=np.float32) + 0.5) * step
    y = (np.arange(rows.start * over, rows.stop * over, dtype=np.float32) + 0.5) * step
    return x[None, :], y[:, None]


def _shadow(canvas: Floats, item: SceneObject, side: float) -> None:
    size, r = canvas.shape[0], item.radius
    cx, cy = item.x - 0.35 * side * r, item.y + 0.05 * r
    rows, columns = _box(size, cx - 2 * r, cy - r, cx + 2 * r, cy + r)
    x, y = _grid(size, rows, columns, 1)
    distance = ((x - cx) / (1.5 * r)) ** 2 + ((y - cy) / (0.75 * r)) ** 2
    canvas[rows, columns] *= (1 - 0.45 * np.clip(1 - distance, 0, 1))[:, :, None]


def _draw(canvas: Floats, item: SceneObject, side: float, strength: float) -> None:
    size, r = canvas.shape[0], item.radius
    rows, columns = _box(size, item.x - 1.5 * r, item.y - 2.4 * r, item.x + 1.5 * r, item.y + 0.8 * r)
    x, y = _grid(size, rows, columns, _OVERSAMPLE)
    mask, diffuse, gloss = _SURFACES[item.shape]((x - item.x) / r, (y - item.y) / r, item.turn, side)
    base = np.asarray(RGB[item.color], dtype=np.float32) / 255
    if item.material == "metal":
        color = base * (0.30 + 0.75 * diffuse[:, :, None]) + 0.95 * gloss[:, :, None]
    else:
        color = base * (0.50 + 0.55 * diffuse[:, :, None])
    patch = np.concatenate([color * strength * mask[:, :, None], mask[:, :, None]], axis=2, dtype=np.float32)
    height, width = mask.shape[0] // _OVERSAMPLE, mask.shape[1] // _OVERSAMPLE
    patch = patch.reshape(height, _OVERSAMPLE, width, _OVERSAMPLE, 4).mean(axis=(1, 3))
    canvas[rows, columns] = canvas[rows, columns] * (1 - patch[:, :, 3:]) + patch[:, :, :3]


Surface = tuple[Floats, Floats, Floats]  # coverage, diffuse light and gloss, each 0 to 1


def _light(nx: Floats, ny: Floats, nz: Floats, side: float) -> tuple[Floats, Floats]:
    lx, ly, lz = 0.7 * side, -0.75, 0.6
    norm = (lx * lx + ly * ly + lz * lz) ** 0.5
    toward = (nx * lx + ny * ly + nz * lz) / norm
    diffuse = np.clip(toward, 0, 1)
    return diffuse, diffuse**14


def _sphere(x: Floats, y: Floats, turn: float, side: float) -> Surface:
    y = y + 0.75  # it rests on the floor
    squared = x * x + y * y
    z = np.sqrt(np.clip(1 - squared, 0, 1))
    diffuse, gloss = _light(x + 0 * y, y + 0 * x, z, side)
    return (squared <= 1).astype(np.float32), diffuse, gloss


def _cylinder(x: Floats, y: Floats, turn: float, side: float) -> Surface:
    width, height = 0.86, 1.45
    across = x / width
    rim = _TILT * np.sqrt(np.clip(1 - across**2, 0, 1)) * width
    inside = np.abs(across) <= 1
    top = inside & (np.abs(y + height) <= rim)
    body = inside & (y <= rim) & (y >= -height) & ~top
    z = np.sqrt(np.clip(1 - across**2, 0, 1)) + 0 * y
    diffuse, _ = _light(across + 0 * y, np.full_like(z, -0.1), z, side)
    diffuse = np.where(top, 0.95, diffuse * 0.9)
    # A curved side mirrors the lamp as a stripe.
    stripe = 0.75 * np.exp(-(((across - 0.5 * side) / 0.17) ** 2))
    gloss = np.where(top, 0.12, stripe)
    return (top | body).astype(np.float32), diffuse.astype(np.float32), gloss.astype(np.float32)


def _cube(x: Floats, y: Floats, turn: float, side: float) -> Surface:
    half, height = 0.78, 1.35
    angle = 0.25 + 0.68 * turn  # of the quarter turn, so that two sides always show
    c, s = float(np.cos(angle)) * half, float(np.sin(angle)) * half
    # On the floor, u and v run along the two visible sides; the nearest corner is u = v = 1.
    det = (c * c + s * s) * _TILT

    def plan(y0: float) -> tuple[Floats, Floats]:
        yy = y - y0
        return (c * _TILT * x + s * yy) / det, (-s * _TILT * x + c * yy) / det

    u, v = plan(-height)
    top = (np.abs(u) <= 1) & (np.abs(v) <= 1)
    corner_x = c - s
    right = (x >= corner_x) & (x <= c + s)
    left = (x < corner_x) & (x >= -c - s)
    # The visible edges of the floor plan: from the nearest corner to the right and to the left.
    near_y = (s + c) * _TILT
    edge_right = near_y + (x - corner_x) * ((s - c) * _TILT - near_y) / (2 * s)
    edge_left = near_y + (x - corner_x) * ((c - s) * _TILT - near_y) / (-2 * c)
    right = right & (y <= edge_right) & (y >= edge_right - height) & ~top
    left = left & (y <= edge_left) & (y >= edge_left - height) & ~top
    light_right, light_left = 0.45 + 0.22 * side, 0.45 - 0.22 * side
    diffuse = np.where(top, 0.95, np.where(right, light_right, light_left))
    sheen = np.clip(1 - np.abs(((x - 0.5 * y) * 1.4 + 0.3) % 2 - 1) * 2.2, 0, 1)
    gloss = np.where(top, 0.10, 0.5 * sheen) + 0 * diffuse
    return (top | right | left).astype(np.float32), diffuse.astype(np.float32), gloss.astype(np.float32)


_SURFACES = {"sphere": _sphere, "cylinder": _cylinder, "cube": _cube}
