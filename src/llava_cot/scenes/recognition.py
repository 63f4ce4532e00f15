"""Whether mini can know a question: its picture looks like a scene, and it has the words of such questions.

A picture is measured by how scenes are drawn (`world.render`): the light on the gray floor, which has two
unknowns, and the colors of the objects. `BOUNDS` are those of training scenes, fitted by
research/mini/recognition.py. Whether a sentence makes sense is not looked at.
"""

from __future__ import annotations

import re
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from llava_cot.core.question import Question, question_text
from llava_cot.core.wording import shortened
from llava_cot.scenes.chains import LARGEST
from llava_cot.scenes.questions import american_spelling
from llava_cot.scenes.world import COLORS, MATERIALS, RGB, SHAPES, SIZES

Floats = NDArray[np.float32]

_SIDE = 96  # pixels, both ways: what mini sees of a picture
_TOP = 15  # rows in which no scene has an object or its shadow
_NEAR = 0.03  # a difference of brightness, from 0 to 1, that compression may cause
_COLORFUL = 0.10  # the least distance from gray of a pixel whose hue counts
_SAME_HUE = 0.98  # the cosine between a pixel's hue and an object's

# The lowest and the highest value of each measure in scenes.
BOUNDS: dict[str, tuple[float, float]] = {
    "light": (0.7741, 1.1764),
    "side": (-1.2798, 1.2768),
    "top": (-0.0001, 0.0067),
    "floor": (0.3923, 1.0724),
    "shade": (-0.0032, 0.0138),
    "colorful": (-0.0852, 0.4271),
    "hue": (0.9084, 1.0211),
}

# Words of questions about scenes, and of their options.
_WORDS = {
    "a", "add", "all", "are", "as", "at", "away", "big", "b", "c", "can", "color", "count", "d", "do",
    "does", "double", "equal", "even", "far", "fewer", "for", "halve", "have", "how", "if", "in", "is", "it",
    "keep", "leave", "left", "leftmost", "made", "many", "material", "more", "no", "now", "number", "of",
    "on", "only", "picture", "remove", "right", "rightmost", "see", "shape", "show", "size", "stand",
    "subtract", "swap", "take", "than", "the", "there", "to", "what", "which", "yes", "you",
}  # fmt: skip
_NOUNS = {"object", *SHAPES}
_SUBJECTS = {*_NOUNS, *(f"{noun}s" for noun in _NOUNS), *COLORS, *MATERIALS, *SIZES}
_MOST = LARGEST + 3  # the largest number in an option


def unfamiliar(question: Question) -> str | None:
    """What mini does not know about a question, in words; None for a question about a scene."""
    if not question.images:
        return "there is no picture"
    if len(question.images) > 1:
        return "it reads one picture at a time"
    if not is_scene(question.images[0].pil):
        return "the picture does not look like one"
    if unknown := unknown_words(question_text(question)):
        return f"no question about them has the words {shortened(', '.join(unknown))}"
    return None


def unknown_words(text: str) -> list[str]:
    """The words that no question about scenes has; all, if there is no object or attribute among them."""
    words = list(dict.fromkeys(re.findall(r"\w+", american_spelling(text).casefold())))
    known = _WORDS | _SUBJECTS
    unknown = [word for word in words if word not in known and not (word.isdecimal() and int(word) <= _MOST)]
    return unknown if _SUBJECTS & {*words} else words or ["?"]


def is_scene(picture: Image.Image) -> bool:
    """Whether an RGB picture looks like a scene, also one that was compressed or made larger or smaller."""
    measures = measure(picture)
    return all(low <= measures[name] <= high for name, (low, high) in BOUNDS.items())


def measure(picture: Image.Image) -> dict[str, float]:
    """The measures of an RGB picture that `BOUNDS` has.

    Of the floor that fits best: `light` and `side` of the lamp, `top` (how far the highest rows differ from
    it), and `floor`, the share of pixels that are like it. Of the others: `shade`, the share of all pixels
    that are gray and brighter than the floor; `colorful`, the share of all that have a hue; `hue`, the share
    of these that have an object's.
    """
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    pixels: Floats = np.asarray(small, dtype=np.float32) / np.float32(255)
    gray = pixels.mean(axis=2)
    chroma = pixels - gray[:, :, None]
    strength = np.sqrt((chroma**2).sum(axis=2))
    neutral = strength < _NEAR
    near = np.zeros((_SIDE, _SIDE), dtype=bool)
    near[:_TOP] = True
    basis = _floor()
    for _ in range(3):  # least squares: first over the highest rows, then over all pixels like that floor
        used = basis * near[:, :, None]
        squares = np.einsum("yxi,yxj->ij", used, basis) + 1e-9 * np.eye(2)
        light, turned = np.linalg.solve(squares, np.einsum("yxi,yx->i", used, gray))
        floor = basis @ np.array([light, turned], dtype=np.float32)
        near = neutral & (np.abs(gray - floor) < _NEAR)
    off = np.abs(pixels[:_TOP] - floor[:_TOP, :, None])
    colorful = strength > _COLORFUL
    hues = (chroma[colorful] @ _hues().T).max(axis=1) / strength[colorful]
    return {
        "light": float(light),
        "side": float(turned / light) if light else 0.0,
        "top": float(np.sqrt((off**2).mean())),
        "floor": float(near.mean()),
        "shade": float((neutral & (gray > floor + _NEAR)).mean()),
        "colorful": float(colorful.mean()),
        "hue": float((hues > _SAME_HUE).mean()) if len(hues) else 0.0,
    }


@cache
def _floor() -> Floats:
    """What the floor's brightness is made of at each pixel, as `world.render` has it: light, and its side."""
    y = np.linspace(0, 1, _SIDE, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, _SIDE, dtype=np.float32)[None, :]
    light = 0.58 + 0.14 * y - 0.05 * x * x
    return np.stack([light, np.broadcast_to(0.05 * x, light.shape)], axis=2)


@cache
def _hues() -> Floats:
    """The hues of the objects that are not gray, as unit vectors."""
    colors = np.array([rgb for name, rgb in RGB.items() if name != "gray"], dtype=np.float32)
    chroma = colors - colors.mean(axis=1, keepdims=True)
    hues: Floats = chroma / np.linalg.norm(chroma, axis=1, keepdims=True)
    return hues
