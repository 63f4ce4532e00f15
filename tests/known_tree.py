"""A model all of whose answers are known with their chances, and what searches over it score, by brute force.

A look is good, fair or bad, a thought sound or not, and the answer is right by a chance that depends on both.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import product

from llava_cot.core.stages import make_format
from llava_cot.models.base import Prompt
from llava_cot.models.scripted import ScriptedModel

FMT = make_format("look,think,answer")
RIGHT, WRONG = "7", "5"
Chances = Mapping[str, float]
Scores = Callable[[tuple[str, ...]], float]  # of a path of texts, by its last one

LOOKS: Chances = {"good": 0.4, "fair": 0.35, "bad": 0.25}
THOUGHTS: Mapping[str, Chances] = {
    "good": {"sound": 0.7, "odd": 0.1, "lost": 0.2},
    "fair": {"sound": 0.4, "odd": 0.3, "lost": 0.3},
    "bad": {"sound": 0.1, "odd": 0.5, "lost": 0.4},
}
ANSWERS: Mapping[str, Chances] = {
    "sound": {RIGHT: 0.9, WRONG: 0.1},
    "odd": {RIGHT: 0.5, WRONG: 0.5},
    "lost": {RIGHT: 0.05, WRONG: 0.95},
}


def chances(path: tuple[str, ...]) -> Chances:
    """The next texts after a path, with their chances; none after an answer."""
    return (lambda: LOOKS, lambda: THOUGHTS[path[0]], lambda: ANSWERS[path[1]], dict)[len(path)]()


def tagged(path: tuple[str, ...]) -> str:
    return "".join(f"<{name}> {text} </{name}>" for name, text in zip(FMT.names, path, strict=False))


def draw(path: tuple[str, ...], rng: random.Random) -> str:
    options = chances(path)
    [text] = rng.choices(list(options), list(options.values()))
    return text


def script(prompt: Prompt, rng: random.Random) -> str:
    path = read_path(prompt.prefix)
    written = len(path)
    while len(path) < len(FMT.names):
        path = (*path, draw(path, rng))
    return "".join(
        f"<{name}> {text} </{name}>" for name, text in list(zip(FMT.names, path, strict=True))[written:]
    )


def read_path(text: str) -> tuple[str, ...]:
    return tuple(
        text.split(f"<{name}>")[1].split(f"</{name}>")[0].strip() for name in FMT.names if f"<{name}>" in text
    )


def model() -> ScriptedModel:
    return ScriptedModel(script, ids=False)


def value(path: tuple[str, ...] = ()) -> float:
    """The chance that one sample of all that follows ends right."""
    if len(path) == len(FMT.names):
        return float(path[-1] == RIGHT)
    return sum(chance * value((*path, text)) for text, chance in chances(path).items())


def kept_of(path: tuple[str, ...], n: int, scores: Scores) -> dict[str, float]:
    """The chance of each next text to be kept of N, by brute force; ties are settled evenly."""
    options = chances(path)
    found = dict.fromkeys(options, 0.0)
    for drawn in product(options, repeat=n):
        chance = 1.0
        for text in drawn:
            chance *= options[text]
        best = max(scores((*path, text)) for text in drawn)
        winners = [text for text in drawn if scores((*path, text)) == best]
        for text in winners:
            found[text] += chance / len(winners)
    return found


def beam_value(
    n: int, scores: Scores, path: tuple[str, ...] = (), stages: tuple[int, ...] = (0, 1, 2)
) -> float:
    """The score of a search that keeps one of N at these stages, and samples once at the others."""
    if len(path) == len(FMT.names):
        return float(path[-1] == RIGHT)
    kept = kept_of(path, n, scores) if len(path) in stages else chances(path)
    return sum(chance * beam_value(n, scores, (*path, text), stages) for text, chance in kept.items())


def whole_value(n: int, scores: Scores) -> float:
    """The score of best-of-N over whole answers."""
    paths = {
        (look, thought, answer): LOOKS[look] * THOUGHTS[look][thought] * ANSWERS[thought][answer]
        for look in LOOKS
        for thought in THOUGHTS[look]
        for answer in ANSWERS[thought]
    }
    classes: dict[float, list[tuple[str, ...]]] = {}
    for path in paths:
        classes.setdefault(scores(path), []).append(path)
    below, total = 0.0, 0.0
    for score in sorted(classes):
        inside = sum(paths[path] for path in classes[score])
        right = sum(paths[path] for path in classes[score] if path[-1] == RIGHT)
        total += ((below + inside) ** n - below**n) * right / inside
        below += inside
    return total
