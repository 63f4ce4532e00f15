"""What mini-base learns from: descriptions, direct answers, questions about a text; never stages."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from llava_cot.core.question import Question
from llava_cot.core.question import question_text as text_with_options
from llava_cot.scenes.chains import LARGEST
from llava_cot.scenes.filters import Filter, draw_filter
from llava_cot.scenes.questions import PERCEPTION, SceneQuestion, ask_about
from llava_cot.scenes.teacher import ORDINALS, caption
from llava_cot.scenes.world import Scene


@dataclass(frozen=True)
class Example:
    """A prompt's text, and the reply to learn.

    `filters` are the descriptions of objects in the prompt, each with the character at which it ends.
    """

    prompt: str
    reply: str
    picture: bool = True
    filters: tuple[tuple[Filter, int], ...] = ()


def question_text(question: SceneQuestion) -> str:
    return text_with_options(Question(question.text, options=question.options))


_DESCRIBE = (
    "Describe the picture.",
    "What do you see in the picture?",
    "List the objects from left to right.",
    "Describe the objects in the picture.",
)


def description(scene: Scene, rng: random.Random) -> Example:
    return Example(rng.choice(_DESCRIBE), caption(scene.objects))


def _filters(question: SceneQuestion) -> tuple[tuple[Filter, int], ...]:
    """The descriptions in a question of perception, and the character at which each one ends."""
    found: list[tuple[Filter, int]] = []
    start = 0
    for what in question.filters:
        start = question.text.find(what.one, start) + len(what.one)
        found.append((what, start))
    return tuple(found)


def perception(scene: Scene, rng: random.Random) -> Example:
    """A question of perception, answered in a word, a number or an option's letter."""
    question = ask_about(scene, rng, rng.choice(PERCEPTION))
    return Example(question_text(question), question.conclusion, filters=_filters(question))


def chain(scene: Scene, rng: random.Random) -> Example:
    """A question of reasoning with its answer alone, which can only be guessed well or badly."""
    question = ask_about(scene, rng, "chains")
    return Example(question_text(question), question.conclusion)


def text_question(scene: Scene, rng: random.Random) -> Example:
    """A question about a description, or about numbers, without a picture."""
    return rng.choice((_matching, _matching, _matching, _beside, _attribute, _counted, _calculation))(
        scene, rng
    )


def _listed(places: list[int]) -> str:
    return ", ".join(ORDINALS[place] for place in places) or "none"


def _group(scene: Scene, rng: random.Random) -> tuple[list[int], str]:
    """Some of the objects' places, and how a question names them: all, or a list."""
    places = list(range(len(scene.objects)))
    if rng.random() < 0.4:
        return places, "Which of them"
    places = sorted(rng.sample(places, rng.randint(1, len(places))))
    return places, f"Of {_listed(places)}, which"


def _matching(scene: Scene, rng: random.Random) -> Example:
    places, which = _group(scene, rng)
    what = draw_filter(rng, scene, rng.choice((1, 1, 2)))
    negated = rng.random() < 0.4
    found = [place for place in places if what.matches(scene.objects[place]) != negated]
    text = f"{caption(scene.objects)} {which} are {'not ' if negated else ''}{what.many}?"
    return Example(text, f"{_listed(found)}: {len(found)}.", picture=False, filters=((what, len(text) - 1),))


def _beside(scene: Scene, rng: random.Random) -> Example:
    places, which = _group(scene, rng)
    place, side = rng.randrange(len(scene.objects)), rng.choice(("left", "right"))
    found = [other for other in places if (other < place if side == "left" else other > place)]
    text = f"{caption(scene.objects)} {which} are {side} of the {ORDINALS[place]}?"
    return Example(text, f"{_listed(found)}: {len(found)}.", picture=False)


def _attribute(scene: Scene, rng: random.Random) -> Example:
    place, name = rng.randrange(len(scene.objects)), rng.choice(("size", "color", "material", "shape"))
    value = getattr(scene.objects[place], name)
    return Example(
        f"{caption(scene.objects)} What is the {name} of the {ORDINALS[place]}?", value, picture=False
    )


def _counted(scene: Scene, rng: random.Random) -> Example:
    places = sorted(rng.sample(range(len(ORDINALS)), rng.randint(0, len(ORDINALS))))
    return Example(f"How many are {_listed(places)}?", str(len(places)), picture=False)


def _calculation(scene: Scene, rng: random.Random) -> Example:
    a = rng.randint(0, LARGEST)
    kind = rng.randrange(4)
    if kind == 0:
        b = rng.randint(0, min(12, LARGEST - a))
        return Example(f"{a} + {b} =", str(a + b), picture=False)
    if kind == 1:
        b = rng.randint(0, min(12, a))
        return Example(f"{a} - {b} =", str(a - b), picture=False)
    if kind == 2:
        a //= 2
        return Example(f"{a} + {a} =", str(2 * a), picture=False)
    return Example(f"Is {a} odd or even?", "odd" if a % 2 else "even", picture=False)


MAKE: dict[str, Callable[[Scene, random.Random], Example]] = {
    "descriptions": description,
    "perception": perception,
    "chains": chain,
    "texts": text_question,
}
