"""Questions about scenes as small programs over the objects, with their wordings and true answers.

Perception: exist, color, shape, material, size, count, position. Reasoning about standard scenes: subtract,
add, chain and compare, after CLEVR-Math (Lindström & Abraham, 2022, arXiv 2208.05358); about hard scenes: the
programs of `chains.py`. Answers are balanced.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from llava_cot.scenes.chains import CHAIN_TYPES, Step, chain_text, chain_type, draw_chain, states
from llava_cot.scenes.filters import VALUES, Filter, draw_filter, draw_unique
from llava_cot.scenes.world import Scene

PERCEPTION = ("exist", "color", "shape", "material", "size", "count", "position")
REASONING = ("subtract", "add", "chain", "compare")
TYPES = PERCEPTION + REASONING  # of standard scenes
HARD_TYPES = PERCEPTION + CHAIN_TYPES  # of hard ones
_CHAINS = 0.75  # the share of questions about hard scenes that are chains
_TRIES = 20  # programs drawn for one question, of which one with a rare answer is chosen
_CHAIN_TRIES = 4  # of chains; with more, most answers would be large, and most chains deep
# British spellings of words in questions, as patterns of both Python's and the tokenizer's engine.
BRITISH = ((r"(?<=[Cc])olour", "olor"), (r"(?<=\b[Gg]r)ey(?=(?:s|er|est|ish)?\b)", "ay"))


def american_spelling(text: str) -> str:
    """The text with "color" for "colour" and "gray" for "grey", as questions and answers have them."""
    for pattern, replacement in BRITISH:
        text = re.sub(pattern, replacement, text)
    return text


@dataclass(frozen=True)
class SceneQuestion:
    """A question with its program and true answer."""

    type: str  # one of `TYPES`, or of `HARD_TYPES`
    text: str
    answer: str  # in words or digits
    options: tuple[str, ...] = ()  # of a multiple-choice question; one of them is the answer
    chain: tuple[Step, ...] = ()  # the program of a question that asks for a number after some steps
    filters: tuple[Filter, ...] = ()  # the descriptions in any other question, in the order of its text
    attribute: str | None = None  # what the question is about, or the relation of a comparison
    end: str | None = None  # "left" or "right": the object at that end, or the order of two objects

    @property
    def depth(self) -> int:
        """The number of steps of its program; 0 for a question of perception."""
        return len(self.chain) or int(self.type == "compare")

    @property
    def conclusion(self) -> str:
        """The bare answer: an option's letter where there are options."""
        return "ABCD"[self.options.index(self.answer)] if self.options else self.answer


def ask_about(
    scene: Scene, rng: random.Random, type: str | None = None, difficulty: str = "standard"
) -> SceneQuestion:
    """Draw a question about the scene, with each answer about equally likely.

    Args:
        type: One of `TYPES`, or "chains" for any of `CHAIN_TYPES`; by default a random one of the difficulty.
            Chains have no options, of which one is right by luck.
    """
    kind = type or _draw_type(rng, difficulty)
    by_answer: dict[str, list[SceneQuestion]] = {}
    for _ in range(_CHAIN_TRIES if kind == "chains" else _TRIES):
        drawn = _DRAW[kind](scene, rng)
        if drawn is not None:
            by_answer.setdefault(drawn.answer, []).append(drawn)
    if not by_answer:  # no description singles out an object, so the type is impossible
        return ask_about(scene, rng, "count")
    question = rng.choice(by_answer[rng.choice(sorted(by_answer))])
    return _with_options(question, rng) if kind != "chains" and rng.random() < 0.3 else question


def _draw_type(rng: random.Random, difficulty: str) -> str:
    if difficulty == "standard":
        return rng.choice(TYPES)
    return "chains" if rng.random() < _CHAINS else rng.choice(PERCEPTION)


def _chains(scene: Scene, rng: random.Random) -> SceneQuestion:
    chain = draw_chain(scene, rng)
    return _solved(scene, chain_type(chain), chain_text(chain, rng), chain=chain)


def _solved(scene: Scene, type: str, text: str, **program: Any) -> SceneQuestion:
    """A question with its answer in the scene."""
    question = SceneQuestion(type, text, "", **program)
    return replace(question, answer=solve(scene, question) or "")


def _exist(scene: Scene, rng: random.Random) -> SceneQuestion:
    what = draw_filter(rng, scene, changed=0.7)
    wording = rng.choice(
        ("Is there a {}?", "Can you see a {} in the picture?", "Does the picture show a {}?")
    )
    return _solved(scene, "exist", wording.format(what.one), filters=(what,))


_ATTRIBUTE_WORDINGS = {
    "color": ("What color is the {}?", "What is the color of the {}?", "Which color does the {} have?"),
    "shape": ("What shape is the {}?", "What is the shape of the {}?", "Which shape does the {} have?"),
    "material": ("What is the {} made of?", "What material is the {}?", "Which material is the {} made of?"),
    "size": ("How big is the {}?", "What size is the {}?", "What is the size of the {}?"),
}


def _attribute(name: str) -> Callable[[Scene, random.Random], SceneQuestion | None]:
    def draw(scene: Scene, rng: random.Random) -> SceneQuestion | None:
        what = draw_unique(rng, scene, without=name)
        if what is None:
            return None
        text = rng.choice(_ATTRIBUTE_WORDINGS[name]).format(what.one)
        return _solved(scene, name, text, filters=(what,), attribute=name)

    return draw


def _count(scene: Scene, rng: random.Random) -> SceneQuestion:
    what = draw_filter(rng, scene)
    wording = rng.choice(("How many {} are there?", "How many {} do you see?", "Count the {}."))
    return _solved(scene, "count", wording.format(what.many), filters=(what,))


def _position(scene: Scene, rng: random.Random) -> SceneQuestion | None:
    if rng.random() < 0.5:
        end, name = rng.choice(("left", "right")), rng.choice(tuple(VALUES))
        where = rng.choice((f"{end}most object", f"object on the far {end}"))
        text = rng.choice(_ATTRIBUTE_WORDINGS[name]).format(where)
        return _solved(scene, "position", text, attribute=name, end=end)
    first, second = draw_unique(rng, scene), draw_unique(rng, scene)
    if first is None or second is None or first.places(scene.objects) == second.places(scene.objects):
        return None
    end = rng.choice(("left", "right"))
    wording = rng.choice(("Is the {} to the {} of the {}?", "Does the {} stand {} of the {}?"))
    text = wording.format(first.one, end, second.one)
    return _solved(scene, "position", text, filters=(first, second), end=end)


def _subtract(scene: Scene, rng: random.Random) -> SceneQuestion:
    steps = tuple(Step("remove", draw_filter(rng, scene)) for _ in range(rng.choice((1, 2, 2))))
    if rng.random() < 0.2:
        steps = (*steps, Step("keep", draw_filter(rng, scene, 1)))
    return _arithmetic("subtract", scene, rng, steps)


def _add(scene: Scene, rng: random.Random) -> SceneQuestion:
    step = Step("add", draw_filter(rng, scene), rng.randint(1, 4))
    return _arithmetic("add", scene, rng, (step,))


def _chain(scene: Scene, rng: random.Random) -> SceneQuestion:
    subtract = [Step("remove", draw_filter(rng, scene))]
    add = Step("add", draw_filter(rng, scene), rng.randint(1, 4))
    if rng.random() < 0.3:
        subtract.append(Step("remove", draw_filter(rng, scene)))
    # Adding comes last: whether a later step removes added objects would be ambiguous.
    return _arithmetic("chain", scene, rng, (*subtract, add))


def _arithmetic(kind: str, scene: Scene, rng: random.Random, steps: tuple[Step, ...]) -> SceneQuestion:
    verb = rng.choice(("Subtract", "Remove", "Take away"))
    parts = []
    for step in steps:
        if step.kind == "remove":
            parts.append(f"{verb} all {step.what.many}.")
        elif step.kind == "add":
            parts.append(f"Add {step.number} {step.what.one if step.number == 1 else step.what.many}.")
    counted = next((step.what.many for step in steps if step.kind == "keep"), "objects")
    last = "are there" if kind == "add" else "are left"
    parts.append(rng.choice((f"How many {counted} {last}?", f"How many {counted} {last} now?")))
    return _solved(scene, kind, " ".join(parts), chain=steps)


def _compare(scene: Scene, rng: random.Random) -> SceneQuestion | None:
    first, second = draw_filter(rng, scene, 1), draw_filter(rng, scene, rng.choice((1, 2)))
    if first == second:
        return None
    relation = rng.choice(("more", "fewer", "equal"))
    if relation == "equal":
        text = rng.choice(("Are there as many {} as {}?", "Is the number of {} equal to the number of {}?"))
    else:
        text = f"Are there {relation} {{}} than {{}}?"
    text = text.format(first.many, second.many)
    return _solved(scene, "compare", text, filters=(first, second), attribute=relation)


def _with_options(question: SceneQuestion, rng: random.Random) -> SceneQuestion:
    answer = question.answer
    if answer in ("yes", "no"):
        options = ["yes", "no"]
    elif answer.isdigit():
        value = int(answer)
        near = [number for number in range(max(0, value - 3), value + 4) if number != value]
        options = [answer, *map(str, rng.sample(near, 3))]
    else:
        others = [other for other in VALUES[question.attribute or "color"] if other != answer]
        options = [answer, *rng.sample(others, min(3, len(others)))]
    rng.shuffle(options)
    return replace(question, options=tuple(options))


_DRAW: dict[str, Callable[[Scene, random.Random], SceneQuestion | None]] = {
    "exist": _exist,
    **{name: _attribute(name) for name in VALUES},
    "count": _count,
    "position": _position,
    "subtract": _subtract,
    "add": _add,
    "chain": _chain,
    "compare": _compare,
    "chains": _chains,
}


def solve(scene: Scene, question: SceneQuestion) -> str | None:
    """The answer to the question in any scene; None where it makes no sense."""
    if question.chain:
        after = states(scene.objects, question.chain)
        return None if after is None else str(after[-1].number)
    if question.end and question.attribute:
        return str(getattr(scene.objects[0 if question.end == "left" else -1], question.attribute))
    found = [what.places(scene.objects) for what in question.filters]
    if question.type == "count":
        return str(len(found[0]))
    if question.type == "exist":
        truth = bool(found[0])
    elif question.type == "compare":
        a, b = len(found[0]), len(found[1])
        truth = {"equal": a == b, "more": a > b, "fewer": a < b}[question.attribute or "equal"]
    elif any(len(places) != 1 for places in found):
        return None
    elif question.type == "position":
        truth = (found[0][0] < found[1][0]) == (question.end == "left")
    else:
        return str(getattr(scene.objects[found[0][0]], question.attribute or ""))
    return "yes" if truth else "no"
